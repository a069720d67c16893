"""Real workers and a server that embeds: what follows a 429, and many slow calls at once."""

import subprocess
import sys
import threading
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from shared.models import DocumentStatus
from shared.submitting.dataset import ensure_dataset, ensure_tenant
from tests.fixtures.application import Reader, Submit
from tests.fixtures.embedding_server import KEY, Answer, Asked, EmbeddingServer, refusing, well
from tests.fixtures.worker_process import StartWorker

MODEL = "bag-of-words"


@pytest.fixture
def environment(
    environment: dict[str, str], embedding_server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    ours = {"EMBEDDING_BASE_URL": embedding_server.url, "EMBEDDING_API_KEY": KEY}
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


def test_after_a_429_the_worker_comes_back_when_asked_to_and_not_before(
    app: Flask,
    start_worker: StartWorker,
    submit: Submit,
    reader: Reader,
    embedding_server: EmbeddingServer,
) -> None:
    wait_seconds = 2.0
    embedding_server.steps.append(refusing(429, f"slow down, {KEY}", Retry_After="2"))
    worker = start_worker("prefork", 1)

    (submission,) = submit({"lamp.txt": b"The lamp turns. " * 50}, announce=True)
    (document,) = reader.await_end(submission.document_id)

    assert document.indexing_status == DocumentStatus.COMPLETED
    first, second, *_ = embedding_server.asked
    assert second.at - first.at >= wait_seconds
    assert KEY not in worker.output()


GREENLETS = """
from gevent import monkey
monkey.patch_all()
import sys
import gevent
from shared.settings.embedding import EmbeddingSettings
from worker.providers.openai_compatible import OpenAICompatibleEmbedder
from worker.providers.pacing import Unlimited
settings = EmbeddingSettings(
    embedding_base_url=sys.argv[1], embedding_concurrency=20, embedding_max_batch_texts=1
)
embedder = OpenAICompatibleEmbedder("m", settings, Unlimited())
calls = [gevent.spawn(embedder.embed, [f"text {n}", f"word {n}"]) for n in range(10)]
gevent.joinall(calls, raise_error=True)
print(sum(len(call.value.vectors) for call in calls))
"""


def test_greenlets_do_not_wait_for_each_others_requests(
    embedding_server: EmbeddingServer, pytestconfig: pytest.Config
) -> None:
    met = threading.Barrier(20, timeout=60)

    def meet(asked: Asked) -> Answer:
        met.wait()  # breaks, and fails the request, unless all twenty are here at once
        return well(asked)

    embedding_server.always = meet

    done = subprocess.run(
        [sys.executable, "-c", GREENLETS, embedding_server.url],
        cwd=pytestconfig.rootpath, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip

    assert done.stdout.strip() == "20", done.stderr
    assert embedding_server.most_at_once == 20
