"""What a re-index takes over from the serving version is what it would have made anew."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.errors import SegmentsChanged
from shared.models import db
from shared.submitting import reindexing
from shared.submitting.files import store_file
from shared.submitting.segments import delete_segments, update_segment
from tests.integration.form_documents import CountingEmbedder, Place, needs_with
from worker.services.dataset import batch_rows, fingerprints, keywords
from worker.services.dataset.indexing import index_document
from worker.stores.pgvector import PgVectorStore
from worker.stores.vector_stores import VectorStores
from worker.wiring import indexing_needs

CONTENT = text("""
    SELECT s.position, s.content, s.answer, s.page, s.word_count, s.tokens, s.index_node_hash,
           s.keywords, s.status, s.enabled, v.embedding::text AS vector,
           (SELECT array_agg(ROW(w.word, w.frequency)::text ORDER BY w.word)
            FROM unnest(k.words, k.frequencies) AS w(word, frequency)) AS words, k.length,
           (SELECT array_agg(ROW(c.position, c.content, c.word_count, c.tokens, c.index_node_hash,
                                 cv.embedding)::text ORDER BY c.position)
            FROM child_chunks c
            LEFT JOIN segment_vectors cv ON coalesce(cv.segment_id, cv.id) = c.id
            WHERE c.segment_id = s.id) AS children
    FROM document_segments s
    JOIN documents d ON d.id = s.document_id AND d.active_version = s.version
    LEFT JOIN segment_keywords k ON k.segment_id = s.id AND k.version = s.version
    LEFT JOIN segment_vectors v
      ON coalesce(v.segment_id, v.id) = s.id AND v.version = s.version
         AND v.generation = :generation
    WHERE s.document_id = :id ORDER BY s.position
""")
COUNTERS = text("""
    SELECT word_count, tokens, total_segments, completed_segments, keyword_segments, keyword_words,
           right(fingerprint, 48) IS NOT NULL AS is_known,
           (SELECT count(*) FROM segment_vectors v WHERE v.document_id = d.id) AS vectors,
           (SELECT count(*) FROM segment_keywords k WHERE k.document_id = d.id) AS words
    FROM documents d WHERE id = :id
""")


def chapters(changed: str = "") -> str:
    made = [
        f"# Chapter {number}\n\n"
        + f"The lamp of chapter {number} turns, and the keeper sleeps. " * 22
        for number in range(40)
    ]
    made[17] += changed
    return "\n\n".join(made)


def pairs(answer: str) -> str:
    rows = [f"What turns in chapter {number}?,The lamp {answer}." for number in range(40)]
    return "\n".join(["question,answer", *rows])


#: A file of each form, how it changes, and whose words are then counted: one segment's.
FORMS: dict[str, tuple[str, str, str, str | None]] = {
    "text_model": ("book.md", chapters(), chapters(" A heron stands there."), None),
    "hierarchical_model": ("book.md", chapters(), chapters(" A heron stands there."), None),
    "qa_model": ("pairs.csv", pairs("of brass"), pairs("of gold"), None),
    "economy": ("book.md", chapters(), chapters(" A heron stands there."), "economy"),
}


def content(document_id: UUID, generation: int = 0) -> tuple[list[Any], Any]:
    """All that a search can see, without ids."""
    with Session(db.engine) as session:
        values = {"id": document_id, "generation": generation}
        rows = [tuple(row) for row in session.execute(CONTENT, values)]
        return rows, tuple(session.execute(COUNTERS, values).one())


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts whose words were counted."""
    texts: list[str] = []
    count = keywords.count

    def counting(given: list[str], dataset_id: UUID) -> Any:
        texts.extend(given)
        return count(given, dataset_id)

    monkeypatch.setattr(keywords, "count", counting)
    return texts


def change(place: Place, app: Flask, document_id: UUID, name: str, new: str) -> None:
    stored = store_file(app.extensions["storage"], place._tenant_id, name, io.BytesIO(new.encode()))
    reindexing.update_document(place.session, document_id, file=stored)
    place.session.commit()


