"""A folder of real files goes in by a message, a real worker indexes it, a search finds it."""

import json
from importlib.resources import files
from pathlib import Path
from uuid import UUID

import pytest

from shared.models import DocumentStatus
from tests.fixtures.application import Reader, Submit
from tests.fixtures.worker_process import StartWorker
from worker.services.dataset.retrieval import search
from worker.services.dataset.search_options import SearchOptions
from worker.wiring import retrieval_needs

SAMPLES = Path(str(files("worker"))) / "samples"


@pytest.mark.parametrize("pool", ["prefork", "gevent", "threads", "solo"])
def test_the_main_job_runs_in_every_pool(
    pool: str, dataset_id: UUID, submit: Submit, reader: Reader, start_worker: StartWorker
) -> None:
    start_worker(pool)
    names = ["safety.md", "handbook.pdf", "guide.zh.md"]
    contents = {name: (SAMPLES / "documents" / name).read_bytes() for name in names}

    submissions = submit(contents, announce=True)
    documents = reader.await_end(*(one.document_id for one in submissions))

    assert [one.indexing_status for one in documents] == [DocumentStatus.COMPLETED] * 3
    found = search(dataset_id, "How many books are in the library?", retrieval_needs())
    assert found[0].document_name == "handbook.pdf"


def test_each_sample_question_finds_its_passage(
    dataset_id: UUID, submit: Submit, reader: Reader, start_worker: StartWorker
) -> None:
    start_worker()
    folder = SAMPLES / "documents"
    questions = json.loads((SAMPLES / "questions.json").read_text("utf-8"))

    submissions = submit(
        {path.name: path.read_bytes() for path in sorted(folder.iterdir())}, announce=True
    )
    reader.await_end(*(one.document_id for one in submissions))

    missed = [
        entry["question"]
        for entry in questions
        if not any(
            one.document_name == entry["document"] and entry["expect"] in flat(one.content)
            for one in search(
                dataset_id, entry["question"], retrieval_needs(), SearchOptions(top_k=3)
            )
        )
    ]
    assert len(questions) >= 10
    assert missed == []


def flat(content: str) -> str:
    """A passage with its line breaks taken out."""
    return " ".join(content.split())
