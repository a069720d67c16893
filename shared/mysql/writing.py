"""Which rows an INSERT wrote, where the server itself does not tell.

MySQL has no INSERT ... RETURNING. MariaDB's returns rows that ON DUPLICATE KEY UPDATE left as they
were for a condition, too. So triggers note the keys of written rows in a variable of the session
while somebody asks for them.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pymysql.cursors import Cursor as PlainCursor
from pymysql.err import MySQLError

from shared.mysql.targets import Table, Untranslated

#: Before the assignments of rows that are there already, when only some of them are written.
CONDITIONAL = "/* some */"
_RETURNING = re.compile(r"\s*INSERT\s+(?:IGNORE\s+)?INTO\s+`?(\w+)`?.*\bRETURNING\s", re.DOTALL)
_RETURNED = " RETURNING "
_UNCHANGED = "="


@dataclass(frozen=True)
class Insertion:
    """An INSERT whose rows are asked for.

    Attributes:
        statement: the INSERT alone.
        table: that it writes to.
        wanted: the expressions that are asked for.
    """

    statement: str
    table: str
    wanted: str

    @property
    def is_conditional(self) -> bool:
        """Whether it may leave rows as they were; those are not asked for."""
        return CONDITIONAL in self.statement

    def reading(self, key: tuple[str, ...], rows: int) -> str:
        """The query for so many rows by their keys, one parameter a column."""
        columns = ", ".join(f"{self.table}.{name}" for name in key)
        one = ", ".join(["%s"] * len(key))
        places = ", ".join([f"({one})"] * rows)
        where = f"({columns}) IN ({places})" if rows else "FALSE"
        return f"SELECT {self.wanted} FROM {self.table} WHERE {where}"  # noqa: S608 - no input


def insertion(query: str) -> Insertion | None:
    """The statement as one whose rows are asked for, if it is one."""
    found = _RETURNING.match(query)
    if found is None:
        return None
    statement, _, wanted = query.rpartition(_RETURNED)
    return Insertion(statement, found[1], wanted)


def written(
    run: Callable[[str], int], cursor: PlainCursor, asked: Insertion, tables: Mapping[str, Table]
) -> tuple[str, list[str]]:
    """Run the INSERT; the query for its rows with its parameters.

    Args:
        run: runs it.
        cursor: of the same connection.
        asked: the statement.
        tables: what there is, by name.

    Raises:
        Untranslated: nobody knows the table's key.
    """
    table = tables.get(asked.table)
    if table is None:
        raise Untranslated(f"{asked.table} is no table of the models")
    cursor.execute("SET @written_rows = ''")
    try:
        run(asked.statement)
        cursor.execute("SELECT @written_rows")
        told: Any = cursor.fetchone()
    finally:
        with suppress(MySQLError):  # a connection that is lost has no variables, either
            cursor.execute("SET @written_rows = NULL")
    rows = [
        [bytes.fromhex(part).decode() for part in one[1:].split(":")]
        for one in told[0].split()
        if not (asked.is_conditional and one.startswith(_UNCHANGED))
    ]
    return asked.reading(table.key, len(rows)), [part for row in rows for part in row]
