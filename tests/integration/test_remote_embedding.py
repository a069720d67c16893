"""Documents of a dataset whose model answers over HTTP, from the fault to what the row says."""

import threading
from collections.abc import Iterator
from uuid import UUID

import numpy as np
import pytest
from flask import Flask
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from shared.app_factory import create_app
from shared.errors import (
    ConfigurationError,
    Permanent,
    ProviderRefused,
    RateLimited,
    ServiceUnavailable,
)
from shared.models import (
    Dataset,
    Document,
    DocumentSegment,
    DocumentStatus,
    Embedding,
    SegmentVector,
    db,
)
from shared.submitting.dataset import ensure_dataset, ensure_tenant
from tests.fixtures.application import Reader, Submit
from tests.fixtures.embedding_server import (
    DIMENSION,
    KEY,
    Answer,
    Asked,
    EmbeddingServer,
    Step,
    answered,
    changed,
    entries,
    refusing,
    vector_of,
    well,
)
from tests.fixtures.mysql_server import runs_on_mysql
from worker.services.dataset.indexing import index_document
from worker.services.dataset.retrieval import search
from worker.services.dataset.search_options import SearchOptions
from worker.wiring import embedder, indexing_needs, retrieval_needs

MODEL = "bag-of-words"
PARAGRAPHS = [
    f"Chapter {number}. The lighthouse {number} turns its lamp. " * 12 for number in range(20)
]
BOOK = "\n\n".join(PARAGRAPHS).encode()


