"""Celery's database result backend on one shared pool, one statement per stored result.

The stock backend opens a connection per result outside forked children, reads
before it writes, and inspects the tables of every engine it makes. This one
keeps Celery's tables and its reading side, and replaces those three things.

Set ``result_backend`` to ``result_backend_url(uri)`` and
``result_backend_thread_safe`` to true: without the latter Celery builds a
backend per thread, and under gevent every task is a new thread.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from celery import states
from celery.backends.database import DatabaseBackend
from kombu.utils.encoding import ensure_bytes
from sqlalchemy import (
    Dialect,
    Engine,
    Table,
    bindparam,
    create_engine,
    func,
    literal_column,
    make_url,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    InternalError,
    NotSupportedError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from shared.errors import ConfigurationError

SUPPORTED_DRIVERS = ("postgresql+psycopg2", "sqlite", "sqlite+pysqlite")

ENGINE_OPTIONS: dict[str, Any] = {
    # A store holds a connection for well under a millisecond of worker time, so a
    # few serve hundreds of greenlets; what finds none free waits for its turn.
    "pool_size": 10,
    "max_overflow": 0,
    "pool_timeout": 30,
    "pool_recycle": 3600,
    # The most recently used connection first: a quiet process touches one, not ten.
    "pool_use_lifo": True,
    # A ping would double the round trips. A dead connection shows at the upsert,
    # SQLAlchemy then drops every older one, and running an upsert twice is harmless.
    "pool_pre_ping": False,
}

# Ten retries from 10 ms doubling up to 10 s, jittered, outlast a restart of the
# database by 10 s on average; the stock three give up after 70 ms and lose the result.
MAX_RETRIES = 10

# SQL or data the server will refuse again however often it is sent.
HOPELESS = (DataError, IntegrityError, NotSupportedError, ProgrammingError)

# The rows of the application are the truth about the work and are committed
# durably before this; a result row only reports on it. A crash of the server may
# lose the reports of its last ~600 ms (3 x wal_writer_delay), never corrupt them,
# and no result waits for a disk.
SERVER_OPTIONS = "-c synchronous_commit=off -c timezone=UTC"

_engines: dict[str, Engine] = {}


def result_backend_url(uri: str) -> str:
    """Return the value of ``result_backend`` that stores results at ``uri``.

    Celery's ``by_url`` splits at the first ``+`` into a class path and the rest,
    which it passes on as the backend's URL; workers, ``celery`` commands and
    Flower all resolve it there.

    Args:
        uri: An SQLAlchemy URI with an explicit driver, ``postgresql+psycopg2://...``.

    Raises:
        ConfigurationError: The URI is malformed or names another driver.
    """
    try:
        driver = make_url(uri).drivername
    except ArgumentError as error:
        raise ConfigurationError("The result database URI cannot be parsed.") from error
    if driver not in SUPPORTED_DRIVERS:
        raise ConfigurationError(
            f"The result backend speaks {', '.join(SUPPORTED_DRIVERS)}, not {driver}."
        )
    return f"{PooledDatabaseBackend.__module__}:{PooledDatabaseBackend.__qualname__}+{uri}"


def shared_engine(
    uri: str, options: dict[str, Any], on_create: Callable[[Engine], None] | None = None
) -> Engine:
    """Return this process's engine for ``uri``, made once and used by every thread.

    Args:
        uri: An SQLAlchemy URI.
        options: Arguments of ``create_engine`` which take precedence over ``ENGINE_OPTIONS``.
        on_create: Called with a new engine before anybody uses it.
    """
    key = f"{uri} {sorted(options.items(), key=lambda item: item[0])!r}"
    engine = _engines.get(key)
    if engine is None:
        engine = _create_engine(uri, options)
        if on_create is not None:
            on_create(engine)
        # Of two threads that come here at once one wins; the other's engine never connected.
        engine = _engines.setdefault(key, engine)
    return engine


def _create_engine(uri: str, options: dict[str, Any]) -> Engine:
    url = make_url(uri)
    merged = {"poolclass": QueuePool, **ENGINE_OPTIONS, **options}
    if url.get_backend_name() == "postgresql":
        connect_args = dict(merged.get("connect_args", {}))
        given = connect_args.get("options") or url.query.get("options") or ""
        connect_args["options"] = f"{SERVER_OPTIONS} {given}".strip()
        merged["connect_args"] = connect_args
    else:
        merged["paramstyle"] = "named"
    return create_engine(
        url,
        # Every statement here stands alone: no BEGIN, no COMMIT, nothing to roll back.
        isolation_level="AUTOCOMMIT",
        pool_reset_on_return=None,
        **merged,
    )


def _forget_inherited_connections() -> None:
    for engine in _engines.values():
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_inherited_connections)


class PooledDatabaseBackend(DatabaseBackend):
    """Store results through the process's shared engine, one upsert each.

    It never creates, inspects or alters a table: those come from the migrations.

    Raises:
        ConfigurationError: The results would be pickled.
    """

    app: Any
    session_manager: Any
    engine_options: dict[str, Any]
    max_retries: float
    always_retry: bool
    serializer: str
    url: str
    _update_result: Callable[..., None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.serializer == "pickle":
            raise ConfigurationError("result_serializer may not be pickle: it runs what it reads.")
        conf = self.app.conf
        # Celery's default for the setting pings; only what somebody chose counts.
        if not conf.value_set_for("database_engine_options"):
            for name in conf.database_engine_options or {}:
                self.engine_options.pop(name, None)
        if not conf.value_set_for("result_backend_max_retries"):
            self.max_retries = MAX_RETRIES

    @cached_property
    def engine(self) -> Engine:
        return shared_engine(self.url, self.engine_options, self.session_manager.engine_callback)

    def ResultSession(self, session_manager: Any = None) -> Session:  # noqa: ARG002, N802
        """Return a session of the shared engine, for everything but storing."""
        return Session(self.engine)

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Tell an outage or a full pool from a statement that can never work."""
        return isinstance(exc, PoolTimeout) or (
            isinstance(exc, DBAPIError) and not isinstance(exc, HOPELESS)
        )

    def on_backend_retryable_error(self, exc: Exception) -> None:
        """Leave a server that answers but refuses writes: after a failover it is the standby.

        Broken connections need nothing here, SQLAlchemy has dropped them already.
        """
        if isinstance(exc, InternalError):
            self.engine.dispose()

    def _create_tables(self) -> None:
        pass

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: str | None = None,
        request: Any = None,
        **_: Any,
    ) -> None:
        row = SimpleNamespace(task_id=task_id, children=None, stamps=None)
        self._update_result(row, result, state, traceback=traceback, request=request)
        row.date_done = _naive_utc(row.date_done)
        # PostgreSQL has no text with NUL in it, and a traceback may quote any input.
        row.traceback = row.traceback and row.traceback.replace("\x00", "\N{REPLACEMENT CHARACTER}")
        self._execute(self._result_upsert, vars(row))

    def _save_group(self, group_id: str, result: Any) -> Any:
        value = ensure_bytes(self.encode(self.prepare_value(result)))
        done = _naive_utc(datetime.now(UTC))
        row = {"taskset_id": group_id, "result": value, "date_done": done}
        self._execute(self._group_upsert, row)
        return result

    def _decode_stored_result(self, payload: Any) -> Any:
        """Decode with the configured serializer and nothing else.

        Stock Celery unpickles what it cannot decode when it starts like a
        pickle, so whoever can write a row can run code in its reader.

        Raises:
            kombu.exceptions.DecodeError: The payload is not what the serializer writes.
        """
        return None if payload is None else self.decode(ensure_bytes(payload))

    def _execute(self, statement: str, row: dict[str, Any]) -> None:
        # A string skips Core's compilation and type processing, half of the CPU
        # time of a store, and keeps its detection of dead connections.
        with self.engine.connect() as connection:
            connection.exec_driver_sql(statement, row)

    @cached_property
    def _result_upsert(self) -> str:
        return _upsert(self.engine.dialect, self.task_cls.__table__, "task_id", keep="stamps")

    @cached_property
    def _group_upsert(self) -> str:
        return _upsert(self.engine.dialect, self.taskset_cls.__table__, "taskset_id")


def _naive_utc(moment: datetime | None) -> str | None:
    """Write a time as the column's type has it, whatever zone the session is in."""
    if moment is None:
        return None
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ")


def _upsert(dialect: Dialect, table: Table, key: str, keep: str | None = None) -> str:
    """Compile the statement which writes a row unless it already holds a success.

    Args:
        dialect: Of the engine that is to run it.
        table: One of Celery's result tables.
        key: The column that carries the task's or the group's id.
        keep: A column whose value an update without one leaves in place.
    """
    insert = sqlite.insert if dialect.name == "sqlite" else postgresql.insert
    names = [column.name for column in table.columns if column.name != "id"]
    statement = insert(table).inline().values({name: bindparam(name) for name in names})
    new: dict[str, Any] = {name: statement.excluded[name] for name in names if name != key}
    if keep is not None:
        new[keep] = func.coalesce(new[keep], table.c[keep])
    unfinished = None
    if "status" in table.c:
        unfinished = table.c.status.is_distinct_from(literal_column(f"'{states.SUCCESS}'"))
    upsert = statement.on_conflict_do_update(index_elements=[key], set_=new, where=unfinished)
    return upsert.compile(dialect=dialect).string
