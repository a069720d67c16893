"""Statements of several steps, run by a cursor as if they were one."""

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from celery.backends.database.session import ResultModelBase  # type: ignore[attr-defined]
from pymysql.cursors import Cursor as PlainCursor
from pymysql.err import IntegrityError
from sqlalchemy import BindParameter, Column, Engine, TextClause, Uuid, event, type_coerce
from sqlalchemy.dialects.postgresql.dml import OnConflictDoNothing, OnConflictDoUpdate
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.visitors import iterate
from sqlalchemy.types import NullType

from shared.errors import ConfigurationError
from shared.models import db
from shared.mysql.statements import ANSWERING, LOCKING, SEPARATOR, translated
from shared.mysql.targets import Table, Tables
from shared.mysql.values import Decoders, encoded, from_json, with_lists
from shared.mysql.words import IDENTIFIERS, LISTED, ZIPPED
from shared.mysql.writing import CONDITIONAL, insertion, written

_KEYS = re.compile(re.escape(LOCKING).replace(r"\{\}", r"(\w+)"))
_JSON = re.compile(r"/\* json: ([\w, ]+) \*/")
_DUPLICATE = 1062
_OLDEST_MYSQL = 8
#: What SQLAlchemy writes for any database, and MariaDB does not know.
_FOREIGN = re.compile(
    r"\bnow\(\)|statement_timestamp\(|make_interval\(|gen_random_uuid\(|\bANY \("
    r"|^(?:UPDATE|DELETE) .* RETURNING |^WITH "
    r"|\bFILTER \(|jsonb_array_elements\("
    # Assignments that read the row.
    r"|^UPDATE (?P<table>\w+) SET (?:(?! WHERE ).)*\b(?P=table)\.",
    re.DOTALL,
)
_PARAMETER = re.compile(r"%\((\w+)\)s")
_NAMED = re.compile(r"(?<![:\w]):([A-Za-z_]\w*)")
_MADE = re.compile(rf":(?:{LISTED}|{IDENTIFIERS}|{ZIPPED})(\w+)")
_EXCLUDED = re.compile(r"\bexcluded\.(`?\w+`?)")


class Cursor(PlainCursor):
    """Runs what ``statements`` made, and gives values as PostgreSQL's driver gives them."""

    def execute(self, query: Any, args: Any = None) -> int:
        """Run the statement, or its steps, in the connection's transaction.

        Raises:
            IntegrityError: a row refers to one that is not there. INSERT IGNORE, which is for rows
                that are there already, would pass over it.
        """
        if not isinstance(query, str):
            return int(super().execute(query, args))  # of executemany: it is ready
        query = carried_over(query)
        if SEPARATOR not in query:
            affected = self._run_one(query, args)
        else:
            affected = self._run_steps(query.split(SEPARATOR), dict(args or {}))
        self._decode(query)
        return affected

    def executemany(self, query: str, args: Iterable[Any]) -> int | None:
        """Run the statement for each of these parameters."""
        query = carried_over(query)
        if SEPARATOR in query:
            return sum(self.execute(query, one) for one in args)
        return super().executemany(query, [encoded(query, one) for one in args])

    def _run_steps(self, steps: list[str], args: dict[str, Any]) -> int:
        answered: int | None = None
        with self.connection.cursor(PlainCursor) as beside:
            for step in steps:
                keys = _KEYS.match(step)
                if keys:
                    beside.execute(with_lists(step, args), encoded(step, args))
                    rows = beside.fetchall()
                    args[keys[1]] = [row[0] if len(row) == 1 else row for row in rows]
                elif step.startswith(ANSWERING) or (answered is None and step is steps[-1]):
                    answered = self._run_one(step, args)
                else:
                    beside.execute(with_lists(step, args), encoded(step, args))
        return answered or 0

    def _run_one(self, query: str, args: Any) -> int:
        args, query = encoded(query, args), with_lists(query, args)
        asked = insertion(query)
        if asked is None or (self._returns_inserted() and not asked.is_conditional):
            return self._run(query, args)
        with self.connection.cursor(PlainCursor) as beside:
            query, keys = written(
                lambda statement: self._run(statement, args), beside, asked, _tables().by_name
            )
        return self._run(query, keys)

    def _returns_inserted(self) -> bool:
        connection: Any = self.connection
        return "MariaDB" in connection.get_server_info()

    def _run(self, query: str, args: Any) -> int:
        affected = super().execute(query, args)
        if self.warning_count and "INSERT IGNORE" in query:
            self._refuse_more_than_duplicates()
        return affected

    def _refuse_more_than_duplicates(self) -> None:
        with self.connection.cursor(PlainCursor) as beside:
            beside.execute("SHOW WARNINGS")
            for _, code, words in beside.fetchall():
                if code != _DUPLICATE:
                    raise IntegrityError(code, words)

    def _decode(self, query: str) -> None:
        # PyMySQL keeps its rows to itself, and has no other place where a value could be read.
        held = vars(self)
        fields = getattr(held["_result"], "fields", None)
        if not fields or not held["_rows"]:
            return
        said = _JSON.search(query)
        names = set(said[1].split(", ")) if said else set()
        known = _decoders()
        decoders = [from_json if one.name in names else known.of(one) for one in fields]
        if any(decoders):
            held["_rows"] = tuple(
                tuple(
                    value if decode is None or value is None else decode(value)
                    for value, decode in zip(row, decoders, strict=True)
                )
                for row in held["_rows"]
            )


