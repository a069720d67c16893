"""Migrations are followed until each has ended; the workers do them, or this process too."""

import time
from collections.abc import Sequence
from uuid import UUID

import click
from flask import current_app
from sqlalchemy.orm import Session

from shared.contract import DATASET_QUEUE
from shared.errors import ConfigurationError, Permanent, ServiceUnavailable, Transient
from shared.models import db
from shared.submitting.vector_migration import MigrationProgress, migration_progress
from worker.cli.migrating_datasets import Outcome, progress_words
from worker.cli.printing import printable

_LOOK_SECONDS = 0.5
_LINE_SECONDS = 2.0
#: After so long without any progress somebody may have to start a worker.
_PATIENCE_SECONDS = 10.0


class Follower:
    """Looks at migrations again and again.

    Args:
        outcomes: those under way; what becomes of them is written there.
        timeout_seconds: how long to look.
        works: whether to do parts of them in this process.
    """

    def __init__(self, outcomes: Sequence[Outcome], timeout_seconds: float, *, works: bool) -> None:
        self._pending = {
            one.migration.build_id: one
            for one in outcomes
            if one.status == "running" and one.migration and one.migration.build_id
        }
        self._deadline = time.monotonic() + timeout_seconds
        self._works = works
        self._said: dict[UUID, tuple[float, str]] = {}
        self._moved_at = time.monotonic()

    def follow(self) -> None:
        """Return when each has ended, or the time is over."""
        self._look()
        while self._pending and time.monotonic() < self._deadline:
            if not (self._works and self._work()):
                time.sleep(_LOOK_SECONDS)
            self._look()
        for outcome in self._pending.values():
            outcome.reason = "not ended in time; it goes on: call the same again to follow it"

    def _work(self) -> bool:
        from worker import wiring
        from worker.services.dataset.index_helping import help_build

        has_worked = False
        for build_id, outcome in self._pending.items():
            try:
                has_worked |= help_build(build_id, wiring.index_needs())
            except Transient as error:
                self._say(build_id, f"{outcome.chosen.label}: tried again: {error}")
            except (Permanent, ConfigurationError):
                has_worked = True  # the build says why
        return has_worked

    def _look(self) -> None:
        with Session(db.engine) as session:
            found = {one.build_id: one for one in migration_progress(session, self._pending)}
        for build_id in list(self._pending):
            outcome, progress = self._pending[build_id], found.get(build_id)
            if progress is None:
                outcome.status, outcome.reason = "error", "the dataset was deleted meanwhile"
                del self._pending[build_id]
                continue
            before, outcome.progress = outcome.progress, progress
            if _is_further(before, progress):
                self._moved_at = time.monotonic()
            if progress.status == "running":
                self._say(build_id, _line(outcome, progress))
                continue
            outcome.status, outcome.reason = progress.status, progress.error
            if progress.status == "superseded":
                outcome.reason = "another change of its index took its place"
            del self._pending[build_id]
        if time.monotonic() - self._moved_at > _PATIENCE_SECONDS and not self._works:
            self._moved_at = time.monotonic()
            self._say_who_is_missing()

    def _say(self, build_id: UUID, line: str) -> None:
        at, said = self._said.get(build_id, (0.0, ""))
        now = time.monotonic()
        if line != said and now - at >= _LINE_SECONDS:
            click.echo(line, err=True)
            self._said[build_id] = now, line

    def _say_who_is_missing(self) -> None:
        from worker.wiring.maintenance import queues_now

        try:
            states = queues_now(current_app.extensions["settings"])
        except ServiceUnavailable as error:
            click.echo(f"{error}: it goes on when it does", err=True)
            return
        if not any(one.consumers for one in states if one.queue == DATASET_QUEUE):
            click.echo(
                "no live worker serves the dataset queue: start one, or add --here", err=True
            )


def _is_further(before: MigrationProgress | None, now: MigrationProgress) -> bool:
    return before is None or (before.moved, before.verified) != (now.moved, now.verified)


def _line(outcome: Outcome, progress: MigrationProgress) -> str:
    line = f"{outcome.chosen.label}: {progress_words(progress)}"
    if progress.owners:
        line += f"; {progress.held_by}"
    if progress.waiting_for:
        line += f"; waits: {printable(progress.waiting_for)}"
    return line
