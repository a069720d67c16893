"""The kill switch: what runs, what waits and what ends under a rule, in a running system."""

import threading
import time
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import event, func, select, update
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, NotFound
from shared.models import Dataset, Document, DocumentStatus, OutboxMessage, db
from shared.submitting.dataset import ensure_tenant
from tests.fixtures.application import Reader, Submit
from tests.fixtures.messages import Messages
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker
from worker.delivery import dead_letters
from worker.delivery.switches import Action, Rule, Switches, release, switch
from worker.tasks.dataset import document_indexing_task
from worker.wiring import sweep

HONOURED_WITHIN_SECONDS = 2


def make(action: Action, **what: object) -> UUID:
    with Session(db.engine) as session, session.begin():
        return switch(session, action, **what)  # type: ignore[arg-type]


def unmake(rule_id: UUID) -> None:
    with Session(db.engine) as session, session.begin():
        release(session, rule_id)


def test_a_rule_matches_what_all_its_parts_match() -> None:
    tenant, subject = uuid4(), uuid4()

    def matches(ids: frozenset[str] = frozenset(), of: UUID | None = None, **rule: object) -> bool:
        parts = {"task": None, "tenant_id": None, "subject_id": None, **rule}
        made = Rule(id=uuid4(), action=Action.HOLD, reason="", **parts)  # type: ignore[arg-type]
        return made.matches("shop.tasks.send_order", lambda: of and str(of), ids)

    assert matches()
    assert matches(task="send_order")
    assert matches(task="shop.tasks.send_order")
    assert not matches(task="order")
    assert matches(tenant_id=tenant, of=tenant)
    assert not matches(tenant_id=tenant, of=uuid4())
    assert not matches(tenant_id=tenant)
    assert matches(subject_id=subject, ids=frozenset({str(subject)}))
    assert not matches(subject_id=subject, ids=frozenset({str(tenant)}))
    assert not matches(task="send_order", subject_id=subject)


def test_a_rule_about_nothing_and_one_that_is_gone_are_refused(app: Flask) -> None:
    with pytest.raises(InvalidRequest):
        make(Action.HOLD)
    with pytest.raises(NotFound):
        unmake(uuid4())
    unmake(make(Action.HOLD, task="*"))


def test_what_is_held_waits_in_the_outbox_and_goes_out_when_released(
    messages: Messages, start_worker: StartWorker
) -> None:
    start_worker("threads", 2, "-I", "tests.fixtures.probe_tasks")
    # In the broker before the rule: both slots are taken.
    busy = [messages.write("probe.gated", f"busy {number}") for number in range(2)]
    eventually(lambda: all(messages.runs(f"busy {number}") for number in range(2)))
    before = messages.write("probe.quiet", "before")
    plain = messages.delay("probe.quiet", "plain")
    rule = make(Action.HOLD, task="quiet", reason="a bad release")
    made = time.monotonic()
    after = messages.write("probe.quiet", "after")
    # What the worker read before the rule was made is too old by then: the promise.
    eventually(lambda: time.monotonic() > made + HONOURED_WITHIN_SECONDS)
    for number in range(2):
        messages.open_gate(f"busy {number}")
    messages.await_gone(*busy)

    def waits(message_id: UUID) -> bool:
        row = messages.row(message_id)
        return row is not None and (row.published_at, row.attempts) == (None, 0)

    eventually(lambda: all(map(waits, (before, plain, after))))
    messages.await_gone(messages.write("probe.superseded", "other"))
    messages.await_quiet_broker()
    assert [messages.runs(one) for one in ("before", "plain", "after")] == [0, 0, 0]

    unmake(rule)
    messages.await_gone(before, plain, after)
    assert [messages.runs(one) for one in ("before", "plain", "after")] == [1, 1, 1]

    skipped = make(Action.SKIP, task="quiet", reason="not wanted")
    # Every process reads the rules anew within a second.
    last: list[UUID] = []

    def is_skipped() -> bool:
        last.append(messages.write("probe.quiet", "skipped"))
        messages.await_gone(last[-1])
        return bool(messages.letters(last[-1]))

    eventually(is_skipped)
    (letter,) = messages.letters(last[-1])
    assert (letter.exception, letter.attempts) == ("SkippedBySwitch", 0)
    assert letter.reason == "skipped: skip task quiet (not wanted)"
    runs = messages.runs("skipped")
    assert messages.await_letter(messages.delay("probe.quiet", "skipped")).attempts == 0
    assert messages.runs("skipped") == runs

    unmake(skipped)
    released = time.monotonic()
    eventually(lambda: time.monotonic() > released + HONOURED_WITHIN_SECONDS)
    with Session(db.engine) as session, session.begin():
        replayed = dead_letters.replay(session, letter.id, messages.celery)
    assert replayed is not None
    messages.await_gone(replayed)
    assert messages.runs("skipped") == runs + 1


