"""Questions that passages answer, written by the tenant's model, a passage a call."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from celery import Celery
from pydantic import BaseModel, Field
from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import ModelRefused, Permanent, SubjectGone
from shared.models import Document, GenerationKind, GenerationWork, PassagePairs
from shared.models.generation import COMPLETED
from shared.submitting.files import storable
from shared.submitting.passage_pairs import (
    Pairs,
    passage_hash,
    request_pairs,
    take_failures,
    written_pairs,
)
from worker.delivery import runs
from worker.delivery.lease import renew
from worker.providers.chat import ChatModel
from worker.services.generation.needs import GenerationNeeds
from worker.services.generation.quoting import quoting_prompt
from worker.services.generation.working import Work, finish, run_work, tell_document

logger = logging.getLogger(__name__)

_WISH = (
    "Write questions that the quoted passage answers, each with its answer, in the passage's "
    "language. A question must be understood without the passage: name what it is about. An "
    "answer says only what the passage says. No pairs if it answers nothing. At most {most}."
)


class _Pair(BaseModel):
    question: str = Field(min_length=1, max_length=1000)
    answer: str = Field(min_length=1, max_length=8000)


class _Pairs(BaseModel):
    pairs: list[_Pair]


def write_pairs(work_id: UUID, needs: GenerationNeeds) -> None:
    """Write the pairs of a work's passages; when the document has all of its, it goes on.

    Each passage's pairs are written when its call is over: another delivery goes on behind
    it. A passage that the model refuses has no pairs, and is found by its own text.

    Raises:
        SubjectGone: (superseded) the document was deleted.
        Transient: the model does not answer; the document waits.
        Permanent: the work's ``error``, and then the document's, says why.
    """
    run_work(GenerationKind.QA_PAIRS, work_id, _write, needs)


def _write(work: Work, needs: GenerationNeeds) -> None:
    model = needs.models(work.tenant_id, "qa_pairs", work.document_id)
    if model is None:
        raise Permanent(
            "no chat model is configured any more that could write questions: set one with "
            "`rag-worker models set` or GENERATION_MODEL, then retry the document"
        )
    missing = (
        select(PassagePairs.passage_hash, PassagePairs.passage)
        .where(PassagePairs.work_id == work.subject_id, PassagePairs.pairs.is_(None))
        .order_by(PassagePairs.passage_hash)
    )
    with needs.sessions() as session:
        passages = session.execute(missing).all()
    for digest, passage in passages:
        runs.checkpoint()
        pairs = _pairs_of(passage or "", model, needs)
        with needs.sessions.begin() as session:
            renew(session, work.lease)
            session.execute(
                update(PassagePairs)
                .where(PassagePairs.work_id == work.subject_id, PassagePairs.passage_hash == digest)
                .values(pairs=pairs, passage=None)
            )
    with needs.sessions.begin() as session:
        _end(session, work, model, needs)


def _pairs_of(passage: str, model: ChatModel, needs: GenerationNeeds) -> list[list[str]]:
    wish = _WISH.replace("{most}", str(needs.max_pairs))
    try:
        answer = model.complete(
            quoting_prompt(wish, [("The passage", passage)]),
            max_output_tokens=needs.output_tokens,
            temperature=needs.temperature,
            schema=_Pairs,
        )
    except ModelRefused as refused:
        logger.warning(
            "a passage stays without questions: %s",
            refused,
            extra={"action": "generation.passage_refused"},
        )
        return []
    found = answer.parsed.pairs if isinstance(answer.parsed, _Pairs) else []
    return [[storable(one.question), storable(one.answer)] for one in found[: needs.max_pairs]]


def _end(session: Session, work: Work, model: ChatModel, needs: GenerationNeeds) -> None:
    document_id = work.document_id
    # One after the other: of two works that end at once, the second sees that all is there.
    locked = select(Document.id).where(Document.id == document_id).with_for_update(key_share=True)
    session.execute(locked)
    finish(session, work.lease, model=model.name)
    if document_id is None:
        return
    # Those that nobody writes are of a text that the document had before.
    missing = select(PassagePairs.document_id).where(
        PassagePairs.document_id == document_id,
        PassagePairs.pairs.is_(None),
        PassagePairs.work_id.is_not(None),
    )
    if session.scalar(missing.limit(1)) is None:
        tell_document(session, document_id, needs)
        done = delete(GenerationWork).where(
            GenerationWork.document_id == document_id,
            GenerationWork.kind == GenerationKind.QA_PAIRS,
            GenerationWork.status == COMPLETED,
        )
        session.execute(done)


@dataclass(frozen=True, slots=True)
class QueuedQuestionWriter:
    """The dataset queue's ``QuestionWriter``: gives what is written, and has the rest written.

    Attributes:
        tenant_id: who pays.
        document_id: the document that waits.
    """

    sessions: sessionmaker[Session]
    celery: Celery
    tenant_id: UUID
    document_id: UUID

    def write(self, passages: Sequence[str]) -> list[Pairs] | None:
        """Pairs of each passage; ``None`` while they are being written.

        Raises:
            Permanent: the model could not write some; a retry of the document starts over.
        """
        kept = [storable(one) for one in passages]
        by_hash = {passage_hash(one): one for one in kept}
        with self.sessions.begin() as session:
            failures = take_failures(session, self.document_id)
        if failures:
            raise Permanent(f"questions could not be written: {failures[0]}")
        try:
            with self.sessions.begin() as session:
                there = written_pairs(session, self.document_id, list(by_hash))
                missing = {digest: one for digest, one in by_hash.items() if digest not in there}
                if missing:
                    request_pairs(
                        session, self.tenant_id, self.document_id, missing, celery=self.celery
                    )
        except IntegrityError as error:
            raise SubjectGone(f"document {self.document_id} was deleted") from error
        return None if missing else [there[passage_hash(one)] for one in kept]
