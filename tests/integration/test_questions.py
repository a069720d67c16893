"""Question-and-answer documents: the question is embedded, the answer returned."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import delete
from sqlalchemy.orm import Session

from shared.errors import LeaseLost, Permanent, ServiceUnavailable, UnreadableFile
from shared.models import Document, DocumentStatus
from tests.integration.form_documents import CountingEmbedder, Place, Rows, needs_with
from worker.services.dataset.indexing import index_document

PAIRS = {
    f"Who keeps the {thing}?": f"Keeper {n} has the {thing}."
    for n, thing in enumerate(
        ("lamp", "horn", "tide book", "rope", "boat", "gull house", "reef buoy", "mast", "sail")
    )
}
TABLE = "Question,Answer\n" + "".join(f"{ask},{answer}\n" for ask, answer in PAIRS.items())
NOTHING = Rows([], [], 0, 0, 0)


def whole_rows(version: int, pairs: int = len(PAIRS)) -> Rows:
    return Rows([(version, position) for position in range(pairs)], [], pairs, 0, 0)


@pytest.fixture
def place(app: Flask, session: Session) -> Place:
    return Place(app, session, "qa_model")


@pytest.fixture
def document_id(place: Place) -> UUID:
    """A document that waits in its first version."""
    return place.submit("faq.csv", TABLE).document_id


def test_questions_are_embedded_and_answers_returned(place: Place, document_id: UUID) -> None:
    observed = CountingEmbedder()
    index_document(document_id, place.dataset_id, needs_with(observed))

    document, segments = place.document(document_id), place.segments(document_id)
    assert observed.texts == list(PAIRS)
    assert {one.content: one.answer for one in segments} == PAIRS
    assert place.rows(document_id) == whole_rows(1)
    assert document.indexing_status == DocumentStatus.COMPLETED
    assert document.total_segments == document.completed_segments == len(PAIRS)
    assert document.tokens == sum(one.tokens for one in segments)
    assert document.parsing_completed_at is not None
    found = place.search("who keeps the reef buoy?")[0]
    assert (found.content, found.answer) == (
        "Who keeps the reef buoy?",
        "Keeper 6 has the reef buoy.",
    )


def test_a_new_answer_costs_no_embedding(place: Place, document_id: UUID) -> None:
    place.index(document_id)
    place.submit("faq.csv", TABLE.replace("Keeper 6", "Nobody"))
    observed = CountingEmbedder()

    index_document(document_id, place.dataset_id, needs_with(observed))

    assert observed.texts == []
    assert place.rows(document_id) == whole_rows(2)
    assert place.search("who keeps the reef buoy?")[0].answer == "Nobody has the reef buoy."


def test_a_long_question_is_not_cut(place: Place) -> None:
    question = "Who " + "really " * 2000 + "keeps it?"
    document_id = place.add("faq.csv", f"question,answer\n{question},Me\n")
    assert [one.content for one in place.segments(document_id)] == [question]


def test_wrong_rows_end_the_document_by_number_and_leave_nothing(place: Place) -> None:
    content = TABLE + "Who is missing?,\n" + ",Nobody\n"
    document_id = place.submit("faq.csv", content).document_id

    with pytest.raises(UnreadableFile):
        place.index(document_id, batch_segments=2)

    document = place.document(document_id)
    assert document.indexing_status == DocumentStatus.ERROR
    assert "row 11 has no answer, row 12 has no question" in (document.error or "")
    assert place.rows(document_id) == NOTHING


def test_a_file_that_is_no_table_needs_a_writer(place: Place) -> None:
    document_id = place.submit("guide.txt", "The lamp turns once a minute.").document_id

    with pytest.raises(Permanent):
        place.index(document_id)

    document = place.document(document_id)
    assert (document.indexing_status, document.active_version) == (DocumentStatus.ERROR, None)
    assert "upload a CSV with the columns question and answer" in (document.error or "")
    assert place.rows(document_id) == NOTHING


class Asks:
    """Writes a question for each passage, until it is away."""

    def __init__(self, *, is_away: bool = False) -> None:
        self.is_away = is_away

    def write(self, passages: Sequence[str]) -> list[list[tuple[str, str]]]:
        if self.is_away:
            raise ServiceUnavailable("the model is away")
        return [[(f"What is said of {one.split()[1]}?", one)] for one in passages]


def test_no_passage_vanishes_because_the_writer_failed(place: Place) -> None:
    text = "The lamp turns once a minute.\n\nThe horn sounds twice an hour."
    rule = {"mode": "custom", "rules": {"segmentation": {"separator": "\n\n", "max_tokens": 50}}}
    document_id = place.submit("guide.txt", text, rule=rule).document_id

    with pytest.raises(ServiceUnavailable):
        place.index(document_id, question_writers=lambda *_: Asks(is_away=True))
    assert place.document(document_id).indexing_status == DocumentStatus.WAITING
    assert place.rows(document_id) == NOTHING
    place.index(document_id, question_writers=lambda *_: Asks())

    assert {one.content: one.answer for one in place.segments(document_id)} == {
        "What is said of lamp?": "The lamp turns once a minute.",
        "What is said of horn?": "The horn sounds twice an hour.",
    }


def test_a_second_delivery_does_nothing(place: Place, document_id: UUID) -> None:
    place.index(document_id)
    observed = CountingEmbedder()
    index_document(document_id, place.dataset_id, needs_with(observed))
    assert observed.texts == []
    assert place.rows(document_id) == whole_rows(1)


def test_a_fault_in_the_middle_is_made_good_by_the_next_delivery(
    place: Place, document_id: UUID
) -> None:
    calls = iter(range(100))

    def fail_in_the_third_call() -> None:
        if next(calls) == 2:
            raise ServiceUnavailable("the model is away")

    needs = needs_with(CountingEmbedder(fail_in_the_third_call), batch_segments=2)
    with pytest.raises(ServiceUnavailable):
        index_document(document_id, place.dataset_id, needs)
    assert place.search("who keeps the reef buoy?") == []

    place.index(document_id)

    assert place.rows(document_id) == whole_rows(1)


def test_deletion_wins_over_running_work(place: Place, document_id: UUID) -> None:
    def delete_it() -> None:
        place.session.execute(delete(Document).where(Document.id == document_id))
        place.session.commit()

    with pytest.raises(LeaseLost):
        index_document(document_id, place.dataset_id, needs_with(CountingEmbedder(delete_it)))

    assert place.rows(document_id) == NOTHING


def test_an_economy_dataset_finds_questions_by_their_words(app: Flask, session: Session) -> None:
    place = Place(app, session, "qa_model", technique="economy")
    document_id = place.add("faq.csv", TABLE)

    found = place.search("reef buoy", method="keyword")[0]
    assert found.answer == "Keeper 6 has the reef buoy."
    assert place.rows(document_id) == replace(whole_rows(1), segment_vectors=0)
