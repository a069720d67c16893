"""Segments made and changed by hand: rows and messages, in the caller's transaction.

They belong to the document's active version. A later re-index makes the document anew
from its file: what was made or changed by hand goes with the old version.
"""

import hashlib
from collections.abc import Sequence
from uuid import UUID, uuid4

from celery import Celery
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.contract import CREATE_SEGMENT, UPDATE_SEGMENT
from shared.errors import InvalidRequest
from shared.models import Document, DocumentSegment, SegmentEdit
from shared.models.process_rule import DocForm
from shared.models.segment_work import COMPLETED, WAITING
from shared.submitting.files import storable
from shared.submitting.ids import AnyId, checked_id
from shared.submitting.segment_announcing import announce_edits
from shared.submitting.segment_counters import Difference, add_to_counters
from shared.submitting.segment_documents import lock_document, lock_documents_of, require_editable
from shared.submitting.segment_imports import import_segments
from shared.submitting.segment_switches import delete_segments, disable_segments, enable_segments

__all__ = [
    "MAX_CHARACTERS",
    "create_segment",
    "delete_segments",
    "disable_segments",
    "enable_segments",
    "import_segments",
    "update_segment",
]

#: Of a content or an answer; a longer one is no passage that a search could rank.
MAX_CHARACTERS = 50_000
_MAX_KEYWORDS = 100


def create_segment(
    session: Session,
    document_id: AnyId,
    content: str,
    answer: str | None = None,
    *,
    keywords: Sequence[str] | None = None,
    celery: Celery | None = None,
) -> UUID:
    """Add a segment at the end of a document; search sees it when a worker has indexed it.

    Args:
        session: the caller's transaction.
        document_id: where it belongs.
        content: what is found by; in a ``qa_model`` document the question.
        answer: what is found, in a ``qa_model`` document.
        keywords: words it is to be found by that its content lacks.
        celery: publishes right after the commit; without it a worker's relay does.

    Returns:
        The segment's id.

    Raises:
        NotFound: there is no such document.
        DocumentIndexingInProgress: it is being indexed.
        InvalidRequest: the content is empty or too long, the answer is missing or has no
            place, or the document is archived, disabled, paused, or serves no version.
    """
    document = lock_document(session, document_id)
    version = require_editable(document)
    content, answer = _checked(document, content, answer)
    words = _keywords(keywords)
    segment = DocumentSegment(
        id=uuid4(),
        tenant_id=document.tenant_id,
        dataset_id=document.dataset_id,
        document_id=document.id,
        version=version,
        position=_last_position(session, document.id, version) + 1,
        content=content,
        answer=answer,
        keywords=words,
        word_count=0,
        tokens=0,
        index_node_hash=hashlib.sha256(content.encode()).hexdigest(),
        status=WAITING,
    )
    session.add(segment)
    session.flush()
    add_to_counters(session, document.id, Difference(total=1))
    edit = write_edit(session, segment, content, answer, words)
    announce_edits(session, [edit], contract=CREATE_SEGMENT, celery=celery)
    return segment.id


