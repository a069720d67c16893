"""Servers for the benchmarks of tasks, and what they leave in the result table."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from flask import Flask
from sqlalchemy import create_engine, text

from benchmarks.noop import add_tasks
from shared.app_factory import create_app
from shared.models import db
from shared.models.task_result import TASK_RESULTS
from worker.cli.database import upgrade_database
from worker.cli.stack.postgres import EmbeddedPostgres
from worker.cli.stack.valkey import EmbeddedValkey


@dataclass(frozen=True, slots=True)
class Rig:
    """Servers that run, with an application in whose context the benchmark is."""

    folder: Path
    app: Flask
    broker: str
    database: str

    def broker_of(self, number: int) -> str:
        """The address of another database of the same Valkey; 0 is rag-worker's."""
        return f"{self.broker.rpartition('/')[0]}/{number}"


@contextmanager
def rig(**settings: str) -> Iterator[Rig]:
    """Start PostgreSQL and Valkey for rag-worker's defaults and these settings."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(EmbeddedPostgres(folder / "postgres"))
        valkey = stack.enter_context(EmbeddedValkey(folder / "valkey", persist=False))
        os.environ |= {
            "CELERY_BROKER_URL": valkey.url,
            "SQLALCHEMY_DATABASE_URI": postgres.uri,
            "REDIS_URL": valkey.url,
            "STORAGE_URL": f"file://{folder}/storage",
            "RAG_WORKER_DATA_DIR": str(folder / "data"),
            "LOG_LEVEL": "WARNING",
            **settings,
        }
        app = create_app()
        # To Celery it outranks what an application says: plain Celery has a broker of its own.
        del os.environ["CELERY_BROKER_URL"]
        stack.enter_context(app.app_context())
        upgrade_database()
        stack.callback(db.engine.dispose)
        add_tasks(app.extensions["celery"])
        yield Rig(folder, app, valkey.url, postgres.uri)


def empty_results(database: str) -> None:
    """Give every measurement the same, empty result table."""
    engine = create_engine(database)
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {TASK_RESULTS.name}"))
    engine.dispose()


def require_results(database: str, expected: int) -> None:
    """See to it that so many successes are stored.

    Raises:
        RuntimeError: there are others after a while.
    """
    engine = create_engine(database)
    query = text(f"SELECT count(*) FROM {TASK_RESULTS.name} WHERE status = 'SUCCESS'")
    deadline = time.monotonic() + 5
    while True:
        with engine.connect() as connection:
            rows = connection.execute(query).scalar_one()
        if rows == expected:
            break
        if time.monotonic() > deadline:
            raise RuntimeError(f"{rows} of {expected} results are stored")
        time.sleep(0.1)
    engine.dispose()
