"""Celery's database result backend on one pool a process, one upsert a result.

The stock backend opens a connection per result outside forked children, reads
before it writes, inspects the tables of every engine it makes, and under gevent
makes one of itself a task. This one keeps Celery's tables and its reading side,
and replaces those things.
"""

import os
from datetime import UTC, datetime
from typing import Any
from weakref import WeakSet

import psycopg2
from celery import states
from celery.backends.database import DatabaseBackend
from celery.signals import worker_process_init
from kombu.utils.encoding import ensure_bytes
from kombu.utils.json import dumps
from psycopg2.extensions import connection
from sqlalchemy import Engine, Table, bindparam, func, literal_column
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.exc import InternalError, OperationalError
from sqlalchemy.orm import Session

from shared.errors import ConfigurationError
from shared.queueing import trace_context
from shared.queueing.group_writer import GroupWriter, can_succeed_later
from shared.queueing.outage import mysql_number
from shared.queueing.pipelined_writer import PipelinedWriter
from shared.queueing.result_engine import ENGINE_OPTIONS, result_engine, result_url
from shared.queueing.result_request import request_columns
from shared.queueing.row_writer import RowWriter
from shared.settings import mysql

#: What MariaDB and MySQL say as a standby: --read-only, a transaction that only reads.
_READ_ONLY = {1290, 1792, 1836}

# Ten retries from 10 ms doubling up to 10 s, jittered, outlast a restart of the
# database by 10 s on average; the stock three give up after 70 ms and lose the result.
MAX_RETRIES = 10


def result_backend_settings(uri: str) -> dict[str, Any]:
    """Return the Celery settings that store results at ``uri``.

    Args:
        uri: An SQLAlchemy URI, ``postgresql+psycopg2://...``, or of MariaDB or MySQL.

    Raises:
        ConfigurationError: The URI is malformed or names another driver.
    """
    result_url(uri)
    return {
        "result_backend": f"{PooledDatabaseBackend.__module__}:{PooledDatabaseBackend.__name__}",
        # Apart, since Celery shows result_backend in its reports and masks this one whole.
        "database_url": uri,
    }


