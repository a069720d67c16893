"""Hierarchical documents: children are embedded, their parent is returned."""

import re
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import delete, func, update
from sqlalchemy.orm import Session

from shared.errors import LeaseLost, ServiceUnavailable
from shared.models import Document, DocumentStatus
from shared.submitting.control import cancel_documents
from tests.integration.form_documents import CountingEmbedder, Place, Rows, needs_with
from worker.services.dataset.indexing import index_document
from worker.services.dataset.removal import clean_documents
from worker.wiring import removal_needs

TOPICS = ("lamp", "horn", "tide", "rope", "boat", "gull", "fog", "reef", "mast", "sail")
RULE = {
    "mode": "hierarchical",
    "rules": {
        "parent_mode": "paragraph",
        "segmentation": {"separator": "\n\n", "max_tokens": 1000},
        "subchunk_segmentation": {"separator": "\n", "max_tokens": 200},
    },
}
WHOLE = {
    "mode": "hierarchical",
    "rules": {
        "parent_mode": "full-doc",
        "subchunk_segmentation": {"separator": "\\n", "max_tokens": 50},
    },
}
LINES = 4


def paragraph(topic: str, lines: int = LINES) -> str:
    return "\n".join(
        f"The {topic} is checked on day {day} by keeper {topic}." for day in range(lines)
    )


TEXT = "\n\n".join(map(paragraph, TOPICS))
NOTHING = Rows([], [], 0, 0, 0)


def whole_rows(version: int, parents: int = len(TOPICS), children: int = LINES) -> Rows:
    return Rows(
        [(version, parent) for parent in range(parents)],
        [(version, parent, child) for parent in range(parents) for child in range(children)],
        0,
        parents * children,
        0,
    )


@pytest.fixture
def place(app: Flask, session: Session) -> Place:
    return Place(app, session, "hierarchical_model")


@pytest.fixture
def document_id(place: Place) -> UUID:
    """A document that waits in its first version."""
    return place.submit("log.txt", TEXT, rule=RULE).document_id


def test_children_carry_the_vectors_and_parents_the_counters(
    place: Place, document_id: UUID
) -> None:
    place.index(document_id)

    document, segments = place.document(document_id), place.segments(document_id)
    children = place.children(document_id)
    assert place.rows(document_id) == whole_rows(1)
    assert document.indexing_status == DocumentStatus.COMPLETED
    assert document.total_segments == document.completed_segments == len(TOPICS)
    assert document.tokens == sum(one.tokens for one in segments) > 0
    assert document.word_count == sum(one.word_count for one in segments) > 0
    assert [one.content for one in segments] == TEXT.split("\n\n")
    assert [one.content for one in children] == [line for line in TEXT.split("\n") if line]
    assert all(one.tokens and one.word_count == 10 for one in children)
    assert {one.dataset_id for one in children} == {place.dataset_id}


def test_the_parent_is_found_once_with_its_best_childs_score(place: Place) -> None:
    place.add("log.txt", TEXT, rule=RULE)

    found = place.search("who checks the reef on day 2?", limit=3)

    assert found[0].content == paragraph("reef")
    assert len({one.segment_id for one in found}) == len(found) == 3
    for one in found:
        scores = [child.score for child in one.children]
        assert one.score == scores[0]
        assert scores == sorted(scores, reverse=True)
        assert all(child.content in one.content for child in one.children)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_a_parent_that_has_all_of_the_best_children_leaves_room_for_others(place: Place) -> None:
    crowd = paragraph("lamp", lines=60)
    place.add("log.txt", "\n\n".join([crowd, *map(paragraph, TOPICS[1:])]), rule=RULE)

    found = place.search("The lamp is checked on day 7 by keeper lamp.", limit=5)

    assert found[0].content == crowd
    assert len(found[0].children) > 20
    assert len({one.segment_id for one in found}) == 5