def test_documents_that_are_held_get_no_second_message(
    app: Flask, session: Session, submit: Submit, dataset_id: UUID
) -> None:
    make(Action.HOLD, task="document_indexing_task")
    submit({f"{number}.txt": b"A heron." for number in range(20)}, announce=True)
    # One whose message was a plain delay, and is lost.
    long_ago = func.now() - func.make_interval(0, 0, 0, 1)
    session.execute(update(Document).values(queued_at=long_ago))
    session.execute(update(Document).where(Document.position == 1).values(message_id=None))
    session.commit()
    count = select(func.count()).select_from(OutboxMessage)
    before = session.scalar(count) or 0
    session.rollback()

    for _ in range(3):
        sweep()
        with db.engine.connect() as connection:
            assert connection.scalar(count) == before + 1


def test_documents_are_held_and_skipped_by_tenant_and_by_id(
    app: Flask,
    session: Session,
    submit: Submit,
    dataset_id: UUID,
    reader: Reader,
    start_worker: StartWorker,
) -> None:
    tenant_id = session.get_one(Dataset, dataset_id).tenant_id
    other = ensure_tenant(session, "somebody else")
    session.commit()
    mine = make(Action.HOLD, tenant_id=tenant_id)
    make(Action.HOLD, tenant_id=other)
    (held,) = (one.document_id for one in submit({"held.txt": b"A heron."}))
    start_worker("threads", 2)
    # A plain message says nothing of its tenant.
    document_indexing_task.delay(str(dataset_id), [str(held)])

    def is_held() -> bool:
        with Session(db.engine) as own:
            row = own.scalars(select(OutboxMessage)).one_or_none()
        return row is not None and (row.tenant_id, row.published_at) == (tenant_id, None)

    eventually(is_held)
    assert reader.document(held).indexing_status == DocumentStatus.WAITING

    files = {f"{number}.txt": b"A gull follows the boat." for number in range(8)}
    guilty, *innocent = (one.document_id for one in submit(files, announce=True))
    make(Action.SKIP, subject_id=guilty, reason="legal hold")
    made = time.monotonic()
    eventually(lambda: time.monotonic() > made + HONOURED_WITHIN_SECONDS)
    unmake(mine)

    skipped, *completed = reader.await_end(guilty, *innocent, held)
    assert {one.indexing_status for one in completed} == {DocumentStatus.COMPLETED}
    assert skipped.indexing_status == DocumentStatus.ERROR
    assert skipped.error == f"skipped: skip id {guilty} (legal hold)"


def test_tasks_that_start_at_once_read_the_rules_once(app: Flask) -> None:
    with app.app_context():
        rule_id = make(Action.HOLD, task="*")
        engine = db.engine
    switches, together = Switches(engine), threading.Barrier(8)
    statements: list[str] = []
    found: list[Rule | None] = []

    def note(*details: object) -> None:
        statements.append(str(details[2]))

    def start() -> None:
        together.wait()
        found.append(switches.matching("any", lambda: None, uuid4(), [], {}))

    event.listen(engine, "before_cursor_execute", note)
    try:
        tasks = [threading.Thread(target=start) for _ in range(8)]
        for one in tasks:
            one.start()
        for one in tasks:
            one.join()
    finally:
        event.remove(engine, "before_cursor_execute", note)

    assert [rule.id for rule in found if rule is not None] == [rule_id] * 8
    assert sum("task_switches" in one for one in statements) == 1
