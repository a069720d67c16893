"""``rag-worker status --watch``: a dataset's unfinished documents, live."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from rich.console import Console
from rich.live import Live
from rich.table import Table
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.models import Document, DocumentStatus, db
from shared.submitting.progress import DocumentProgress, document_progress
from worker.cli.printing import printable

_POLL_SECONDS = 0.5
_MOST_ROWS = 20
_REST = (DocumentStatus.COMPLETED, DocumentStatus.ERROR, DocumentStatus.PAUSED)


@dataclass(frozen=True, slots=True)
class Look:
    """One look: how many documents stand where, and those that are furthest on their way."""

    counts: dict[str, int]
    moving: tuple[DocumentProgress, ...]

    @property
    def is_at_rest(self) -> bool:
        """Whether no document will go on by itself."""
        return not any(self.counts.get(one.value) for one in DocumentStatus if one not in _REST)

    @property
    def summary(self) -> str:
        """The counts on one line."""
        return ", ".join(f"{number:,} {status}" for status, number in self.counts.items()) or "none"


def watch(console: Console, dataset_id: UUID, *, until_rest: bool) -> None:
    """Show a dataset until it is interrupted, or until its documents rest.

    On a terminal a table is redrawn; elsewhere each change is a line.
    """
    looks = _looks(dataset_id, until_rest=until_rest)
    if not console.is_interactive:
        _print_changes(console, looks)
        return
    with Live(console=console, auto_refresh=False) as live:
        for look in looks:
            live.update(_table(look), refresh=True)


def _looks(dataset_id: UUID, *, until_rest: bool) -> Iterator[Look]:
    while True:
        look = _look(dataset_id)
        yield look
        if until_rest and look.is_at_rest:
            return
        time.sleep(_POLL_SECONDS)


def _look(dataset_id: UUID) -> Look:
    counted = (
        select(Document.indexing_status, func.count())
        .where(Document.dataset_id == dataset_id)
        .group_by(Document.indexing_status)
        .order_by(Document.indexing_status)
    )
    moving = (
        select(Document.id)
        .where(Document.dataset_id == dataset_id, Document.indexing_status.not_in(_REST))
        .order_by(Document.lease_owner.is_(None), Document.position)
        .limit(_MOST_ROWS)
    )
    with Session(db.engine) as session:
        counts = {str(row[0]): int(row[1]) for row in session.execute(counted)}
        ids = list(session.scalars(moving))
        return Look(counts, tuple(document_progress(session, ids)))


def _print_changes(console: Console, looks: Iterator[Look]) -> None:
    last: set[str] = set()
    summary = None
    for look in looks:
        lines = [" ".join(_cells(one)) for one in look.moving]
        for line in lines:
            if line not in last:
                console.print(line, markup=False, highlight=False, soft_wrap=True)
        if look.summary != summary:
            console.print(look.summary, markup=False, highlight=False, soft_wrap=True)
        last, summary = set(lines), look.summary


def _table(look: Look) -> Table:
    table = Table("document", "stage", "segments", "a second", "left", caption=look.summary)
    for one in look.moving:
        table.add_row(*_cells(one))
    return table


def _cells(one: DocumentProgress) -> tuple[str, str, str, str, str]:
    rate, eta = one.segments_per_second, one.eta_seconds
    return (
        printable(one.name)[-60:],
        one.stage.value,
        one.shown_segments if one.worker else "",
        "" if rate is None else f"{rate:,.1f}",
        "" if eta is None else f"{eta:,.0f} s",
    )
