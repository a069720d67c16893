"""A document's summary: read from its segments, a page at a time, and put among them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import EmptyFile, RateLimited, SubjectGone
from shared.models import Document, DocumentSegment, DocumentStatus, GenerationKind
from shared.submitting.files import storable
from shared.submitting.summaries import place_summary
from worker.delivery import runs
from worker.delivery.lease import renew
from worker.services.generation.condensing import Condensed, Condenser
from worker.services.generation.extractive import EXTRACTIVE, shortened, summarize
from worker.services.generation.needs import GenerationNeeds
from worker.services.generation.sentences import joined
from worker.services.generation.working import Work, finish, run_work

_PAGE = 100
_EXTRACTED_SENTENCES = 6
_SETTLED = (DocumentStatus.COMPLETED, DocumentStatus.ERROR)
#: Until a new version that is being made is likely to be there.
_SETTLING_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Written:
    text: str
    model: str
    is_extractive: bool


def summarize_document(document_id: UUID, needs: GenerationNeeds) -> None:
    """Summarize a document's active version, and let search see the summary.

    Memory follows the model's context, not the document. Whatever stops it, the summaries
    of its parts that were paid for are kept; a text that is summarized already costs nothing.

    Raises:
        SubjectGone: (superseded) the document was deleted.
        Transient: the model does not answer, or the document is just being indexed.
        Permanent: the work's ``error`` says why.
    """
    run_work(GenerationKind.DOCUMENT_SUMMARY, document_id, _write, needs)


def _write(work: Work, needs: GenerationNeeds) -> None:
    with needs.sessions() as session:
        document = session.get(Document, work.subject_id)
        version = _settled_version(document, work.subject_id)
    texts = partial(_texts, needs.sessions, work.subject_id, version)
    digest = _digest(texts())
    if work.result and digest == work.source_hash and work.model:
        written = _Written(work.result, work.model, work.is_extractive)
    else:
        written = _summarized(work, needs, texts, digest)
    if not written.text:
        raise EmptyFile("the document holds no sentence that could stand in a summary")
    with needs.sessions.begin() as session:
        # First the document, then the work: as an indexing run does when it ends.
        locked = session.get(
            Document, work.subject_id, with_for_update={"key_share": True}, populate_existing=True
        )
        if locked is None or _settled_version(locked, work.subject_id) != version:
            raise RateLimited(
                "the document got another version meanwhile: that one is summarized",
                retry_after_seconds=0.0,
            )
        finish(
            session,
            work.lease,
            result=written.text,
            source_hash=digest,
            model=written.model,
            is_extractive=written.is_extractive,
        )
        place_summary(session, locked, written.text, celery=needs.celery)


def _settled_version(document: Document | None, document_id: UUID) -> int:
    if document is None:
        raise SubjectGone(f"there is no document {document_id} (any more)")
    if document.indexing_status not in _SETTLED or document.active_version is None:
        raise RateLimited(
            "the document is being indexed: its new version is summarized",
            retry_after_seconds=_SETTLING_SECONDS,
        )
    return document.active_version


def _summarized(
    work: Work, needs: GenerationNeeds, texts: "partial[Iterator[tuple[int, str]]]", digest: str
) -> _Written:
    model = needs.models(work.tenant_id, "summary", work.subject_id)
    if model is None:
        found = summarize(
            lambda: (text for _, text in texts()),
            needs.embedder(),
            _EXTRACTED_SENTENCES,
            needs.max_characters,
        )
        return _Written(joined(found), EXTRACTIVE, is_extractive=True)
    # What was paid for another text is of no use.
    state = work.state if work.state.get("digest") == digest else {}
    done = Condensed.of(state)

    def keep(so_far: Condensed) -> None:
        with needs.sessions.begin() as session:
            renew(session, work.lease, state={"digest": digest, **so_far.as_json})

    condenser = Condenser(model, needs.output_tokens, needs.temperature)
    text = condenser.condense(texts(done.next_position), done, keep)
    return _Written(
        shortened(storable(text), needs.max_characters), model.name, is_extractive=False
    )


def _texts(
    sessions: sessionmaker[Session], document_id: UUID, version: int, first: int = 0
) -> Iterator[tuple[int, str]]:
    """The document's passages by position; no transaction is open between two pages."""
    query = (
        select(DocumentSegment.position, DocumentSegment.content, DocumentSegment.answer)
        .where(
            DocumentSegment.document_id == document_id,
            DocumentSegment.version == version,
            DocumentSegment.is_summary.is_(False),
        )
        .order_by(DocumentSegment.position)
        .limit(_PAGE)
    )
    while True:
        runs.checkpoint()
        with sessions() as session:
            rows = session.execute(query.where(DocumentSegment.position >= first)).all()
        for row in rows:
            yield row.position, f"{row.content}\n{row.answer}" if row.answer else row.content
        if len(rows) < _PAGE:
            return
        first = rows[-1].position + 1


def _digest(texts: Iterator[tuple[int, str]]) -> str:
    digest = hashlib.sha256()
    for _, text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()
