"""Flower's login by OAuth, through a whole round at a provider."""

from http.client import HTTPConnection
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask

from tests.fixtures.flower import Flower, StartFlower
from tests.fixtures.oauth_provider import CLIENT, SECRET, OAuthProvider, StartProvider
from tests.fixtures.waiting import eventually
from worker.cli.stack.children import free_port

#: How each provider's address is set, and whether it is spoken to by TLS.
ADDRESSES = {
    "okta": ("FLOWER_OAUTH2_OKTA_BASE_URL", "http://{}", False),
    "github": ("FLOWER_GITHUB_OAUTH_DOMAIN", "{}", True),
    "gitlab": ("FLOWER_GITLAB_OAUTH_DOMAIN", "{}", True),
}
REAL = {
    "google": "https://accounts.google.com/o/oauth2/v2/auth",
    "github": "https://github.com/login/oauth/authorize",
    "gitlab": "https://gitlab.com/oauth/authorize",
}


@pytest.fixture(autouse=True)
def _project(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, app: Flask) -> None:
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))


def oauth(name: str, allowed: str, port: int, **variables: str) -> dict[str, str]:
    return {
        "FLOWER_BASIC_AUTH": "",
        "FLOWER_AUTH_PROVIDER": name,
        "FLOWER_AUTH": allowed,
        "FLOWER_OAUTH2_KEY": CLIENT,
        "FLOWER_OAUTH2_SECRET": SECRET,
        "FLOWER_OAUTH2_REDIRECT_URI": f"http://127.0.0.1:{port}/login",
        "FLOWER_PORT": str(port),
        **variables,
    }


def redirected(flower: Flower, path: str) -> str:
    """Where somebody without a login is sent."""
    connection = HTTPConnection("127.0.0.1", flower.port, timeout=300)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 302, answer.read()
        return answer.headers["Location"]
    finally:
        connection.close()


@pytest.mark.parametrize("name", REAL)
def test_somebody_unknown_is_sent_to_the_provider_with_our_client_id(
    name: str, start_flower: StartFlower
) -> None:
    port = free_port()
    flower = start_flower(**oauth(name, "ada@example.com", port))
    eventually(lambda: flower.status("/healthcheck") == 200)

    for page in ("/", "/tasks", "/broker"):
        assert redirected(flower, page).startswith("/login?next=")
    provider = urlsplit(redirected(flower, "/login"))

    assert provider._replace(query="").geturl() == REAL[name]
    asked = parse_qs(provider.query)
    assert asked["client_id"] == [CLIENT]
    assert asked["redirect_uri"] == [f"http://127.0.0.1:{port}/login"]
    assert asked["state"]
    assert SECRET not in provider.query


@pytest.mark.parametrize("name", ADDRESSES)
def test_who_is_allowed_comes_in_and_who_is_not_stays_out(
    name: str, start_flower: StartFlower, start_provider: StartProvider
) -> None:
    variable, form, tls = ADDRESSES[name]
    provider = start_provider(tls=tls)
    port = free_port()
    variables = {
        variable: form.format(provider.address),
        "SSL_CERT_FILE": str(provider.certificate),
    }
    flower = start_flower(**oauth(name, "ada@example.com|grace@example.com", port, **variables))
    eventually(lambda: flower.status("/healthcheck") == 200)

    assert comes_in(provider, flower, "grace@example.com")
    assert not comes_in(provider, flower, "eve@example.com")
    assert not comes_in(provider, flower, "ada@example.com.evil.org")
    if name != "gitlab":  # it knows verified addresses only
        provider.is_verified = False
        assert not comes_in(provider, flower, "grace@example.com")
    assert SECRET not in flower.process.output()


def comes_in(provider: OAuthProvider, flower: Flower, person: str) -> bool:
    provider.person = person
    status, text = provider.page(flower.url + "/tasks")
    assert status in {200, 403}, (status, text)
    assert (status == 200) == ('id="workers-table"' in text)
    return status == 200