def update_segment(
    session: Session,
    segment_id: AnyId,
    content: str | None = None,
    answer: str | None = None,
    *,
    keywords: Sequence[str] | None = None,
    celery: Celery | None = None,
) -> UUID:
    """Give a segment other content; the old serves until a worker has indexed the new.

    What is ``None`` stays as it is. Content that is there already costs nothing.

    Args:
        session: the caller's transaction.
        segment_id: which one.
        content: what is found by.
        answer: what is found, in a ``qa_model`` document.
        keywords: words it is to be found by that its content lacks; an empty list takes them away.
        celery: publishes right after the commit; without it a worker's relay does.

    Returns:
        The segment's id.

    Raises:
        NotFound: there is no such segment.
        DocumentIndexingInProgress: its document is being indexed.
        InvalidRequest: as for ``create_segment``, or the segment is of no version that serves.
    """
    segment_id = checked_id("segment_id", segment_id)
    ((document, _),) = lock_documents_of(session, [segment_id]).values()
    version = require_editable(document)
    segment = session.get_one(DocumentSegment, segment_id, populate_existing=True)
    if segment.version != version:
        raise InvalidRequest(f"segment {segment_id} is of a version that search does not see")
    pending = session.scalars(
        select(SegmentEdit)
        .where(SegmentEdit.segment_id == segment_id)
        .execution_options(populate_existing=True)
    ).one_or_none()
    before = pending or segment
    wanted = (
        *_checked(
            document,
            before.content if content is None else content,
            before.answer if answer is None else answer,
        ),
        before.keywords if keywords is None else _keywords(keywords),
    )
    is_there = wanted == (segment.content, segment.answer, segment.keywords)
    if is_there and pending is None and segment.status == COMPLETED:
        return segment_id
    edit = write_edit(session, segment, *wanted)
    if segment.status == COMPLETED:
        add_to_counters(session, document.id, Difference(completed=-1))
    segment.status, segment.error = WAITING, None
    announce_edits(session, [edit], contract=UPDATE_SEGMENT, celery=celery)
    return segment_id


def write_edit(
    session: Session,
    segment: DocumentSegment,
    content: str,
    answer: str | None,
    keywords: Sequence[str] | None,
) -> SegmentEdit:
    """Write what a segment is to become; a worker that has an older edit of it loses its lease."""
    values = {
        "version": segment.version,
        "content": content,
        "answer": answer,
        "keywords": keywords,
        "status": WAITING,
        "error": None,
    }
    query = insert(SegmentEdit).values(
        id=uuid4(),
        tenant_id=segment.tenant_id,
        dataset_id=segment.dataset_id,
        document_id=segment.document_id,
        segment_id=segment.id,
        **values,
    )
    fresh = {"lease_expires_at": None, "lease_owner": None, "attempts": 0, "deaths": 0}
    returning = query.on_conflict_do_update(
        index_elements=["segment_id"],
        set_={**values, **fresh, "lease_token": SegmentEdit.lease_token + 1},
    ).returning(SegmentEdit)
    return session.scalars(returning, execution_options={"populate_existing": True}).one()


def _checked(document: Document, content: str, answer: str | None) -> tuple[str, str | None]:
    content = _text("the content", content)
    answer = _text("the answer", answer) if answer is not None else None
    if not content:
        raise InvalidRequest("the content is empty: a segment is found by its text")
    if document.doc_form == DocForm.QUESTIONS:
        if not answer:
            raise InvalidRequest(
                f"the answer is missing: {document.name} is a qa_model document, "
                "whose segments are questions with answers"
            )
    elif answer:
        raise InvalidRequest(
            f"{document.name} is a {document.doc_form} document: only segments of qa_model "
            "documents have answers"
        )
    for what, written in (("content", content), ("answer", answer or "")):
        if len(written) > MAX_CHARACTERS:
            raise InvalidRequest(
                f"the {what} has {len(written):,} characters, more than {MAX_CHARACTERS:,}: "
                "make several segments of it"
            )
    return content, answer or None


def _text(what: str, given: str) -> str:
    if not isinstance(given, str):
        raise InvalidRequest(f"{what} is text, not {type(given).__name__}")
    return storable(given).strip()


def _keywords(keywords: Sequence[str] | None) -> list[str] | None:
    if isinstance(keywords, str):
        raise InvalidRequest("keywords is a list of words, not one text")
    filled = [word for one in keywords or () if (word := _text("a keyword", one))]
    if len(filled) > _MAX_KEYWORDS:
        raise InvalidRequest(f"{len(filled)} keywords are too many: name up to {_MAX_KEYWORDS}")
    return filled or None


def _last_position(session: Session, document_id: UUID, version: int) -> int:
    query = select(func.max(DocumentSegment.position)).where(
        DocumentSegment.document_id == document_id, DocumentSegment.version == version
    )
    last = session.scalar(query)
    return -1 if last is None else last
