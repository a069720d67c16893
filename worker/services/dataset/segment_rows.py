"""The rows of a table as the segments they are to become."""

from collections.abc import Iterator

from shared.errors import EmptyFile
from shared.models.process_rule import DocForm
from shared.submitting.files import storable
from shared.submitting.segments import MAX_CHARACTERS
from worker.services.dataset.questions import ANSWER_NAMES, QUESTION_NAMES, Rows
from worker.services.dataset.segment_writing import Content

#: Names of the column with the text, in any case; a question is one too.
CONTENT_NAMES = QUESTION_NAMES | {
    "content",
    "contents",
    "segment",
    "segment content",
    "text",
    "内容",
    "分段",
    "分段内容",
    "文本",
}


def segments_of_table(rows: Rows, doc_form: str, name: str) -> Iterator[tuple[int, Content | str]]:
    """Each row with its number: what it says, or why it can be no segment.

    The columns are found by their names; without a row of names they are the first two.

    Args:
        rows: with their numbers, as a spreadsheet counts them.
        doc_form: the document's.
        name: the file's, for messages.

    Raises:
        EmptyFile: there is no row.
    """
    remaining = iter(rows)
    first = next(remaining, None)
    if first is None:
        raise EmptyFile(f"{name} holds no row: give it rows with content")
    has_answers = doc_form == DocForm.QUESTIONS
    columns = _columns(first[1], has_answers=has_answers)
    if columns is None:
        columns = (0, 1)
        yield first[0], _content(first[1], columns, has_answers=has_answers)
    for number, row in remaining:
        yield number, _content(row, columns, has_answers=has_answers)


def _columns(cells: list[str], *, has_answers: bool) -> tuple[int, int] | None:
    """Where content and answer stand; ``None`` when these cells are no names."""
    names = [cell.strip().casefold() for cell in cells]
    contents = [index for index, one in enumerate(names) if one in CONTENT_NAMES]
    answers = [index for index, one in enumerate(names) if one in ANSWER_NAMES]
    if not contents or (has_answers and not answers):
        return None
    return contents[0], answers[0] if answers else -1


def _content(row: list[str], columns: tuple[int, int], *, has_answers: bool) -> Content | str:
    text = _cell(row, columns[0])
    answer = _cell(row, columns[1]) if has_answers else None
    if not text:
        return "it has no question" if has_answers else "it has no content"
    if has_answers and not answer:
        return "it has no answer"
    for what, written in (("content", text), ("answer", answer or "")):
        if len(written) > MAX_CHARACTERS:
            return f"its {what} has {len(written):,} characters, more than {MAX_CHARACTERS:,}"
    return Content(text, answer)


def _cell(row: list[str], column: int) -> str:
    return storable(row[column]).strip() if 0 <= column < len(row) else ""
