"""Plays a drill: work is under way, something breaks, an operator looks, it is mended."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.exc import OperationalError

from tests.drills.drills import Drill
from tests.drills.site import Site
from tests.fixtures.commands import Ran
from tests.fixtures.waiting import eventually

DOCUMENTS = 40
#: Handed in while it is broken.
LATER = 3
#: The defaults' lease, sweep and longest pause between attempts, and the work itself.
REST_SECONDS = 300.0
HANDED_IN = "index --no-wait --dataset drill documents"
_LOG_LINES = 6
_SERIES = 8


@dataclass
class Sight:
    """What an operator saw."""

    title: str
    commands: list[tuple[str, Ran]] = field(default_factory=list)
    lines: list[tuple[str, int]] = field(default_factory=list)
    series: dict[str, float] = field(default_factory=dict)
    #: From the repair to the last document's end, and to a healthy answer.
    rest_seconds: float = 0.0
    statuses: dict[str, int] = field(default_factory=dict)
    accepted: int = 0
    doubled: int = 0
    survivors: tuple[str, ...] = ()
    after: Ran | None = None
    everything: str = ""
    secrets: tuple[str, ...] = ()

    def ran(self, command: str) -> Ran:
        """What a command said while it was broken."""
        return next(ran for name, ran in self.commands if name == command)


def play(drill: Drill, folder: Path) -> Sight:
    """Play it from the first start to the last check.

    Raises:
        CannotBeDrilled: this machine lacks what the fault needs.
        AssertionError: something did not recover by itself.
    """
    sight = Sight(drill.title)
    with drill.site(folder) as site:
        assert (ran := site.index(DOCUMENTS)).code == 0, ran.err
        sight.accepted = DOCUMENTS
        eventually(lambda: site.statuses().get("completed", 0) > 1, 120)
        before, marks = site.metrics(), site.log_sizes()
        drill.begin(site)
        began = time.monotonic()
        _look(sight, drill, site)
        threading.Event().wait(max(0.0, began + drill.seconds - time.monotonic()))
        sight.series = _watched(drill, site, before)
        sight.lines = site.serious_lines(marks).most_common(_LOG_LINES)
        drill.end(site)
        mended = time.monotonic()
        _await_rest(sight, site)
        sight.rest_seconds = time.monotonic() - mended
        eventually(lambda: _is_healthy(sight, site), 60)
        sight.statuses, sight.doubled = site.statuses(), site.segments_twice()
        sight.survivors = tuple(
            name for name, process in site.workers.items() if process.poll() is None
        )
        sight.everything, sight.secrets = site.everything_written(), site.secrets
    return sight


def _look(sight: Sight, drill: Drill, site: Site) -> None:
    # A report must have been missed, or written, before there is something to see.
    threading.Event().wait(drill.seconds / 2)
    for command in (("health",), ("health", "--ready"), *drill.commands):
        sight.commands.append((" ".join(command), site.command(*command)))
    handed_in = site.index(LATER)
    sight.commands.append((HANDED_IN, handed_in))
    if handed_in.code == 0:
        sight.accepted += LATER


def _watched(drill: Drill, site: Site, before: dict[str, float]) -> dict[str, float]:
    changed = {
        name: value
        for name, value in site.metrics().items()
        if name.startswith(drill.watched)
        and not name.partition("{")[0].endswith(("_created", "_bucket"))
        and (value != before.get(name) or "clock" in name)
    }
    return dict(list(changed.items())[:_SERIES])


def _await_rest(sight: Sight, site: Site) -> None:
    def rests() -> bool:
        try:
            found = site.statuses()
        except OperationalError:
            return False
        # A command may have stored documents and died of the fault before it said so.
        return sum(found.values()) >= sight.accepted and set(found) == {"completed"}

    eventually(rests, REST_SECONDS, 0.5)


def _is_healthy(sight: Sight, site: Site) -> bool:
    sight.after = site.command("health")
    return sight.after.code == 0
