"""Words of MariaDB's, and the names of parameters that are made of others."""

# All that sqlglot imports when it is needed, under a lock of its own: a child that is forked while
# another thread holds it would wait for ever.
import sqlglot.dialects.mysql
import sqlglot.dialects.postgres
import sqlglot.optimizer.annotate_types
import sqlglot.optimizer.normalize
import sqlglot.optimizer.scope
import sqlglot.optimizer.simplify
import sqlglot.transforms  # noqa: F401
from sqlglot import exp

#: ``x IN :LIST__name``: a list as it stands in SQL.
LISTED = "LIST__"
#: The same of ids, which may be given as text.
IDENTIFIERS = "IDS__"
#: ``:ZIP__one__other``: lists of one length, as JSON of their rows.
ZIPPED = "ZIP__"


def sql(node: exp.Expr) -> str:
    """The expression in MariaDB's words."""
    return str(node.sql(dialect="mysql", comments=False))


def raw(words: str) -> exp.Expr:
    """Words of MariaDB's that have no expression of their own."""
    made: exp.Expr = exp.Var(this=words)
    return made
