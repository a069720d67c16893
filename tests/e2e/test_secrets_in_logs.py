"""At the most talkative level, with everything failing, no secret is in a worker's output."""

import base64
import io
import json
from collections.abc import Callable
from functools import partial
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import make_url
from sqlalchemy.orm import Session

from shared.models import TraceDelivery
from shared.queueing import outbox
from shared.submitting.dataset import ensure_dataset, ensure_tenant, submit_documents
from shared.submitting.files import store_file
from tests.fixtures.application import Reader
from tests.fixtures.chat_server import KEY as CHAT_KEY
from tests.fixtures.chat_server import ChatServer
from tests.fixtures.chat_server import refusing as chat_refusing
from tests.fixtures.embedding_server import KEY as EMBEDDING_KEY
from tests.fixtures.embedding_server import EmbeddingServer
from tests.fixtures.embedding_server import refusing as embedding_refusing
from tests.fixtures.mail_servers import StartMailServer
from tests.fixtures.questions import Ask, row
from tests.fixtures.trace_deliveries import Traces, numbered
from tests.fixtures.trace_receiver import TraceReceiver
from tests.fixtures.trace_receiver import refusing as trace_refusing
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

SECONDS = 300
SIGNING_KEY = "M4rked-signing-key-of-32-bytes-xx"
CODE = "739146"
TRACE_KEY = "sk-lf-M4rked-482913"
MARKED = (SIGNING_KEY, CODE, CHAT_KEY, EMBEDDING_KEY, TRACE_KEY)


@pytest.fixture
def environment(
    chat_environment: dict[str, str],
    embedding_server: EmbeddingServer,
    start_mail_server: StartMailServer,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    mail_server = start_mail_server()
    mail_server.box.faults += ["rcpt:550 no"] * 9
    ours = {
        "SECRET_KEY": SIGNING_KEY,
        "EMBEDDING_BASE_URL": embedding_server.url,
        "EMBEDDING_API_KEY": EMBEDDING_KEY,
        "MAIL_TYPE": "smtp",
        "MAIL_DEFAULT_SEND_FROM": "rag@example.com",
        "SMTP_SERVER": "127.0.0.1",
        "SMTP_PORT": str(mail_server.port),
        "SMTP_USE_TLS": "false",
        "LOG_LEVEL": "DEBUG",
        "DELIVERY_MAX_ATTEMPTS": "1",
        "TRACE_ALLOWED_NETWORKS": "127.0.0.0/8",
    }
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    return chat_environment | ours


def submit_remote(app: Flask, session: Session) -> UUID:
    """A document of a dataset whose model is asked over HTTP."""
    tenant_id = ensure_tenant(session, "acme")
    dataset_id = ensure_dataset(session, tenant_id, "remote", "openai_compatible", "bag-of-words")
    stored = store_file(app.extensions["storage"], tenant_id, "a.txt", io.BytesIO(b"A lamp. " * 50))
    redis, celery = app.extensions["redis"], app.extensions["celery"]
    (submission,) = submit_documents(
        session, redis, dataset_id, [("a.txt", stored)], celery=celery
    )  # fmt: skip
    session.commit()
    return submission.document_id


def record_trace(app: Flask, receiver: TraceReceiver) -> Callable[[], TraceDelivery]:
    """A trace for a provider that repeats the key it is sent."""
    traces = Traces(app, receiver.url)
    secrets = {"public_key": "pk-lf-1", "secret_key": TRACE_KEY}
    config_id = traces.config("langfuse", secrets=secrets)
    (delivery_id,) = traces.record(config_id, *numbered(1), announce=True)
    return partial(traces.row, delivery_id)


@pytest.mark.parametrize(
    ("pool", "kind"), [("threads", "json"), ("prefork", "text"), ("gevent", "json")]
)
def test_no_task_of_any_queue_logs_a_secret(  # noqa: PLR0913, PLR0917 - a part a queue
    app: Flask,
    session: Session,
    start_worker: StartWorker,
    reader: Reader,
    put: Ask,
    chat_server: ChatServer,
    embedding_server: EmbeddingServer,
    trace_receiver: TraceReceiver,
    pool: str,
    kind: str,
) -> None:
    chat_server.steps += [chat_refusing(401, f"wrong key {CHAT_KEY}")] * 9
    embedding_server.steps += [embedding_refusing(401, f"wrong key {EMBEDDING_KEY}")] * 9
    basic = base64.b64encode(f"pk-lf-1:{TRACE_KEY}".encode()).decode()
    trace_receiver.always = trace_refusing(401, f"you sent {TRACE_KEY} as Basic {basic}")
    worker = start_worker(
        pool, 2, "-l", "DEBUG", "-I", "tests.fixtures.logging_tasks", LOG_FORMAT=kind
    )
    celery = app.extensions["celery"]
    # As the API of somebody else publishes it: content and all.
    celery.send_task(
        "worker.tasks.mail.send_email_code_login_mail_task",
        args=["en-US", "ada@example.com", CODE],
        queue="mail",
    )
    outbox.write(session, "logging.leaky", ["marked-bearer-0123456789"], celery=celery)
    outbox.write(session, "logging.talkative", ["the-end-of-it"], celery=celery)
    session.commit()
    document_id = submit_remote(app, session)
    message_id = put(announce=True)
    delivery = record_trace(app, trace_receiver)

    reader.await_end(document_id)
    eventually(lambda: row(message_id).status not in {"waiting", "running"}, SECONDS)
    eventually(lambda: delivery().status == "failed", SECONDS)
    assert "the trace provider answers 401: you sent ********" in (delivery().error or "")
    eventually(lambda: "the-end-of-it warning" in worker.output(), SECONDS)
    eventually(lambda: "nowhere" in worker.output(), SECONDS)
    eventually(lambda: "(email_code_login) failed" in worker.output(), SECONDS)

    output = worker.output()
    password = make_url(app.config["SQLALCHEMY_DATABASE_URI"]).password
    assert password
    assert " DEBUG " in output or '"level": "DEBUG"' in output
    assert trace_receiver.asked[0].headers["Authorization"] == f"Basic {basic}"
    for secret in (*MARKED, basic, password, "marked-bearer-0123456789-parameter", "Bearer marked"):
        found = [line for line in output.splitlines() if secret in line]
        assert not found, secret
    if kind == "json":
        assert all(json.loads(line) for line in output.splitlines() if line.startswith("{"))
