"""Which servers the settings name: broker and guards, over TLS, through Sentinel, by socket."""

import pytest
from kombu import Connection
from redis import ConnectionPool

from shared.settings import Settings, load_settings

PASSWORD = "p@ss/w:rd#?% é"


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch):
    def load(**variables: str) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return load_settings()

    return load


def test_without_a_word_both_are_on_this_machine(given) -> None:
    settings = given()

    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert settings.broker_url == "redis://127.0.0.1:6379/1"


@pytest.mark.parametrize(
    ("url", "broker"),
    [
        ("redis://:p@h:1/0", "redis://:p@h:1/1"),
        ("redis://h", "redis://h/1"),
        ("redis://h?db=4", "redis://h/5"),
        ("rediss://h/2?socket_timeout=3", "rediss://h/3?socket_timeout=3"),
        ("unix:///run/redis.sock?db=1", "redis+socket:///run/redis.sock?virtual_host=2"),
        ("sentinel://a:1/0;sentinel://b:2/0", "sentinel://a:1/1;sentinel://b:2/1"),
    ],
)
def test_the_broker_is_the_next_database_of_the_redis_named(given, url: str, broker: str) -> None:
    settings = given(REDIS_URL=url)

    assert settings.redis_url == url
    assert settings.broker_url == broker


@pytest.mark.parametrize("url", ["redis://:p@h:1/7", "rediss://h/7", "unix:///s?db=7"])
def test_with_only_a_broker_named_the_guards_live_there(given, url: str) -> None:
    settings = given(CELERY_BROKER_URL=url)

    assert settings.redis_url == settings.broker_url == url


def test_with_a_broker_of_another_kind_the_guards_stay_in_redis(given) -> None:
    settings = given(CELERY_BROKER_URL="amqp://guest:guest@h//")

    assert settings.redis_url == "redis://127.0.0.1:6379/0"


def test_a_password_reaches_both_clients_whatever_it_holds(given) -> None:
    settings = given(REDIS_PASSWORD=PASSWORD, REDIS_USERNAME="us:er", REDIS_HOST="::1")

    guards = ConnectionPool.from_url(settings.redis_url).connection_kwargs
    broker = Connection(settings.broker_url)

    assert (guards["username"], guards["password"]) == ("us:er", PASSWORD)
    assert (broker.userid, broker.password) == ("us:er", PASSWORD)
    assert guards["host"] == broker.hostname == "::1"
    assert (guards["db"], broker.virtual_host) == (0, "1")


def test_the_switch_speaks_tls_with_parts_and_with_a_url(given) -> None:
    for variables in ({"REDIS_HOST": "h"}, {"REDIS_URL": "redis://h:6379/0"}):
        settings = given(REDIS_USE_SSL="true", REDIS_SSL_CA_CERTS="/ca.pem", **variables)

        assert settings.redis_url == "rediss://h:6379/0"
        assert settings.broker_url == "rediss://h:6379/1"
        wanted = {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem"}
        assert settings.guards.tls == settings.broker.tls == wanted


def test_the_brokers_switch_holds_for_guards_that_live_there(given) -> None:
    settings = given(CELERY_BROKER_URL="redis://h/0", BROKER_USE_SSL="true")

    assert settings.redis_url == "rediss://h/0"
    assert settings.broker.tls == settings.guards.tls == {"ssl_cert_reqs": "required"}


def test_in_the_clear_nothing_says_tls(given) -> None:
    settings = given(REDIS_URL="redis://h", CELERY_BROKER_URL="redis://h/3")

    assert settings.guards.tls is None
    assert settings.broker.tls is None


def test_sentinels_by_parts_serve_guards_and_broker(given) -> None:
    settings = given(
        REDIS_USE_SENTINEL="true",
        REDIS_SENTINELS="a:1, b",
        REDIS_SENTINEL_SERVICE_NAME="rag",
        REDIS_SENTINEL_PASSWORD="door",
        REDIS_PASSWORD=PASSWORD,
        REDIS_DB="4",
    )

    for endpoint, database in ((settings.guards, 4), (settings.broker, 5)):
        assert endpoint.primary.sentinels == (("a", 1), ("b", 26379))
        assert endpoint.primary.password == PASSWORD
        assert endpoint.primary.database == database
        assert endpoint.login is not None
        assert (endpoint.login.service_name, endpoint.login.password) == ("rag", "door")


def test_with_only_a_sentinel_broker_named_the_guards_find_its_primary(given) -> None:
    settings = given(
        CELERY_BROKER_URL="sentinel://:secret@a:1/2;sentinel://:secret@b:2/2",
        CELERY_SENTINEL_MASTER_NAME="rag",
        CELERY_SENTINEL_PASSWORD="door",
    )

    assert settings.guards == settings.broker
    assert settings.guards.primary.password == "secret"
    assert settings.guards.primary.database == 2
    assert settings.guards.login is not None
    assert settings.guards.login.service_name == "rag"
