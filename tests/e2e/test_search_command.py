"""``rag-worker search`` as a user types it."""

from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from shared.models import Document
from tests.fixtures.commands import rag_worker
from worker.services.dataset.indexing import index_document
from worker.wiring import indexing_needs


@pytest.fixture
def files(tmp_path: Path, session: Session) -> dict[str, UUID]:
    """Two documents of an economy dataset, indexed."""
    (tmp_path / "heron.txt").write_text("The heron keeps its reeds.")
    (tmp_path / "stork.txt").write_text("The stork has reeds as well, and red legs.")
    paths = [tmp_path / "heron.txt", tmp_path / "stork.txt"]
    report = rag_worker("index", *paths, "--technique", "economy", "--no-wait", "--json").json()
    for one in report["submitted"]:
        document_id = UUID(one["document_id"])
        index_document(document_id, UUID(report["dataset_id"]), indexing_needs())
    session.execute(
        update(Document)
        .where(Document.name == "stork.txt")
        .values(doc_metadata={"year": 2024, "kind": "wader"})
    )
    session.execute(
        update(Document).where(Document.name == "heron.txt").values(doc_metadata={"year": "2023"})
    )
    session.commit()
    return {one["name"]: UUID(one["document_id"]) for one in report["submitted"]}


def test_a_search_takes_a_method_a_number_a_threshold_and_filters(files: dict[str, UUID]) -> None:
    def found(*options: object) -> list[str]:
        answer = rag_worker("search", "reeds of the heron", "--json", *options)
        return [one["document_name"] for one in answer.json()["passages"]]

    assert found() == found("--method", "keyword") == ["heron.txt", "stork.txt"]
    assert found("--top-k", 1) == ["heron.txt"]
    assert found("--threshold", 0.3) == ["heron.txt"]
    assert found("--document", files["stork.txt"]) == ["stork.txt"]
    # On a command line a number and its text look the same.
    assert found("--metadata", "year=2024") == ["stork.txt"]
    assert found("--metadata", "year=2023") == ["heron.txt"]
    assert len(found("--metadata", "year=2023", "--metadata", "year=2024")) == 2
    assert found("--metadata", "year=2023", "--metadata", "kind=wader") == []


def test_what_cannot_be_searched_is_one_line(files: dict[str, UUID], tmp_path: Path) -> None:
    told = rag_worker("search", "reeds", "--method", "hybrid").failed_in_one_line(4)
    assert "economy dataset has no vectors" in told
    assert rag_worker("search", "reeds", "--metadata", "year").code == 2
    assert rag_worker("search", "reeds", "--threshold", "2").code == 2
    refused = rag_worker("index", tmp_path / "heron.txt", "--technique", "high_quality")
    assert "indexed as economy" in refused.failed_in_one_line(4)
