"""Why a document is where it is: the verdict from what the tables say, without the broker."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from shared.models.document_status import IN_PROGRESS, DocumentStatus
from shared.submitting.progress import document_progress
from worker.delivery.switches import Action, Rule, ids_of, rules
from worker.services.dataset.queue_facts import (
    QueueFacts,
    dead_letter,
    queue_facts,
    subject,
    working_on,
)
from worker.services.dataset.verdict import Cause, Kind, Verdict


@dataclass(frozen=True, slots=True)
class Bounds:
    """The settings a verdict depends on; see their names in ``.env.example``."""

    tenant_cap: int
    high_water_mark: int
    sweep_seconds: float
    redelivery_seconds: float
    silent_seconds: float
    wedged_seconds: float


def explain(session: Session, document_id: UUID, bounds: Bounds) -> Verdict:
    """Say why a document is where it is; reads only, and a document that is gone is a verdict."""
    row = subject(session, document_id)
    if row is None:
        return Verdict(
            document_id,
            Kind.GONE,
            "there is no document of this id: it was deleted, or never accepted",
            "submit it again if it should be there",
        )
    say = partial(Verdict, document_id, name=row.name)
    status = DocumentStatus(row.indexing_status)
    if row.is_paused or status is DocumentStatus.PAUSED:
        return say(
            Kind.HELD_BACK,
            "a person paused it",
            f"rag-worker documents resume {document_id}",
            cause=Cause.PAUSE,
            since=row.stopped_at,
        )
    if status is DocumentStatus.COMPLETED:
        return _completed(row, say)
    if status is DocumentStatus.ERROR:
        return _dead(session, row, say)
    if row.is_leased:
        return _running(session, row, say)
    return _waiting(session, row, say, bounds)


Say = Callable[..., Verdict]


def _completed(row: Any, say: Say) -> Verdict:
    summary = "it is searchable in its newest version"
    if row.error:
        summary += f", but: {row.error}"
    elif row.message_id is not None and row.data_source == "url":
        summary += "; its URL is being looked at again"
    way_out = "nothing is to be done"
    if row.lacks_keywords:
        summary += "; unlike others of its dataset it has no keywords: only its vectors find it"
        way_out = f"with INDEXING_KEYWORDS=true: rag-worker documents duplicate {row.id}"
    return say(Kind.COMPLETED, summary, way_out, since=row.completed_at, error=row.error)


def _dead(session: Session, row: Any, say: Say) -> Verdict:
    letter = dead_letter(session, row.id, row.message_id, row.queued_at)
    way_out = "mend what the reason says, then index it again"
    if letter is not None:
        way_out = f"mend what the reason says, then: rag-worker dead-letters replay {letter.id}"
    elif row.data_source == "url":
        way_out = f"mend what the reason says, then: rag-worker documents sync {row.id}"
    return say(
        Kind.DEAD,
        f"it ended as error: {row.error}",
        way_out,
        since=row.stopped_at,
        error=row.error,
        dead_letter_id=None if letter is None else letter.id,
    )


def _running(session: Session, row: Any, say: Say) -> Verdict:
    (progress,) = document_progress(session, [row.id])
    if progress.stage not in IN_PROGRESS:
        summary = f"{row.lease_owner} fetches its URL"
    else:
        summary = f"{row.lease_owner} is {progress.stage} it: {progress.shown_segments} segments"
        if progress.segments_per_second is not None:
            summary += f", {progress.segments_per_second:.1f} a second"
    return say(
        Kind.RUNNING,
        summary,
        "wait for it; should its worker die, another takes over when the lease runs out",
        since=progress.started_at,
        until=row.lease_expires_at,
        stage=progress.stage.value,
        done_segments=progress.done_segments,
        segments_per_second=progress.segments_per_second,
        eta_seconds=progress.eta_seconds,
        worker=row.lease_owner,
    )


def _waiting(session: Session, row: Any, say: Say, bounds: Bounds) -> Verdict:
    sweep = timedelta(seconds=bounds.sweep_seconds)
    if row.message_id is None:
        grace = timedelta(seconds=bounds.redelivery_seconds)
        return say(
            Kind.STUCK,
            "nothing announces it: its message was lost, or done without it",
            "the sweeper announces it again by itself",
            cause=Cause.NO_MESSAGE,
            since=row.queued_at,
            until=max(row.queued_at + grace, row.now) + sweep,
        )
    if row.is_message_leased:
        other = working_on(session, row.message_owner)
        busy = f", which is busy with {other}" if other else ""
        return say(
            Kind.QUEUED,
            f"its message is in the hands of {row.message_owner}{busy}",
            "wait for it: documents of one message go one after the other",
            since=row.queued_at,
            position=0,
            worker=row.message_owner,
        )
    expired = row.lease_expires_at or row.message_expires_at
    if expired is not None:
        return say(
            Kind.STUCK,
            f"{row.lease_owner or row.message_owner} died, froze or lost the database",
            "the sweeper sends its message out again by itself",
            cause=Cause.WORKER_DIED,
            since=expired,
            until=row.now + sweep,
            error=row.error,
        )
    return _announced(session, row, say, bounds)


def _announced(session: Session, row: Any, say: Say, bounds: Bounds) -> Verdict:
    rule = _rule(session, row)
    if rule is not None:
        held = rule.action is Action.HOLD
        return say(
            Kind.HELD_BACK,
            f"a rule says: {rule}" + ("" if held else "; it will end as a dead letter"),
            f"rag-worker switches release {rule.id}",
            cause=Cause.SWITCH,
            since=row.queued_at,
            rule_id=rule.id,
        )
    if row.is_delayed:
        error = row.error or row.message_error
        return say(
            Kind.RETRYING if error or row.attempts else Kind.QUEUED,
            f"it is tried again at {row.available_at:%Y-%m-%d %H:%M:%S %Z}: {error}"
            if error
            else f"it is not to go out before {row.available_at:%Y-%m-%d %H:%M:%S %Z}",
            "it goes out by itself then",
            since=row.queued_at,
            until=row.available_at,
            error=error,
        )
    facts = queue_facts(session, row, bounds.silent_seconds, bounds.wedged_seconds)
    return _in_line(row, say, bounds, facts)


def _in_line(row: Any, say: Say, bounds: Bounds, facts: QueueFacts) -> Verdict:
    say = partial(say, since=row.queued_at, position=facts.ahead)
    if not facts.slots:
        return say(
            Kind.STARVED,
            f"no live worker consumes the queue {row.queue!r}",
            f"start one: celery -A worker.celery_app worker -Q {row.queue}; see rag-worker health",
            cause=Cause.NO_WORKER,
        )
    say = partial(say, eta_seconds=facts.eta_seconds)
    if row.published_at is None and facts.tenants_published >= bounds.tenant_cap:
        return say(
            Kind.HELD_BACK,
            f"its tenant has {facts.tenants_published} messages under way: no fewer than "
            f"the {bounds.tenant_cap} it may have beside others",
            "it goes out as those end; OUTBOX_TENANT_CAP is the bound",
            cause=Cause.TENANT_CAP,
        )
    if row.published_at is None and facts.published >= bounds.high_water_mark:
        return say(
            Kind.STARVED,
            f"the queue {row.queue!r} holds {facts.published} messages, as many as it may; "
            f"{facts.other_tenants} other tenants take turns with this one",
            "it goes out as those end; more workers, or OUTBOX_HIGH_WATER_MARK",
            cause=Cause.HIGH_WATER_MARK,
        )
    return say(
        Kind.QUEUED,
        f"{facts.ahead} messages are before it, for {facts.slots} slots of workers",
        "wait for its turn",
    )


def _rule(session: Session, row: Any) -> Rule | None:
    ids = ids_of(row.message_id, row.args, row.kwargs)
    found = [
        rule
        for rule in rules(session)
        if rule.matches(row.task, lambda: str(row.tenant_id), ids, row.queue)
    ]
    return min(found, key=lambda rule: rule.action, default=None)
