"""``rag-worker tasks``: what became of one message, from every table that knows of it."""

from datetime import datetime
from typing import Any
from uuid import UUID

import click
from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from shared.errors import NotFound
from shared.models import db
from worker.cli.application import in_application
from worker.cli.documents import as_one_line, json_option
from worker.cli.printing import printable
from worker.delivery.delivered import message_id

_OUTBOX = text("""
    SELECT task, queue, tenant_id, args, kwargs, priority, created_at, available_at, published_at,
           redeliveries, attempts, deaths, error, lease_owner, lease_expires_at,
           CASE WHEN lease_expires_at >= statement_timestamp() THEN 'a worker has it'
                WHEN lease_expires_at IS NOT NULL THEN 'its worker died: the sweeper comes for it'
                WHEN published_at IS NOT NULL THEN 'in the broker'
                WHEN available_at > statement_timestamp() THEN 'waits for its time'
                ELSE 'waits to be published' END AS state
    FROM outbox WHERE id = :id
""")
# Celery's own columns are UTC without saying so.
_RESULT = text("""
    SELECT name AS task, queue, status, worker, retries,
           timezone('UTC', date_done) AS date_done, traceback
    FROM celery_taskmeta WHERE task_id = :task_id
""")
_LETTERS = text("""
    SELECT id, task, queue, attempts, exception, reason, created_at FROM dead_letters
    WHERE message_id = :id ORDER BY created_at
""")


@click.group()
def tasks() -> None:
    """Show what became of a task."""


@tasks.command()
@click.argument("task_id", metavar="ID")
@json_option
@in_application
def show(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    task_id: str,
    *,
    as_json: bool,
) -> None:
    """Show a task's message, its lease, its result and its dead letters.

    A task that is done leaves its result, if it keeps one, and nothing else.
    """
    found = _found(task_id)
    if as_json:
        click.echo(as_one_line(found))
        return
    for part, values in found.items():
        several = values if isinstance(values, list) else [values]
        for one in several:
            click.echo(f"{part}:" if isinstance(one, dict) else f"{part}: {one}")
            for name, value in one.items() if isinstance(one, dict) else ():
                click.echo(f"  {name}: {printable(_text(value))}")


def _found(task_id: str) -> dict[str, object]:
    own_id: UUID = message_id(task_id)
    with Session(db.engine) as session:
        message = session.execute(_OUTBOX, {"id": own_id}).one_or_none()
        result = session.execute(_RESULT, {"task_id": task_id}).one_or_none()
        letters = session.execute(_LETTERS, {"id": own_id}).all()
    if message is None and result is None and not letters:
        raise NotFound(
            f"nothing is known of task {task_id}: it is done and keeps no result, "
            "or it came by a plain .delay() that nobody has begun"
        )
    found: dict[str, object] = {"id": task_id}
    if message is not None:
        found["message"] = _values(message)
    if result is not None:
        found["result"] = _values(result)
    if letters:
        found["dead_letters"] = [_values(one) for one in letters]
    return found


def _values(row: Row[Any]) -> dict[str, object]:
    return {name: value for name, value in row._mapping.items() if value is not None}  # noqa: SLF001 - SQLAlchemy's documented way


def _text(value: object) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S %Z}" if isinstance(value, datetime) else str(value)