@pytest.fixture
def environment(
    environment: dict[str, str],
    embedding_server: EmbeddingServer,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    ours = {
        "EMBEDDING_PROVIDER": "openai_compatible",
        "EMBEDDING_MODEL": MODEL,
        "EMBEDDING_BASE_URL": embedding_server.url,
        "EMBEDDING_API_KEY": KEY,
        "EMBEDDING_TIMEOUT_SECONDS": "20",
        "EMBEDDING_MAX_BATCH_TEXTS": "4",
        "EMBEDDING_CONCURRENCY": "1",
    }
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    return environment | ours


@pytest.fixture
def dataset_id(session: Session) -> UUID:
    made = ensure_dataset(
        session, ensure_tenant(session, "acme"), "remote", "openai_compatible", MODEL
    )
    session.commit()
    return made


@pytest.fixture
def document_id(submit: Submit) -> UUID:
    (submission,) = submit({"book.txt": BOOK})
    return submission.document_id


def index(document_id: UUID, dataset_id: UUID) -> int:
    return index_document(document_id, dataset_id, indexing_needs()).segments


def stored(session: Session, document_id: UUID) -> list[tuple[int, str, np.ndarray]]:
    """Version, content and vector of each segment in order."""
    session.rollback()
    rows = session.execute(
        select(DocumentSegment.version, DocumentSegment.content, SegmentVector.embedding)
        .join(SegmentVector, SegmentVector.id == DocumentSegment.id)
        .where(DocumentSegment.document_id == document_id)
        .order_by(DocumentSegment.version, DocumentSegment.position)
    )
    return [
        (row.version, row.content, np.array(list(map(float, row.embedding[1:-1].split(",")))))
        for row in rows
    ]


def assert_every_vector_is_its_texts_own(session: Session, document_id: UUID) -> None:
    rows = stored(session, document_id)
    assert rows
    for _, content, vector in rows:
        expected = np.array(vector_of(content))
        assert np.allclose(vector, expected / np.linalg.norm(expected), atol=1e-5), content


def test_a_document_is_embedded_by_the_server_and_found(
    session: Session, dataset_id: UUID, document_id: UUID, embedding_server: EmbeddingServer
) -> None:
    segments = index(document_id, dataset_id)

    session.rollback()
    document, dataset = session.get_one(Document, document_id), session.get_one(Dataset, dataset_id)
    assert document.indexing_status == DocumentStatus.COMPLETED
    assert dataset.embedding_dimension == DIMENSION
    assert len(stored(session, document_id)) == segments == len(embedding_server.texts)
    assert_every_vector_is_its_texts_own(session, document_id)
    (found,) = search(
        dataset_id,
        "Chapter 7. The lighthouse 7",
        retrieval_needs(),
        SearchOptions("vector", top_k=1),
    )
    assert "Chapter 7." in found.content


def truncated(asked: Asked) -> Answer:
    return answered(entries(asked), cut=300)


def with_nan(data: list[dict[str, object]]) -> list[dict[str, object]]:
    data[1]["embedding"] = [float("nan")] * DIMENSION
    return data


TRANSIENT: list[tuple[str, Step, str]] = [
    ("500", refusing(500, "out of order"), "500: out of order"),
    ("truncated", truncated, "broke off"),
    ("a count", changed(lambda data: data[1:]), "1 vectors to 2 texts"),
    ("NaN", changed(with_nan), "NaN"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(
    ("step", "words"), [f[1:] for f in TRANSIENT], ids=[f[0] for f in TRANSIENT]
)
def test_after_a_transient_fault_it_waits_says_why_and_goes_on_where_it_was(
    session: Session,
    dataset_id: UUID,
    document_id: UUID,
    embedding_server: EmbeddingServer,
    reader: Reader,
    step: Step,
    words: str,
) -> None:
    embedding_server.steps.extend([well, well, step])

    with pytest.raises(ServiceUnavailable):
        index(document_id, dataset_id)

    waiting = reader.document(document_id)
    assert waiting.indexing_status == DocumentStatus.WAITING
    assert waiting.error is not None
    assert waiting.error.startswith("attempt 1 failed and will be repeated: ")
    assert words in waiting.error
    assert KEY not in waiting.error
    assert (waiting.attempts, waiting.lease_expires_at, waiting.active_version) == (1, None, None)
    assert stored(session, document_id) == []
    done, asked = embedding_server.texts[:8], len(embedding_server.asked)

    segments = index(document_id, dataset_id)

    finished = reader.document(document_id)
    assert (finished.indexing_status, finished.error) == (DocumentStatus.COMPLETED, None)
    again = [one for asked in embedding_server.asked[asked:] for one in asked.texts]
    assert len(again) == segments - 8
    assert not set(done) & set(again), "what was paid for is not asked for again"
    assert_every_vector_is_its_texts_own(session, document_id)


def test_a_timeout_hands_the_document_back(
    app: Flask,
    dataset_id: UUID,
    document_id: UUID,
    embedding_server: EmbeddingServer,
    reader: Reader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = threading.Event()

    def hang(asked: Asked) -> Answer:
        release.wait(30)
        return well(asked)

    embedding_server.steps.append(hang)
    monkeypatch.setenv("EMBEDDING_TIMEOUT_SECONDS", "0.3")
    impatient = create_app()
    try:
        with impatient.app_context():
            with pytest.raises(ServiceUnavailable, match=r"within 0\.3 s"):
                index(document_id, dataset_id)
            release.set()
            assert reader.document(document_id).indexing_status == DocumentStatus.WAITING
            assert index(document_id, dataset_id) > 0
            for one in impatient.extensions["embedders"].values():
                one.close()
            db.engine.dispose()
    finally:
        release.set()
    assert reader.document(document_id).indexing_status == DocumentStatus.COMPLETED


def test_429_makes_it_wait_as_long_as_asked_and_counts_no_attempt(
    dataset_id: UUID, document_id: UUID, embedding_server: EmbeddingServer, reader: Reader
) -> None:
    embedding_server.always = refusing(429, "slow down", Retry_After="42")

    for _ in range(12):  # more often than INDEXING_MAX_ATTEMPTS
        with pytest.raises(RateLimited) as raised:
            index(document_id, dataset_id)
        assert raised.value.retry_after_seconds == 42

    waiting = reader.document(document_id)
    assert (waiting.indexing_status, waiting.attempts) == (DocumentStatus.WAITING, 0)
    assert waiting.error == "waits its turn: the embedding provider answers 429: slow down"
    embedding_server.always = well
    assert index(document_id, dataset_id) > 0
    assert reader.document(document_id).error is None


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "see EMBEDDING_API_KEY"), (404, "see EMBEDDING_BASE_URL"), (400, "400: no")],
)
def test_a_refusal_ends_the_document_with_the_providers_words(
    session: Session,
    dataset_id: UUID,
    document_id: UUID,
    embedding_server: EmbeddingServer,
    reader: Reader,
    status: int,
    words: str,
) -> None:
    embedding_server.steps.extend([well, refusing(status, f"no: {KEY}")])

    with pytest.raises(ProviderRefused):
        index(document_id, dataset_id)

    ended = reader.document(document_id)
    assert ended.indexing_status == DocumentStatus.ERROR
    assert words in (ended.error or "")
    assert KEY not in (ended.error or "")
    assert len(embedding_server.asked) == 2, "nothing more is sent"
    assert stored(session, document_id) == []


def test_vectors_of_another_dimension_end_it_and_the_old_version_serves(
    session: Session,
    dataset_id: UUID,
    document_id: UUID,
    submit: Submit,
    embedding_server: EmbeddingServer,
    reader: Reader,
) -> None:
    index(document_id, dataset_id)
    before = len(stored(session, document_id))
    session.execute(update(Dataset).values(embedding_dimension=7))
    session.commit()
    submit({"book.txt": BOOK + b"And one more."})

    with pytest.raises(Permanent, match="48 dimensions, the dataset holds 7"):
        index(document_id, dataset_id)

    ended = reader.document(document_id)
    assert (ended.indexing_status, ended.active_version) == (DocumentStatus.ERROR, 1)
    assert len(stored(session, document_id)) == before


def test_a_missing_setting_ends_it_and_names_the_setting(
    app: Flask, dataset_id: UUID, document_id: UUID, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EMBEDDING_BASE_URL")
    unset = create_app()
    with unset.app_context():
        with pytest.raises(ConfigurationError):
            index(document_id, dataset_id)
        db.engine.dispose()

    ended = reader.document(document_id)
    assert ended.indexing_status == DocumentStatus.ERROR
    assert (ended.error or "").startswith("EMBEDDING_BASE_URL: ")


def limit(characters: int) -> Step:
    def step(asked: Asked) -> Answer:
        if max(len(one) for one in asked.texts) > characters:
            return refusing(400, "maximum context length is 9 tokens")(asked)
        return well(asked)

    return step


def test_what_the_model_finds_too_long_is_split_and_remembered(
    session: Session,
    dataset_id: UUID,
    document_id: UUID,
    submit: Submit,
    embedding_server: EmbeddingServer,
    reader: Reader,
) -> None:
    embedding_server.always = limit(300)

    segments = index(document_id, dataset_id)

    rows = stored(session, document_id)
    assert len(rows) == segments
    assert max(len(content) for _, content, _ in rows) <= 300
    assert_every_vector_is_its_texts_own(session, document_id)
    for number in range(20):
        assert any(f"lighthouse {number} turns" in content for _, content, _ in rows)
    asked = len(embedding_server.asked)
    submit({"book.txt": BOOK + b"\n"})
    index(document_id, dataset_id)
    assert reader.document(document_id).active_version == 2
    assert len(embedding_server.asked) - asked <= 1, "only the last passage is new"


def test_what_is_counted_as_too_long_is_split_before_it_is_paid_for(
    dataset_id: UUID, submit: Submit, embedding_server: EmbeddingServer
) -> None:
    # The estimate's sample sees words only; the digits between take twice as many tokens.
    content = ("word " * 70 + "1 2 3 4 5 6 7 8 9 " * 40) * 40
    (submission,) = submit({"mixed.txt": content.encode()})

    segments = index(submission.document_id, dataset_id)

    assert len(set(embedding_server.texts)) == len(embedding_server.texts) <= segments
    counts = [
        embedder("openai_compatible", MODEL).count_tokens(one) for one in embedding_server.texts
    ]
    assert max(counts) <= 300


def test_no_transaction_is_open_while_the_server_is_asked(
    dataset_id: UUID, document_id: UUID, embedding_server: EmbeddingServer, app: Flask
) -> None:
    index(document_id, dataset_id)  # connections that are there already
    open_ones: list[int] = []
    engine = db.engine

    def look(asked: Asked) -> Answer:
        with engine.connect() as connection:
            found = connection.scalar(
                text(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
                )
            )
        open_ones.append(found or 0)
        return well(asked)

    embedding_server.always = look
    needs = indexing_needs()
    with Session(engine) as other, other.begin():
        other.execute(update(Document).values(index_version=2, indexing_status="waiting"))
        other.execute(update(DocumentSegment).values(index_node_hash="another"))
        other.execute(text("DELETE FROM embeddings"))

    index_document(document_id, dataset_id, needs)

    assert len(open_ones) >= 3
    assert set(open_ones) == {0}


@pytest.fixture
def statements(app: Flask) -> Iterator[list[str]]:
    """What is sent to the database."""
    from sqlalchemy import event

    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(" ".join(statement.split()))

    event.listen(db.engine, "before_cursor_execute", note)
    yield seen
    event.remove(db.engine, "before_cursor_execute", note)


def test_the_cache_takes_a_statement_a_batch_and_not_one_a_text(
    app: Flask, statements: list[str], embedding_server: EmbeddingServer
) -> None:
    model = embedder("openai_compatible", MODEL)
    texts = [f"text {number}" for number in range(200)]

    model.embed(texts)
    first = [one for one in statements if "embeddings" in one]
    statements.clear()
    model.embed([*texts, "another"])
    second = [one for one in statements if "embeddings" in one]

    writes = "INSERT" if runs_on_mysql() else "COPY"
    assert [one.split()[0] for one in first] == ["SELECT", writes]
    assert [one.split()[0] for one in second] == ["SELECT", writes]
    assert embedding_server.texts == [*texts, "another"]


def test_a_text_that_comes_twice_is_asked_for_once_and_each_place_has_its_vector(
    app: Flask, session: Session, embedding_server: EmbeddingServer
) -> None:
    model = embedder("openai_compatible", MODEL)
    texts = ["boat", "lamp", "boat", "horn", "lamp", "boat"]

    made = model.embed(texts)
    again = model.embed(texts[::-1])

    assert embedding_server.texts == ["boat", "lamp", "horn"]
    assert np.array_equal(made.vectors[::-1], again.vectors)
    for one, vector in zip(texts, made.vectors, strict=True):
        expected = np.array(vector_of(one))
        assert np.allclose(vector, expected / np.linalg.norm(expected), atol=1e-6)
    assert session.scalar(select(func.count()).select_from(Embedding)) == 3


def test_a_vector_that_is_missing_shifts_no_other(
    app: Flask, embedding_server: EmbeddingServer
) -> None:
    model = embedder("openai_compatible", MODEL)
    texts = [f"text {number}" for number in range(12)]
    embedding_server.steps.append(changed(lambda data: [data[0], *data[2:]]))
    with pytest.raises(ServiceUnavailable):
        model.embed(texts)

    made = model.embed(texts)

    for one, vector in zip(texts, made.vectors, strict=True):
        expected = np.array(vector_of(one))
        assert np.allclose(vector, expected / np.linalg.norm(expected), atol=1e-6)


def test_writers_of_the_same_texts_do_not_hinder_each_other(
    app: Flask, session: Session, embedding_server: EmbeddingServer
) -> None:
    texts = [f"text {number}" for number in range(60)]
    model, errors = embedder("openai_compatible", MODEL), []
    from worker.wiring import embedding_cache

    cache = embedding_cache()
    vector = np.ones(3, np.float32)

    def write(number: int) -> None:
        try:
            order = texts if number % 2 else texts[::-1]
            for _ in range(5):
                cache.store("m", {one.encode(): vector for one in order})
                cache.fetch("m", [one.encode() for one in order])
        except Exception as error:  # noqa: BLE001 - a deadlock would be one
            errors.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert errors == []
    assert session.scalar(select(func.count()).select_from(Embedding)) == 60
    assert model.dimension is None


def test_what_is_used_stays_and_what_is_not_is_purged(
    app: Flask, session: Session, embedding_server: EmbeddingServer
) -> None:
    from worker.wiring import embedding_cache

    model = embedder("openai_compatible", MODEL)
    model.embed(["used", "unused", "young"])
    aged = "UPDATE embeddings SET used_on = CURRENT_DATE - 40"
    session.execute(text(aged + " WHERE hash <> sha256('young')"))
    session.commit()
    model.embed(["used"])

    assert embedding_cache().purge(30) == 1
    assert embedding_cache().purge(30) == 0

    embedding_server.asked.clear()
    model.embed(["used", "unused", "young"])
    assert embedding_server.texts == ["unused"]


def test_one_answer_that_is_too_long_is_kept_from_being_asked_again(
    app: Flask, embedding_server: EmbeddingServer
) -> None:
    from worker.providers.embedder import TextTooLong

    model = embedder("openai_compatible", MODEL)
    embedding_server.always = limit(50)
    texts = ["short", "long " * 30, "brief"]
    with pytest.raises(TextTooLong):
        model.embed(texts)
    asked = len(embedding_server.asked)

    with pytest.raises(TextTooLong) as raised:
        model.embed(texts)

    assert len(embedding_server.asked) == asked
    assert raised.value.positions == (1,)


def test_reindexing_asks_for_what_is_new_and_nothing_else(
    dataset_id: UUID,
    document_id: UUID,
    submit: Submit,
    session: Session,
    embedding_server: EmbeddingServer,
    reader: Reader,
) -> None:
    index(document_id, dataset_id)
    session.execute(text("DELETE FROM embeddings"))  # the document's own vectors are enough
    session.commit()
    embedding_server.asked.clear()
    submit({"book.txt": BOOK + b"\n"})
    index(document_id, dataset_id)
    assert embedding_server.texts == []

    changed_book = BOOK.replace(b"Chapter 7. The lighthouse 7 turns", b"Chapter 7. It turned", 1)
    submit({"book.txt": changed_book})
    index(document_id, dataset_id)

    assert reader.document(document_id).active_version == 3
    assert 1 <= len(embedding_server.texts) <= 2
    assert "It turned" in embedding_server.texts[0]
    assert_every_vector_is_its_texts_own(session, document_id)


def test_another_document_with_the_same_text_costs_nothing(
    dataset_id: UUID, document_id: UUID, submit: Submit, embedding_server: EmbeddingServer
) -> None:
    index(document_id, dataset_id)
    embedding_server.asked.clear()
    (copy,) = submit({"copy.txt": BOOK})

    index(copy.document_id, dataset_id)

    assert embedding_server.asked == []
