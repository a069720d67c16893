"""Which chat model serves a tenant, what its calls cost, and where its day's budget ends."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from threading import Semaphore
from typing import Any
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from pydantic import SecretStr
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from shared.errors import BudgetExceeded, InvalidRequest, NotFound, Permanent, ServiceUnavailable
from shared.models import TenantChatModel, TokenUse
from shared.submitting.chat_models import ChatModelChange, set_chat_model, spent_today
from shared.submitting.dataset import ensure_tenant
from tests.fixtures.chat_server import (
    KEY,
    Answer,
    Asked,
    ChatServer,
    answer_with,
    refusing,
    saying,
)
from worker.cli import main
from worker.providers.chat import ChatMessage, ChatModel
from worker.wiring import chat_model

PROMPT = [ChatMessage("user", "Who keeps the lamp at night?")]
SEALING = SecretStr("a key of the tests, thirty-two bytes")


@pytest.fixture
def environment(
    environment: dict[str, str], chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    ours = {"SECRET_KEY": SEALING.get_secret_value(), "GENERATION_SILENCE_SECONDS": "30"}
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    return environment | ours


@pytest.fixture
def tenant_id(session: Session) -> UUID:
    made = ensure_tenant(session, "acme")
    session.commit()
    return made


@pytest.fixture
def give(session: Session, tenant_id: UUID, chat_server: ChatServer) -> Callable[..., ChatModel]:
    """Gives the tenant a model on the test's server, and what else is named."""

    def set_and_get(**change: Any) -> ChatModel:
        named = {"base_url": chat_server.url, "model": "lamp-1", "key": SecretStr(KEY)} | change
        set_chat_model(session, tenant_id, ChatModelChange(**named), SEALING)
        session.commit()
        made = chat_model(tenant_id, "summary", uuid4())
        assert made is not None
        return made

    return set_and_get


def uses(session: Session) -> list[TokenUse]:
    session.rollback()
    return list(session.scalars(select(TokenUse).order_by(TokenUse.created_at)))


def test_without_any_model_there_is_none(app: Flask, tenant_id: UUID) -> None:
    assert chat_model(tenant_id, "summary") is None


def test_a_tenants_calls_are_recorded_with_their_cost_and_its_key_is_sealed(
    give: Callable[..., ChatModel], session: Session, chat_server: ChatServer, tenant_id: UUID
) -> None:
    chat = give(input_cost_per_million=2.0, output_cost_per_million=10.0)
    chat_server.steps += [saying("The keeper does."), refusing(503)]

    chat.complete(PROMPT, max_output_tokens=50)
    with pytest.raises(ServiceUnavailable):
        chat.complete(PROMPT, max_output_tokens=50)

    (use,) = uses(session)
    assert (use.tenant_id, use.model, use.purpose) == (tenant_id, "lamp-1", "summary")
    assert (use.input_tokens, use.output_tokens, use.reserved_tokens) == (6, 3, 0)
    assert use.cost == Decimal("0.000042")
    assert not use.is_estimated
    assert use.finished_at is not None
    assert spent_today(session, tenant_id).tokens == 9
    row = session.get_one(TenantChatModel, tenant_id)
    assert KEY not in (row.sealed_key or "")
    assert chat_server.asked[0].key == f"Bearer {KEY}"


def test_a_new_address_does_not_get_the_old_ones_key(
    give: Callable[..., ChatModel], session: Session, tenant_id: UUID, chat_server: ChatServer
) -> None:
    give()
    elsewhere = chat_server.url.replace("127.0.0.1", "localhost")

    chat = give(base_url=elsewhere, key=None)
    chat.complete(PROMPT, max_output_tokens=50)

    assert chat_server.asked[0].key == ""


