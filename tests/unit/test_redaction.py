"""What is secret is masked wherever it stands; what is not stays readable."""

import pytest

from shared.settings import load_settings, redaction
from shared.settings.redaction import learn, learn_settings, redacted, redacted_value


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("postgresql+psycopg2://rag:p%40ss/w:rd@db:5432/rag is away", "p%40ss"),
        ("connect redis://:hunter2hunter2@cache:6379/0", "hunter2hunter2"),
        ("sentinel://u:one-secret@a:1;sentinel://u:one-secret@b:1", "one-secret"),
        ("Authorization: Bearer abc.DEF-123456", "abc.DEF-123456"),
        ("{'Authorization': 'Basic cmFnOnNlY3JldA=='}", "cmFnOnNlY3JldA"),
        ("GET https://api.example.com/v1?api_key=0123456789abcdef&page=2", "0123456789abcdef"),
        ('{"password": "correct horse", "user": "ada"}', "correct"),
        ("client_secret=abcdef-123456", "abcdef-123456"),
        ("key sk-proj-1234567890abcdef was refused", "sk-proj-1234567890abcdef"),
        ("token=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "eyJzdWIiOiIxIn0"),
        ("sealed gAAAAABmZmZmZmZmZmZmZmZmZmZm", "gAAAAABmZmZm"),
        ("your code: 482913", "482913"),
        ("{'code': '482913', 'to': 'x'}", "482913"),
        ("DETAIL:  Key (email)=(ada@example.com) already exists.", "ada@example.com"),
        ("DETAIL:  Failing row contains (1, the whole text (of it), null).", "whole text"),
        ("LINE 1: ...(x, 'pa55phrase' AS integer)\\n   ^", "pa55phrase"),
        ('invalid input syntax for type integer: "pa55phrase"', "pa55phrase"),
        ("[SQL: SELECT 1]\n[parameters: {'code': 'x-482913'}]", "482913"),
    ],
)
def test_secrets_are_masked(line: str, secret: str) -> None:
    assert secret not in redacted(line)
    assert "***" in redacted(line)


@pytest.mark.parametrize(
    "line",
    [
        "UPDATE outbox SET lease_token = lease_token + 1 WHERE lease_token = :token",
        "SELECT lease_token FROM t WHERE lease_token = %(token)s AND id = %(id)s",
        "4096 tokens: too many for this model",
        "the key SECRET_KEY is not set",
        "exit code 137, status code: 503",
        "document 3f0c1b0e-5d0e-5a52-9a2f-6b1a0c9d7e21: UnreadableFile at 10:42:07",
        "https://example.com:8080/a/b@c?page=2 answers 200",
        "api_key=None, token=12",
    ],
)
def test_what_is_no_secret_stays(line: str) -> None:
    assert redacted(line) == line


def test_configured_secrets_are_known_by_value_and_only_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redaction, "_configured", {})
    monkeypatch.setenv("SECRET_KEY", "the signing key")
    monkeypatch.setenv("SECRET_KEY_PREVIOUS", '["an older key", "the oldest"]')
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", "postgresql://rag:r%23cket-fuel@db/rag")
    learn_settings(load_settings(()))

    for secret in ("the signing key", "an older key", "the oldest", "r%23cket-fuel", "r#cket-fuel"):
        assert redacted(f"it was '{secret}'.") == "it was '***'."
    assert redacted("the signing keys") == "the signing keys"


def test_a_password_that_is_the_login_of_a_default_is_no_secret_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redaction, "_configured", {})
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", "postgresql://postgres:postgres@db/postgres")
    learn_settings(load_settings(()))
    assert redacted("postgres is away") == "postgres is away"


def test_what_was_unsealed_is_known_and_the_oldest_of_it_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redaction, "_learned", type(redaction._learned)())
    learn({"code": "482913", "more": ["pa55 phrase"], "url": "https://example.com", "n": 7})
    assert redacted("482913, pa55 phrase, https://example.com") == "***, ***, https://example.com"
    for number in range(redaction._MOST_LEARNED):
        learn(f"another secret {number}")
    assert redacted("482913") == "482913"


def test_values_under_telling_names_are_masked_whole() -> None:
    said = {"api_key": "short", "x": [{"db.password": "y"}, "plain"], "lease_token": 3}
    assert redacted_value(said) == {
        "api_key": "***",
        "x": [{"db.password": "***"}, "plain"],
        "lease_token": 3,
    }


def test_mail_addresses_are_masked_where_it_is_asked_for() -> None:
    line = "refused: ada.lovelace+test@mail.example.com"
    assert redacted(line) == line
    assert redacted(line, mail_addresses=True) == "refused: ***"