_made: list[Decoders] = []


def _decoders() -> Decoders:
    if not _made:
        _made.append(Decoders(db.metadata))
    return _made[0]


@cache
def _tables() -> Tables:
    known = [*db.metadata.tables.values(), *ResultModelBase.metadata.tables.values()]
    kinds: dict[str, set[bool]] = {}
    for table in known:
        for column in table.columns:
            kinds.setdefault(column.name, set()).add(isinstance(column.type, Uuid))
    return Tables(
        {
            table.name: Table(
                tuple(column.name for column in table.primary_key.columns),
                frozenset(column.name for column in table.columns),
            )
            for table in known
        },
        frozenset(name for name, found in kinds.items() if True in found),
    )


@cache
def carried_over(query: str) -> str:
    """What SQLAlchemy made of expressions that only PostgreSQL has, for MariaDB."""
    if SEPARATOR in query or not _FOREIGN.search(query):
        return query
    plain = _PARAMETER.sub(r":\1", query).replace("%%", "%")
    words = translated(plain, _tables(), dialect="mysql").replace("%", "%%")
    return _NAMED.sub(r"%(\1)s", words)


@cache
def _words(source: str) -> str:
    return translated(source, _tables())


def in_words_of_mariadb(statement: TextClause) -> str:
    """A statement as MariaDB is given it: its own words, or PostgreSQL's carried over."""
    return getattr(statement, "mariadb", None) or _words(statement.text)


def install(engine: Engine) -> None:
    """Let the engine run statements that are written for PostgreSQL.

    Its connections raise ConfigurationError where the server is not MariaDB.
    """
    # Such an UPDATE is run in steps, by the cursor.
    engine.dialect.update_returning = True
    engine.dialect.update_returning_multifrom = True

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        said = connection.get_server_info()
        if "MariaDB" not in said and int(said.partition(".")[0]) < _OLDEST_MYSQL:
            raise ConfigurationError(
                f"SQLALCHEMY_DATABASE_URI names a MySQL server of version {said}: "
                f"use {_OLDEST_MYSQL} or later, MariaDB or PostgreSQL"
            )
        connection.cursorclass = Cursor


@compiles(TextClause, "mysql", "mariadb")
def _text(element: TextClause, compiler: Any, **options: Any) -> str:
    other = element._clone()  # noqa: SLF001 - the one copy of a text with its parameters
    other.text = in_words_of_mariadb(element)
    for names in _MADE.findall(other.text):
        for name in names.split("__"):
            if name in element._bindparams:  # noqa: SLF001
                # Its value is asked for, though it stands in the statement only within another.
                compiler.process(element._bindparams[name])  # noqa: SLF001
    return str(compiler.visit_textclause(other, **options))


@compiles(OnConflictDoNothing, "mysql", "mariadb")
def _do_nothing(_: OnConflictDoNothing, compiler: Any, **options: Any) -> str:
    # Not INSERT IGNORE: that would pass over rows that refer to nothing, too.
    column = next(iter(compiler.current_executable.table.primary_key.columns))
    name = compiler.process(column, **options)
    return f"ON DUPLICATE KEY UPDATE {name} = {name}"


@compiles(OnConflictDoUpdate, "mysql", "mariadb")
def _do_update(clause: OnConflictDoUpdate, compiler: Any, **options: Any) -> str:
    table = compiler.current_executable.table
    pairs = dict(clause.update_values_to_set).items()
    values = {getattr(key, "key", key): value for key, value in pairs}
    where = clause.update_whereclause
    holds = "" if where is None else _written(compiler, where, options)
    # They are assigned one after the other: what the condition reads changes last.
    read = {one.key for one in iterate(where) if isinstance(one, Column)} if holds else set()
    words = []
    for key in sorted(values, key=lambda one: one in read):
        column, value = table.c[key], values[key]
        if isinstance(value, BindParameter) and isinstance(value.type, NullType):
            value = type_coerce(value, column.type)
        new = _written(compiler, value.self_group(), options)
        name = compiler.preparer.quote(column.name)
        if holds:
            new = f"IF({holds}, {new}, {table.name}.{name})"
        words.append(f"{name} = {new}")
    return f"ON DUPLICATE KEY UPDATE {CONDITIONAL if holds else ''} " + ", ".join(words)


def _written(compiler: Any, value: Any, options: Any) -> str:
    words = compiler.process(value, **{**options, "include_table": True})
    return _EXCLUDED.sub(r"VALUES(\1)", words)


__all__ = ["Cursor", "install"]
