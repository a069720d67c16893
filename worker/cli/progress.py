"""The live display of an indexing run: a bar on a terminal, a line a document elsewhere."""

import time
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from shared.contract import QUEUES
from shared.models import DocumentStatus
from worker.cli.following import Seen, follow
from worker.cli.printing import printable

_SILENCE_SECONDS = 15.0
_NOBODY = (
    "nothing was picked up yet: is a worker running? "
    f"celery -A worker.celery_app worker -Q {','.join(QUEUES)}"
)


def show_progress(
    console: Console,
    document_ids: Sequence[UUID],
    timeout_seconds: float,
    check: Callable[[], None],
) -> list[Seen]:
    """Follow the documents on the console.

    Returns:
        The documents as they ended; one that is missing did not end in time.
    """
    return show_changes(console, follow(document_ids, timeout_seconds, check), len(document_ids))


def show_changes(console: Console, changes: Iterable[list[Seen]], total: int) -> list[Seen]:
    """Show what ``follow`` yields; returns the documents that ended."""
    # A dumb terminal cannot redraw a line.
    if not console.is_interactive:
        return _lines(console, changes)
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[segments]:,} segments"),
        TimeElapsedColumn(),
        console=console,
    ) as display:
        return _bar(display, changes, total)


def _bar(display: Progress, changes: Iterable[list[Seen]], total: int) -> list[Seen]:
    task = display.add_task("waiting", total=total, segments=0)
    segments: dict[UUID, int] = {}
    ended: list[Seen] = []
    silence = _Silence()
    for seen in changes:
        for one in seen:
            segments[one.id] = one.segments
            if one.ended:
                ended.append(one)
                display.console.print(_line(one))
            else:
                display.update(
                    task, description=escape(f"{one.status} {printable(one.name)[-40:]}")
                )
        display.update(task, completed=len(ended), segments=sum(segments.values()))
        if silence.too_long(seen):
            display.console.print(_NOBODY)
    return ended


def _lines(console: Console, changes: Iterable[list[Seen]]) -> list[Seen]:
    ended: list[Seen] = []
    silence = _Silence()
    for seen in changes:
        for one in seen:
            if one.ended:
                ended.append(one)
                console.print(_line(one), soft_wrap=True)
        if silence.too_long(seen):
            console.print(_NOBODY, soft_wrap=True)
    return ended


class _Silence:
    """Notices, once, that nothing has been picked up for a while."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._over = False

    def too_long(self, seen: Sequence[Seen]) -> bool:
        if any(one.status is not DocumentStatus.WAITING for one in seen):
            self._over = True
        if self._over or time.monotonic() - self._since < _SILENCE_SECONDS:
            return False
        self._over = True
        return True


def _line(one: Seen) -> Text:
    name = printable(one.name)
    if one.status is DocumentStatus.COMPLETED:
        return Text.assemble(("✓ ", "green"), name, f"  {one.segments:,} segments")
    return Text.assemble(("✗ ", "red"), name, f"  {one.status}: {printable(one.error or '')}")
