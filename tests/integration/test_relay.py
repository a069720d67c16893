"""The relay: each message once, fair between tenants, never more than the broker can bear."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery
from flask import Flask
from redis import Redis
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.contract import QUEUES
from shared.models import Tenant
from shared.queueing.publishing import Bounds
from shared.submitting.dataset import ensure_tenant
from tests.fixtures.metrics import measured
from tests.fixtures.outbox_rows import MakeRelay, Outbox, statements
from worker.delivery import taking
from worker.delivery.switches import Action, release, switch


@pytest.fixture
def broker(redis_url: str) -> Iterator["Redis"]:
    with contextlib.closing(Redis.from_url(redis_url)) as client:
        yield client


def waiting_by_tenant(rows: Outbox) -> Counter[UUID]:
    return Counter(row.tenant_id for row in rows.rows("published_at IS NOT NULL"))


def order_in_broker(rows: Outbox) -> list[str]:
    """The tenants of the messages, in the order in which a worker takes them."""
    number, taken = sum(rows.lengths()), []
    with (
        rows.celery.connection_for_read() as connection,
        connection.SimpleQueue("dataset") as messages,
    ):
        for _ in range(number):
            message = messages.get(timeout=300)
            taken.append(message.headers["tenant_id"])
            message.ack()
    return taken


def test_relays_side_by_side_publish_each_message_once(rows: Outbox, make_relay: MakeRelay) -> None:
    for _ in range(4):
        rows.fill(uuid4(), 100)
    relays = [make_relay(tenant_cap=1000) for _ in range(4)]

    def run(one: Any) -> None:
        while rows.count("published_at IS NULL"):
            one.run_pass()

    threads = [threading.Thread(target=run, args=[one]) for one in relays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)

    assert sum(rows.lengths()) == 400
    assert len(rows.in_broker()) == 400


def test_the_bounds_hold_with_several_relays_and_room_is_used_again(
    rows: Outbox, make_relay: MakeRelay
) -> None:
    tenants = [uuid4() for _ in range(4)]
    for tenant in tenants:
        rows.fill(tenant, 30)
    relays = [make_relay(tenant_cap=10, high_water_mark=25) for _ in range(3)]
    for one in relays:
        one.run_pass()

    assert len(rows.in_broker()) == 25
    assert sorted(waiting_by_tenant(rows).values()) == [6, 6, 6, 7]

    rows.change(
        "DELETE FROM outbox WHERE published_at IS NOT NULL AND tenant_id = :t", t=tenants[0]
    )
    rows.celery.control.purge()
    for one in relays:
        one.run_pass()

    assert rows.count("published_at IS NOT NULL") == 25
    assert max(waiting_by_tenant(rows).values()) <= 10


def test_messages_without_a_row_count_as_backlog(rows: Outbox, make_relay: MakeRelay) -> None:
    for _ in range(8):
        rows.celery.send_task("probe.quiet", args=["x"], queue="dataset")
    rows.fill(uuid4(), 10)
    make_relay(high_water_mark=10).run_pass()

    assert rows.count("published_at IS NOT NULL") == 2
    assert sum(rows.lengths()) == 10


def test_tenants_take_turns_and_a_newcomer_goes_before_a_backlog(
    rows: Outbox, make_relay: MakeRelay
) -> None:
    many, few, late = uuid4(), uuid4(), uuid4()
    rows.fill(many, 50)
    rows.fill(few, 2)
    one = make_relay(tenant_cap=20)
    one.run_pass()
    rows.fill(late, 1)
    one.run_pass()

    names = {str(many): "many", str(few): "few", str(late): "late"}
    order = [names[tenant] for tenant in order_in_broker(rows)]
    assert sorted(order[:3]) == ["few", "late", "many"]
    assert order.index("few", order.index("few") + 1) < 6
    assert order.count("many") == 20


def test_who_waits_alone_fills_the_slots_of_the_live_workers_besides(
    rows: Outbox, make_relay: MakeRelay
) -> None:
    alone, late = uuid4(), uuid4()
    rows.fill(alone, 100)
    for name, queues, seen in (("a", "dataset,mail", 0), ("b", "mail", 0), ("c", "dataset", 600)):
        rows.change(
            "INSERT INTO worker_nodes (name, host, pid, process_created, pool, concurrency, "
            "queues, busy, started_at, seen_at) "
            f"VALUES ('{name}', 'h', 1, 1, 'gevent', 30, string_to_array('{queues}', ','), 0, "
            f"now(), now() - interval '{seen} seconds')"
        )
    make_relay(tenant_cap=10).run_pass()
    assert waiting_by_tenant(rows) == {alone: 40}, "those of the one live worker of the queue"

    rows.fill(late, 20)
    make_relay(tenant_cap=10).run_pass()
    assert waiting_by_tenant(rows) == {alone: 40, late: 10}, "now it takes its turn"


def test_priority_of_message_and_tenant_decides_who_gets_the_room(
    session: Session, rows: Outbox, make_relay: MakeRelay
) -> None:
    ordinary, paying, urgent = (ensure_tenant(session, name) for name in ("a", "b", "c"))
    session.get_one(Tenant, paying).priority = 5
    session.commit()
    rows.fill(ordinary, 20)
    rows.fill(urgent, 20)
    rows.fill(paying, 20)
    rows.fill(urgent, 3, priority=9)
    one = make_relay(tenant_cap=10, high_water_mark=15)
    one.run_pass()

    assert waiting_by_tenant(rows) == {urgent: 3, paying: 10, ordinary: 2}
    assert rows.count("published_at IS NULL AND priority = 9") == 0


def test_what_a_tenant_does_at_leisure_does_not_hold_up_what_it_waits_for(
    rows: Outbox, make_relay: MakeRelay
) -> None:
    tenant, other = uuid4(), uuid4()
    rows.fill(tenant, 30)
    rows.fill(other, 5)
    one = make_relay(tenant_cap=10)
    one.run_pass()
    rows.fill(tenant, 1, priority=9)
    one.run_pass()

    assert rows.count("published_at IS NULL AND priority = 9") == 0
    assert waiting_by_tenant(rows) == {tenant: 11, other: 5}
    # It went out last, and stands among the first.
    assert order_in_broker(rows)[:3].count(str(tenant)) == 2


def test_what_is_held_stays_and_holds_up_nobody(
    session: Session, rows: Outbox, make_relay: MakeRelay
) -> None:
    held, free = uuid4(), uuid4()
    rows.fill(held, 5)
    rows.fill(free, 5)
    rows.fill(free, 5, task="some.module.other")
    rules = [
        switch(session, Action.HOLD, tenant_id=held),
        switch(session, Action.HOLD, task="other"),
    ]
    session.commit()
    one = make_relay()
    one.run_pass()
    assert waiting_by_tenant(rows) == {free: 5}

    for rule in rules:
        release(session, rule)
    session.commit()
    one.run_pass()
    assert waiting_by_tenant(rows) == {free: 10, held: 5}


def test_a_broker_that_forgot_everything_is_told_again_but_not_what_runs(
    rows: Outbox, make_relay: MakeRelay, broker: "Redis"
) -> None:
    rows.fill(uuid4(), 10)
    relays = [make_relay() for _ in range(3)]
    relays[0].run_pass()
    running = rows.rows()[0].id
    rows.change(
        "UPDATE outbox SET lease_expires_at = now() + interval '60 s' WHERE id = :id", id=running
    )
    for one in relays:
        one.run_pass()
    assert sum(rows.lengths()) == 10, "as long as it remembers, nothing is published again"

    broker.flushall()
    threads = [threading.Thread(target=one.run_pass) for one in relays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    relays[0].run_pass()

    assert rows.in_broker() == {str(row.id) for row in rows.rows() if row.id != running}
    assert sum(rows.lengths()) == 9


def test_a_pass_says_whether_workers_have_more_in_the_broker_than_they_take(
    rows: Outbox, make_relay: MakeRelay
) -> None:
    def tasks_end(number: int) -> None:
        rows.change(
            "DELETE FROM outbox WHERE id IN"
            " (SELECT id FROM outbox WHERE published_at IS NOT NULL LIMIT :number)",
            number=number,
        )

    rows.fill(uuid4(), 300)
    one = make_relay(tenant_cap=100)
    first = one.run_pass()
    assert (first.published, first.is_stocked) == (100, False)
    tasks_end(10)
    few = one.run_pass()
    assert (few.published, few.is_stocked) == (10, True)
    tasks_end(60)
    many = one.run_pass()
    assert (many.published, many.is_stocked) == (60, False)


def test_a_message_that_cannot_be_published_stops_no_other(
    rows: Outbox, make_relay: MakeRelay
) -> None:
    rows.fill(uuid4(), 1, task="probe.poison")
    rows.change("UPDATE outbox SET args = '{\"a\": 1}'")
    rows.fill(uuid4(), 2)
    one = make_relay()
    one.run_pass()
    assert one.run_pass().is_backlogged is False

    assert len(rows.in_broker()) == 2
    (poison,) = rows.rows("published_at IS NULL")
    assert "TypeError" in poison.error


_ROWS_READ = text("""
    SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)
    FROM pg_stat_xact_user_tables WHERE relname = 'outbox'
