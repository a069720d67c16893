"""What chat models are to write in the background: rows and messages, in the caller's transaction.

Asked for twice it is written once: what is unfinished is left alone.
"""

from collections.abc import Sequence
from uuid import UUID, uuid4

from celery import Celery
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.contract import (
    GENERATE_CONVERSATION_SUMMARY,
    GENERATE_PAIRS,
    GENERATE_SUMMARY,
    GENERATE_TITLE,
    TaskContract,
)
from shared.errors import InvalidRequest, NotFound
from shared.models import Conversation, Document, GenerationKind, GenerationWork
from shared.models.generation import COMPLETED, ERROR, WAITING
from shared.queueing import outbox
from shared.submitting.ids import AnyId, checked_id

CONTRACTS: dict[GenerationKind, TaskContract] = {
    GenerationKind.DOCUMENT_SUMMARY: GENERATE_SUMMARY,
    GenerationKind.QA_PAIRS: GENERATE_PAIRS,
    GenerationKind.CONVERSATION_TITLE: GENERATE_TITLE,
    GenerationKind.CONVERSATION_SUMMARY: GENERATE_CONVERSATION_SUMMARY,
}
_ANNOUNCED = text("""
    UPDATE generation_works SET message_id = announced.message_id, queued_at = statement_timestamp()
    FROM unnest(CAST(:ids AS uuid[]), CAST(:message_ids AS uuid[])) AS announced(id, message_id)
    WHERE generation_works.id = announced.id
""")
# Its queue time is long past: the next sweep announces it.
_OUTDATE = text("""
    UPDATE generation_works
    SET status = 'waiting', error = NULL, attempts = 0, deaths = 0, message_id = NULL,
        queued_at = statement_timestamp() - interval '1 day'
    WHERE kind = 'document_summary' AND subject_id = :document_id
      AND status IN ('completed', 'error')
""")


def request_document_summary(
    session: Session, document_id: AnyId, *, celery: Celery | None = None
) -> UUID:
    """Have a document summarized; the summary becomes a segment of it that search finds.

    A later version of the document gets its own, without being asked.

    Args:
        session: the caller's transaction.
        document_id: which one.
        celery: publishes right after the commit; without it a worker's relay does.

    Returns:
        The work's id.

    Raises:
        NotFound: there is no such document.
        InvalidRequest: search does not see it yet.
    """
    document = session.get(Document, checked_id("document_id", document_id))
    if document is None:
        raise NotFound(f"there is no document {document_id}")
    if document.active_version is None:
        raise InvalidRequest(f"{document.name} is not indexed yet: wait for it, then ask again")
    work = GenerationWork(
        id=uuid4(),
        tenant_id=document.tenant_id,
        kind=GenerationKind.DOCUMENT_SUMMARY,
        subject_id=document.id,
        document_id=document.id,
    )
    return _request(session, work, celery)


def request_conversation_title(
    session: Session, conversation_id: AnyId, *, celery: Celery | None = None
) -> UUID:
    """Have a conversation named, from its first questions; returns the work's id.

    Raises:
        NotFound: there is no such conversation.
    """
    return _of_conversation(session, conversation_id, GenerationKind.CONVERSATION_TITLE, celery)


def request_conversation_summary(
    session: Session, conversation_id: AnyId, *, celery: Celery | None = None
) -> UUID:
    """Have a conversation's summary brought up to its last answer; returns the work's id.

    Raises:
        NotFound: there is no such conversation.
    """
    return _of_conversation(session, conversation_id, GenerationKind.CONVERSATION_SUMMARY, celery)


def follow_conversation(
    session: Session,
    conversation_id: UUID,
    *,
    with_title: bool,
    summary_turns: int,
    celery: Celery | None = None,
) -> None:
    """Ask for what a conversation lacks that has a new answer, in the caller's transaction.

    Args:
        session: the caller's; it holds the conversation's lock.
        conversation_id: which one.
        with_title: whether one without a title is named.
        summary_turns: how many messages its summary may be behind; 0: it has none.
        celery: publishes right after the commit; without it a worker's relay does.
    """
    query = select(
        Conversation.title, Conversation.message_count - Conversation.summary_position
    ).where(Conversation.id == conversation_id)
    row = session.execute(query).one_or_none()
    if row is None:
        return
    if with_title and row[0] is None:
        request_conversation_title(session, conversation_id, celery=celery)
    if summary_turns and row[1] >= summary_turns:
        request_conversation_summary(session, conversation_id, celery=celery)


def outdate_document_summary(session: Session, document_id: UUID) -> None:
    """The document has another version: its summary, if it has one, is written anew."""
    session.connection().execute(_OUTDATE, {"document_id": document_id})


def announce_works(
    session: Session, works: Sequence[GenerationWork], *, celery: Celery | None = None
) -> None:
    """Announce works, a message each, if and when the caller's transaction commits."""
    messages = {
        str(one.id): str(
            outbox.write(
                session,
                CONTRACTS[GenerationKind(one.kind)].name,
                [str(one.subject_id)],
                celery=celery,
                tenant_id=one.tenant_id,
            )
        )
        for one in works
    }
    if messages:
        session.flush()
        values = {"ids": list(messages), "message_ids": list(messages.values())}
        session.connection().execute(_ANNOUNCED, values)


def _of_conversation(
    session: Session, conversation_id: AnyId, kind: GenerationKind, celery: Celery | None
) -> UUID:
    conversation = session.get(Conversation, checked_id("conversation_id", conversation_id))
    if conversation is None:
        raise NotFound(f"there is no conversation {conversation_id}")
    work = GenerationWork(
        id=uuid4(),
        tenant_id=conversation.tenant_id,
        kind=kind,
        subject_id=conversation.id,
        conversation_id=conversation.id,
    )
    return _request(session, work, celery)


def _request(session: Session, work: GenerationWork, celery: Celery | None) -> UUID:
    columns = ("id", "tenant_id", "kind", "subject_id", "document_id", "conversation_id")
    query = insert(GenerationWork).values({name: getattr(work, name) for name in columns})
    fresh = {"status": WAITING, "error": None, "attempts": 0, "deaths": 0}
    written = session.scalars(
        query.on_conflict_do_update(
            index_elements=["kind", "subject_id"],
            set_=fresh,
            where=GenerationWork.status.in_((COMPLETED, ERROR)),
        ).returning(GenerationWork),
        execution_options={"populate_existing": True},
    ).one_or_none()
    if written is not None:
        announce_works(session, [written], celery=celery)
        return written.id
    same = select(GenerationWork.id).where(
        GenerationWork.kind == work.kind, GenerationWork.subject_id == work.subject_id
    )
    return session.scalars(same).one()
