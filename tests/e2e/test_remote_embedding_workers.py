"""Real workers and a server that embeds: what follows a 429, and many slow calls at once."""

import io
import subprocess
import sys
import threading
from collections.abc import Sequence
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from shared.models import DocumentStatus
from shared.submitting.dataset import ensure_dataset, ensure_tenant, submit_documents
from shared.submitting.files import store_file
from tests.fixtures.application import Reader, Submit
from tests.fixtures.embedding_server import KEY, Answer, Asked, EmbeddingServer, refusing, well
from tests.fixtures.metrics import scrape
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker
from worker.cli.stack.children import free_port

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


@pytest.mark.parametrize("pool", ["gevent", "threads"])
def test_documents_of_two_tenants_share_requests_and_neither_faults_nor_tokens(
    app: Flask,
    session: Session,
    start_worker: StartWorker,
    reader: Reader,
    embedding_server: EmbeddingServer,
    pool: str,
) -> None:
    def submit(tenant: str, names: Sequence[str]) -> tuple[UUID, list[UUID]]:
        tenant_id = ensure_tenant(session, tenant)
        place = ensure_dataset(session, tenant_id, "remote", "openai_compatible", MODEL)
        made = []
        for name in names:  # each with a message of its own
            content = io.BytesIO(f"{tenant} {name}: the lamp turns. ".encode() * 20)
            file = store_file(app.extensions["storage"], tenant_id, f"{name}.txt", content)
            (submission,) = submit_documents(
                session, app.extensions["redis"], place, [(f"{name}.txt", file)],
                celery=app.extensions["celery"],
            )  # fmt: skip
            made.append(submission.document_id)
        session.commit()
        return tenant_id, made

    acme, first = submit("acme", [f"page {number}" for number in range(8)])
    globex, second = submit("globex", [*(f"page {number}" for number in range(7)), "poison"])
    gate = threading.Event()

    def answer(asked: Asked) -> Answer:
        assert gate.wait(300)
        is_spoilt = any("poison" in text for text in asked.texts)
        return refusing(400, "not this text")(asked) if is_spoilt else well(asked)

    embedding_server.always = answer
    port = free_port()
    start_worker(pool, 20, EMBEDDING_CONCURRENCY="1", METRICS_PORT=str(port))
    everybody = [*first, *second]
    eventually(lambda: all(reader.document(one).lease_owner for one in everybody), 300)
    gate.set()

    *good, spoilt = reader.await_end(*everybody, seconds=300)

    assert {one.error for one in good} == {None}
    assert spoilt.indexing_status == DocumentStatus.ERROR
    assert "not this text" in (spoilt.error or "")
    whose = [{text.split()[0] for text in asked.texts} for asked in embedding_server.asked]
    assert {"acme", "globex"} in whose
    used = {
        (f"openai_compatible/{MODEL}", str(tenant)): sum(one.tokens for one in documents)
        for tenant, documents in ((acme, good[:8]), (globex, good[8:]))
    }
    eventually(lambda: scrape(port).all("embedding_tokens_total", "model", "tenant") == used, 60)


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
    met = threading.Barrier(20, timeout=300)

    def meet(asked: Asked) -> Answer:
        met.wait()  # breaks, and fails the request, unless all twenty are here at once
        return well(asked)

    embedding_server.always = meet

    done = subprocess.run(
        [sys.executable, "-c", GREENLETS, embedding_server.url],
        cwd=pytestconfig.rootpath, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    assert done.stdout.strip() == "20", done.stderr
    assert embedding_server.most_at_once == 20
