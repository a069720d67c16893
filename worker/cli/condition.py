"""What ``rag-worker health`` says: of all, or closely of one worker."""

import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import click
from celery import Celery
from flask import current_app
from sqlalchemy.exc import InterfaceError, OperationalError

from shared.contract import QUEUES
from shared.models import db
from shared.queueing.publishing import BROKER_ERRORS
from shared.settings import Settings
from worker.cli.application import in_application
from worker.cli.ending import CLOSING_SECONDS, end_worker
from worker.cli.failures import SERVICE_UNAVAILABLE, UNHEALTHY
from worker.cli.printing import printable
from worker.delivery.nodes import Node, Patience, State, observe, unserved_queues
from worker.delivery.presence import backlog_of
from worker.delivery.queue_state import unserved

#: Of a worker's period: what one report does not explain, the next one does.
_LOOK_AGAIN_PERIODS = 1.5


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one moment; ``away`` names the services that did not answer."""

    away: tuple[str, ...] = ()
    backlog: dict[str, int] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()
    states: dict[str, State] = field(default_factory=dict)

    def problems(self) -> dict[str, str]:
        """What is not well, a line each, by what it is about."""
        found = {
            f"worker {node.name}": _wedged_line(node, self.backlog)
            for node in self.nodes
            if self.states[node.name] is State.WEDGED
        }
        for queue, number in unserved_queues(self.backlog, self.nodes, self.states).items():
            found[f"queue {queue}"] = f"queue {queue} holds {number} and no live worker takes any"
        return found

    def notes(self) -> list[str]:
        """Empty queues that no worker serves, and clocks that are wrong: no problems yet."""
        if self.away:
            return []
        well = [node for node in self.nodes if self.states[node.name] in _WELL]
        return [
            f"no worker serves the queue {queue}"
            for queue in unserved(well)
            if not self.backlog.get(queue)
        ] + [line for node in well if (line := node.clock_line())]


@in_application
def show_condition(
    context: click.Context, *, as_json: bool, name: str | None, restart: bool
) -> None:
    """Print it, and exit with what it means."""
    if name is not None:
        context.exit(_probe(name, restart=restart))
    look = _look_twice(lambda seen: bool(seen.problems()))
    problems = list(look.problems().values())
    for line in (*look.away, *problems, *look.notes()):
        _complain(line)
    if as_json:
        click.echo(json.dumps(_as_json(look, problems), indent=2, ensure_ascii=False))
    else:
        _print(look)
    if look.away:
        context.exit(SERVICE_UNAVAILABLE)
    context.exit(UNHEALTHY if problems else 0)


def _probe(name: str, *, restart: bool) -> int:
    look = _look_twice(
        lambda seen: any(seen.states[one.name] not in _WELL for one in _named(seen, name))
    )
    if look.away:
        for line in look.away:
            _complain(line)
        return 0
    found = _named(look, name)
    if len(found) > 1:
        names = ", ".join(node.name for node in found)
        raise click.UsageError(f"several workers run on this host, name one of them: {names}")
    if not found:
        _complain(f"no worker {name}".rstrip() + f" has reported from {platform.node()}")
        return UNHEALTHY
    (node,) = found
    state = look.states[node.name]
    if state in _WELL:
        click.echo(f"worker {node.name} is {state}")
        return 0
    if state is State.WEDGED:
        _complain(_wedged_line(node, look.backlog))
        if restart:
            _complain(f"worker {node.name} {end_worker(node.process(), _grace_seconds())}")
    else:
        _complain(f"worker {node.name} is lost: its process is gone")
    return UNHEALTHY


_WELL = {State.LIVE, State.SILENT}


def _named(look: Look, name: str) -> list[Node]:
    """The worker meant; without a name those that run here, or else one that was lost here."""
    here = [node for node in look.nodes if node.host == platform.node()]
    if name:
        return [node for node in here if node.name == name]
    return [node for node in here if look.states[node.name] is not State.LOST] or here[:1]


def _look_twice(is_worrying: Callable[[Look], bool]) -> Look:
    """Look; when there is something to worry about, wait for a report and look again.

    What is gone at the second look was passing: a worker that comes up, a broker
    that has just come back.
    """
    look = _look()
    if look.away or not is_worrying(look):
        return look
    settings: Settings = current_app.extensions["settings"]
    time.sleep(_LOOK_AGAIN_PERIODS * settings.presence.presence_seconds)
    return _look()


def _look() -> Look:
    away, backlog, nodes = [], {}, list[Node]()
    try:
        backlog = _backlog()
    except BROKER_ERRORS as error:
        away.append(f"the broker does not answer: {error}")
    try:
        nodes = observe(db.engine, backlog) if not away else []
        if away:
            db.engine.connect().close()
    except (OperationalError, InterfaceError) as error:
        away.append(f"the database does not answer: {error.orig}")
    settings: Settings = current_app.extensions["settings"]
    patience, host = Patience.of(settings), platform.node()
    states = {node.name: node.state(backlog, patience, host) for node in nodes}
    return Look(tuple(away), backlog, tuple(nodes), states)


def _backlog() -> dict[str, int]:
    celery: Celery = current_app.extensions["celery"]
    with celery.connection_for_write() as connection:
        return backlog_of(connection, QUEUES)


def _grace_seconds() -> float:
    settings: Settings = current_app.extensions["settings"]
    return settings.delivery.delivery_shutdown_grace_seconds + CLOSING_SECONDS


def _wedged_line(node: Node, backlog: dict[str, int]) -> str:
    held = ", ".join(f"{queue} holds {number}" for queue, number in node.waiting(backlog).items())
    return f"worker {node.name} is wedged: it took nothing for {node.idle_seconds:.0f} s, {held}"


def _as_json(look: Look, problems: list[str]) -> dict[str, object]:
    return {
        "healthy": not look.away and not problems,
        "problems": [*look.away, *problems],
        "notes": look.notes(),
        "queues": look.backlog,
        "workers": [{"state": look.states[one.name], **asdict(one)} for one in look.nodes],
    }


def _print(look: Look) -> None:
    for queue, number in look.backlog.items():
        click.echo(f"queue {queue}: {number} waiting")
    for node in look.nodes:
        state, of = look.states[node.name], node.concurrency
        seen = f"seen {node.silent_seconds:.0f} s ago"
        click.echo(printable(f"worker {node.name}: {state}, {node.busy} of {of} busy, {seen}"))


def _complain(line: str) -> None:
    click.echo(f"rag-worker: {printable(line)}", err=True)