@pytest.mark.parametrize("generation", [0, 3])
@pytest.mark.parametrize("form", list(FORMS))
def test_it_is_as_if_made_anew(
    form: str,
    generation: int,
    app: Flask,
    session: Session,
    counted: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, old, new, technique = FORMS[form]
    place = Place(app, session, "text_model" if technique else form, technique)
    session.execute(text("UPDATE datasets SET index_generation = :it"), {"it": generation})
    session.commit()
    document_id = place.add(name, old)
    counted.clear()
    change(place, app, document_id, name, new)
    observed = CountingEmbedder()

    place.index(document_id, embedders=lambda *_: observed, batch_segments=16)

    carried = content(document_id, generation)
    number = carried[1][2]
    assert len(carried[0]) == number >= 20
    heron = len(re.findall("heron", " ".join(row[1] for row in carried[0])))
    # The passages near the change, up to the next anchor.
    assert len(counted) < number / 2
    assert len(observed.texts) <= carried[1][7] / 2
    assert heron == (form != "qa_model")

    # The same by other code, which believes no word that this one counted, and no vector.
    monkeypatch.setattr(fingerprints, "PIPELINE", fingerprints.PIPELINE + 1)
    session.execute(text("UPDATE child_chunks SET index_node_hash = 'x'"))
    session.execute(text("UPDATE document_segments SET index_node_hash = 'x'"))
    session.commit()
    counted.clear()
    reindexing.duplicate_documents(session, [document_id])
    session.commit()
    place.index(document_id, embedders=lambda *_: observed)
    assert len(counted) == number
    assert content(document_id, generation) == carried


def test_words_that_other_code_counted_are_counted_again(
    app: Flask, session: Session, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(app, session, "text_model")
    document_id = place.add("book.md", chapters())
    before = content(document_id)
    counted.clear()
    monkeypatch.setattr(fingerprints, "PIPELINE", fingerprints.PIPELINE + 1)
    reindexing.duplicate_documents(session, [document_id])
    session.commit()
    observed = CountingEmbedder()

    index_document(document_id, place.dataset_id, needs_with(observed))

    assert len(counted) == len(before[0])
    assert observed.texts == []
    assert content(document_id) == before


def test_words_that_were_added_by_hand_are_not_taken_over(
    app: Flask, session: Session, counted: list[str]
) -> None:
    place = Place(app, session, "text_model")
    document_id = place.add("book.md", chapters())
    before = content(document_id)
    one = place.segments(document_id)[5]
    update_segment(session, one.id, keywords=["heron"])
    session.commit()
    from worker.services.dataset.segment_edits import index_segment

    index_segment(one.id, indexing_needs())
    assert content(document_id) != before
    counted.clear()
    reindexing.duplicate_documents(session, [document_id])
    session.commit()

    place.index(document_id)

    assert counted == [one.content]
    assert content(document_id) == before


class ObservedStore(PgVectorStore):
    """Something happens once, between the look and the write."""

    def __init__(self, happen: Callable[[], object]) -> None:
        self._happen = [happen]

    def missing(self, *arguments: Any) -> set[UUID]:
        found = super().missing(*arguments)
        if self._happen:
            self._happen.pop()()
        return found


CHANGES: dict[str, Callable[[Session, UUID], object]] = {
    "deleted": lambda session, one: delete_segments(session, [one]),
    "changed": lambda session, one: session.execute(
        text("UPDATE document_segments SET content = 'x', index_node_hash = 'y' WHERE id = :id"),
        {"id": one},
    ),
    "given words": lambda session, one: session.execute(
        text("UPDATE segment_keywords SET length = length + 1 WHERE segment_id = :id"), {"id": one}
    ),
    "vector lost": lambda session, one: session.execute(
        text("DELETE FROM segment_vectors WHERE id = :id"), {"id": one}
    ),
}


@pytest.mark.parametrize("what", list(CHANGES))
def test_what_is_changed_after_the_look_is_not_taken_over(
    what: str, app: Flask, session: Session
) -> None:
    place = Place(app, session, "text_model")
    document_id = place.add("book.md", chapters())
    one = place.segments(document_id)[5].id
    change(place, app, document_id, "book.md", chapters(" A heron."))

    def happen() -> None:
        CHANGES[what](session, one)
        session.commit()

    needs = replace(indexing_needs(), vectors=VectorStores(ObservedStore(happen)))
    with pytest.raises(SegmentsChanged):
        index_document(document_id, place.dataset_id, needs)
    waiting = place.document(document_id)
    assert (waiting.indexing_status, waiting.active_version) == ("waiting", 1)

    if what != "given words":  # which nobody can do without a segment's row
        place.index(document_id)
        carried = content(document_id)
        assert [row[0] for row in carried[0]] == list(range(len(carried[0])))
        assert {row[1] for row in carried[0]} & {"x"} == set()
        assert carried[1][5] == sum(row[12] for row in carried[0])


def test_nothing_to_write_is_written_as_nothing() -> None:
    assert batch_rows.Batch(0, [], {}, None).lengths == []
