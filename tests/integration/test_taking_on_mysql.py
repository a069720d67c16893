"""What the relay reads of a long queue on MariaDB; runs where ``TEST_MYSQL_URL`` names a server."""

from collections.abc import Iterator
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, text

from shared.queueing.engine import open_engine
from shared.queueing.publishing import Bounds
from shared.settings.base import load_group
from shared.settings.database import DatabaseSettings
from worker.delivery.taking import DUE, take

MESSAGES, TENANTS, CAP, ROOM = 20_000, 4, 10, 100
_WRITE = text("""
    INSERT INTO outbox (id, tenant_id, task, queue, args, kwargs, priority)
    SELECT gen_random_uuid(), lpad(number % :tenants, 32, '0'), 't', 'dataset', '[]', '{}',
           number % 2
    FROM generate_series(1, 100) AS number, generate_series(1, :hundreds) AS other
""")


@pytest.fixture
def engine(mysql_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", mysql_uri)
    monkeypatch.setenv("VECTOR_STORE", "qdrant")
    settings = load_group(DatabaseSettings, ())
    made = open_engine(settings)
    with made.begin() as connection:
        connection.execute(_WRITE, {"tenants": TENANTS, "hundreds": MESSAGES // 100})
    yield made
    made.dispose()


def rows_read(connection: Connection) -> int:
    found = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read%%'").fetchall()
    return sum(int(value) for _, value in found)


def test_a_pass_reads_what_it_may_send_however_many_messages_wait(engine: Engine) -> None:
    with engine.begin() as connection:
        before = rows_read(connection)
        due = {row.queue: row.in_seconds for row in connection.execute(DUE)}
        taken = take(connection, "dataset", Bounds(tenant_cap=CAP, high_water_mark=ROOM), ROOM)
        read = rows_read(connection) - before
    assert due.keys() == {"dataset"}
    assert due["dataset"] <= 0
    assert read < MESSAGES / 10
    tenants = [message.tenant_id for message in taken]
    assert {one: tenants.count(one) for one in tenants} == dict.fromkeys(
        (UUID(int=number) for number in range(TENANTS)), CAP
    )


def test_held_messages_are_passed_over(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO task_switches (id, action, tenant_id)
                VALUES (gen_random_uuid(), 'hold', :held)
            """),
            {"held": UUID(int=0)},
        )
        taken = take(connection, "dataset", Bounds(tenant_cap=CAP, high_water_mark=ROOM), ROOM)
    assert {message.tenant_id for message in taken} == {UUID(int=one) for one in range(1, TENANTS)}
