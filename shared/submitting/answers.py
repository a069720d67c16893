"""Questions are accepted: a message row and the outbox message about it, in one transaction.

A worker answers them from the documents of the datasets named, see docs/answers.md;
``shared.submitting.answer_reading`` reads the answer while it is made.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal
from uuid import UUID, uuid4

from celery import Celery
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis import Redis
from sqlalchemy import delete, event, select, text
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, NotFound
from shared.models import Conversation, Dataset, Message
from shared.submitting.answer_events import announce_end
from shared.submitting.answer_turns import announce, announce_next, lock_conversation_of
from shared.submitting.ids import AnyId, checked_id, checked_ids

LONGEST_QUESTION_CHARACTERS = 8_000
MOST_DATASETS = 20
#: Questions of one conversation that wait for an answer.
MOST_UNFINISHED = 20

_POSITION = text("""
    UPDATE conversations SET message_count = message_count + 1
    WHERE id = :id AND tenant_id = :tenant_id
    RETURNING message_count
""")
_UNFINISHED = text("""
    SELECT count(*) FROM messages
    WHERE conversation_id = :id AND status IN ('waiting', 'answering')
""")
_CANCEL = text("""
    UPDATE messages
    SET status = 'cancelled', ended_at = statement_timestamp(), outbox_id = NULL,
        cancel_requested_at = coalesce(cancel_requested_at, statement_timestamp()),
        lease_token = lease_token + 1, lease_expires_at = NULL, lease_owner = NULL
    WHERE id = :id AND status IN ('waiting', 'answering')
      AND (lease_expires_at IS NULL OR lease_expires_at < now())
    RETURNING lease_token
""")
_REQUEST_CANCEL = text("""
    UPDATE messages SET cancel_requested_at = coalesce(cancel_requested_at, statement_timestamp())
    WHERE id = :id AND status IN ('waiting', 'answering')
    RETURNING id
""")
_AGAIN = text("""
    UPDATE messages
    SET status = 'waiting', error = NULL, answer = NULL, ended_at = NULL, outbox_id = NULL,
        cancel_requested_at = NULL, attempts = 0, deaths = 0, queued_at = statement_timestamp()
    WHERE id = :id AND status IN ('error', 'cancelled')
    RETURNING conversation_id
""")


class SearchWishes(BaseModel):
    """How passages are to be searched; what is unset is the datasets' own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["vector", "keyword", "hybrid"] | None = None
    top_k: int | None = Field(None, ge=1, le=50)
    score_threshold: float | None = Field(None, ge=0, le=1)
    metadata: dict[str, str | int | float | bool | list[str | int | float | bool]] | None = None


def ask(
    session: Session,
    tenant_id: AnyId,
    question: str,
    dataset_ids: Sequence[AnyId],
    conversation_id: AnyId | None = None,
    *,
    search: Mapping[str, Any] | None = None,
    celery: Celery | None = None,
) -> UUID:
    """Accept a question, in the caller's transaction.

    Once it is committed it will be answered, or its row says why not, whatever dies. In
    one conversation questions are answered one after the other.

    Args:
        session: any SQLAlchemy session on rag-worker's database; commit it as usual.
        tenant_id: who asks.
        question: at most 8,000 characters.
        dataset_ids: whose documents answer, 1 to 20 datasets of the tenant.
        conversation_id: what the question belongs to; a new one, when unset.
        search: ``method``, ``top_k``, ``score_threshold``, ``metadata``, as for a search.
        celery: publishes right after the commit; without it a worker's relay does.

    Returns:
        The message's id: what ``read_answer`` and ``cancel_answer`` take.

    Raises:
        NotFound: the tenant has no such dataset or conversation.
        InvalidRequest: an id, the question or ``search`` is wrong, or too many questions of
            the conversation wait already.
    """
    tenant_id = checked_id("tenant_id", tenant_id)
    question = _checked_question(question)
    datasets = _checked_datasets(session, tenant_id, dataset_ids)
    wishes = _checked_search(search)
    message = Message(
        id=uuid4(),
        tenant_id=tenant_id,
        dataset_ids=datasets,
        question=question,
        search_options=wishes,
    )
    is_next = True
    if conversation_id is None:
        conversation = Conversation(id=uuid4(), tenant_id=tenant_id, message_count=1)
        session.add(conversation)
        session.flush()
        message.conversation_id, message.position = conversation.id, 1
    else:
        message.conversation_id = checked_id("conversation_id", conversation_id)
        message.position, is_next = _take_position(session, tenant_id, message.conversation_id)
    if is_next:
        message.outbox_id = announce(session, message.id, tenant_id, celery=celery)
    session.add(message)
    session.flush()
    return message.id


