"""``document_{id}_indexing``: a courtesy that costs nothing when Redis is away."""

import logging
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from celery import Celery
from flask import Flask
from redis import Redis
from sqlalchemy.orm import Session

from shared.errors import DocumentIndexingInProgress
from shared.extensions.redis import connect
from shared.models import Document, DocumentStatus, OutboxMessage
from shared.queueing import guard
from shared.queueing.celery_settings import celery_settings
from shared.settings import load_settings
from shared.submitting.dataset import Outcome, submit_document
from shared.submitting.files import StoredFile
from tests.fixtures.application import Reader, Submit
from worker.cli.stack.valkey import EmbeddedValkey

DOCUMENT = UUID(int=7)
#: One socket timeout and the machine's own slowness.
HUNG_SECONDS = 60.0
CHANGED = StoredFile("a.txt", "key", 3, "f" * 64, "text/plain")


@pytest.fixture
def redis(app: Flask) -> Redis:
    client: Redis = app.extensions["redis"]
    return client


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[str]:
    """A server that takes connections and never answers."""
    with EmbeddedValkey(tmp_path / "frozen", persist=False) as server:
        assert server._process is not None
        server._process.send_signal(signal.SIGSTOP)
        yield server.url
        server.kill()


@pytest.fixture
def dead(tmp_path: Path) -> str:
    """Where a server was."""
    with EmbeddedValkey(tmp_path / "dead", persist=False) as server:
        return server.url


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch):
    made: list[Redis] = []

    def to(url: str) -> Redis:
        monkeypatch.setenv("REDIS_URL", url)
        made.append(connect(load_settings()))
        return made[-1]

    yield to
    for one in made:
        one.close()


def test_it_has_the_name_and_the_life_that_interfaces_expect(redis: Redis) -> None:
    assert guard.acquire(redis, [(DOCUMENT, 3)], 600) == {DOCUMENT}

    assert redis.get(f"document_{DOCUMENT}_indexing") == "3"
    assert 590 < redis.ttl(f"document_{DOCUMENT}_indexing") <= 600
    assert guard.held(redis, DOCUMENT)
    assert not guard.held(redis, uuid4())


def test_only_the_free_ones_of_many_are_taken(redis: Redis) -> None:
    other = uuid4()
    guard.acquire(redis, [(DOCUMENT, 1)], 600)

    assert guard.acquire(redis, [(DOCUMENT, 2), (other, 1)], 600) == {other}
    assert redis.get(guard.key(DOCUMENT)) == "1"


def test_the_same_versions_guard_is_the_callers_own(redis: Redis) -> None:
    guard.acquire(redis, [(DOCUMENT, 2)], 60)

    assert guard.acquire(redis, [(DOCUMENT, 2)], 600) == {DOCUMENT}
    assert redis.ttl(guard.key(DOCUMENT)) > 60


def test_nobody_touches_another_versions_guard(redis: Redis) -> None:
    guard.acquire(redis, [(DOCUMENT, 2)], 60)

    guard.release(redis, DOCUMENT, 1)
    guard.refresh(redis, DOCUMENT, 1, 600)

    assert redis.get(guard.key(DOCUMENT)) == "2"
    assert redis.ttl(guard.key(DOCUMENT)) <= 60


def test_its_own_version_is_prolonged_and_released(redis: Redis) -> None:
    guard.acquire(redis, [(DOCUMENT, 2)], 60)

    guard.refresh(redis, DOCUMENT, 2, 600)
    assert redis.ttl(guard.key(DOCUMENT)) > 60
    guard.release(redis, DOCUMENT, 2)
    assert not guard.held(redis, DOCUMENT)


@pytest.mark.parametrize("how", ["dead", "frozen"])
def test_a_redis_that_is_away_costs_a_warning_and_little_time(
    how: str, client, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    redis = client(request.getfixturevalue(how))
    started = time.monotonic()

    with caplog.at_level(logging.WARNING):
        assert guard.acquire(redis, [(DOCUMENT, 1)], 60) == {DOCUMENT}

    assert time.monotonic() - started < HUNG_SECONDS
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    if how == "dead":
        guard.refresh(redis, DOCUMENT, 1, 60)
        guard.release(redis, DOCUMENT, 1)
        assert guard.held(redis, DOCUMENT) is False


@pytest.mark.parametrize("how", ["dead", "frozen"])
def test_submitting_does_not_wait_for_a_redis_that_is_away(
    how: str,
    client,
    submit: Submit,
    session: Session,
    dataset_id: UUID,
    request: pytest.FixtureRequest,
) -> None:
    submit({"a.txt": b"one"})
    redis = client(request.getfixturevalue(how))
    started = time.monotonic()

    submission = submit_document(session, redis, dataset_id, "a.txt", CHANGED)

    assert time.monotonic() - started < HUNG_SECONDS
    assert (submission.version, submission.outcome) == (2, Outcome.CHANGED)


def test_a_changed_document_whose_guard_is_held_is_refused(
    submit: Submit, redis: Redis, session: Session, dataset_id: UUID
) -> None:
    (first,) = submit({"a.txt": b"one"}, announce=True)
    assert redis.get(guard.key(first.document_id)) == "1"

    (second,) = submit({"a.txt": b"two"})
    assert second.outcome is Outcome.IN_PROGRESS
    assert session.get_one(Document, first.document_id).index_version == 1

    with pytest.raises(DocumentIndexingInProgress, match=r"a\.txt is being indexed"):
        submit_document(session, redis, dataset_id, "a.txt", CHANGED)
    session.rollback()

    guard.release(redis, first.document_id, 1)
    (third,) = submit({"a.txt": b"two"})
    assert (third.outcome, third.version) == (Outcome.CHANGED, 2)
    assert redis.get(guard.key(first.document_id)) == "2"


def test_a_submission_that_was_rolled_back_does_not_block_the_next(
    submit: Submit, redis: Redis, session: Session, dataset_id: UUID
) -> None:
    (first,) = submit({"a.txt": b"one"})
    guard.release(redis, first.document_id, first.version)
    assert submit_document(session, redis, dataset_id, "a.txt", CHANGED).version == 2
    session.rollback()

    (again,) = submit({"a.txt": b"two"})

    assert (again.outcome, again.version) == (Outcome.CHANGED, 2)
    assert again.document_id == first.document_id


def test_a_broker_that_is_away_costs_the_producer_nothing_and_the_message_waits(
    session: Session,
    dataset_id: UUID,
    reader: Reader,
    dead: str,
    monkeypatch: pytest.MonkeyPatch,
    redis: Redis,
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", dead)
    celery = Celery("producer")
    celery.config_from_object(celery_settings(load_settings()))
    started = time.monotonic()

    one = submit_document(session, redis, dataset_id, "a.txt", CHANGED, celery=celery)
    session.commit()

    assert time.monotonic() - started < HUNG_SECONDS
    celery.close()
    assert reader.document(one.document_id).indexing_status == DocumentStatus.WAITING
    message = session.get_one(OutboxMessage, reader.document(one.document_id).message_id)
    assert message.published_at is None