class PooledDatabaseBackend(DatabaseBackend):
    """Store results through one engine, one upsert each.

    It never creates, inspects or alters a table: those come from the migrations.

    Raises:
        ConfigurationError: The database is neither PostgreSQL on psycopg2 nor MariaDB or
            MySQL on PyMySQL, or the results would be pickled.
    """

    app: Any
    session_manager: Any
    engine_options: dict[str, Any]
    max_retries: float
    serializer: str
    url: str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        url = result_url(self.url)
        if self.serializer == "pickle":
            raise ConfigurationError("result_serializer may not be pickle: it runs what it reads.")
        conf = self.app.conf
        # Celery's default for the setting pings; only what somebody chose counts.
        chosen = conf.value_set_for("database_engine_options")
        if not conf.value_set_for("result_backend_max_retries"):
            self.max_retries = MAX_RETRIES
        # One for all threads: Celery keeps a backend per thread otherwise, and to it
        # every greenlet is a thread.
        self.thread_safe = True
        self.engine = result_engine(url, self.engine_options if chosen else {})
        if self.session_manager.engine_callback is not None:
            self.session_manager.engine_callback(self.engine)
        tasks, groups = self.task_cls.__table__, self.taskset_cls.__table__
        self._columns = [column.name for column in tasks.columns if column.name != "id"]
        self._is_extended = conf.find_value_for_key("extended", "result")
        self._tasks = _writer(self.engine, tasks, "task_id", keep="stamps")
        self._groups = _writer(self.engine, groups, "taskset_id")
        self._pipelined: PipelinedWriter | None = None
        _backends.add(self)

    def ResultSession(self, session_manager: Any = None) -> Session:  # noqa: ARG002, N802
        """Return a session of the engine, for everything but storing."""
        return Session(self.engine)

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Tell an outage or a full pool from a statement that can never work."""
        return can_succeed_later(exc)

    def on_backend_retryable_error(self, exc: Exception) -> None:
        """Leave a server that answers but refuses writes: after a failover it is the standby.

        Broken connections need nothing here, SQLAlchemy has dropped them already.
        """
        if isinstance(exc, InternalError) or _is_read_only(exc):
            self.engine.dispose()

    def forget_parent(self) -> None:
        """Leave connections and waiting rows to the process this one was forked from."""
        # close=False: the sockets are the parent's too; closing would end its sessions.
        self.engine.dispose(close=False)
        self._tasks.start_afresh()
        self._groups.start_afresh()
        self._pipelined = None

    def _create_tables(self) -> None:
        pass

    def _query_task(self, session: Session, task_id: str, for_update: bool = False) -> Any:  # noqa: ARG002, FBT001, FBT002
        # Stock Celery takes a lost connection for a missing column, which it then
        # asks the same session to do without: an error nobody retries.
        return session.query(self.task_cls).filter_by(task_id=task_id).one_or_none()

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: str | None = None,
        request: Any = None,
        **_: Any,
    ) -> None:
        done = _naive_utc(datetime.now(UTC)) if state in self.READY_STATES else None
        row = dict.fromkeys(self._columns)
        row |= {"task_id": task_id, "status": state, "date_done": done}
        row["result"] = self._bytes(result)
        row["traceback"] = traceback and _storable(traceback)
        children = self.current_task_children(request)
        row["children"] = self._bytes(children) if children else None
        if request and self._is_extended:
            row |= request_columns(self.app, request, self._bytes)
        # The listeners of the application's engine know nothing of this one.
        system = self.engine.dialect.name
        with trace_context.calling("store_result", db_system=system, db_operation="upsert"):
            self._writer().store(row)

    def _writer(self) -> GroupWriter | PipelinedWriter | RowWriter:
        if not _process.runs_one_task_at_a_time or isinstance(self._tasks, RowWriter):
            return self._tasks
        if self._pipelined is None:
            self._pipelined = PipelinedWriter(self._connect_asynchronously, self._tasks)
        return self._pipelined

    def _connect_asynchronously(self) -> connection:
        _, arguments = self.engine.dialect.create_connect_args(self.engine.url)
        arguments = arguments | ENGINE_OPTIONS["connect_args"]
        opened: connection = psycopg2.connect(**arguments, async_=True)
        return opened

    def _bytes(self, value: Any) -> bytes:
        # Past the registry of serializers, which is most of what encoding a small value costs.
        text = dumps(value) if self.serializer == "json" else self.encode(value)
        return ensure_bytes(text)

    def _save_group(self, group_id: str, result: Any) -> Any:
        value = ensure_bytes(self.encode(self.prepare_value(result)))
        done = _naive_utc(datetime.now(UTC))
        self._groups.store({"taskset_id": group_id, "result": value, "date_done": done})
        return result

    def _decode_stored_result(self, payload: Any) -> Any:
        """Decode with the configured serializer and nothing else.

        Stock Celery unpickles what it cannot decode when it starts like a
        pickle, so whoever can write a row can run code in its reader.

        Raises:
            kombu.exceptions.DecodeError: The payload is not what the serializer writes.
        """
        return None if payload is None else self.decode(ensure_bytes(payload))


class _Process:
    """What this process is; told by Celery once it knows."""

    runs_one_task_at_a_time = False


_process = _Process()


@worker_process_init.connect
def _in_a_pool_of_processes(**_: Any) -> None:
    _process.runs_one_task_at_a_time = True


_backends: "WeakSet[PooledDatabaseBackend]" = WeakSet()


def _forget_parent() -> None:
    for backend in _backends:
        backend.forget_parent()


os.register_at_fork(after_in_child=_forget_parent)


def _writer(
    engine: Engine, table: Table, key: str, keep: str | None = None
) -> GroupWriter | RowWriter:
    if mysql.is_mysql(engine.dialect.name):
        return RowWriter(engine, table, key, keep)
    return GroupWriter(engine, _upsert(table, key, keep))


def _is_read_only(error: Exception) -> bool:
    return isinstance(error, OperationalError) and mysql_number(error.orig) in _READ_ONLY


def _naive_utc(moment: datetime) -> datetime:
    """Return a time as the columns' type has it, whatever zone the session is in."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def _storable(text: str) -> str:
    """Replace what a PostgreSQL text cannot hold: a traceback may quote any input."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _upsert(table: Table, key: str, keep: str | None = None) -> Insert:
    """Return the statement which writes a row unless it already holds a success.

    Args:
        table: One of Celery's result tables.
        key: The column that carries the task's or the group's id.
        keep: A column whose value an update without one leaves in place.
    """
    names = [column.name for column in table.columns if column.name != "id"]
    statement = insert(table).inline().values({name: bindparam(name) for name in names})
    new: dict[str, Any] = {name: statement.excluded[name] for name in names if name != key}
    if keep is not None:
        new[keep] = func.coalesce(new[keep], table.c[keep])
    unfinished = None
    if "status" in table.c:
        unfinished = table.c.status.is_distinct_from(literal_column(f"'{states.SUCCESS}'"))
    return statement.on_conflict_do_update(index_elements=[key], set_=new, where=unfinished)
