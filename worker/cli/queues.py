"""``rag-worker queues``: how deep, how old, who serves them; pause, resume, purge."""

from dataclasses import asdict
from uuid import UUID

import click
from flask import current_app
from sqlalchemy import Select, delete, select
from sqlalchemy.orm import Session

from shared.contract import QUEUES
from shared.errors import InvalidRequest
from shared.models import TaskSwitch, db
from shared.queueing.publishing import wake_relays
from shared.settings import Settings
from worker.cli.application import in_application
from worker.cli.documents import as_one_line, json_option
from worker.cli.failures import UNHEALTHY
from worker.cli.printing import printable
from worker.delivery.purging import Purge, Purged
from worker.delivery.queue_state import QueueState
from worker.delivery.switches import Action, switch

queue_argument = click.argument("queue", type=click.Choice(QUEUES))
reason_option = click.option("--reason", default="", help="For whoever looks at it later.")


@click.group()
def queues() -> None:
    """List, pause, resume or purge queues."""


@queues.command("list")
@json_option
@in_application
def list_queues(context: click.Context, *, as_json: bool) -> None:
    """Show each queue: depth, age of the oldest, consumers.

    Exit code 6: a queue that is not paused has no live worker.
    """
    from worker.wiring.maintenance import queues_now

    settings: Settings = current_app.extensions["settings"]
    states = queues_now(settings)
    if as_json:
        found = [{**asdict(one), "depth": one.depth} for one in states]
        click.echo(as_one_line({"queues": found}))
    else:
        for one in states:
            click.echo(_line(one))
    unserved = [one.queue for one in states if not one.consumers and not one.is_paused]
    for queue in unserved:
        click.echo(f"rag-worker: no live worker serves the queue {queue}", err=True)
    context.exit(UNHEALTHY if unserved else 0)


@queues.command()
@queue_argument
@reason_option
@json_option
@in_application
def pause(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    queue: str,
    reason: str,
    *,
    as_json: bool,
) -> None:
    """Let a queue's messages wait until it is resumed.

    What is accepted meanwhile waits in the outbox; what runs goes on.
    """
    with Session(db.engine) as session, session.begin():
        if session.scalars(_rules(queue)).first() is not None:
            raise InvalidRequest(f"the queue {queue} is paused already")
        switch(session, Action.HOLD, queue=queue, reason=reason)
    click.echo(as_one_line({"paused": queue}) if as_json else f"{queue}  paused")


@queues.command()
@queue_argument
@json_option
@in_application
def resume(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    queue: str,
    *,
    as_json: bool,
) -> None:
    """Let a paused queue go on."""
    with Session(db.engine) as session, session.begin():
        paused = session.scalars(_rules(queue)).all()
        if not paused:
            raise InvalidRequest(f"the queue {queue} is not paused")
        session.execute(delete(TaskSwitch).where(TaskSwitch.id.in_(paused)))
        wake_relays(session.connection())
    click.echo(as_one_line({"resumed": queue}) if as_json else f"{queue}  resumed")


@queues.command()
@queue_argument
@reason_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@in_application
def purge(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    queue: str,
    reason: str,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """End all that waits in a queue as dead letters.

    What a message is about ends with the reason: documents as error, mails as failed.
    No sweep sends it out again; `dead-letters replay` does. What a worker has in hand goes
    on. What was deleted is cleaned up all the same, an hour later.
    """
    if not yes:
        click.confirm(f"End all that waits in {queue} as dead letters?", abort=True, err=True)
    done = _purged(queue, reason)
    if as_json:
        click.echo(as_one_line({"queue": queue, **asdict(done)}))
        return
    click.echo(f"{done.buried} messages are dead letters now: see `rag-worker dead-letters list`")
    if done.dropped:
        click.echo(f"{done.dropped} of the schedule were dropped: beat sends them again")
    if done.in_hand:
        click.echo(f"{done.in_hand} are in the hands of workers, and go on")


def _purged(queue: str, reason: str) -> Purged:
    celery = current_app.extensions["celery"]
    # Known by name are only the tasks whose modules are imported.
    celery.loader.import_default_modules()
    with celery.connection_for_write() as connection:
        return Purge(db.engine, celery, connection, queue, reason).run()


def _rules(queue: str) -> Select[UUID]:
    return select(TaskSwitch.id).where(
        TaskSwitch.action == Action.HOLD.value,
        TaskSwitch.queue == queue,
        TaskSwitch.task.is_(None),
        TaskSwitch.tenant_id.is_(None),
        TaskSwitch.subject_id.is_(None),
    )


def _line(state: QueueState) -> str:
    more = "" if state.is_counted_whole else "+"
    crew = ", ".join(state.consumers) or "nobody"
    paused = "  PAUSED" if state.is_paused else ""
    crew = printable(crew)
    return (
        f"{state.queue:<12} {state.depth:>8}{more} waiting  {state.in_flight:>6} in flight  "
        f"oldest {state.oldest_seconds:>8.0f} s  {state.slots:>3} slots  {crew}{paused}"
    )