def test_the_children_of_many_parents_are_embedded_in_one_call(
    place: Place, document_id: UUID
) -> None:
    observed = CountingEmbedder()
    index_document(document_id, place.dataset_id, needs_with(observed))
    assert len(observed.texts) == len(TOPICS) * LINES
    assert len(observed.calls) == 1


def test_a_batch_is_measured_in_children(place: Place, document_id: UUID) -> None:
    observed = CountingEmbedder()
    needs = needs_with(observed, batch_segments=LINES * 2)
    index_document(document_id, place.dataset_id, needs)
    assert [len(call) for call in observed.calls] == [LINES * 2] * (len(TOPICS) // 2)
    assert place.rows(document_id) == whole_rows(1)


def test_a_reindex_embeds_only_what_changed(place: Place, document_id: UUID) -> None:
    place.index(document_id)
    changed = TEXT.replace("The tide is checked on day 1", "The tide is measured on day 1")
    place.submit("log.txt", changed)
    observed = CountingEmbedder()

    index_document(document_id, place.dataset_id, needs_with(observed))

    assert observed.texts == ["The tide is measured on day 1 by keeper tide."]
    assert place.rows(document_id) == whole_rows(2)
    assert "measured" in place.search("who measured the tide?")[0].content


def test_the_whole_document_is_the_parent(place: Place) -> None:
    document_id = place.add("log.txt", TEXT, rule=WHOLE)

    (segment,) = place.segments(document_id)
    assert segment.content == TEXT
    assert len(place.children(document_id)) == len(TOPICS) * LINES
    (found,) = place.search("who checks the reef?")
    assert found.content == TEXT
    assert "reef" in found.children[0].content


def test_a_whole_document_above_the_limit_becomes_several_parents(place: Place) -> None:
    document_id = place.submit("log.txt", TEXT, rule=WHOLE).document_id
    place.index(document_id, max_parent_characters=600)

    segments = place.segments(document_id)
    assert len(segments) > 2
    assert all(len(one.content) <= 600 for one in segments)
    joined = "".join(one.content for one in segments)
    assert re.sub(r"\s", "", joined) == re.sub(r"\s", "", TEXT)
    assert place.rows(document_id).child_vectors >= len(TOPICS) * LINES


def test_without_a_rule_parents_are_made_by_meaning(place: Place) -> None:
    text = "\n\n".join(paragraph(topic, 30) for topic in TOPICS)
    document_id = place.add("log.txt", text)

    rows = place.rows(document_id)
    assert len(rows.segments) > 1
    assert len(rows.children) == rows.child_vectors > len(rows.segments)
    assert (rows.segment_vectors, rows.orphan_vectors) == (0, 0)


def test_a_second_delivery_does_nothing(place: Place, document_id: UUID) -> None:
    place.index(document_id)
    observed = CountingEmbedder()
    index_document(document_id, place.dataset_id, needs_with(observed))
    assert observed.texts == []
    assert place.rows(document_id) == whole_rows(1)


def test_a_fault_in_the_middle_of_a_reindex_leaves_the_old_version_whole(
    place: Place, document_id: UUID
) -> None:
    place.index(document_id)
    place.submit("log.txt", TEXT.replace("keeper", "warden"))
    calls = iter(range(100))

    def fail_in_the_third_call() -> None:
        if next(calls) == 2:
            raise ServiceUnavailable("the model is away")

    needs = needs_with(CountingEmbedder(fail_in_the_third_call), batch_segments=LINES)
    with pytest.raises(ServiceUnavailable):
        index_document(document_id, place.dataset_id, needs)

    assert place.document(document_id).indexing_status == DocumentStatus.WAITING
    assert all("keeper" in one.content for one in place.search("who checks the reef?"))
    place.index(document_id)
    assert place.rows(document_id) == whole_rows(2)
    assert all("warden" in one.content for one in place.search("who checks the reef?"))


def test_a_dead_workers_children_are_replaced(place: Place, document_id: UUID) -> None:
    class Death(BaseException):
        """A process that ends here runs nothing more."""

    calls = iter(range(100))

    def die_in_the_third_call() -> None:
        if next(calls) == 2:
            raise Death

    needs = needs_with(CountingEmbedder(die_in_the_third_call), batch_segments=LINES)
    with pytest.raises(Death):
        index_document(document_id, place.dataset_id, needs)
    assert place.rows(document_id) == whole_rows(1, parents=2)
    ran_out = func.now() - func.make_interval(0, 0, 0, 0, 1)
    place.session.execute(update(Document).values(lease_expires_at=ran_out))
    place.session.commit()

    place.index(document_id)

    assert place.rows(document_id) == whole_rows(1)


@pytest.mark.parametrize("call", [0, 1, 2])
def test_deletion_wins_over_running_work(place: Place, document_id: UUID, call: int) -> None:
    calls = iter(range(100))

    def delete_it() -> None:
        if next(calls) == call:
            place.session.execute(delete(Document).where(Document.id == document_id))
            place.session.commit()

    needs = needs_with(CountingEmbedder(delete_it), batch_segments=LINES * 4)
    with pytest.raises(LeaseLost):
        index_document(document_id, place.dataset_id, needs)

    clean_documents(place.dataset_id, [document_id], removal_needs())
    assert place.rows(document_id) == NOTHING
    assert place.search("who checks the reef?") == []


@pytest.mark.parametrize("call", [0, 1, 2])
def test_a_cancelled_reindex_leaves_only_the_old_version(
    place: Place, document_id: UUID, call: int
) -> None:
    place.index(document_id)
    place.submit("log.txt", TEXT.replace("keeper", "warden"))
    calls = iter(range(100))

    def cancel_it() -> None:
        if next(calls) == call:
            cancel_documents(place.session, [document_id])
            place.session.commit()

    needs = needs_with(CountingEmbedder(cancel_it), batch_segments=LINES * 4)
    with pytest.raises(LeaseLost):
        index_document(document_id, place.dataset_id, needs)

    assert place.rows(document_id) == whole_rows(1)
    assert place.document(document_id).total_segments == len(TOPICS)


def test_a_document_without_text_is_an_error_not_completed(place: Place) -> None:
    document_id = place.submit("blank.txt", " \n \n", rule=RULE).document_id
    with pytest.raises(Exception, match="holds no text"):
        place.index(document_id)
    document = place.document(document_id)
    assert (document.indexing_status, document.active_version) == (DocumentStatus.ERROR, None)
    assert place.rows(document_id) == NOTHING


def test_a_disabled_parent_is_not_found_by_its_children(place: Place, document_id: UUID) -> None:
    place.index(document_id)
    (reef,) = (one for one in place.segments(document_id) if "reef" in one.content)
    reef.enabled = False
    place.session.commit()

    found = place.search("who checks the reef on day 2?", limit=len(TOPICS))

    assert len(found) == len(TOPICS) - 1
    assert not any("reef" in one.content for one in found)


@pytest.mark.parametrize("method", ["hybrid", "keyword"])
def test_words_belong_to_parents(place: Place, document_id: UUID, method: str) -> None:
    place.index(document_id)
    found = place.search("reef", limit=3, method=method)
    assert found[0].content == paragraph("reef")
    assert len({one.segment_id for one in found}) == len(found)


def test_an_economy_dataset_finds_parents_by_their_words(app: Flask, session: Session) -> None:
    place = Place(app, session, "hierarchical_model", technique="economy")
    document_id = place.add("log.txt", TEXT, rule=RULE)

    assert place.search("reef", method="keyword")[0].content == paragraph("reef")
    rows = place.rows(document_id)
    assert len(rows.segments) == len(TOPICS)
    assert (rows.segment_vectors, rows.child_vectors, rows.orphan_vectors) == (0, 0, 0)
    assert len(rows.children) == len(TOPICS) * LINES, "a later index needs no second parse"
