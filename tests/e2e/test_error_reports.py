"""Sentry is told what ended for good, once, and nothing that is nobody's business."""

import json
import os
import subprocess
import sys
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from shared.queueing import outbox
from shared.queueing.trace_context import carrying
from tests.fixtures.sentry_server import SentryServer
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

SECONDS = 300


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_permanent_ends_and_crashes_arrive_and_retries_do_not(
    app: Flask, session: Session, start_worker: StartWorker, sentry_server: SentryServer, pool: str
) -> None:
    worker = start_worker(
        pool, 2, "-I", "tests.fixtures.logging_tasks",
        SENTRY_DSN=sentry_server.dsn, SENTRY_ENVIRONMENT="staging",
        SENTRY_TRACES_SAMPLE_RATE="1",
    )  # fmt: skip
    tenant_id, celery = uuid4(), app.extensions["celery"]
    with carrying(request_id="from-the-api"):
        for task, word in (
            ("transient", "comes-again"),
            ("permanent", "ada@example.com password=hunter2hunter2"),
            ("defect", "a-defect"),
            ("leaky", "marked-bearer-0123456789"),
        ):
            outbox.write(session, f"logging.{task}", [word], celery=celery, tenant_id=tenant_id)
        session.commit()

    eventually(lambda: len(sentry_server.errors()) >= 3, SECONDS)
    eventually(lambda: worker.output().count("logging.transient") >= 2, SECONDS)
    assert worker.terminate() == 0

    found = sorted(sentry_server.errors())
    assert len(found) == 3, found
    assert found[-1] == "ZeroDivisionError: a-defect: 36"
    assert "UnreadableFile: *** password=*** is broken" in found
    assert any("nowhere" in one for one in found)
    for event in sentry_server.items("event"):
        assert event["environment"] == "staging"
        assert event["tags"]["tenant_id"] == str(tenant_id)
        assert event["tags"]["trace_id"] == "from-the-api"
        assert event["tags"]["task"].startswith("logging.")
        assert event["release"].startswith("rag-worker@")
    everything = b"".join(sentry_server.bodies).decode()
    for secret in (
        "ada@example.com",
        "hunter2hunter2",
        "local-variables-are-nobodys-business",
        "marked-bearer-0123456789",
    ):
        assert secret not in everything, secret
    assert {one["transaction"] for one in sentry_server.items("transaction")} >= {
        "logging.transient"
    }


WEB = """
from worker.web import create_web_app
app = create_web_app()
@app.get("/broken")
def broken():
    code = "-".join(["local", "variables", "are", "nobodys", "business"])
    raise ZeroDivisionError(f"broken {len(code)}")
answer = app.test_client().get(
    "/broken?token=abcdef0123456789", headers={"Authorization": "Bearer abcdef0123456789"}
)
assert answer.status_code == 500
"""


def test_an_error_of_the_http_service_arrives_without_what_the_user_sent(
    environment: dict[str, str], sentry_server: SentryServer
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WEB],
        env=os.environ
        | {"SENTRY_DSN": sentry_server.dsn, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

    assert sentry_server.errors() == ["ZeroDivisionError: broken 36"]
    (event,) = sentry_server.items("event")
    assert event["request"] == {"url": "http://localhost/broken", "method": "GET"}
    assert "abcdef0123456789" not in json.dumps(event)
    assert "local-variables" not in json.dumps(event)
