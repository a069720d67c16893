"""What a conversation is called, and what was said in it so far."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from shared.errors import SubjectGone
from shared.models import Conversation, GenerationKind, Message, MessageStatus
from shared.models.conversation import UNFINISHED
from shared.submitting.files import storable
from worker.delivery import runs
from worker.delivery.lease import renew
from worker.providers.chat import ChatModel
from worker.providers.token_estimate import estimate_tokens
from worker.services.generation.condensing import whole_sentences
from worker.services.generation.extractive import EXTRACTIVE, shortened, summarize, title
from worker.services.generation.needs import GenerationNeeds
from worker.services.generation.quoting import quoting_prompt
from worker.services.generation.sentences import joined
from worker.services.generation.working import Work, finish, run_work

_TITLE = (
    "Give the quoted beginning of a conversation a title in its own language: at most eight "
    "words that say what it is about. Only the title, without quotation marks."
)
_SUMMARY = (
    "Bring the quoted summary of a conversation up to date with the quoted turns that followed, "
    "in its own language: what was asked, what was answered, names and numbers. Add nothing of "
    "your own. Only the new summary, at most ten sentences."
)
_TITLE_MESSAGES = 3
_TITLE_TOKENS = 40
_TITLE_CHARACTERS = 80
_SHOWN_CHARACTERS = 2000
_EXTRACTED_SENTENCES = 8
_PAGE = 50
#: Of what the model takes, what the turns of one call may be.
_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class _Turn:
    position: int
    question: str
    answer: str

    @property
    def text(self) -> str:
        return f"Question: {self.question}\nAnswer: {self.answer}"


def name_conversation(conversation_id: UUID, needs: GenerationNeeds) -> None:
    """Give a conversation a title, from its first questions; delivered twice it has one title.

    Raises:
        SubjectGone: (superseded) the conversation was deleted.
        Transient: the model does not answer.
        Permanent: the work's ``error`` says why.
    """
    run_work(GenerationKind.CONVERSATION_TITLE, conversation_id, _name, needs)


def summarize_conversation(conversation_id: UUID, needs: GenerationNeeds) -> None:
    """Bring a conversation's summary up to its last answer.

    What a call covered is written with the summary: another delivery goes on behind it.

    Raises:
        SubjectGone: (superseded) the conversation was deleted.
        Transient: the model does not answer.
        Permanent: the work's ``error`` says why.
    """
    run_work(GenerationKind.CONVERSATION_SUMMARY, conversation_id, _summarize, needs)


def _name(work: Work, needs: GenerationNeeds) -> None:
    with needs.sessions() as session:
        query = (
            select(Message.question)
            .where(Message.conversation_id == work.subject_id)
            .order_by(Message.position)
            .limit(_TITLE_MESSAGES)
        )
        questions = [one[:_SHOWN_CHARACTERS] for one in session.scalars(query)]
    model = needs.models(work.tenant_id, "title", work.subject_id) if questions else None
    if model is None:
        made = title(questions[:1], needs.embedder()) if questions else ""
    else:
        prompt = quoting_prompt(_TITLE, [("The questions", "\n".join(questions))])
        answer = model.complete(
            prompt, max_output_tokens=_TITLE_TOKENS, temperature=needs.temperature
        )
        made = shortened(answer.text.strip().strip("\"'“”「」«»#* "), _TITLE_CHARACTERS)
    with needs.sessions.begin() as session:
        if made:
            _lock(session, work)
            named = update(Conversation).where(Conversation.id == work.subject_id)
            session.execute(named.values(title=storable(made)))
        finish(session, work.lease, **_author(model), result=storable(made))


def _summarize(work: Work, needs: GenerationNeeds) -> None:
    model = needs.models(work.tenant_id, "summary", work.subject_id)
    while True:
        with needs.sessions() as session:
            conversation = session.get(Conversation, work.subject_id)
            if conversation is None:
                raise SubjectGone(f"there is no conversation {work.subject_id} (any more)")
            summary = conversation.summary or ""
            covered = conversation.summary_position
            turns = list(_turns_after(session, work.subject_id, covered, _tokens(model)))
        if turns:
            made = _updated(summary, turns, model, needs)
            covered = turns[-1].position
            with needs.sessions.begin() as session:
                # First the conversation, then the work: as an answer does when it ends.
                done = update(Conversation).where(Conversation.id == work.subject_id)
                session.execute(done.values(summary=storable(made), summary_position=covered))
                renew(session, work.lease)
            continue
        with needs.sessions.begin() as session:
            # First the lock: an answer that ends now is seen below, or asks for us again.
            finish(session, work.lease, **_author(model))
            if not any(_turns_after(session, work.subject_id, covered, 1)):
                return
            session.rollback()


def _updated(
    summary: str, turns: Sequence[_Turn], model: ChatModel | None, needs: GenerationNeeds
) -> str:
    runs.checkpoint()
    if model is None:
        # A question is no statement: what was answered is kept.
        texts = [summary, *(one.answer for one in turns)]
        found = summarize(
            lambda: texts, needs.embedder(), _EXTRACTED_SENTENCES, needs.max_characters
        )
        return joined(found) or shortened("\n".join(one.question for one in turns), 500)
    prompt = quoting_prompt(
        _SUMMARY,
        [
            ("The summary so far", summary or "(none)"),
            ("The turns that followed", "\n\n".join(one.text for one in turns)),
        ],
    )
    answer = model.complete(
        prompt, max_output_tokens=needs.output_tokens, temperature=needs.temperature
    )
    text = whole_sentences(answer.text) if answer.finish_reason == "length" else answer.text
    return shortened(text, needs.max_characters)


def _tokens(model: ChatModel | None) -> int:
    return int((model.context_tokens if model else 8192) * _SHARE)


def _turns_after(
    session: Session, conversation_id: UUID, position: int, max_tokens: int
) -> Iterator[_Turn]:
    """The answered questions behind a position, up to the first that is not answered yet."""
    of_it = Message.conversation_id == conversation_id
    first_open = select(func.min(Message.position)).where(of_it, Message.status.in_(UNFINISHED))
    end = session.scalar(first_open)
    query = select(Message.position, Message.question, Message.answer, Message.status)
    query = query.where(of_it, Message.position > position).order_by(Message.position)
    if end is not None:
        query = query.where(Message.position < end)
    for row in session.execute(query.limit(_PAGE)):
        if row.status != MessageStatus.COMPLETED or not row.answer:
            continue
        # The first one in any case, cut to what there is room for.
        room = max(max_tokens, 1)  # in characters: none is more than a token
        turn = _Turn(row.position, row.question[:room], row.answer[:room])
        yield turn
        max_tokens -= estimate_tokens(turn.text)
        if max_tokens <= 0:
            return


def _lock(session: Session, work: Work) -> None:
    locked = select(Conversation.id).where(Conversation.id == work.subject_id).with_for_update()
    if session.scalar(locked) is None:
        raise SubjectGone(f"there is no conversation {work.subject_id} (any more)")


def _author(model: ChatModel | None) -> dict[str, object]:
    return {"model": model.name if model else EXTRACTIVE, "is_extractive": model is None}
