"""Where traces go: whole or refused, sealed, masked; a change cancels what waits, visibly."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy.orm import Session

from shared.errors import ConfigurationError, InvalidRequest, LeaseLost, NotFound
from shared.models import TraceDelivery, db
from shared.submitting.sealing import SealingKeys
from shared.submitting.trace_configs import delete_trace_config, shown_config, target_of
from tests.fixtures.traced import KEYS, LANGFUSE, SECRET, Traced, every_text_column
from worker.delivery.lease import claim, release


def delete(traced: Traced, provider: str = "langfuse", **more: Any) -> int:
    with Session(db.engine) as session, session.begin():
        return delete_trace_config(session, traced.tenant_id, provider, **more)


@pytest.mark.parametrize(
    ("provider", "given", "said"),
    [
        ("langfuse", {"secrets": {"public_key": "p"}}, "needs the secret secret_key"),
        ("langfuse", {"secrets": LANGFUSE | {"key": "k"}}, "has no secret key"),
        ("langfuse", {"options": {"project": "p"}}, "has no option project"),
        ("langsmith", {"secrets": {"api_key": "k"}}, "needs the option project"),
        ("phoenix", {}, "say the endpoint"),
        ("otlp", {"endpoint": "ftp://example.com"}, "cannot be fetched"),
        ("otlp", {"endpoint": "https://u:p@example.com"}, "credentials"),
        ("otlp", {"endpoint": "https://example.com?key=k"}, "no query"),
        ("otlp", {"endpoint": "https://e.com", "secrets": {"headers": {"a b": "c"}}}, "name has"),
        (
            "otlp",
            {"endpoint": "https://e.com", "secrets": {"headers": {"a": "b\r\nc"}}},
            "one line",
        ),
        ("opik", {"options": {"project": "p"}}, "needs the secret api_key"),
        ("weave", {"secrets": {"api_key": "k"}, "options": {"project": "p"}}, "option entity"),
        ("langfuse", {"options": {"redact_keys": "password"}}, "redact_keys is a list"),
        ("langfuse", {"options": {"capture_content": "no"}}, "true or false"),
        ("langfuse", {"app_id": "x" * 300}, "app_id"),
        ("datadog", {}, "there is no provider"),
    ],
)
def test_what_is_not_whole_is_refused_and_leaves_nothing(
    traced: Traced, provider: str, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said) as refused:
        traced.configure(provider, **given)
    assert SECRET not in str(refused.value)
    assert "trace_configs" not in every_text_column()


def test_every_provider_can_be_configured(traced: Traced) -> None:
    own = "https://traces.example.com/"
    for provider, given in {
        "langfuse": {"endpoint": own},
        "langsmith": {"secrets": {"api_key": "k"}, "options": {"project": "p"}},
        "phoenix": {"endpoint": own},
        "opik": {"endpoint": own, "options": {"project": "p"}},
        "weave": {"secrets": {"api_key": "k"}, "options": {"entity": "e", "project": "p"}},
        "otlp": {"endpoint": own, "secrets": {"headers": {"X-Key": "k"}}},
    }.items():
        change = traced.configure(provider, **given)
        target = target_of(traced.config(change.config_id), KEYS)
        assert target.provider == provider
        assert (target.endpoint or "").endswith("/") is False
        assert dict(target.secrets) == (
            LANGFUSE if provider == "langfuse" else given.get("secrets", {})
        )


def test_secrets_are_sealed_masked_and_found_nowhere(
    traced: Traced, caplog: pytest.LogCaptureFixture
) -> None:
    change = traced.configure()
    row = traced.config(change.config_id)
    assert row.secrets is not None
    shown = shown_config(row, KEYS)
    assert shown["secrets"] == {"public_key": "********", "secret_key": "********"}
    target = target_of(row, KEYS)
    assert target.secrets["secret_key"] == SECRET
    other = SealingKeys(SecretStr("another"))
    assert "cannot be opened" in shown_config(row, other)["secrets"]
    with pytest.raises(ConfigurationError, match="SECRET_KEY_PREVIOUS"):
        target_of(row, other)

    traced.record()
    everything = f"{every_text_column()} {shown} {target!r} {row!r} {caplog.text}"
    assert SECRET not in everything
    redis = traced.app.extensions["redis"]
    assert not [key for key in redis.scan_iter() if SECRET in str(redis.dump(key))]
    with pytest.raises(ConfigurationError, match="SECRET_KEY is empty"):
        traced.configure("langsmith", keys=SealingKeys(), secrets={"api_key": SECRET},
                         options={"project": "p"})  # fmt: skip
    assert SECRET not in every_text_column()


def test_what_is_set_again_keeps_its_secrets_and_what_is_the_same_cancels_nothing(
    traced: Traced,
) -> None:
    first = traced.configure()
    traced.record()
    masked = {"public_key": "********", "secret_key": "********"}
    for secrets in (LANGFUSE, masked, {}):
        again = traced.configure(secrets=secrets)
        assert (again.config_id, again.version, again.is_changed) == (first.config_id, 1, False)
    assert traced.row().status == "waiting"

    rotated = traced.configure(secrets={"secret_key": "sk-new"})
    assert (rotated.version, rotated.is_changed, rotated.cancelled) == (2, True, 1)
    row = traced.config(first.config_id)
    assert target_of(row, KEYS).secrets == {"public_key": "pk-lf-1", "secret_key": "sk-new"}
    delivery = traced.row()
    assert (delivery.status, delivery.error) == ("cancelled", "its configuration was changed")
    assert delivery.ended_at is not None


def test_a_change_fences_out_whoever_sends_at_that_moment(traced: Traced) -> None:
    traced.configure()
    traced.record()
    row = traced.row()
    with Session(db.engine) as session, session.begin():
        lease = claim(session, TraceDelivery, row.id, 60, status="sending")
    assert lease is not None

    assert delete(traced) == 1

    with Session(db.engine) as session, pytest.raises(LeaseLost):
        release(session, lease, status="delivered")
    row = traced.row()
    assert row.status == "cancelled"
    assert row.error == (
        "its configuration was deleted (while it was being sent: it may have arrived)"
    )
    with pytest.raises(NotFound, match="no configuration of langfuse"):
        delete(traced)
    assert traced.record(trace_id="later")
    assert traced.rows()[-1].status == "disabled"


def test_switched_off_it_cancels_and_sends_nothing(traced: Traced) -> None:
    traced.configure()
    traced.record()
    assert traced.configure(is_enabled=False).cancelled == 1
    assert traced.row().error == "its configuration was switched off"


def test_two_who_set_the_same_at_once_make_one(traced: Traced) -> None:
    def configure(number: int) -> int:
        with traced.app.app_context():
            return traced.configure(secrets=LANGFUSE | {"public_key": f"pk-{number}"}).version

    with ThreadPoolExecutor(4) as threads:
        versions = sorted(threads.map(configure, range(4)))

    assert versions == [1, 2, 3, 4]


def test_times_of_a_configuration_are_the_databases(traced: Traced) -> None:
    change = traced.configure()
    before = traced.config(change.config_id).updated_at
    traced.configure(is_enabled=False)
    after = traced.config(change.config_id).updated_at
    assert before < after
    assert abs(datetime.now(UTC) - after) < timedelta(minutes=1)
