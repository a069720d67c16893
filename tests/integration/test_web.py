"""The HTTP service: who is told what, and what a probe sees when a server is away."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy.orm import Session

from shared.contract import QUEUES
from shared.errors import ConfigurationError
from shared.models import Dataset
from shared.submitting.answers import ask
from shared.web.tokens import AnswerTokens
from tests.fixtures.application import Submit
from tests.fixtures.metrics import parsed
from worker.cli.stack.children import free_port
from worker.web import create_web_app

KEY = SecretStr("k" * 32)


@pytest.fixture
def client(app: Flask, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    monkeypatch.setenv("SECRET_KEY", KEY.get_secret_value())
    return create_web_app().test_client()


def bearer(tenant_id: UUID, **options: object) -> dict[str, str]:
    return {"Authorization": f"Bearer {AnswerTokens(KEY, **options).make(tenant_id)}"}  # type: ignore[arg-type]


def test_a_probe_finds_it_alive_and_ready(client: FlaskClient) -> None:
    assert client.get("/livez").json == {"status": "ok"}
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json) == (200, {"status": "ok", "problems": []})


@pytest.mark.parametrize(
    ("variable", "problem"),
    [
        ("SQLALCHEMY_DATABASE_URI", "the database does not answer"),
        ("REDIS_URL", "Redis does not answer"),
    ],
)
def test_a_server_that_is_away_makes_it_unready_and_not_dead(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, variable: str, problem: str
) -> None:
    schemes = {"SQLALCHEMY_DATABASE_URI": "postgresql://u:hush@", "REDIS_URL": "redis://:hush@"}
    monkeypatch.setenv(variable, f"{schemes[variable]}127.0.0.1:{free_port()}/0")
    client = create_web_app().test_client()

    assert client.get("/livez").status_code == 200
    ready = client.get("/readyz")
    assert ready.status_code == 503
    (said,) = (ready.json or {})["problems"]
    assert said.startswith(problem)
    assert "hush" not in ready.text
    assert "127.0.0.1" not in ready.text


def test_metrics_show_what_waits(client: FlaskClient, submit: Submit) -> None:
    submit({"a.txt": b"a", "b.txt": b"b"})

    figures = client.get("/metrics").text

    of_dataset = [one for one in figures.splitlines() if '{queue="dataset"}' in one]
    waiting = [one for one in of_dataset if "unpublished" in one or "in_flight" in one]
    assert sum(float(one.split()[1]) for one in waiting) > 0


def test_metrics_say_that_a_server_is_away_and_nothing_old(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", f"postgresql://u:x@127.0.0.1:{free_port()}/x")
    answer = create_web_app().test_client().get("/metrics")

    assert answer.status_code == 200
    seen = parsed(answer.text)
    assert seen.all("dependency_up", "dependency") == {"database": 0, "broker": 1}
    assert seen.all("outbox_unpublished", "queue") == {}
    assert set(seen.all("broker_backlog", "queue")) == set(QUEUES)


@pytest.fixture
def message(session: Session, dataset_id: UUID) -> tuple[UUID, UUID]:
    tenant_id = session.get_one(Dataset, dataset_id).tenant_id
    made = ask(session, tenant_id, "how long?", [dataset_id])
    session.commit()
    return made, tenant_id


def test_an_answer_is_its_tenants_alone(client: FlaskClient, message: tuple[UUID, UUID]) -> None:
    message_id, tenant_id = message
    cancel = f"/answers/{message_id}/cancel"

    refused = [
        client.post(cancel),
        client.post(cancel, headers=bearer(uuid4())),
        client.post(cancel, headers={"Authorization": "Bearer x.y.z"}),
        client.post(cancel, headers={"Authorization": bearer(tenant_id)["Authorization"] + "x"}),
        client.post(cancel, headers=bearer(tenant_id) | {"Authorization": "Basic eDp5"}),
        client.get(f"/answers/{message_id}/events"),
    ]
    assert {one.status_code for one in refused} == {404}

    token = AnswerTokens(KEY).make(tenant_id)
    assert client.post(f"{cancel}?access_token={token}").json == {"cancelled": True}


def test_a_question_is_asked_for_the_tokens_tenant(
    client: FlaskClient, dataset_id: UUID, message: tuple[UUID, UUID]
) -> None:
    question = {"question": "how deep?", "dataset_ids": [str(dataset_id)]}

    assert client.post("/answers", json=question).status_code == 404
    asked = client.post("/answers", json=question, headers=bearer(message[1]))

    assert asked.status_code == 202
    assert UUID((asked.json or {})["message_id"])


def test_tokens_end_and_need_a_key(app: Flask) -> None:
    tenant_id = uuid4()
    token = AnswerTokens(KEY).make(tenant_id)

    def tenant(key: SecretStr, life: timedelta) -> UUID | None:
        headers = {"Authorization": f"Bearer {token}"}
        with app.test_request_context(headers=headers):
            return AnswerTokens(key, life).tenant_of_request()

    assert tenant(KEY, timedelta(hours=1)) == tenant_id
    assert tenant(KEY, timedelta(seconds=-1)) is None
    assert tenant(SecretStr("another" * 5), timedelta(hours=1)) is None
    assert tenant(SecretStr(""), timedelta(hours=1)) is None
    with pytest.raises(ConfigurationError, match="SECRET_KEY is empty"):
        AnswerTokens(SecretStr("")).make(tenant_id)
