"""What may happen to a document, in any order, as a state machine of hypothesis."""

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from sqlalchemy import text

from shared.errors import (
    LeaseHeld,
    LeaseLost,
    ParserDied,
    RagWorkerError,
    ServiceUnavailable,
    ShuttingDown,
)
from shared.models.document_status import IN_PROGRESS
from shared.submitting.control import cancel_documents, pause_documents, resume_documents
from shared.submitting.dataset import Outcome
from tests.integration.leased_document import EXPIRE, SEGMENTS, VECTORS, Hands, Run, S
from worker.delivery import lease
from worker.services.dataset import activation
from worker.services.dataset.giving_up import give_up_documents
from worker.services.dataset.sweeping import sweep_documents

UNFINISHED = (S.WAITING, *IN_PROGRESS)
WORKERS = st.integers(1, 3)
#: What a worker can say when it stops half-way; the last one says nothing.
REASONS = (ServiceUnavailable(), ShuttingDown(), ParserDied())
STOPS = st.sampled_from([None, *REASONS, LeaseLost()])


class LeaseMachine(Hands, RuleBasedStateMachine):
    """One document, three workers, and everybody else who may touch it."""

    # --- those who submit and control

    @initialize(is_served=st.booleans())
    def submit_first(self, *, is_served: bool) -> None:
        self.submit(self.new_content(), Outcome.NEW)
        if is_served:
            self.index_to_the_end(1, 3, None)
            self.submit_new_content()

    @rule()
    def submit_new_content(self) -> None:
        is_new = self.model is None
        self.submit(self.new_content(), Outcome.NEW if is_new else Outcome.CHANGED)
        if not is_new:
            self.model.taken_away()
            self.model.version += 1
            self.model.go(S.WAITING)

    @precondition(lambda self: self.model is not None)
    @rule()
    def submit_the_same_again(self) -> None:
        outcomes = {S.COMPLETED: Outcome.UNCHANGED, S.PAUSED: Outcome.PAUSED}
        self.submit(self.content, outcomes.get(self.model.status, Outcome.AGAIN))
        if self.model.status is S.ERROR:
            self.model.attempts = self.model.deaths = 0
            self.model.go(S.WAITING)

    @precondition(lambda self: self.model is not None)
    @rule(is_cancelled=st.booleans())
    def stop(self, *, is_cancelled: bool) -> None:
        control = cancel_documents if is_cancelled else pause_documents
        with self.session() as session:
            taken = control(session, [self.model.document_id])
        stoppable = {*UNFINISHED, S.PAUSED} if is_cancelled else set(UNFINISHED)
        assert taken == ([self.model.document_id] if self.model.status in stoppable else [])
        if taken:
            self.model.taken_away()
            self.model.go(S.ERROR if is_cancelled else S.PAUSED)

    @precondition(lambda self: self.model is not None)
    @rule()
    def resume(self) -> None:
        with self.session() as session:
            resumed = resume_documents(session, [self.model.document_id])
        assert bool(resumed) == (self.model.status is S.PAUSED)
        if resumed:
            self.reached["resumed"] += 1
            self.model.go(S.WAITING)

    # Not before it has a history: or most of the examples would be about nothing.
    @precondition(lambda self: self.model is not None and self.model.token > 6)
    @rule()
    def delete(self) -> None:
        with self.session() as session:
            session.execute(
                text("DELETE FROM documents WHERE id = :id"), {"id": self.model.document_id}
            )
        self.model = None

    # --- workers

    @precondition(lambda self: self.model is not None)
    @rule(worker=WORKERS)
    def claim(self, worker: int) -> None:
        """A delivery, the first or any other."""
        model, before = self.model, self.row()
        is_held = model.is_leased and not model.has_run_out
        job, refusal = self.claimed(worker)
        if model.status not in UNFINISHED or is_held:
            assert job is None
            assert (refusal is LeaseHeld) == is_held
            assert self.row() == before
            return
        assert job is not None, "whatever waits can be claimed"
        model.token += 1
        model.attempts += 1
        model.deaths += model.is_leased
        self.reached["taken over"] += model.is_leased
        # One whose worker died goes back by way of waiting.
        model.go(S.WAITING, S.PARSING)
        model.is_leased, model.has_run_out = True, False
        assert (job.lease.token, job.version) == (model.token, model.version)
        assert (job.lease.attempt, job.lease.deaths) == (model.attempts, model.deaths)
        self.runs[worker] = Run(job)

    @precondition(lambda self: self.model is not None and self.model.status in UNFINISHED)
    @rule(worker=WORKERS, segments=st.integers(1, 3), stopped_by=STOPS)
    def index_to_the_end(
        self, worker: int, segments: int, stopped_by: RagWorkerError | None
    ) -> None:
        """Stopped once at most, and taken up again: or few examples would complete anything."""
        self.claim(worker)
        if self.live() is None:
            return
        self.write(worker, segments)
        if isinstance(stopped_by, LeaseLost):
            self.time_passes()
            self.claim(worker % 3 + 1)
        elif stopped_by is not None:
            self.hand_back(worker, stopped_by)
            self.claim(worker)
        self.complete(worker, segments)

    @precondition(lambda self: self.runs)
    @rule(worker=WORKERS)
    def renew(self, worker: int) -> None:
        def act(run: Run) -> None:
            with self.session() as session:
                lease.renew(session, run.job.lease)

        if self.fenced(worker, act):
            self.model.has_run_out = False

    @precondition(lambda self: self.runs)
    @rule(worker=WORKERS, segments=st.integers(1, 3))
    def write(self, worker: int, segments: int) -> None:
        def act(run: Run) -> None:
            self.begin(run)
            run.stages.reach(S.INDEXING)
            with self.session() as session:
                activation.write_batch(
                    session,
                    self.world.needs,
                    run.job,
                    run.stages,
                    run.totals,
                    self.batch(run, segments),
                )

        if self.fenced(worker, act):
            self.model.has_run_out = False
            self.model.go(*IN_PROGRESS[IN_PROGRESS.index(self.model.status) :])

    @precondition(lambda self: self.runs)
    @rule(worker=WORKERS, segments=st.integers(1, 3))
    def complete(self, worker: int, segments: int) -> None:
        def act(run: Run) -> None:
            self.begin(run)
            run.stages.reach(S.INDEXING)
            with self.session() as session:
                activation.complete(
                    session,
                    self.world.needs,
                    run.job,
                    run.stages,
                    run.totals,
                    self.batch(run, segments),
                )

        run = self.chosen(worker)
        if self.fenced(worker, act, ends=True):
            self.reached["completed", self.model.active is not None] += 1
            self.model.go(*IN_PROGRESS[IN_PROGRESS.index(self.model.status) :], S.COMPLETED)
            self.model.active, self.model.serving = self.model.version, run.hashes
            self.model.attempts = self.model.deaths = 0

    @precondition(lambda self: self.runs)
    @rule(worker=WORKERS)
    def fail(self, worker: int) -> None:
        def act(run: Run) -> None:
            activation.fail(self.world.needs, run.job, "the file is broken")

        if self.fenced(worker, act, ends=True):
            self.model.go(S.ERROR)
            self.model.attempts = self.model.deaths = 0

    @precondition(lambda self: self.runs)
    @rule(worker=WORKERS, reason=st.sampled_from(REASONS))
    def hand_back(self, worker: int, reason: RagWorkerError) -> None:
        def act(run: Run) -> None:
            activation.hand_back(self.world.needs, run.job, reason)

        if self.fenced(worker, act, ends=True):
            self.reached["handed back", type(reason)] += 1
            self.model.go(S.WAITING)
            self.model.attempts -= isinstance(reason, ShuttingDown)
            self.model.deaths += isinstance(reason, ParserDied)

    @precondition(lambda self: self.model is not None)
    @rule(worker=WORKERS)
    def give_up(self, worker: int) -> None:
        """Its message has become a dead letter."""
        model = self.model
        lease.name_node(f"worker-{worker}")
        is_foreign = (
            model.is_leased and not model.has_run_out and self.row().lease_owner != lease.owner()
        )
        give_up_documents(self.world.dataset_id, [model.document_id], self.world.needs, "given up")
        if model.status in UNFINISHED and not is_foreign:
            model.taken_away()
            model.go(S.ERROR)

    # --- time, and what gets lost
    @precondition(lambda self: self.model is not None)
    @rule()
    def time_passes(self) -> None:
        """A worker died, or froze, or lost the database."""
        with self.session() as session:
            session.execute(EXPIRE, {"id": self.model.document_id})
        self.model.has_run_out = self.model.is_leased

    @rule()
    def lose_messages_and_sweep(self) -> None:
        with self.session() as session:
            session.execute(text("DELETE FROM outbox"))
        sweep_documents(self.world.needs.sessions, self.world.needs.announce, 0.0)
        if self.model is None or self.model.status not in UNFINISHED:
            return
        if self.model.is_leased and not self.model.has_run_out:
            return  # its worker has it, and hands it back
        with self.session() as session:
            announced = session.scalar(
                text("SELECT count(*) FROM outbox WHERE id = :id"), {"id": self.row().message_id}
            )
        assert announced == 1, "nothing waits without a message"

    # --- what holds after each step

    @invariant()
    def the_row_is_as_the_model(self) -> None:
        row, model = self.row(), self.model
        if model is None:
            assert row is None
            return
        assert row.status == model.status
        assert row.is_paused == (model.status is S.PAUSED)
        assert (row.lease_token, row.attempts, row.deaths) == (
            model.token,
            model.attempts,
            model.deaths,
        )
        assert (row.index_version, row.active_version) == (model.version, model.active)
        assert (row.lease_expires_at is not None) == model.is_leased
        assert bool(row.is_live) == (model.is_leased and not model.has_run_out)

    @invariant()
    def at_most_one_worker_may_write(self) -> None:
        if self.model is not None:
            assert sum(self.may_write(run) for run in self.runs.values()) <= 1

    @invariant()
    def search_sees_one_whole_version_and_every_segment_has_its_vector(self) -> None:
        if self.model is None:
            return
        with self.session() as session:
            values = {"id": self.model.document_id}
            segments = session.execute(SEGMENTS, values).all()
            vectors = session.execute(VECTORS, values).all()
        assert {(one.id, one.version) for one in segments} == {tuple(one) for one in vectors}
        serving = [one for one in segments if one.version == self.model.active]
        assert [one.hash for one in serving] == self.model.serving
        assert [one.position for one in serving] == list(range(len(serving)))
        if self.model.status is S.COMPLETED:
            row = self.row()
            assert row.total_segments == row.completed_segments == len(segments) == len(serving)
        if self.model.status is S.ERROR:
            assert segments == serving, "what ended leaves nothing of its version"

    def teardown(self) -> None:
        with self.session() as session:
            session.execute(text("DELETE FROM documents; DELETE FROM outbox"))