def cancel_answer(
    session: Session,
    message_id: AnyId,
    *,
    celery: Celery | None = None,
    redis: "Redis | None" = None,
) -> bool:
    """Stop an answer, in the caller's transaction; what there is of it stays.

    One that nobody works on has ended with this call; a worker stops within a second.

    Args:
        session: the caller's.
        message_id: what ``ask`` returned.
        celery: publishes the conversation's next question right after the commit.
        redis: tells readers at once; without it they notice within seconds.

    Returns:
        Whether there was something to stop: false when the answer had ended.

    Raises:
        NotFound: there is no such message.
        InvalidRequest: the id is none.
    """
    message_id = checked_id("message_id", message_id)
    conversation_id = lock_conversation_of(session, message_id)
    if conversation_id is None:
        raise NotFound(f"there is no message {message_id}")
    connection = session.connection()
    token = connection.scalar(_CANCEL, {"id": message_id})
    if token is None:
        return connection.scalar(_REQUEST_CANCEL, {"id": message_id}) is not None
    announce_next(session, conversation_id, celery=celery)
    if redis is not None:
        tell = partial(announce_end, redis, message_id, token)
        event.listen(session, "after_commit", lambda _: tell(), once=True)
    return True


def retry_answer(session: Session, message_id: AnyId, *, celery: Celery | None = None) -> bool:
    """Answer a question again that ended as error or was cancelled, in the caller's transaction.

    Returns:
        Whether it will be: what waits, is being answered or is answered is left alone.

    Raises:
        NotFound: there is no such message.
        InvalidRequest: the id is none.
    """
    message_id = checked_id("message_id", message_id)
    conversation_id = lock_conversation_of(session, message_id)
    if conversation_id is None:
        raise NotFound(f"there is no message {message_id}")
    if not revive_answer(session, message_id):
        return False
    announce_next(session, conversation_id, celery=celery)
    return True


def revive_answer(session: Session, message_id: UUID) -> bool:
    """Let a question that ended as error or was cancelled wait again, without a message."""
    return session.connection().scalar(_AGAIN, {"id": message_id}) is not None


def delete_conversation(session: Session, conversation_id: AnyId) -> None:
    """Delete a conversation with all it says; what is being answered stops by itself.

    Raises:
        NotFound: there is no such conversation.
        InvalidRequest: the id is none.
    """
    conversation_id = checked_id("conversation_id", conversation_id)
    statement = delete(Conversation).where(Conversation.id == conversation_id)
    if session.connection().scalar(statement.returning(Conversation.id)) is None:
        raise NotFound(f"there is no conversation {conversation_id}")


def _checked_question(question: str) -> str:
    if not isinstance(question, str) or not question.strip():
        raise InvalidRequest("the question is empty: ask for something")
    if len(question) > LONGEST_QUESTION_CHARACTERS:
        raise InvalidRequest(
            f"the question has {len(question):,} characters, at most "
            f"{LONGEST_QUESTION_CHARACTERS:,} are taken: shorten it"
        )
    try:
        question.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("the question is not valid text: send it as UTF-8") from None
    return question.replace("\0", "")


def _checked_datasets(
    session: Session, tenant_id: UUID, dataset_ids: Sequence[AnyId]
) -> list[UUID]:
    ids = checked_ids("dataset_ids", dataset_ids)
    if not 1 <= len(ids) <= MOST_DATASETS:
        raise InvalidRequest(
            f"a question is asked of 1 to {MOST_DATASETS} datasets, not {len(ids)}"
        )
    query = select(Dataset.id).where(Dataset.id.in_(ids), Dataset.tenant_id == tenant_id)
    missing = set(ids) - set(session.scalars(query))
    if missing:
        raise NotFound(f"tenant {tenant_id} has no dataset {min(map(str, missing))}")
    return ids


def _checked_search(search: Mapping[str, Any] | None) -> dict[str, Any]:
    try:
        wishes = SearchWishes.model_validate(dict(search or {}))
    except (ValidationError, TypeError, ValueError) as error:
        first: Any = (
            error.errors(include_url=False)[0] if isinstance(error, ValidationError) else {}
        )
        where = ".".join(map(str, first.get("loc", ()))) or "search"
        raise InvalidRequest(f"search: {where}: {first.get('msg', error)}") from None
    return wishes.model_dump(exclude_none=True)


def _take_position(session: Session, tenant_id: UUID, conversation_id: UUID) -> tuple[int, bool]:
    session.flush()
    connection = session.connection()
    position = connection.scalar(_POSITION, {"id": conversation_id, "tenant_id": tenant_id})
    if position is None:
        raise NotFound(f"tenant {tenant_id} has no conversation {conversation_id}")
    unfinished = int(connection.scalar(_UNFINISHED, {"id": conversation_id}) or 0)
    if unfinished >= MOST_UNFINISHED:
        raise InvalidRequest(
            f"{unfinished} questions of conversation {conversation_id} wait for an answer: "
            "ask again when some are answered"
        )
    return position, unfinished == 0
