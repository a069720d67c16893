"""The application on servers of its own, for a benchmark that works in its process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask import Flask

from shared.app_factory import create_app
from shared.models import db
from worker.cli.database import upgrade_database
from worker.cli.stack.postgres import EmbeddedPostgres
from worker.cli.stack.valkey import EmbeddedValkey


@contextmanager
def application(folder: Path, **settings: str) -> Iterator[Flask]:
    """PostgreSQL, Valkey and an application in its context, its database migrated.

    Args:
        folder: for all data.
        settings: beside the servers' addresses; child processes get them too.
    """
    with EmbeddedPostgres(folder / "p") as postgres, EmbeddedValkey(folder / "v") as valkey:
        os.environ.update(
            SQLALCHEMY_DATABASE_URI=postgres.uri,
            REDIS_URL=valkey.url,
            CELERY_BROKER_URL=valkey.url,
            STORAGE_URL=f"file://{folder}/storage",
            LOG_LEVEL="WARNING",
        )
        os.environ.update(settings)
        app = create_app()
        with app.app_context():
            upgrade_database()
            try:
                yield app
            finally:
                db.engine.dispose()
