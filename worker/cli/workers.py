"""``rag-worker workers``: who is there, what each serves, and what it has in hand."""

import platform

import click
from flask import current_app
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.contract import QUEUES
from shared.models import WorkerNode, db
from shared.settings import Settings
from worker.cli.application import in_application
from worker.cli.documents import as_one_line, json_option
from worker.cli.failures import UNHEALTHY
from worker.cli.printing import printable
from worker.delivery.nodes import Patience, State, observe
from worker.delivery.presence import backlog_of


@click.command()
@json_option
@in_application
def workers(context: click.Context, *, as_json: bool) -> None:
    """List workers and what they have in hand.

    Exit code 6: there is no live worker.
    """
    settings: Settings = current_app.extensions["settings"]
    celery = current_app.extensions["celery"]
    with celery.connection_for_write() as connection:
        backlog = backlog_of(connection, QUEUES)
    nodes = observe(db.engine, backlog)
    with Session(db.engine) as session:
        since = {row.name: row for row in session.scalars(select(WorkerNode))}
    patience = Patience.of(settings)
    found: list[dict[str, object]] = [
        {
            "name": node.name,
            "state": str(node.state(backlog, patience, platform.node())),
            "host": node.host,
            "pid": node.pid,
            "pool": node.pool,
            "queues": list(node.queues),
            "active": node.busy,
            "concurrency": node.concurrency,
            "since": since[node.name].started_at,
            "seen": since[node.name].seen_at,
            "clock_offset_seconds": round(node.clock_offset_seconds, 3),
            "last_consumed": since[node.name].last_consumed_at,
        }
        for node in nodes
        if node.name in since
    ]
    if as_json:
        click.echo(as_one_line({"workers": found}))
    else:
        for one in found:
            click.echo(printable(_line(one)))
    if not any(one["state"] == State.LIVE for one in found):
        click.echo("rag-worker: there is no live worker", err=True)
        context.exit(UNHEALTHY)


def _line(worker: dict[str, object]) -> str:
    queues = worker["queues"]
    served = ",".join(map(str, queues)) if isinstance(queues, list) else ""
    return (
        f"{worker['name']}: {worker['state']}, {worker['pool']}, {worker['active']} of "
        f"{worker['concurrency']} active, serves {served}, since "
        f"{worker['since']:%Y-%m-%d %H:%M:%S %Z}"
    )
