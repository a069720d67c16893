"""Where a run stands in the status machine, and the columns that say so."""

import time

from shared.models import Document, DocumentStatus
from shared.models.document_status import IN_PROGRESS, require_transition
from worker.delivery.lease import Ago

#: The column that says when a stage was over.
COMPLETED_COLUMNS = {
    DocumentStatus.PARSING: Document.parsing_completed_at.key,
    DocumentStatus.CLEANING: Document.cleaning_completed_at.key,
    DocumentStatus.SPLITTING: Document.splitting_completed_at.key,
}


class Stages:
    """The stages of one run.

    A document streams through them: the first passage is embedded while the last
    page is still being parsed. ``status`` is the furthest stage reached; a stage's
    time is the moment its last piece left it. Moments are kept on the process's
    monotonic clock and become the database's time when they are written, so small
    documents need no transaction a stage.
    """

    def __init__(self) -> None:
        self.status = DocumentStatus.PARSING
        self._started = time.monotonic()
        self._over: dict[DocumentStatus, float] = {}

    @property
    def seconds(self) -> float:
        """Since the claim."""
        return time.monotonic() - self._started

    def reach(self, status: DocumentStatus) -> None:
        """Note that the first piece has come to ``status``, through every stage before it."""
        while IN_PROGRESS.index(self.status) < IN_PROGRESS.index(status):
            following = IN_PROGRESS[IN_PROGRESS.index(self.status) + 1]
            require_transition(self.status, following)
            self.status = following

    def over(self, status: DocumentStatus) -> None:
        """Note that the last piece has left ``status``."""
        self._over[status] = time.monotonic()

    def columns(self) -> dict[str, Ago]:
        """The time columns of the stages that are over."""
        now = time.monotonic()
        return {
            COMPLETED_COLUMNS[status]: Ago(now - moment) for status, moment in self._over.items()
        }
