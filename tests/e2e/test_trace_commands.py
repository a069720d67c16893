"""``rag-worker traces`` and ``reset-encrypt-key`` as an operator types them."""

import json
import subprocess
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.models import MailDelivery, db
from shared.submitting.chat_models import chat_model_of
from shared.submitting.sealing import SealingKeys, seal
from shared.submitting.trace_configs import target_of
from tests.fixtures.commands import RAG_WORKER, Ran, rag_worker
from tests.fixtures.mails import Mails
from tests.fixtures.messages import Messages
from tests.fixtures.trace_receiver import TraceReceiver, refusing
from tests.fixtures.traced import KEY, KEYS, LANGFUSE, SECRET, Traced, every_text_column


def traces(*arguments: object, **variables: str) -> Ran:
    return rag_worker("traces", *arguments, **{"SECRET_KEY": KEY} | variables)


def set_config(*arguments: object, secrets: Any = None, **variables: str) -> Ran:
    """With the secrets on standard input."""
    import os

    done = subprocess.run(
        [RAG_WORKER, "traces", "config", "set", *map(str, arguments), "--secrets", "-"],
        env={**os.environ, "SECRET_KEY": KEY, **variables},
        input=json.dumps(LANGFUSE if secrets is None else secrets).encode(),
        capture_output=True,
        timeout=300,
        check=False,
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def test_a_configuration_is_set_shown_changed_and_deleted(traced: Traced) -> None:
    said: list[str] = []

    def ran(done: Ran) -> Ran:
        said.append(done.out + done.err)
        return done

    here = ("langfuse", "--tenant", "acme", "--endpoint", "https://langfuse.example.com")
    assert "the secret secret_key" in ran(
        set_config(*here, secrets={"public_key": "p"})
    ).failed_in_one_line(4)
    ran(set_config(*here, SECRET_KEY="")).failed_in_one_line(3)
    made = ran(set_config(*here, "--redact-key", "diagnosis"))
    assert made.out == "langfuse: version 1\n", made
    traced.record()

    shown = ran(traces("config", "show", "--json")).json()["configs"]
    assert shown[0]["secrets"] == {"public_key": "********", "secret_key": "********"}
    assert shown[0]["options"] == {"redact_keys": ["diagnosis"]}
    assert '"secret_key": "********"' in ran(traces("config", "show")).out

    changed = ran(traces("config", "set", *here, "--no-content", "--json"))
    assert changed.json()["cancelled"] == 1, "secrets that are not given stay"
    moved = ("langfuse", "--tenant", "acme", "--endpoint", "https://eve.example.com")
    lost = ran(traces("config", "set", *moved))
    assert "needs the secret" in lost.failed_in_one_line(4), "never to another server"
    gone = ran(traces("config", "delete", "langfuse", "--tenant", "acme"))
    assert gone.out == "langfuse: deleted\n"
    assert SECRET not in "".join(said) + every_text_column()


def test_a_provider_is_tried_with_one_span(traced: Traced, trace_receiver: TraceReceiver) -> None:
    traced.configure(endpoint=trace_receiver.url)
    networks = {"TRACE_ALLOWED_NETWORKS": "127.0.0.0/8"}
    test = ("config", "test", "langfuse", "--tenant")

    private = traces(*test, "acme")
    assert "TRACE_ALLOWED_NETWORKS" in private.failed_in_one_line(1)
    took = traces(*test, "acme", "--json", **networks)
    (asked,) = trace_receiver.asked
    assert took.json()["trace_id"] == asked.spans[0].trace_id
    assert asked.path == "/api/public/otel/v1/traces"
    trace_receiver.steps.append(refusing(401, f"wrong key {SECRET}"))
    refused = traces(*test, "acme", **networks)
    assert "wrong key" in refused.failed_in_one_line(1)
    assert SECRET not in private.err + took.out + took.err + refused.err
    traces(*test, "nobody").failed_in_one_line(4)
    assert traced.rows() == [], "it is no delivery"


def test_traces_are_listed_shown_and_replayed(traced: Traced) -> None:
    traced.record(name="tides\x1b[31m")
    row = traced.row()
    listed = traces("list", "--status", "disabled", "--json").json()["traces"]
    assert [one["id"] for one in listed] == [str(row.id)]
    plain = traces("list", "--tenant", "acme")
    assert "langfuse" not in plain.out
    assert "no provider is configured" in plain.out
    assert "\x1b" not in plain.out

    for identity in (str(row.id)[:13], row.trace_id):
        shown = traces("show", identity)
        assert "status: disabled" in shown.out
        assert "  chat  chain  0.100 s\n    retrieve  retriever" in shown.out
        assert "    answer  llm  0.070 s  150 tokens\n      look up" in shown.out
        assert "error: timed out" in shown.out
        assert "noon" not in shown.out
    assert "noon" in json.dumps(traces("show", row.id, "--content").json()["trace"])
    traces("show", "0" * 8).failed_in_one_line(4)

    none = traces("replay", row.id)
    assert (none.code, none.out[:11]) == (1, "0 replayed,")
    traced.configure()
    assert traces("replay", "--all", "--tenant", "acme").out == "1 replayed\n"
    row = traced.row()
    assert (row.status, row.provider, row.attempts) == ("waiting", "langfuse", 0)
    assert row.message_id is not None
    assert Messages(traced.app).row(row.message_id) is not None


NEW = "another key"
BOTH = {"SECRET_KEY": NEW, "SECRET_KEY_PREVIOUS": json.dumps(["older", KEY])}


def test_secrets_are_sealed_anew_and_what_no_key_opens_is_named_or_taken_away(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    mails = Mails(traced.app)
    readable = traced.configure()
    lost_key = SealingKeys(SecretStr("lost"))
    lost = traced.configure("langsmith", keys=lost_key, secrets={"api_key": SECRET},
                            options={"project": "p"})  # fmt: skip
    traced.record()
    mail, lost_mail = mails.accept(code="482913"), mails.accept(code="592013")
    for delivery, key in ((mail, KEY), (lost_mail, "lost")):
        sealed = seal({"code": "482913"}, SecretStr(key))
        traced.write(
            "UPDATE mail_deliveries SET secrets = :it WHERE id = :id", it=sealed, id=delivery
        )
    traced.write(
        "INSERT INTO tenant_chat_models (tenant_id, base_url, sealed_key) VALUES (:id, 'u', :it)",
        id=traced.tenant_id,
        it=seal({"key": "k"}, SecretStr("older")),
    )

    rag_worker("reset-encrypt-key", SECRET_KEY="").failed_in_one_line(3)
    before = every_text_column()
    trial = rag_worker("reset-encrypt-key", "--dry-run", **BOTH)
    assert trial.code == 1
    assert "trace_configs: 1 to be sealed anew, 0 current already, 1 opened by no key" in trial.out
    assert every_text_column() == before

    done = rag_worker("reset-encrypt-key", "--json", **BOTH)
    assert (done.code, done.err.strip()[-15:]) == (1, '"exit_code": 1}')
    by_table = {one["table"]: one for one in done.json()["tables"]}
    assert {name: one["renewed"] for name, one in by_table.items()} == {
        "trace_configs": 1,
        "mail_deliveries": 1,
        "tenant_chat_models": 1,
    }
    assert by_table["trace_configs"]["ids"] == [str(lost.config_id)]
    only_new = SealingKeys(SecretStr(NEW))
    assert target_of(traced.config(readable.config_id), only_new).secrets == LANGFUSE
    assert str(traced.rows()[0].status) == "waiting", "a key is no change of a configuration"

    again = rag_worker("reset-encrypt-key", "--invalidate", **BOTH)
    assert again.code == 0, again
    assert "trace_configs: 0 sealed anew, 1 current already, 1 invalidated" in again.out
    config = traced.config(lost.config_id)
    assert (config.secrets, config.is_enabled) == (None, False)
    waiting = {row.provider: row for row in traced.rows()}
    assert (waiting["langsmith"].status, waiting["langfuse"].status) == ("cancelled", "waiting")
    with Session(db.engine) as session:
        ended = session.get_one(MailDelivery, lost_mail)
        kept = session.get_one(MailDelivery, mail)
        assert only_new.open(str(kept.secrets)) == {"code": "482913"}
        sealed_key = session.scalar(text("SELECT sealed_key FROM tenant_chat_models"))
    assert (ended.secrets, ended.status) == (None, "failed")
    assert "SECRET_KEY that is gone" in str(ended.error)
    assert only_new.open(str(sealed_key)) == {"key": "k"}
    assert KEYS.current.get_secret_value() not in done.out + again.out


def test_old_secrets_are_read_while_both_keys_are_set(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shared.settings import load_settings

    change = traced.configure()
    for name, value in BOTH.items():
        monkeypatch.setenv(name, value)
    keys = SealingKeys.of(load_settings().application)
    assert len(keys.previous) == 2
    traced.write(
        "INSERT INTO tenant_chat_models (tenant_id, base_url, sealed_key) VALUES (:id, 'u', :it)",
        id=traced.tenant_id,
        it=seal({"key": "k"}, SecretStr(KEY)),
    )
    with Session(db.engine) as session:
        model = chat_model_of(session, traced.tenant_id, load_settings().generation, keys)
    assert model.key.get_secret_value() == "k"
    assert target_of(traced.config(change.config_id), keys).secrets == LANGFUSE
    shown = rag_worker("config", "show").out
    assert KEY not in shown
    assert NEW not in shown
