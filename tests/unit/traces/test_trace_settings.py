"""What the settings of traces mean, and what they do not take."""

import pytest

from shared.errors import ConfigurationError
from shared.settings import load_settings
from shared.submitting.traces import TraceRules


def test_keys_are_masked_by_default_and_none_switches_that_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "api_key" in TraceRules.of(load_settings(()).tracing).redaction.keys
    monkeypatch.setenv("TRACE_REDACT_KEYS", "none")
    assert TraceRules.of(load_settings(()).tracing).redaction.keys == frozenset()
    monkeypatch.setenv("TRACE_REDACT_KEYS", "X-Token, diagnosis")
    assert TraceRules.of(load_settings(()).tracing).redaction.keys == {"x_token", "diagnosis"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TRACE_REDACT_PATTERNS", "[0-9]+", "JSON list"),
        ("TRACE_REDACT_PATTERNS", '["("]', "no regular expression"),
        ("TRACE_REDACT_PATTERNS", '["x*"]', "matches the empty text"),
        ("TRACE_ALLOWED_NETWORKS", "10.0.0.0/99", "10.0.0.0/99"),
        ("SECRET_KEY_PREVIOUS", '["a", 1]', "JSON list"),
    ],
)
def test_what_cannot_be_is_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=said) as error:
        load_settings(())
    assert str(error.value).startswith(f"{name}: ")


def test_previous_keys_are_one_or_a_list_and_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def keys() -> list[str]:
        application = load_settings(()).application
        return [one.get_secret_value() for one in application.previous_keys]

    assert keys() == []
    monkeypatch.setenv("SECRET_KEY_PREVIOUS", "one, with a comma")
    assert keys() == ["one, with a comma"]
    assert load_settings(()).shown()["SECRET_KEY_PREVIOUS"] == "********"
    monkeypatch.setenv("SECRET_KEY_PREVIOUS", '["a", "b"]')
    assert keys() == ["a", "b"]
