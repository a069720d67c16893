"""Question-and-answer documents: pairs from the rows of a table, or written by a model."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from shared.errors import EmptyFile, PairsPending, Permanent, UnreadableFile
from worker.delivery import runs
from worker.services.dataset.needs import QuestionWriter
from worker.services.dataset.splitting import Passage

#: Names of the two columns, in any case.
QUESTION_NAMES = frozenset({"question", "questions", "q", "问题", "问", "問題", "問"})
ANSWER_NAMES = frozenset({"answer", "answers", "a", "答案", "回答", "答"})
_SHOWN_ROWS = 10
#: Passages a writer gets in one call.
_WRITER_PASSAGES = 8
#: How long a document waits that nobody announces when its pairs are there.
_PENDING_SECONDS = 1800.0

Rows = Iterable[tuple[int, list[str]]]


def pairs_of_table(rows: Rows, name: str, clean: Callable[[str], str]) -> Iterator[Passage]:
    """Each row as a question and its answer.

    The columns are found by their names; without a row of names they are the first
    two. All rows are read before a wrong one is reported, so that one look tells
    of every one.

    Args:
        rows: with their numbers, from 1.
        name: the file's, for messages.
        clean: what is done to each cell.

    Raises:
        EmptyFile: there is no pair.
        UnreadableFile: rows without a question or an answer, by number.
    """
    remaining = iter(rows)
    columns, data = _columns(remaining, name)
    wrong = _WrongRows(name)
    is_empty = True
    for number, row in data:
        question, answer = (clean(_cell(row, column)).strip() for column in columns)
        if question and answer:
            is_empty = False
            if not wrong.number:
                yield Passage(question, None, is_markdown=False, answer=answer)
        elif question or answer:
            wrong.note(number, "question" if not question else "answer")
    if wrong.number:
        raise UnreadableFile(wrong.message)
    if is_empty:
        raise EmptyFile(f"{name} holds no pair: give it rows with a question and an answer")


def pairs_of_passages(
    passages: Iterable[Passage], name: str, writer: QuestionWriter | None
) -> Iterator[Passage]:
    """The pairs that a writer makes of each passage.

    A passage it finds no question in is kept as it is, found by its own text: none vanishes.
    When pairs of some are still being written, the writer is told of all the others first.

    Raises:
        PairsPending: (transient) the document is announced again when they are there.
        Permanent: there is no writer, or it does not answer for every passage.
        ServiceUnavailable: (transient) its model does not answer.
    """
    if writer is None:
        raise Permanent(
            f"{name}: questions and answers are read from CSV files, and no chat model is "
            "configured that writes them for other files: set one (docs/generation.md), "
            "upload a CSV with the columns question and answer, or use a dataset of form text_model"
        )
    remaining = iter(passages)
    is_pending = False
    while batch := list(islice(remaining, _WRITER_PASSAGES)):
        runs.checkpoint()  # a model takes its time: each call is progress
        written = writer.write([passage.text for passage in batch])
        is_pending = is_pending or written is None
        if written is None or is_pending:
            continue
        if len(written) != len(batch):
            raise Permanent(
                f"{name}: the question writer answered for {len(written)} of {len(batch)} passages"
            )
        for passage, pairs in zip(batch, written, strict=True):
            filled = [(question.strip(), answer.strip()) for question, answer in pairs]
            kept = [pair for pair in filled if all(pair)] or [(passage.text, passage.text)]
            for question, answer in kept:
                yield Passage(question, passage.page, is_markdown=False, answer=answer)
    if is_pending:
        raise PairsPending(retry_after_seconds=_PENDING_SECONDS)


class _WrongRows:
    def __init__(self, name: str) -> None:
        self.number = 0
        self._name = name
        self._shown: list[str] = []

    def note(self, row: int, missing: str) -> None:
        self.number += 1
        if len(self._shown) < _SHOWN_ROWS:
            self._shown.append(f"row {row} has no {missing}")

    @property
    def message(self) -> str:
        more = self.number - len(self._shown)
        tail = f" and {more:,} more" if more else ""
        return (
            f"{self._name}: {', '.join(self._shown)}{tail}: "
            "give every row a question and an answer, then upload it again"
        )


def _columns(rows: Iterator[tuple[int, list[str]]], name: str) -> tuple[tuple[int, int], Rows]:
    """Where question and answer stand, and the rows that hold pairs."""
    first = next(rows, None)
    if first is None:
        raise EmptyFile(f"{name} holds no row: give it rows with a question and an answer")
    number, cells = first
    names = [cell.strip().casefold() for cell in cells]
    questions = [index for index, one in enumerate(names) if one in QUESTION_NAMES]
    answers = [index for index, one in enumerate(names) if one in ANSWER_NAMES]
    if questions and answers:
        return (questions[0], answers[0]), rows
    return (0, 1), _with_first((number, cells), rows)


def _with_first(first: tuple[int, list[str]], rows: Rows) -> Rows:
    yield first
    yield from rows


def _cell(row: list[str], column: int) -> str:
    return row[column] if column < len(row) else ""
