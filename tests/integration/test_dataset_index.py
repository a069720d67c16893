"""Changes of a whole dataset's index: add, update, remove; and everything that may come between."""

import threading
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from sqlalchemy.orm import Session

from shared.errors import (
    IndexReplaced,
    InvalidRequest,
    NotFound,
    Permanent,
    ServiceUnavailable,
    SubjectGone,
)
from shared.submitting.dataset_index import change_dataset_index, index_builds
from shared.submitting.embedding_models import PROVIDERS
from tests.integration.index_place import SMALL, IndexPlace, pgplace, place
from worker.services.dataset.index_changing import change_index, split_up, sweep_builds
from worker.services.dataset.index_switching import give_up_build, revive_build
from worker.services.dataset.indexing import index_document
from worker.services.dataset.search_options import SearchOptions

__all__ = ["pgplace", "place"]

LAMP = "The lighthouse lamp turns once in twelve seconds. " * 60
HORN = "The fog horn sounds twice a minute in thick weather. " * 60
BREAD = "The baker bakes rye bread before the sun is up. " * 60
TEXTS = {"lamp": LAMP, "horn": HORN, "bread": BREAD}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Producers know the other model, too."""
    monkeypatch.setitem(PROVIDERS, "small", None)


class Death(BaseException):
    """A process that ends here runs nothing more."""


def all_found(place: IndexPlace) -> None:
    questions = ("lighthouse lamp", "fog horn", "rye bread")
    assert [place.first(question) for question in questions] == list(TEXTS)


def is_switched(place: IndexPlace, build_id: UUID, **columns: object) -> None:
    """Row by row: the dataset, the build, its parts, the vectors."""
    dataset, build = place.dataset(), place.build(build_id)
    wanted = {
        "indexing_technique": "high_quality",
        "embedding_provider": "small",
        "embedding_model": "32",
        "embedding_dimension": SMALL,
        "index_generation": build.generation,
        **columns,
    }
    assert {name: getattr(dataset, name) for name in wanted} == wanted
    assert (build.status, build.error, build.finished_at is None) == ("completed", None, False)
    assert {status for status, _ in place.parts(build_id).values()} == {"completed"}
    segments = place.count("document_segments")
    assert place.stored() == {SMALL: segments}
    assert place.count("outbox") == 0
    all_found(place)


@pytest.mark.parametrize("times", [1, 2])
def test_another_model_takes_over_when_it_is_whole(place: IndexPlace, times: int) -> None:
    place.add(**TEXTS)
    build_id = place.to_small()
    place.drain(times)

    is_switched(place, build_id)
    for message in place.delivered.copy():  # late, in any order
        place.deliver(*message)
    is_switched(place, build_id)


def test_adding_and_removing_make_the_technique(place: IndexPlace) -> None:
    place.add(**TEXTS)
    place.one("UPDATE documents SET keyword_segments = NULL, keyword_words = NULL")
    place.one("DELETE FROM segment_keywords")
    removal = place.change("remove")
    place.drain()

    assert place.dataset().indexing_technique == "economy"
    assert place.build(removal).status == "completed"
    assert place.stored() == {}
    assert place.count("segment_keywords") == place.count("document_segments")
    (found, *_) = place.find("rye bread", SearchOptions())
    assert found.document_name == "bread.txt"
    with pytest.raises(InvalidRequest, match="has no vectors to remove"):
        place.change("remove")

    build_id = place.change("add", "small", "32")
    place.drain()
    is_switched(place, build_id)


def test_children_carry_the_vectors_of_the_new_index_too(place: IndexPlace) -> None:
    place.one("UPDATE datasets SET doc_form = 'hierarchical_model'")
    place.add(**TEXTS)
    children = place.count("child_chunks")
    assert children > place.count("document_segments")

    build_id = place.to_small()
    place.drain(2)

    assert place.build(build_id).status == "completed"
    assert place.stored() == {SMALL: children}
    all_found(place)


def test_parents_of_an_economy_dataset_get_vectors_by_their_children(place: IndexPlace) -> None:
    place.one("UPDATE datasets SET doc_form = 'hierarchical_model', indexing_technique = 'economy'")
    place.add(**TEXTS)
    build_id = place.change("add", "small", "32")
    place.drain()

    assert place.build(build_id).status == "completed"
    assert place.stored() == {SMALL: place.count("child_chunks")}
    assert place.count("child_chunks") > 0
    all_found(place)


def test_parents_without_a_child_end_the_change_and_stay_where_they_are(
    place: IndexPlace,
) -> None:
    place.one("UPDATE datasets SET doc_form = 'hierarchical_model'")
    ids = place.add(**TEXTS)
    place.one(f"DELETE FROM child_chunks WHERE document_id = '{ids['horn']}'")
    before = place.dataset().index_generation
    build_id = place.to_small()
    with pytest.raises(Permanent, match="nothing to embed"):
        place.drain()

    build = place.build(build_id)
    assert build.status == "error"
    assert str(ids["horn"]) in build.error
    assert place.dataset().index_generation == before
    assert place.first("lighthouse lamp") == "lamp"


def test_a_dataset_without_documents_switches_at_once(place: IndexPlace) -> None:
    build_id = place.to_small()
    place.drain()
    assert place.build(build_id).status == "completed"
    assert place.dataset().embedding_dimension is None

    place.add(**TEXTS)
    assert place.dataset().embedding_dimension == SMALL
    all_found(place)


def test_the_work_is_spread_over_messages(place: IndexPlace) -> None:
    place.add(**{f"d{number}": f"Document {number}. {LAMP}" for number in range(20)})
    place.to_small()
    place.deliver(*place.next_message())

    messages = place.count("outbox")

    assert messages >= 2
    place.drain()
    groups = [args[2] for task, args in place.delivered if task == "build_dataset_index_task"]
    assert len(groups) == messages
    assert max(len(group) for group in groups) < 20


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_transient_fault_is_tried_again(place: IndexPlace, at: int) -> None:
    place.add(**TEXTS)
    build_id = place.to_small()
    calls = iter(range(1000))

    def fail(_: object) -> None:
        if next(calls) == at:
            raise ServiceUnavailable("gone")

    place.before = fail
    place.deliver(*place.next_message())
    while (message := place.next_message()) is not None:
        try:
            place.deliver(*message)
        except ServiceUnavailable:
            place.deliver(*message)  # the outbox brings a message about one document again

    place.store.collect()
    is_switched(place, build_id)


def test_a_permanent_fault_ends_the_build_and_the_old_index_stays(place: IndexPlace) -> None:
    place.add(**TEXTS)
    before = place.stored()
    build_id = place.to_small()

    def refuse(texts: list[str]) -> None:
        if "horn" in texts[0]:
            raise Permanent("too long for this model")

    place.before = refuse
    place.deliver(*place.next_message())
    message = place.next_message()
    with pytest.raises(Permanent, match="too long"):
        place.deliver(*message)
    place.deliver(*message)  # late: it is over
    place.drain()

    build = place.build(build_id)
    assert build.status == "error"
    assert "too long for this model" in build.error
    assert (place.dataset().index_generation, place.dataset().embedding_provider) == (
        0,
        "wordllama",
    )
    assert place.stored() == before
    all_found(place)
    # A letter that is replayed begins it again.
    place.before = lambda _: None
    with place.needs.sessions.begin() as session:
        revive_build(session, build_id, place.needs)
    place.drain()
    is_switched(place, build_id)


def test_an_unknown_model_is_said_before_any_work(
    place: IndexPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROVIDERS, "wordllama", None)  # the producer is of an older release
    place.add(**TEXTS)
    build_id = place.change("update", "wordllama", "no such model")

    with pytest.raises(Permanent, match="no such model"):
        place.deliver(*place.next_message())

    assert "no such model" in place.build(build_id).error
    all_found(place)


@pytest.mark.parametrize("at", [0, 2, 4])
def test_a_worker_that_dies_is_replaced(place: IndexPlace, at: int) -> None:
    place.add(**TEXTS)
    build_id = place.to_small()
    calls = iter(range(1000))

    def die(_: object) -> None:
        if next(calls) == at:
            raise Death

    place.before = die
    place.deliver(*place.next_message())
    with pytest.raises(Death):
        place.drain()
    place.one(
        "UPDATE index_build_documents SET lease_expires_at = now() - interval '1 second' "
        "WHERE lease_expires_at IS NOT NULL"
    )
    place.one("UPDATE index_build_documents SET queued_at = now() - interval '1 hour'")
    all_found(place)

    assert sweep_builds(place.needs, grace_seconds=60) > 0
    assert sweep_builds(place.needs, grace_seconds=60) == 0
    place.drain()

    is_switched(place, build_id)


def test_a_build_that_nobody_plans_or_ends_is_found(place: IndexPlace) -> None:
    place.add(**TEXTS)
    build_id = place.to_small()
    place.one("DELETE FROM outbox")
    assert sweep_builds(place.needs, grace_seconds=60) == 0
    place.one("UPDATE dataset_index_builds SET created_at = now() - interval '1 hour'")

    assert sweep_builds(place.needs, grace_seconds=60) == 1
    assert sweep_builds(place.needs, grace_seconds=60) == 0
    place.drain()

    is_switched(place, build_id)


@pytest.mark.parametrize("at", [0, 1, 4])
def test_a_lost_lease_writes_nothing_more(place: IndexPlace, at: int) -> None:
    place.add(**TEXTS)
    build_id = place.to_small()
    calls = iter(range(1000))

    def lose(_: object) -> None:
        if next(calls) == at:
            place.one(
                "UPDATE index_build_documents SET lease_token = lease_token + 1, "
                "lease_expires_at = NULL WHERE lease_expires_at IS NOT NULL"
            )

    place.before = lose
    place.drain()
    assert place.build(build_id).status == "running"
    waiting = [one for one, (status, _) in place.parts(build_id).items() if status == "waiting"]
    assert len(waiting) == 1

    split_up(build_id, waiting, place.needs)
    place.drain()
    is_switched(place, build_id)


def test_what_is_indexed_meanwhile_is_in_the_new_index(place: IndexPlace) -> None:
    documents = place.add(lamp=LAMP, horn="An old text about nothing. " * 60)
    build_id = place.to_small()
    place.deliver(*place.next_message())
    seen: list[str] = []

    def meanwhile(_: object) -> None:
        if not seen:
            seen.append("")
            place.add(horn=HORN, bread=BREAD)

    place.before = meanwhile
    place.drain()

    is_switched(place, build_id)
    assert place.parts(build_id)[documents["horn"]] == ("completed", 2)


def test_a_document_in_work_at_the_switch_is_indexed_again_for_the_new_index(
    place: IndexPlace,
) -> None:
    place.add(lamp=LAMP, horn=HORN)
    (bread,) = place.submit({"bread.txt": BREAD.encode()})
    place.one("DELETE FROM outbox")
    build_id = place.to_small()

    class Meanwhile:
        """Of the old model; the switch comes while it embeds."""

        is_costly = False

        def __init__(self) -> None:
            self.real = place.needs.embedders("wordllama", "l2_supercat_256")
            self.model, self.dimension = self.real.model, self.real.dimension
            self.count_tokens = self.real.count_tokens

        def embed(self, texts: list[str]) -> object:
            place.drain()
            return self.real.embed(texts)

    old = replace(place.indexing, embedders=lambda *_: Meanwhile())
    with pytest.raises(IndexReplaced):
        index_document(bread.document_id, place.dataset_id, old)
    assert place.build(build_id).status == "completed"

    index_document(bread.document_id, place.dataset_id, place.indexing)
    place.drain()
    assert place.parts(build_id).keys() != {bread.document_id}
    place.store.collect()
    assert place.stored() == {SMALL: place.count("document_segments")}
    all_found(place)


def test_deletion_wins(place: IndexPlace) -> None:
    documents = place.add(**TEXTS)
    build_id = place.to_small()
    place.deliver(*place.next_message())

    def delete(texts: list[str]) -> None:
        if "horn" in texts[0]:
            place.one("DELETE FROM segment_vectors WHERE document_id = :id", id=documents["horn"])
            place.one("DELETE FROM document_segments WHERE document_id = :id", id=documents["horn"])
            place.one("DELETE FROM documents WHERE id = :id", id=documents["horn"])

    place.before = delete
    place.drain()

    assert place.build(build_id).status == "completed"
    assert documents["horn"] not in place.parts(build_id)
    assert place.stored() == {SMALL: place.count("document_segments")}
    assert {place.first("fog horn"), place.first("lamp")} <= {"lamp", "bread"}


def test_a_deleted_dataset_ends_everything_quietly(place: IndexPlace) -> None:
    place.add(**TEXTS)
    place.to_small()
    place.deliver(*place.next_message())
    messages = [
        place.next_message(),
        ("deal_dataset_vector_index_task", [str(place.dataset_id), "update", str(uuid4())]),
    ]
    for table in ("segment_vectors", "document_segments", "documents", "datasets"):
        place.one(f"DELETE FROM {table}")

    for message in messages:
        place.deliver(*message)
    place.deliver("clean_dataset_index_task", [str(place.dataset_id)])
    with pytest.raises(SubjectGone):
        change_index(place.dataset_id, "add", None, place.needs)

    place.store.collect()
    assert place.stored() == {}
    assert place.count("dataset_index_builds") == place.count("outbox") == 0


def test_a_later_wish_takes_the_place_of_an_earlier_one(place: IndexPlace) -> None:
    place.add(**TEXTS)
    first = place.to_small()
    place.deliver(*place.next_message())
    assert place.to_small() == first, "the same wish is the same build"
    wishes: list[UUID] = []

    def change_of_mind(_: object) -> None:
        if not wishes:
            wishes.append(place.change("update", "small", "33"))

    place.before = change_of_mind
    place.drain()

    assert place.build(first).status == "superseded"
    is_switched(place, wishes[0], embedding_model="33")


def test_a_message_without_a_build_begins_one_once(place: IndexPlace) -> None:
    place.add(**TEXTS)
    build_id = change_index(place.dataset_id, "add", None, place.needs)
    assert change_index(place.dataset_id, "add", None, place.needs) == build_id
    place.drain()

    assert place.build(build_id).status == "completed"
    assert place.stored() == {256: place.count("document_segments")}
    all_found(place)
    change_index(place.dataset_id, "remove", None, place.needs)
    place.drain()
    assert change_index(place.dataset_id, "remove", None, place.needs) is None


def test_a_message_that_is_given_up_leaves_the_old_index(pgplace: IndexPlace) -> None:
    pgplace.add(**TEXTS)
    build_id = pgplace.to_small()
    pgplace.deliver(*pgplace.next_message())
    give_up_build(build_id, pgplace.needs, "the worker died 3 times on this index")
    give_up_build(build_id, pgplace.needs, "again")
    pgplace.drain()

    assert pgplace.build(build_id).error == "the worker died 3 times on this index"
    assert pgplace.stored().keys() == {256}
    all_found(pgplace)


def test_search_is_never_empty_during_a_change(pgplace: IndexPlace) -> None:
    pgplace.add(**TEXTS)
    is_over, failures, searches = threading.Event(), [], []

    def keep_searching() -> None:
        while not is_over.is_set():
            try:
                found = pgplace.find("lighthouse lamp")
                searches.append(pgplace)
                if not found or found[0].document_name != "lamp.txt" or len(found) != 5:
                    failures.append(found)
            except BaseException as error:  # noqa: BLE001 - the test's own verdict
                failures.append(error)

    searcher = threading.Thread(target=keep_searching)
    searcher.start()
    try:
        for number in range(6):
            if number % 2:
                pgplace.change("update", "wordllama", "l2_supercat_256")
            else:
                pgplace.to_small()
            pgplace.drain()
    finally:
        is_over.set()
        searcher.join()

    assert failures == []
    assert len(searches) > 20
    assert pgplace.dataset().index_generation == 6


@pytest.mark.parametrize(
    ("action", "options", "reason"),
    [
        ("replace", {}, "only by: add, update, remove"),
        ("remove", {"embedding_model": "x"}, "remove makes no vectors"),
        ("update", {"embedding_provider": "openai"}, "name a model of provider 'openai'"),
        ("update", {"embedding_model": " "}, "model is a name"),
    ],
)
def test_a_wrong_wish_is_refused_at_once(
    session: Session, dataset_id: UUID, action: str, options: dict[str, str], reason: str
) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        change_dataset_index(session, dataset_id, action, **options)
    assert index_builds(session, dataset_id) == []


def test_a_missing_dataset_is_said(session: Session) -> None:
    with pytest.raises(NotFound):
        change_dataset_index(session, uuid4(), "add")


def test_progress_is_seen(pgplace: IndexPlace) -> None:
    pgplace.add(**TEXTS)
    pgplace.to_small()
    pgplace.deliver(*pgplace.next_message())
    with pgplace.needs.sessions() as session:
        (progress,) = index_builds(session, pgplace.dataset_id)
    assert (progress.status, progress.documents, progress.completed) == ("running", 3, 0)
    pgplace.drain()
    with pgplace.needs.sessions() as session:
        (progress,) = index_builds(session, pgplace.dataset_id)
    assert (progress.status, progress.documents, progress.completed) == ("completed", 3, 3)