def test_the_settings_model_serves_who_has_none_and_only_its_own_address_gets_its_key(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, chat_server: ChatServer,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    monkeypatch.setenv("GENERATION_MODEL", "house-model")
    monkeypatch.setenv("GENERATION_BASE_URL", chat_server.url)
    monkeypatch.setenv("GENERATION_API_KEY", KEY)
    give, tenant_id = request.getfixturevalue("give"), request.getfixturevalue("tenant_id")

    house = chat_model(tenant_id, "title")
    assert house is not None
    house.complete(PROMPT, max_output_tokens=5)
    own = give(base_url=chat_server.url.replace("127.0.0.1", "localhost"), key=None)
    own.complete(PROMPT, max_output_tokens=5)

    assert [(one.body["model"], one.key) for one in chat_server.asked] == [
        ("house-model", f"Bearer {KEY}"),
        ("lamp-1", ""),
    ]


def test_the_days_budget_ends_calls_before_they_cost_and_says_when_to_come_back(
    give: Callable[..., ChatModel], chat_server: ChatServer, session: Session
) -> None:
    chat = give(tokens_per_day=100)
    chat_server.always = saying("word " * 40)
    chat.complete(PROMPT, max_output_tokens=60)

    with pytest.raises(BudgetExceeded, match="tokens-per-day") as refused:
        chat.complete(PROMPT, max_output_tokens=60)

    now = datetime.now(UTC)
    left = 86_400 - (now.hour * 3600 + now.minute * 60 + now.second)
    assert refused.value.retry_after_seconds == pytest.approx(left, abs=60)
    assert len(chat_server.asked) == len(uses(session)) == 1
    session.execute(text("UPDATE token_uses SET created_at = created_at - interval '1 day'"))
    session.commit()
    chat.complete(PROMPT, max_output_tokens=60)


def test_what_takes_more_than_a_whole_day_does_not_wait_for_ever(
    give: Callable[..., ChatModel],
) -> None:
    with pytest.raises(Permanent, match="whole day"):
        give(tokens_per_day=100).complete(PROMPT, max_output_tokens=500)


def test_calls_at_once_do_not_find_the_same_rest(
    app: Flask, give: Callable[..., ChatModel], chat_server: ChatServer
) -> None:
    chat = give(tokens_per_day=200)
    refused = Semaphore(0)

    def answer_when_all_the_others_have_tried(asked: Asked) -> Answer:
        refused.acquire(timeout=300)
        return answer_with(asked, "word " * 40)

    chat_server.always = answer_when_all_the_others_have_tried

    def call(_: int) -> bool:
        try:
            chat.complete(PROMPT, max_output_tokens=60)
        except BudgetExceeded:
            refused.release()
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(call, range(4))) == 2


def test_what_a_dead_worker_reserved_is_free_again_and_its_prompt_stays_spent(
    give: Callable[..., ChatModel], session: Session, tenant_id: UUID
) -> None:
    chat = give(tokens_per_day=100)
    session.add(
        TokenUse(tenant_id=tenant_id, model="m", purpose="x", input_tokens=10, reserved_tokens=80)
    )
    session.commit()
    with pytest.raises(BudgetExceeded):
        chat.complete(PROMPT, max_output_tokens=50)

    session.execute(text("UPDATE token_uses SET created_at = now() - interval '1 hour'"))
    session.commit()
    chat.complete(PROMPT, max_output_tokens=50)
    assert session.scalar(select(func.count()).select_from(TokenUse)) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"base_url": "ftp://x"},
        {"base_url": "http://me:pass@x/v1"},
        {"model": " "},
        {"model": "a\nb"},
        {"context_tokens": 1},
        {"tokens_per_day": -1},
        {"key": SecretStr("k")},  # and no address it belongs to
    ],
)
def test_a_value_that_cannot_be_is_refused(
    session: Session, tenant_id: UUID, change: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest):
        set_chat_model(session, tenant_id, ChatModelChange(**change), SEALING)
    with pytest.raises(NotFound):
        set_chat_model(session, uuid4(), ChatModelChange(model="m"), SEALING)


def test_the_commands_set_show_and_delete_a_model_and_never_print_its_key(
    app: Flask, session: Session, chat_server: ChatServer
) -> None:
    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, ["models", *arguments], input=stdin)

    assert run("show", "--tenant", "nobody").exit_code == 4
    done = run(
        "set", "--tenant", "acme", "--base-url", chat_server.url, "--model", "lamp-1",
        "--key-file", "-", "--tokens-per-day", "5000", "--json", stdin=f"{KEY}\n",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert (shown["model"], shown["has_key"], shown["is_own"]) == ("lamp-1", True, True)
    assert shown["tokens_per_day"] == 5000
    line = run("show", "--tenant", "acme").output
    assert "lamp-1" in line
    assert "of 5,000 tokens" in line
    assert KEY not in done.output + line

    assert run("set", "--tenant", "acme").exit_code == 2
    assert run("delete", "--tenant", "acme").exit_code == 0
    assert "sentences are picked" in run("show", "--tenant", "acme").output
