"""Words of MariaDB's, and the names of parameters that are made of others."""

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
