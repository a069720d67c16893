"""Alembic's environment: runs inside the migrations app, against its one engine."""

import logging

from alembic import context
from alembic.runtime.migration import MigrationInfo
from flask import current_app
from sqlalchemy import Connection, text

from shared.models import Base
from shared.models.task_result import RESULT_METADATA
from shared.models.types import MYSQL

METADATA = [Base.metadata, RESULT_METADATA]

#: Any number nobody else's advisory lock has: "rag-wkr" in ASCII.
LOCK = 0x7261672D776B72
#: MariaDB waits for a lock no longer than it is told.
LOCK_SECONDS = 86_400

engine = current_app.extensions["migrate"].db.engine
logger = logging.getLogger("shared.migrations")


def run_online() -> None:
    """Apply the migrations one process at a time, each in its own transaction."""
    with engine.connect() as connection:
        # The lock and the settings below end with the connection: no pool may have it after.
        connection.detach()
        if engine.dialect.name in MYSQL:
            _lock_mysql(connection)
        else:
            _lock_postgresql(connection)
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=METADATA,
            compare_type=True,
            compare_server_default=True,
            transaction_per_migration=True,
            on_version_apply=report,  # type: ignore[arg-type]  # called by keyword
        )
        with context.begin_transaction():
            context.run_migrations()


def _lock_postgresql(connection: Connection) -> None:
    connection.execute(text("SET statement_timeout = 0"))  # a large table's index takes long
    connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
    # A migration that waits behind a long query holds up everybody behind itself:
    # give up early and say so instead.
    connection.execute(text("SET lock_timeout = '10s'"))


def _lock_mysql(connection: Connection) -> None:
    connection.exec_driver_sql("SET /*M!100100 SESSION max_statement_time = 0, */ @unlimited = 1")
    # The lock is the server's, not the database's; held until the connection ends.
    connection.exec_driver_sql(
        f"SELECT GET_LOCK(CONCAT('rag-worker ', LEFT(SHA2(DATABASE(), 256), 32)), {LOCK_SECONDS})"
    )
    connection.exec_driver_sql("SET SESSION lock_wait_timeout = 10")


def report(*, step: MigrationInfo, **_: object) -> None:
    """Say which migration was applied or taken back."""
    done = "applied" if step.is_upgrade else "took back"
    logger.info("%s migration %s", done, step.up_revision_id, extra={"action": "migration.done"})


def run_offline() -> None:
    """Write the SQL instead of running it: ``db upgrade --sql``."""
    context.configure(
        url=engine.url.render_as_string(hide_password=True),
        target_metadata=METADATA,
        literal_binds=True,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
