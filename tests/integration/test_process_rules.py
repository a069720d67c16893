"""Process rules: who sets them, whom they count for, and what keeps them."""

from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, NotFound, Permanent
from shared.models import Dataset, DatasetProcessRule, Document, DocumentStatus, DocumentVersion
from shared.models.process_rule import Mode, ProcessRule, parse_process_rule
from shared.submitting.dataset import Outcome, ensure_dataset
from shared.submitting.process_rules import (
    rule_of_dataset,
    rule_of_document,
    rule_of_version,
    set_dataset_rule,
    set_document_rule,
)
from tests.integration.form_documents import CountingEmbedder, Place, needs_with
from worker.services.dataset.indexing import index_document

TEXT = "one  1\n\ntwo 2, see https://example.com\n\nthree 3##four ï ¿ ¾"


def rule(separator: str, *steps: str) -> dict[str, object]:
    return {
        "mode": "custom",
        "rules": {
            "pre_processing_rules": [{"id": step, "enabled": True} for step in steps],
            "segmentation": {"separator": separator, "max_tokens": 100, "chunk_overlap": 10},
        },
    }


BLANK_LINES, HASHES = rule("\\n\\n", "remove_extra_spaces"), rule("##", "remove_urls_emails")


@pytest.fixture
def place(app: Flask, session: Session) -> Place:
    return Place(app, session, "text_model")


def contents(place: Place, document_id) -> list[str]:
    return [one.content for one in place.segments(document_id)]


def test_a_document_is_split_by_its_own_rule_then_its_datasets_then_automatically(
    place: Place,
) -> None:
    automatic = place.add("a.txt", TEXT)
    set_dataset_rule(place.session, place.dataset_id, BLANK_LINES)
    place.session.commit()
    of_dataset = place.add("b.txt", TEXT)
    own = place.add("c.txt", TEXT, rule=HASHES)
    back = place.add("d.txt", TEXT, rule={"mode": "automatic"})

    assert len(contents(place, automatic)) == 1
    assert contents(place, of_dataset) == [
        "one 1",
        "two 2, see https://example.com",
        "three 3##four ï ¿ ¾",
    ]
    assert contents(place, own) == ["one  1\n\ntwo 2, see \n\nthree 3", "four ï ¿ ¾"]
    assert contents(place, back) == contents(place, automatic)


def test_each_version_keeps_the_rule_it_was_made_by(place: Place) -> None:
    document_id = place.add("a.txt", TEXT)
    place.add("a.txt", TEXT, rule=BLANK_LINES)
    place.add("a.txt", TEXT, rule=HASHES)
    set_document_rule(place.session, document_id, rule("。"))
    set_dataset_rule(place.session, place.dataset_id, rule("!"))
    place.session.commit()

    made_by = [rule_of_version(place.session, document_id, version) for version in (1, 2, 3)]
    assert made_by == [
        ProcessRule(),
        parse_process_rule(BLANK_LINES),
        parse_process_rule(HASHES),
    ]
    assert rule_of_document(place.session, document_id) == parse_process_rule(rule("。"))
    assert len(contents(place, document_id)) == 2, "indexed documents stay as they are"


def test_a_version_keeps_the_rule_its_last_attempt_used(place: Place) -> None:
    document_id = place.submit("a.txt", TEXT, rule=BLANK_LINES).document_id
    set_document_rule(place.session, document_id, HASHES)
    place.session.commit()
    place.index(document_id)

    assert len(contents(place, document_id)) == 2
    assert rule_of_version(place.session, document_id, 1) == parse_process_rule(HASHES)


def test_another_rule_makes_a_new_version_and_embeds_only_new_passages(place: Place) -> None:
    first = place.submit("a.txt", TEXT, rule=BLANK_LINES)
    place.index(first.document_id)
    assert place.submit("a.txt", TEXT, rule=BLANK_LINES).outcome is Outcome.UNCHANGED
    assert place.submit("a.txt", TEXT).outcome is Outcome.UNCHANGED
    again = place.submit("a.txt", TEXT, rule=rule("\n\n"))
    assert (again.outcome, again.version) == (Outcome.CHANGED, 2)
    observed = CountingEmbedder()
    index_document(first.document_id, place.dataset_id, needs_with(observed))

    assert observed.texts == ["one  1"]
    assert place.document(first.document_id).active_version == 2
    assert [one.version for one in place.segments(first.document_id)] == [2, 2, 2]


