"""Traces are delivered: claimed together, encoded one by one, sent together, their ends written.

A worker that dies in between leaves leases that run out; what it had sent is sent again
with the same ids. A provider that says "later", or is not there, costs the traces nothing:
they wait in their rows until the breaker's probe went through.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from shared.errors import (
    ConfigurationError,
    InvalidRequest,
    Permanent,
    ProviderRefused,
    RateLimited,
    ShuttingDown,
    TracesDeferred,
)
from shared.submitting.trace_schema import Trace
from worker.delivery.lease import Lease
from worker.delivery.leased_run import KeepsLeases, run_leased
from worker.providers.otlp_encoding import encode
from worker.providers.trace_presets import PRESETS, Preset, Values, target_of
from worker.providers.trace_sender import Receipt, Target, TraceSender
from worker.services.ops_trace.breaking import (
    backoff_seconds,
    note_failure,
    note_success,
    withdraw,
)
from worker.services.ops_trace.export_needs import ExportNeeds
from worker.services.ops_trace.payloads import masked_for, stored_trace
from worker.services.ops_trace.splitting import Book, Piece, requests, send_split
from worker.services.ops_trace.trace_announcing import announce_traces
from worker.services.ops_trace.trace_claiming import (
    ClaimedBatch,
    ClaimedTrace,
    claim_batch,
    configs_of,
)
from worker.services.ops_trace.trace_recording import Outcome, end, put_back
from worker.services.ops_trace.trace_sweeping import (
    announce_left,
    announce_parked,
    announce_probe,
)

logger = logging.getLogger(__name__)


def deliver_traces(delivery_ids: Sequence[UUID], needs: ExportNeeds) -> int:
    """Send traces, together with others that wait for the same provider.

    Delivered twice it does nothing the second time. Late is no different.

    Returns:
        How many deliveries ended.

    Raises:
        LeaseLost: (superseded) another worker, or a changed configuration, took them over.
        ProviderRefused: (permanent) the provider takes no request; written to the rows.
        ConfigurationError: likewise, the configuration's secrets cannot be opened.
    """
    with needs.sessions.begin() as session:
        configs = configs_of(session, delivery_ids)
    ended = 0
    for config_id in configs:
        with needs.sessions.begin() as session:
            batch = claim_batch(session, config_id, delivery_ids, needs)
            announce_left(session, delivery_ids, needs.celery)
        if batch is not None:
            ended += _deliver(batch, delivery_ids, needs)
    return ended


def _deliver(batch: ClaimedBatch, named: Sequence[UUID], needs: ExportNeeds) -> int:
    attempt = _Attempt(batch, named, needs)
    leases = [claimed.lease for claimed in batch.traces]
    together = _Together(needs.heartbeat, leases)
    return run_leased(attempt.run, leases[0], attempt, heartbeat=together, words=_words)


class _Together:
    """Keeps the leases of a whole batch."""

    def __init__(self, heartbeat: KeepsLeases, leases: Sequence[Lease]) -> None:
        self._heartbeat = heartbeat
        self._leases = leases

    @contextmanager
    def keep(self, _: Lease) -> Iterator[None]:
        with ExitStack() as stack:
            for lease in self._leases:
                stack.enter_context(self._heartbeat.keep(lease))
            yield

    def owe(self, give_back: Callable[[], None]) -> None:
        """As the heartbeat has it."""
        self._heartbeat.owe(give_back)


class _Attempt:
    def __init__(self, batch: ClaimedBatch, named: Sequence[UUID], needs: ExportNeeds) -> None:
        self._batch = batch
        self._named = set(named)
        self._needs = needs
        self._rows = {claimed.lease.row_id: claimed for claimed in batch.traces}
        self._recorded: set[UUID] = set()
        self._spans = 0
        self._book = Book({one.lease.row_id: Outcome(one.lease, {_UNREAD}) for one in batch.traces})

    def run(self) -> int:
        """Send the batch; returns how many deliveries ended."""
        config = self._batch.config
        preset, sender = _preset(config.provider), self._needs.sender()
        target = self._target(preset)
        pieces = list(self._pieces(preset, config.options))
        try:
            for request in requests(pieces, preset):
                self._send(request, preset, sender, target)
        except (RateLimited, TracesDeferred) as error:
            self._wait(error)
        else:
            self._record(is_last=True)
        self._log()
        return len(self._recorded)

    def hand_back(self, error: Exception) -> None:
        """Free the rows for their next delivery; ``error`` says what stopped this attempt."""
        counts = not isinstance(error, ShuttingDown)
        with self._needs.sessions.begin() as session:
            if self._batch.is_probe:
                withdraw(session, self._batch.config.id)
            rows = put_back(session, self._held(), f"interrupted: {error}", counts=counts)
            # The named ones have the message in hand, which goes back as well.
            others = [row for row in rows if row.id not in self._named]
            announce_traces(session, others, self._needs.celery)

    def fail(self, error: Permanent | ConfigurationError) -> None:
        """End the rows as ``failed``; they can be replayed."""
        for lease in self._held():
            outcome = self._book.outcomes[lease.row_id]
            outcome.fail(str(error))
            if isinstance(error, ProviderRefused):
                outcome.words = str(error)
        # Who refuses for good is not down: whatever waits is told so, too.
        self._book.is_answered |= isinstance(error, ProviderRefused)
        self._record(is_last=True)
        self._log()

    def _target(self, preset: Preset) -> Target:
        config = self._batch.config
        secrets = self._needs.unsealed(config.secrets) if config.secrets else {}
        try:
            return target_of(preset, config.endpoint, secrets, config.options)
        except KeyError as missing:
            raise ConfigurationError(
                f"the configuration of {preset.name} has no {missing.args[0]} (any more): "
                "`rag-worker traces config set`, then `traces replay`"
            ) from None

    def _pieces(self, preset: Preset, options: Values) -> Iterator[Piece]:
        for claimed in self._batch.traces:
            row_id, outcome = claimed.lease.row_id, self._book.outcomes[claimed.lease.row_id]
            try:
                self._require_attempts_left(claimed)
                encoded = encode(self._trace(claimed.row, options), preset, options)
            except (Permanent, InvalidRequest) as error:
                outcome.fail(str(error))
                continue
            outcome.left = set(encoded.span_ids)
            yield Piece(row_id, encoded)

    def _trace(self, row: Any, options: Values) -> Trace:
        return masked_for(stored_trace(row.payload, row.storage_key, self._needs.files), options)

    def _require_attempts_left(self, claimed: ClaimedTrace) -> None:
        lease, row = claimed.lease, claimed.row
        if lease.deaths >= self._needs.max_deaths:
            raise Permanent(f"the worker died {lease.deaths} times on this trace")
        if lease.attempt > self._needs.max_attempts:
            last = row.error or "the worker that had it died"
            raise Permanent(
                f"given up after {self._needs.max_attempts} attempts, while its provider took "
                f"others; the last ended so: {last}"
            )

    def _send(
        self, request: Sequence[Piece], preset: Preset, sender: TraceSender, target: Target
    ) -> None:
        def send(content: bytes) -> Receipt:
            return sender.send(target, content)

        send_split(request, send, self._book, keeps_whole=preset.keeps_traces_whole)
        self._record(is_last=False)

    def _record(self, *, is_last: bool) -> None:
        whole = [
            outcome
            for row_id, outcome in self._book.outcomes.items()
            if outcome.is_whole and row_id not in self._recorded
        ]
        config_id = self._batch.config.id
        with self._needs.sessions.begin() as session:
            end(session, whole)
            is_back = is_last and self._note_answer(session)
        self._recorded.update(outcome.lease.row_id for outcome in whole)
        self._spans += sum(outcome.sent_spans for outcome in whole)
        if is_back:
            announce_parked(config_id, self._needs)

    def _note_answer(self, session: Session) -> bool:
        """Tell the breaker that the provider is there; returns whether it was left alone."""
        config_id = self._batch.config.id
        if self._book.is_answered:
            return note_success(session, config_id)
        if self._batch.is_probe:  # nothing of it could be sent: the next one tries
            withdraw(session, config_id)
        return False

    def _wait(self, error: RateLimited | TracesDeferred) -> None:
        """The provider is asked again later: by one of these when it is left alone until then."""
        needs, config_id = self._needs, self._batch.config.id
        self._record(is_last=False)
        leases = self._held()
        with needs.sessions.begin() as session:
            seconds = note_failure(
                session,
                config_id,
                str(error),
                needs.breaker,
                wanted_seconds=error.retry_after_seconds,
                is_at_once=isinstance(error, RateLimited),
            )
            counts = seconds is None
            rows = put_back(session, leases, str(error), counts=counts, words=str(error))
            if seconds is None:
                pause = backoff_seconds(max(one.attempt for one in leases), needs.breaker)
                announce_traces(session, rows, needs.celery, delay_seconds=pause)
            else:
                announce_probe(session, config_id, needs.celery, delay_seconds=seconds)

    def _held(self) -> list[Lease]:
        return [one.lease for one in self._batch.traces if one.lease.row_id not in self._recorded]

    def _log(self) -> None:
        statuses: dict[str, int] = {}
        for row_id in self._recorded:
            status = self._book.outcomes[row_id].status.value
            statuses[status] = statuses.get(status, 0) + 1
        waiting = len(self._rows) - len(self._recorded)
        if waiting:
            statuses["waiting"] = waiting
        config = self._batch.config
        logger.log(
            logging.INFO if set(statuses) <= {"delivered"} else logging.WARNING,
            "%s traces to %s: %s spans sent; %s",
            len(self._rows),
            config.provider,
            self._spans,
            ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())),
            extra={
                "action": "trace.sent",
                "tenant_id": str(config.tenant_id),
                "config_id": str(config.id),
            },
        )


#: Stands for the spans of a trace that was not read yet.
_UNREAD = ""


def _preset(provider: str) -> Preset:
    found = PRESETS.get(provider)
    if found is None:
        raise ConfigurationError(f"this release knows no trace provider {provider}: upgrade it")
    return found


def _words(error: Exception) -> str:
    # Not its text: it may hold what was in the trace.
    return f"unexpected {type(error).__name__}"
