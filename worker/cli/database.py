"""``rag-worker db``: migrations, once however many start them at the same time."""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager

import click
import flask_migrate
from alembic.runtime.migration import MigrationContext
from flask import current_app, g
from flask.cli import ScriptInfo, with_appcontext
from flask_migrate.cli import db as flask_migrate_group
from redis.exceptions import LockError, RedisError
from redis.lock import Lock

from shared.app_factory import create_migrations_app
from shared.errors import ServiceUnavailable
from shared.extensions.redis import connect

LOCK_NAME = "rag-worker:db-upgrade"
#: Short: a process that died with it must not hold up the next for long, and a
#: migration that takes longer is safe by the database's own lock.
LOCK_SECONDS = 60
WAIT_SECONDS = 600


@click.group()
@click.pass_context
def db(context: click.Context) -> None:
    """Migrate the database."""
    _enter_application(context)


def _enter_application(context: click.Context) -> None:
    # A migration needs a database, neither a broker nor a worker.
    context.obj = ScriptInfo(create_app=lambda: create_migrations_app())  # noqa: PLW0108
    context.with_resource(context.obj.load_app().app_context())
    # What Flask-Migrate's commands look for where its own group leaves it.
    g.directory, g.x_arg = None, ()


@db.command()
@click.option("--revision", default="head", show_default=True, help="The revision to reach.")
@with_appcontext
def upgrade(revision: str) -> None:
    """Bring the tables to the newest revision."""
    upgrade_database(revision)
    _print_revision()


@click.command()
@click.pass_context
def upgrade_db(context: click.Context) -> None:
    """Bring the tables to the newest revision."""
    _enter_application(context)
    upgrade_database()
    _print_revision()


def _print_revision() -> None:
    with current_app.extensions["migrate"].db.engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    click.echo(f"the tables are at revision {found}")


def upgrade_database(revision: str = "head") -> None:
    """Migrate under the lock, in the current application.

    Raises:
        ServiceUnavailable: another migration holds the lock for too long.
    """
    # Its own lines about dialects and plugins; what was migrated it says at INFO too.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with _only_one():
        flask_migrate.upgrade(revision=revision)


@contextmanager
def _only_one() -> Iterator[None]:
    redis = connect(current_app.extensions["settings"])
    lock = redis.lock(LOCK_NAME, timeout=LOCK_SECONDS, blocking_timeout=WAIT_SECONDS)
    with closing(redis):
        taken = _acquired(lock)
        if taken is False:
            raise ServiceUnavailable(
                f"another migration holds {LOCK_NAME}: wait for it, then repeat"
            )
        try:
            yield
        finally:
            if taken:
                _give_back(lock)


def _acquired(lock: Lock) -> bool | None:
    """Whether the lock was taken; ``None`` when there is no Redis to take it from."""
    try:
        return bool(lock.acquire())
    except RedisError as error:
        # The migration itself takes an advisory lock of the database.
        click.echo(f"rag-worker: no Redis for the migration lock ({error})", err=True)
        return None


def _give_back(lock: Lock) -> None:
    try:
        lock.release()
    except (LockError, RedisError) as error:
        click.echo(f"rag-worker: the migration lock was lost ({error})", err=True)


for name, command in flask_migrate_group.commands.items():
    if name not in db.commands:
        db.add_command(command, name)