def test_a_rule_set_twice_is_one_row(place: Place) -> None:
    same = {
        set_dataset_rule(place.session, place.dataset_id, BLANK_LINES),
        set_dataset_rule(place.session, place.dataset_id, parse_process_rule(BLANK_LINES)),
        place.session.get_one(
            Document, place.submit("a.txt", TEXT, rule=BLANK_LINES).document_id
        ).process_rule_id,
    }
    assert len(same) == 1
    assert set_dataset_rule(place.session, place.dataset_id, HASHES) not in same
    place.session.commit()
    rows = place.session.scalar(select(func.count()).select_from(DatasetProcessRule))
    assert rows == 2


def test_what_a_producer_does_wrong_is_told_at_once_and_writes_nothing(place: Place) -> None:
    wrong = {"mode": "custom", "rules": {"segmentation": {"separator": "", "max_tokens": 100}}}
    with pytest.raises(InvalidRequest, match="separator is empty"):
        place.submit("a.txt", TEXT, rule=wrong)
    place.session.rollback()
    children = {"parent_mode": "full-doc", "subchunk_segmentation": {"max_tokens": 100}}
    with pytest.raises(InvalidRequest, match="text_model dataset has not"):
        set_dataset_rule(
            place.session, place.dataset_id, {"mode": "hierarchical", "rules": children}
        )
    with pytest.raises(NotFound):
        set_dataset_rule(place.session, uuid4(), BLANK_LINES)
    with pytest.raises(NotFound):
        set_document_rule(place.session, uuid4(), BLANK_LINES)
    with pytest.raises(NotFound):
        rule_of_document(place.session, uuid4())
    place.session.rollback()
    for table in (Document, DatasetProcessRule):
        assert place.session.scalar(select(func.count()).select_from(table)) == 0
    assert rule_of_dataset(place.session, place.dataset_id).mode is Mode.AUTOMATIC


def test_a_datasets_form_is_chosen_once(place: Place) -> None:
    dataset = place.session.get_one(Dataset, place.dataset_id)
    place_of = (place.session, dataset.tenant_id, dataset.name)
    assert ensure_dataset(*place_of) == ensure_dataset(*place_of, doc_form="text_model")
    with pytest.raises(InvalidRequest, match="is of form text_model, not qa_model"):
        ensure_dataset(*place_of, doc_form="qa_model")
    with pytest.raises(InvalidRequest, match="'qa' is none of"):
        ensure_dataset(*place_of, doc_form="qa")


def test_a_stored_rule_that_is_wrong_ends_the_document_and_says_so(place: Place) -> None:
    document_id = place.submit("a.txt", TEXT, rule=BLANK_LINES).document_id
    place.session.execute(update(DatasetProcessRule).values(rules={"segmentation": {}}))
    place.session.commit()

    with pytest.raises(Permanent):
        place.index(document_id)

    document = place.document(document_id)
    assert document.indexing_status == DocumentStatus.ERROR
    assert "max_tokens" in (document.error or "")


def test_a_rule_that_leaves_nothing_ends_the_document(place: Place) -> None:
    content = "https://example.com jane@example.com"
    document_id = place.submit("a.txt", content, rule=HASHES).document_id

    with pytest.raises(Permanent, match="no text that its process rule leaves"):
        place.index(document_id)

    document = place.document(document_id)
    assert (document.indexing_status, document.active_version) == (DocumentStatus.ERROR, None)
    assert place.segments(document_id) == []


def test_an_automatic_version_needs_no_row(place: Place) -> None:
    place.add("a.txt", TEXT)
    assert place.session.scalar(select(func.count()).select_from(DocumentVersion)) == 0
