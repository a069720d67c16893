"""What the tables know of a document's message and of its queue; reads only."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

_SUBJECT = text("""
    SELECT document.id, document.name, document.tenant_id, document.dataset_id,
           document.data_source, document.indexing_status, document.error,
           document.is_paused, document.queued_at, document.completed_at, document.stopped_at,
           document.active_version IS NOT NULL AND document.keyword_segments IS NULL AND EXISTS (
               SELECT 1 FROM documents AS other
               WHERE other.dataset_id = document.dataset_id
                 AND other.keyword_segments IS NOT NULL
           ) AS lacks_keywords,
           document.upload_file_id, document.lease_expires_at, document.lease_owner,
           document.lease_expires_at > statement_timestamp() AS is_leased,
           statement_timestamp() AS now,
           message.id AS message_id, message.task, message.queue, message.args, message.kwargs,
           message.priority, message.sequence, message.published_at, message.available_at,
           message.available_at > statement_timestamp() AS is_delayed,
           message.attempts, message.error AS message_error,
           message.lease_owner AS message_owner, message.lease_expires_at AS message_expires_at,
           message.lease_expires_at > statement_timestamp() AS is_message_leased
    FROM documents AS document
    LEFT JOIN outbox AS message ON message.id = document.message_id
    WHERE document.id = :id
""")
_LETTER = text("""
    SELECT id, exception, reason FROM dead_letters
    WHERE created_at >= :since AND (
        message_id = :message_id
        OR args @> jsonb_build_array(jsonb_build_array(CAST(:id AS text)))
        OR args @> jsonb_build_array(CAST(:id AS text))
    )
    ORDER BY created_at DESC LIMIT 1
""")
_QUEUE = text("""
    SELECT count(*) FILTER (WHERE published_at IS NOT NULL) AS published,
           count(*) FILTER (WHERE published_at IS NOT NULL AND tenant_id = :tenant_id)
               AS tenants_published,
           count(*) FILTER (
               WHERE lease_expires_at IS NULL AND available_at <= statement_timestamp()
                 AND CASE WHEN :is_published
                     THEN published_at IS NOT NULL AND sequence < :sequence
                     ELSE published_at IS NOT NULL OR priority > :priority
                          OR (priority = :priority AND sequence < :sequence)
                     END
           ) AS ahead,
           count(DISTINCT tenant_id) FILTER (WHERE tenant_id <> :tenant_id) AS other_tenants
    FROM outbox WHERE queue = :queue
""")
_CREW = text("""
    SELECT coalesce(sum(concurrency), 0) FROM worker_nodes
    WHERE CAST(:queue AS text) = ANY(queues)
      AND seen_at > statement_timestamp() - make_interval(secs => :silent_seconds)
      AND (unserved_since IS NULL
           OR unserved_since > statement_timestamp() - make_interval(secs => :wedged_seconds))
""")
_PACE = text("""
    SELECT avg(indexing_latency) FROM (
        SELECT indexing_latency FROM documents
        WHERE dataset_id = :dataset_id AND indexing_status = 'completed'
        ORDER BY position DESC LIMIT 50
    ) AS latest
""")
_IN_MESSAGE = text("""
    SELECT name FROM documents WHERE lease_owner = :owner
      AND lease_expires_at > statement_timestamp() LIMIT 1
""")


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """A queue, seen from one message.

    Attributes:
        published: messages the broker or workers have.
        tenants_published: of these, the tenant's.
        ahead: messages that go before it.
        other_tenants: that have messages in it.
        slots: tasks that its live workers can run at once.
        seconds_each: what a document of the dataset took of late; ``None`` without any.
    """

    published: int
    tenants_published: int
    ahead: int
    other_tenants: int
    slots: int
    seconds_each: float | None

    @property
    def eta_seconds(self) -> float | None:
        """Until the message's turn, roughly."""
        if not self.slots or self.seconds_each is None:
            return None
        return self.ahead * self.seconds_each / self.slots


def subject(session: Session, document_id: UUID) -> Any | None:
    """The document and its message as one row; ``None`` when there is no document."""
    return session.execute(_SUBJECT, {"id": document_id}).one_or_none()


def dead_letter(
    session: Session, document_id: UUID, message_id: UUID | None, since: datetime
) -> Any | None:
    """The newest dead letter about a document since it began to wait."""
    values = {"id": str(document_id), "message_id": message_id, "since": since}
    return session.execute(_LETTER, values).one_or_none()


def queue_facts(
    session: Session, row: Any, silent_seconds: float, wedged_seconds: float
) -> QueueFacts:
    """The queue of a subject's message."""
    counted = session.execute(
        _QUEUE,
        {
            "queue": row.queue,
            "tenant_id": row.tenant_id,
            "is_published": row.published_at is not None,
            "sequence": row.sequence,
            "priority": row.priority,
        },
    ).one()
    crew = {
        "queue": row.queue,
        "silent_seconds": silent_seconds,
        "wedged_seconds": wedged_seconds,
    }
    slots = session.scalar(_CREW, crew)
    pace = session.scalar(_PACE, {"dataset_id": row.dataset_id})
    return QueueFacts(
        published=counted.published,
        tenants_published=counted.tenants_published,
        ahead=counted.ahead,
        other_tenants=counted.other_tenants,
        slots=int(slots or 0),
        seconds_each=pace,
    )


def working_on(session: Session, owner: str) -> str | None:
    """The document that a process has at this moment."""
    found: str | None = session.scalar(_IN_MESSAGE, {"owner": owner})
    return found
