"""What the servers know, as Prometheus sees it; and what it sees while they are away."""

import socket
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.app_factory import create_app
from shared.contract import QUEUES
from shared.models import NO_TENANT, DocumentStatus
from tests.fixtures.application import Submit
from tests.fixtures.metrics import measured
from tests.fixtures.outbox_rows import Outbox


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_documents_are_counted_by_status(app: Flask, session: Session, submit: Submit) -> None:
    submit({f"{number}.txt": b"text" for number in range(5)})
    session.execute(
        text(
            "UPDATE documents SET indexing_status = CASE WHEN position <= 2 THEN 'completed'"
            " WHEN position = 3 THEN 'error' ELSE 'waiting' END"
        )
    )
    session.commit()

    found = measured(app).all("documents", "status")

    expected = dict.fromkeys(DocumentStatus, 0) | {"completed": 2, "error": 1, "waiting": 2}
    assert found == expected


def test_leases_are_held_or_overdue(app: Flask, rows: Outbox, submit: Submit) -> None:
    rows.fill(uuid4(), 3)
    submit({"a.txt": b"text"})
    rows.change(
        "UPDATE outbox SET published_at = now(), lease_expires_at = now()"
        " + interval '1 minute' * CASE WHEN task = 'probe.quiet' THEN 1 ELSE -1 END"
    )
    rows.change(
        "UPDATE documents SET indexing_status = 'parsing',"
        " lease_expires_at = now() - interval '1 s'"
    )

    seen = measured(app)

    assert seen.get("leases", table="outbox", state="held") == 3
    assert seen.get("leases", table="outbox", state="overdue") == 1
    assert seen.get("leases", table="documents", state="overdue") == 1
    assert seen.get("leases", table="mail_deliveries", state="held") == 0


def test_the_largest_tenants_have_a_series_each(
    environment: dict[str, str], rows: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {uuid4(): 7, uuid4(): 2, uuid4(): 5, uuid4(): 1}
    for tenant_id, messages in sizes.items():
        rows.fill(tenant_id, messages)
    rows.fill(NO_TENANT, 4)
    monkeypatch.setenv("METRICS_TENANTS_MAX", "2")

    found = measured(create_app()).all("tenant_outbox_unpublished", "tenant")

    largest = {str(tenant): size for tenant, size in sizes.items() if size >= 5}
    assert found == largest | {"other": 3, "none": 4}


@pytest.mark.parametrize(
    ("variable", "scheme", "away"),
    [
        ("SQLALCHEMY_DATABASE_URI", "postgresql://u:x@", "database"),
        ("CELERY_BROKER_URL", "redis://", "broker"),
    ],
)
def test_a_server_that_is_silent_costs_its_own_figures_and_a_second(
    environment: dict[str, str],
    silent_port: int,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    scheme: str,
    away: str,
) -> None:
    monkeypatch.setenv(variable, f"{scheme}127.0.0.1:{silent_port}/0")
    app = create_app()

    began = time.monotonic()
    seen = measured(app)
    took = time.monotonic() - began

    expected = {"database": 1, "broker": 1} | {away: 0}
    assert seen.all("dependency_up", "dependency") == expected
    there, gone = ("broker_backlog", "outbox_unpublished")[:: 1 if away == "database" else -1]
    assert set(seen.all(there, "queue")) == set(QUEUES)
    assert seen.all(gone, "queue") == {}
    assert took < 60, "it waits for nobody longer than a second, on an idle machine"


def test_a_reading_that_cannot_be_taken_costs_no_other(app: Flask, rows: Outbox) -> None:
    rows.change("ALTER TABLE trace_breakers RENAME TO elsewhere")

    seen = measured(app)

    assert seen.get("dependency_up", dependency="database") == 1
    assert seen.get("trace_breakers_open") is None
    assert set(seen.all("dead_letters", "queue")) == set(QUEUES)
