"""Documents indexed into Qdrant: faults, and that no transaction waits for the network."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from flask import Flask
from qdrant_client import QdrantClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import ConfigurationError, Permanent, ServiceUnavailable, Transient
from shared.models import DocumentSegment, DocumentStatus, SegmentVector, db
from tests.fixtures.application import Reader, Submit
from worker.services.dataset.indexing import index_document
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.retrieval import RetrievalNeeds, search
from worker.stores.qdrant import QdrantVectorStore
from worker.stores.vector_stores import VectorStores
from worker.stores.vectors import VectorQuery
from worker.wiring import indexing_needs, retrieval_needs, vector_stores

LAMP = b"The lighthouse lamp turns once in twelve seconds. " * 200
HORN = b"The fog horn sounds twice a minute in thick weather. " * 200


class WatchedClient(QdrantClient):
    """Qdrant in memory; calls back before each request."""

    def __init__(self) -> None:
        super().__init__(":memory:")
        self.before: Callable[[str], None] = lambda _: None
        self.requests: list[str] = []

    def _note(self, name: str) -> None:
        assert db.engine.pool.checkedout() == 0, f"{name}: a transaction waits for the network"
        self.requests.append(name)
        self.before(name)

    def upsert(self, *args: Any, **kwargs: Any) -> Any:
        self._note("upsert")
        return super().upsert(*args, **kwargs)

    def query_points(self, *args: Any, **kwargs: Any) -> Any:
        self._note("query_points")
        return super().query_points(*args, **kwargs)

    def retrieve(self, *args: Any, **kwargs: Any) -> Any:
        self._note("retrieve")
        return super().retrieve(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        self._note("delete")
        return super().delete(*args, **kwargs)


@dataclass
class Place:
    client: WatchedClient
    store: QdrantVectorStore
    needs: IndexingNeeds
    retrieval: RetrievalNeeds

    def points(self) -> int:
        return self.client.count("rag_worker_256").count


@pytest.fixture
def place(app: Flask, session: Session) -> Iterator[Place]:
    client = WatchedClient()
    store = QdrantVectorStore(client, sessionmaker(db.engine), is_local=True)
    yield Place(
        client,
        store,
        replace(indexing_needs(), vectors=VectorStores(store), batch_segments=1),
        replace(retrieval_needs(), vectors=VectorStores(store)),
    )
    client.close()


def test_documents_are_indexed_found_and_replaced(
    session: Session, dataset_id: UUID, submit: Submit, place: Place
) -> None:
    (lamp,) = submit({"text": LAMP})
    session.rollback()
    index_document(lamp.document_id, dataset_id, place.needs)
    assert "lamp" in search(dataset_id, "lamp", place.retrieval)[0].content
    submit({"text": LAMP + HORN})
    session.rollback()

    index_document(lamp.document_id, dataset_id, place.needs)
    place.store.collect()

    found = search(dataset_id, "fog horn", place.retrieval)
    assert "horn" in found[0].content
    segments = session.scalar(select(func.count()).select_from(DocumentSegment))
    assert place.points() == segments
    assert session.scalar(select(func.count()).select_from(SegmentVector)) == 0
    assert "retrieve" in place.client.requests, "unchanged passages kept their vectors"


@pytest.mark.parametrize("at", [0, 1, 5])
def test_a_store_that_fails_hands_the_document_back_and_leaves_no_orphan(
    session: Session, dataset_id: UUID, submit: Submit, reader: Reader, place: Place, at: int
) -> None:
    (lamp,) = submit({"text": LAMP})
    session.rollback()
    number = iter(range(1000))

    def fail(name: str) -> None:
        if name == "upsert" and next(number) == at:
            raise ServiceUnavailable("gone")

    place.client.before = fail
    with pytest.raises(ServiceUnavailable):
        index_document(lamp.document_id, dataset_id, place.needs)
    document = reader.document(lamp.document_id)
    assert document.indexing_status == DocumentStatus.WAITING
    assert "gone" in (document.error or "")
    session.rollback()
    assert search(dataset_id, "lamp", place.retrieval) == []

    totals = index_document(lamp.document_id, dataset_id, place.needs)
    place.store.collect()

    assert reader.document(lamp.document_id).indexing_status == DocumentStatus.COMPLETED
    assert place.points() == totals.segments


def test_deleting_that_fails_is_done_later(
    session: Session, dataset_id: UUID, submit: Submit, place: Place
) -> None:
    (lamp,) = submit({"text": LAMP})
    session.rollback()
    index_document(lamp.document_id, dataset_id, place.needs)
    submit({"text": HORN})
    session.rollback()
    totals = index_document(lamp.document_id, dataset_id, place.needs)

    def fail(name: str) -> None:
        if name == "delete":
            raise ServiceUnavailable("gone")

    place.client.before = fail
    with pytest.raises(ServiceUnavailable):
        place.store.collect()
    assert place.points() > totals.segments
    assert all("horn" in one.content for one in search(dataset_id, "lamp", place.retrieval))

    place.client.before = lambda _: None
    place.store.collect()
    assert place.points() == totals.segments


@dataclass
class Server:
    """Answers every request alike."""

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    stall: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def server() -> Iterator[Server]:
    answer = Server()
    answer.stall.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer.stall.wait(30)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_POST = do_PUT = do_GET  # noqa: N815 - the names http.server calls

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        answer.url = f"http://127.0.0.1:{listening.server_port}"
        yield answer
        answer.stall.set()
        listening.shutdown()
        thread.join()


QUERY = VectorQuery(uuid4(), 0, np.ones(3, np.float32), 5)


def asked_of(url: str) -> None:
    client = QdrantClient(url, timeout=1, check_compatibility=False)
    try:
        QdrantVectorStore(client, sessionmaker()).ask(QUERY)
    finally:
        client.close()


@pytest.mark.parametrize(
    ("status", "family"),
    [(500, Transient), (503, Transient), (429, Transient), (401, Permanent), (400, Permanent)],
)
def test_an_answer_becomes_a_family(server: Server, status: int, family: type) -> None:
    server.status, server.body = status, json.dumps({"status": {"error": "so it is"}}).encode()

    with pytest.raises(family, match="so it is"):
        asked_of(server.url)


def test_the_wait_it_asks_for_is_kept(server: Server) -> None:
    server.status, server.headers = 429, {"Retry-After": "17"}

    with pytest.raises(ServiceUnavailable) as caught:
        asked_of(server.url)

    assert caught.value.retry_after_seconds == 17


def test_no_answer_is_transient(server: Server) -> None:
    server.body = b'{"result": tru'
    with pytest.raises(ServiceUnavailable):
        asked_of(server.url)
    server.stall.clear()
    with pytest.raises(ServiceUnavailable):
        asked_of(server.url)
    with pytest.raises(ServiceUnavailable):
        asked_of("http://127.0.0.1:1")


def test_the_setting_chooses_the_store(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    from shared.app_factory import create_app

    monkeypatch.setenv("VECTOR_STORE", "qdrant")
    app = create_app()
    with app.app_context(), pytest.raises(ConfigurationError, match="QDRANT_URL"):
        vector_stores()
    monkeypatch.setenv("QDRANT_PATH", str(tmp_path / "qdrant"))
    app = create_app()
    with app.app_context():
        store = vector_stores().at(None)
        assert isinstance(store, QdrantVectorStore)
        assert store is vector_stores().at(None)
        store.close()
        db.engine.dispose()
