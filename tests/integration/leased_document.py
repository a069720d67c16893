"""A document, the workers that have it, and a model of what its row should say."""

import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
import pytest
from flask import Flask
from sqlalchemy import Engine, Row, text
from sqlalchemy.orm import Session

from shared.errors import (
    LeaseHeld,
    LeaseLost,
    SubjectGone,
)
from shared.models import DocumentStatus
from shared.models.document_status import require_transition
from shared.queueing import guard
from shared.submitting.dataset import Outcome, submit_document
from shared.submitting.files import store_file
from worker.delivery import lease
from worker.services.dataset import activation
from worker.services.dataset.activation import Totals
from worker.services.dataset.claiming import Job, claim_document
from worker.services.dataset.embedding import EmbeddedPassage, content_hash
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.splitting import Passage
from worker.services.dataset.stages import Stages

S = DocumentStatus
LEASE_SECONDS = 600.0

ROW = text("""
    SELECT indexing_status AS status, is_paused, index_version, active_version, lease_token,
           attempts, deaths, error, message_id, lease_owner, total_segments, completed_segments,
           lease_expires_at, lease_expires_at > now() AS is_live
    FROM documents WHERE id = :id
""")
SEGMENTS = text("""
    SELECT id, version, position, index_node_hash AS hash FROM document_segments
    WHERE document_id = :id ORDER BY version, position
""")
VECTORS = text("SELECT id, version FROM segment_vectors WHERE document_id = :id")
EXPIRE = text("""
    UPDATE documents SET lease_expires_at = now() - interval '1 second'
    WHERE id = :id AND lease_expires_at IS NOT NULL
""")


@dataclass(frozen=True)
class World:
    """The real parts."""

    app: Flask
    engine: Engine
    dataset_id: UUID
    tenant_id: UUID
    needs: IndexingNeeds


@dataclass
class Model:
    """What the row should say."""

    document_id: UUID
    status: DocumentStatus = S.WAITING
    token: int = 0
    attempts: int = 0
    deaths: int = 0
    version: int = 1
    active: int | None = None
    is_leased: bool = False
    has_run_out: bool = False
    #: The content hashes that search sees, in order.
    serving: list[str] = field(default_factory=list)

    def go(self, *statuses: DocumentStatus) -> None:
        for status in statuses:
            if status != self.status:
                require_transition(self.status, status)
                self.status = status

    def free(self) -> None:
        self.is_leased = self.has_run_out = False

    def taken_away(self) -> None:
        self.token += 1
        self.attempts = self.deaths = 0
        self.free()


@dataclass
class Run:
    """A worker in the middle of a document; it does not know what happened to its lease."""

    job: Job
    stages: Stages = field(default_factory=Stages)
    totals: Totals = field(default_factory=Totals)
    hashes: list[str] = field(default_factory=list)
    has_begun: bool = False


class Hands:
    """What is done to the real parts; kept apart from the rules about it."""

    examples = 0

    def __init__(self, world: World, reached: Counter[object]) -> None:
        super().__init__()
        self.world = world
        self.reached = reached
        Hands.examples += 1
        self.key = f"document-{Hands.examples}"
        self.contents = 0
        self.runs: dict[int, Run] = {}
        self.model: Model | None = None

    def session(self) -> "Session":
        return self.world.needs.sessions.begin()

    def row(self) -> Row | None:
        if self.model is None:
            return None
        with self.session() as session:
            return session.execute(ROW, {"id": self.model.document_id}).one_or_none()

    def new_content(self) -> bytes:
        self.contents += 1
        self.content = f"{self.key} content {self.contents}".encode()
        return self.content

    def submit(self, content: bytes, expected: Outcome) -> None:
        app, world = self.world.app, self.world
        redis = app.extensions["redis"]
        if self.model is not None:
            redis.delete(guard.key(self.model.document_id))  # a courtesy that has run out
        stored = store_file(
            app.extensions["storage"], world.tenant_id, self.key, io.BytesIO(content)
        )
        with self.session() as session:
            submission = submit_document(session, redis, world.dataset_id, self.key, stored)
        assert submission.outcome is expected
        if expected is Outcome.NEW:
            self.model = Model(submission.document_id)

    def claimed(self, worker: int) -> tuple[Job | None, type[Exception] | None]:
        lease.name_node(f"worker-{worker}")
        try:
            with self.session() as session:
                return (
                    claim_document(
                        session, self.model.document_id, self.world.dataset_id, LEASE_SECONDS
                    ),
                    None,
                )
        except (LeaseHeld, SubjectGone) as refusal:
            return None, type(refusal)

    def live(self) -> Run | None:
        return next((run for run in self.runs.values() if self.may_write(run)), None)

    def chosen(self, worker: int) -> Run:
        """Two times of three the one that may write, if there is one."""
        stale = self.runs[sorted(self.runs)[worker % len(self.runs)]]
        return stale if worker == 3 else self.live() or stale

    def may_write(self, run: Run) -> bool:
        model = self.model
        is_there = model is not None and run.job.document_id == model.document_id
        return is_there and model.is_leased and run.job.lease.token == model.token

    def fenced(
        self,
        worker: int,
        act: Callable[[Run], None],
        *,
        ends: bool = False,
    ) -> bool:
        """Let a worker write; tell whether it could. One whose token is old changes nothing."""
        run = self.chosen(worker)
        if self.may_write(run):
            act(run)
            if ends:
                self.runs = {key: one for key, one in self.runs.items() if one is not run}
                self.model.free()
            return True
        self.reached["refused by its token"] += 1
        before = self.row()
        with pytest.raises(LeaseLost):
            act(run)
        assert self.row() == before
        return False

    def begin(self, run: Run) -> None:
        if not run.has_begun:
            activation.forget_earlier_attempts(self.world.needs, run.job)
            run.has_begun = True

    def batch(self, run: Run, size: int) -> list[EmbeddedPassage]:
        """Passages unlike any other: another attempt may split the file otherwise."""
        made = []
        for _ in range(size):
            words = f"{run.job.lease.token} {len(run.hashes)} of {run.job.version}"
            run.hashes.append(content_hash(words))
            vector = np.array([1.0, 0.0], np.float32)
            made.append(
                EmbeddedPassage(
                    Passage(words, page=None, is_markdown=False), run.hashes[-1], vector, 4, 4
                )
            )
        return made
