"""A folder of vectors: opened once by all tasks of a process, made by one process at a time."""

import threading
from pathlib import Path
from typing import Any

import pytest

from shared.app_factory import create_app
from shared.errors import ServiceUnavailable
from shared.models import db
from worker.stores.qdrant import QdrantVectorStore
from worker.stores.vector_stores import VectorStores
from worker.wiring import vector_stores


@pytest.fixture
def folder(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    made = tmp_path / "qdrant"
    monkeypatch.setenv("QDRANT_PATH", str(made))
    return made


def test_the_first_tasks_of_a_process_open_it_together(folder: Path) -> None:
    app = create_app()
    together, found = threading.Barrier(8), list[Any]()

    def first_task() -> None:
        with app.app_context():
            together.wait(300)
            try:
                found.append(vector_stores())
            except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
                found.append(error)

    threads = [threading.Thread(target=first_task) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    (stores,) = set(found)
    assert isinstance(stores, VectorStores)
    store = stores.at("qdrant")
    assert isinstance(store, QdrantVectorStore)
    store.close()
    with app.app_context():
        db.engine.dispose()


def test_one_that_is_being_made_is_waited_for(folder: Path) -> None:
    folder.mkdir()
    half_made = folder / "meta.json"
    half_made.touch()
    app = create_app()
    with app.app_context():
        with pytest.raises(ServiceUnavailable, match=r"meta.json was cut off"):
            vector_stores().at("qdrant")
        half_made.write_text('{"collections": {}, "aliases": {}}')
        store = vector_stores().at("qdrant")
        assert isinstance(store, QdrantVectorStore)
        store.close()
        db.engine.dispose()
