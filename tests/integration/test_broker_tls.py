"""Broker, guards and schedule over TLS, against a server whose certificate is the test's own."""

from pathlib import Path

import pytest
from flask import Flask
from kombu import pools
from kombu.exceptions import OperationalError
from redbeat.schedulers import get_redis
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.app_factory import create_app
from shared.models import db
from tests.fixtures.broker_servers import TlsServer, new_certificate, tls_server
from tests.fixtures.worker_process import StartWorker
from worker.beat_schedule import beat_settings

__all__ = ["tls_server"]


@pytest.fixture
def connected(environment: dict[str, str], tls_server: TlsServer, monkeypatch: pytest.MonkeyPatch):
    """Makes an application on the TLS server that trusts a certificate."""
    made: list[Flask] = []

    def connect(**variables: str) -> Flask:
        for name in ("REDIS_URL", "CELERY_BROKER_URL"):
            monkeypatch.setenv(name, tls_server.url)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        app = create_app()
        app.extensions["celery"].conf.update(beat_settings(app.extensions["settings"]))
        made.append(app)
        return app

    yield connect
    # kombu shares pools by URL, whatever certificate they trust.
    pools.reset()
    for app in made:
        app.extensions["redis"].close()
        with app.app_context():
            db.engine.dispose()


def publish(app: Flask) -> None:
    app.extensions["celery"].send_task(
        "probe.done", queue="dataset", retry_policy={"max_retries": 0}
    )


def test_guards_broker_and_schedule_work_with_a_trusted_certificate(
    connected, tls_server: TlsServer
) -> None:
    app = connected(REDIS_SSL_CA_CERTS=str(tls_server.certificate))
    redis = app.extensions["redis"]

    publish(app)

    assert redis.llen("dataset") == 1
    assert get_redis(app.extensions["celery"]).ping()


def test_without_verification_any_certificate_will_do(connected) -> None:
    app = connected(REDIS_SSL_CERT_REQS="none")

    publish(app)

    assert app.extensions["redis"].llen("dataset") == 1
    assert get_redis(app.extensions["celery"]).ping()


@pytest.mark.parametrize("trusts", ["the system's", "another"])
def test_an_untrusted_certificate_is_refused(connected, trusts: str, tmp_path: Path) -> None:
    another = {"REDIS_SSL_CA_CERTS": str(new_certificate(tmp_path / "another"))}
    app = connected(**({} if trusts == "the system's" else another))

    with pytest.raises(RedisConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        app.extensions["redis"].ping()
    with pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
        publish(app)
    with pytest.raises(RedisConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        get_redis(app.extensions["celery"]).ping()


def test_a_worker_takes_work_over_tls(tls_server: TlsServer, start_worker: StartWorker) -> None:
    worker = start_worker(
        "solo",
        1,
        REDIS_URL=tls_server.url,
        CELERY_BROKER_URL=tls_server.url,
        REDIS_SSL_CA_CERTS=str(tls_server.certificate),
    )

    assert "rediss://" in worker.output()