""")


def test_a_large_backlog_costs_neither_the_pass_nor_the_broker(
    rows: Outbox, make_relay: MakeRelay, broker: "Redis"
) -> None:
    crowd, single = uuid4(), uuid4()
    used: Any = broker.info("memory")
    rows.fill(crowd, 100_000)
    rows.change("ANALYZE outbox")
    rows.fill(single, 1)
    one = make_relay()
    one.run_pass()
    assert waiting_by_tenant(rows) == {crowd: 64, single: 1}

    now: Any = broker.info("memory")
    assert now["used_memory"] - used["used_memory"] < 20 * 2**20
    rows.change("DELETE FROM outbox WHERE published_at IS NOT NULL")
    values = {"queue": "dataset", "tenant_cap": 64, "high_water_mark": 1000, "room": 1000}
    with rows.engine.connect() as connection:
        for query in (taking._TAKE, taking.DUE):
            plan = "\n".join(connection.scalars(text(f"EXPLAIN {query.text}"), values))
            assert "Seq Scan on outbox" not in plan
            connection.execute(query, values)
        assert 0 < connection.scalar(_ROWS_READ) < 10_000, "of a hundred thousand"


@pytest.mark.parametrize("delayed", [0, 1000])
def test_with_nothing_to_do_it_asks_once(
    rows: Outbox, make_relay: MakeRelay, delayed: int, broker: "Redis"
) -> None:
    if delayed:
        rows.fill(uuid4(), delayed, delay=3600)
    one = make_relay()
    one.run_pass()
    before: Any = broker.info("commandstats")
    with statements(rows.engine) as sent:
        assert one.run_pass().is_backlogged is False

    assert len(sent) == 1
    after: Any = broker.info("commandstats")
    assert after["cmdstat_exists"]["calls"] - before["cmdstat_exists"]["calls"] == 1


def test_the_gauges_say_what_waits(
    rows: Outbox, make_relay: MakeRelay, app: Flask, celery: Celery
) -> None:
    celery.conf.outbox_bounds = Bounds(tenant_cap=3, high_water_mark=100)
    large, small = uuid4(), uuid4()
    rows.fill(large, 8)
    rows.fill(small, 2)
    rows.change("UPDATE outbox SET available_at = now() - interval '90 seconds'")
    rows.fill(uuid4(), 1, delay=3600)
    one = make_relay(tenant_cap=3, high_water_mark=100)
    one.run_pass()
    rows.change("""
        INSERT INTO dead_letters (id, message_id, tenant_id, task, queue, args, kwargs, attempts,
                                  exception, reason)
        VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 't', 'dataset', '[]',
                '{}', 1, 'E', 'r')
    """)
    seen = measured(app)

    assert seen.get("outbox_unpublished", queue="dataset") == 6
    assert seen.get("outbox_in_flight", queue="dataset") == 5
    assert seen.get("outbox_tenants_at_cap", queue="dataset") == 1
    assert 90 <= (seen.get("outbox_oldest_seconds", queue="dataset") or 0) < 300
    assert seen.get("broker_backlog", queue="dataset") == 5
    assert seen.get("outbox_unpublished", queue="mail") == 0
    assert seen.all("dead_letters", "queue") == dict.fromkeys(QUEUES, 0) | {"dataset": 1}


@pytest.fixture
def celery(app: Flask) -> Celery:
    made: Celery = app.extensions["celery"]
    return made
