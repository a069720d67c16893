"""Flower's command: who could reach it, who could log in, and what it is told."""

from pathlib import Path

import pytest

from shared.errors import ConfigurationError
from shared.settings import load_settings
from worker.dashboard import is_local, require_logins, require_whole_oauth, variables

WHOLE = {
    "auth": "ada@example.com",
    "auth_provider": "flower.views.auth.GithubLoginHandler",
    "oauth2_key": "key",
    "oauth2_secret": "hush",
    "oauth2_redirect_uri": "https://flower.example.com/login",
}


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_a_loopback_address_is_local(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize(
    "address", ["", "0.0.0.0", "::", "10.0.0.7", "192.0.2.1", "::ffff:10.0.0.7", "127.0.0.1.bad."]
)
def test_any_other_address_is_not(address: str) -> None:
    assert not is_local(address)


@pytest.mark.parametrize("login", ["", ":", "admin", "admin:", ":secret", "secret,"])
def test_a_login_without_name_or_password_is_refused_and_not_repeated(login: str) -> None:
    with pytest.raises(ConfigurationError, match="FLOWER_BASIC_AUTH") as raised:
        require_logins(["ada:fine", login])
    assert "secret" not in str(raised.value)


def test_a_password_may_hold_colons() -> None:
    require_logins(["ada:a:b:c", "grace: "])


@pytest.mark.parametrize("missing", WHOLE)
def test_half_an_oauth_login_is_refused_and_says_what_is_missing(missing: str) -> None:
    with pytest.raises(ConfigurationError, match=f"FLOWER_{missing.upper()}$") as raised:
        require_whole_oauth({**WHOLE, missing: ""})
    assert "hush" not in str(raised.value)


def test_okta_needs_its_address_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    okta = {**WHOLE, "auth_provider": "flower.views.auth.OktaLoginHandler"}
    with pytest.raises(ConfigurationError, match="FLOWER_OAUTH2_OKTA_BASE_URL"):
        require_whole_oauth(okta)
    monkeypatch.setenv("FLOWER_OAUTH2_OKTA_BASE_URL", "https://example.okta.com/oauth2")
    require_whole_oauth(okta)


def test_a_whole_oauth_login_or_none_is_fine() -> None:
    require_whole_oauth(WHOLE)
    require_whole_oauth(dict.fromkeys(WHOLE, ""))
    require_whole_oauth({**dict.fromkeys(WHOLE), "oauth2_redirect_uri": "https://left.over/login"})


@pytest.mark.parametrize(
    ("written", "handler"),
    [
        ("google", "flower.views.auth.GoogleAuth2LoginHandler"),
        ("gitlab", "flower.views.auth.GitLabLoginHandler"),
        ("our.own.Handler", "our.own.Handler"),
        ("", ""),
    ],
)
def test_a_provider_is_named_by_one_word_or_by_a_handler(
    written: str, handler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWER_AUTH_PROVIDER", written)
    assert variables(load_settings(()))["FLOWER_AUTH_PROVIDER"] == handler


def test_an_unknown_provider_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWER_AUTH_PROVIDER", "facebok")
    with pytest.raises(ConfigurationError, match="FLOWER_AUTH_PROVIDER: write one of google"):
        load_settings(())


def test_its_memory_lies_with_all_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_WORKER_DATA_DIR", str(tmp_path))
    told = variables(load_settings(()))
    assert (told["FLOWER_PERSISTENT"], told["FLOWER_DB"]) == ("True", f"{tmp_path}/flower/state")
    monkeypatch.setenv("FLOWER_DB", "elsewhere")
    assert variables(load_settings(()))["FLOWER_DB"] == str(Path("elsewhere").absolute())
