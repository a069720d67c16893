"""What a process of greenlets does with rows; ``test_greenlet_groups`` runs each part by its name.

Imported into a process of its own: it patches the standard library.
"""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402 - the patch comes first
from collections.abc import Callable, Sequence  # noqa: E402
from functools import partial  # noqa: E402
from typing import Any  # noqa: E402
from uuid import UUID  # noqa: E402

import gevent  # noqa: E402
from gevent.event import Event  # noqa: E402
from psycogreen.gevent import patch_psycopg  # noqa: E402
from sqlalchemy import event, select, text  # noqa: E402
from sqlalchemy.orm import Session  # noqa: E402

from shared.app_factory import create_app  # noqa: E402
from shared.errors import LeaseLost, Superseded  # noqa: E402
from shared.models import MailDelivery, db  # noqa: E402
from worker.delivery import pickup, runs  # noqa: E402
from worker.delivery.coalescing import MOST_TOGETHER, Coalesced  # noqa: E402
from worker.delivery.lease import Ago, Lease  # noqa: E402
from worker.delivery.leased_rows import LeasedRows  # noqa: E402
from worker.delivery.runs import Limits  # noqa: E402
from worker.services.mail.claiming import take_mail  # noqa: E402
from worker.stores import binary_copy  # noqa: E402
from worker.wiring import mail_needs  # noqa: E402

PATIENCE_SECONDS = 300


def all_of(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Call them at once; what each returned, or raised."""
    greenlets = [gevent.spawn(_returned, one) for one in calls]
    gevent.joinall(greenlets, timeout=PATIENCE_SECONDS, raise_error=True)
    assert all(one.ready() for one in greenlets)
    return [one.value for one in greenlets]


def _returned(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - the caller looks at it
        return error


def statements(work: Callable[[], Any]) -> int:
    """How many the database got."""
    seen: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        seen.append(statement)

    event.listen(db.engine, "before_cursor_execute", note)
    work()
    event.remove(db.engine, "before_cursor_execute", note)
    return len(seen)


def calls() -> None:
    """Those that come while one is under way share the next; each has its own answer."""
    groups: list[list[int]] = []

    def double(items: Sequence[int]) -> list[int | None]:
        groups.append(list(items))
        gevent.sleep(0.01)
        if -1 in items:
            raise ValueError("broken")
        return [None if one == 0 else 2 * one for one in items]

    doubled: Coalesced[int, int] = Coalesced(double)
    answers = all_of([partial(doubled, one) for one in range(250)])
    assert answers == [None, *(2 * one for one in range(1, 250))]
    assert max(map(len, groups)) == MOST_TOGETHER
    assert len(groups) <= 5, groups

    assert all_of([lambda: doubled(-1), lambda: doubled(7)]) == [None, None]
    assert doubled(8) == 16, "one that failed ends nothing but itself"

    found: list[int | None] = []
    monkey.get_original("_thread", "start_new_thread")(lambda: found.append(doubled(5)), ())
    while not found:
        gevent.sleep(0.01)
    assert found == [None], "a real thread goes alone: it has no part in the greenlets' hub"


def interrupted_calls() -> None:
    """Who is ended takes its call back; one that is under way it sees to its end."""
    groups: list[list[int]] = []
    gate = Event()

    def double(items: Sequence[int]) -> list[int | None]:
        groups.append(list(items))
        gate.wait()
        return [2 * one for one in items]

    doubled: Coalesced[int, int] = Coalesced(double)
    under_way = gevent.spawn(doubled, 1)
    while not groups:
        gevent.sleep(0)
    waiting = [gevent.spawn(doubled, one) for one in range(2, 5)]
    gevent.sleep(0)
    waiting[1].kill()
    under_way.kill(block=False)
    gevent.sleep(0.01)
    assert (waiting[1].dead, under_way.dead) == (True, False)
    gate.set()
    under_way.join(timeout=PATIENCE_SECONDS)
    assert [one.get(timeout=PATIENCE_SECONDS) for one in (waiting[0], waiting[2])] == [4, 8]
    assert groups == [[1], [2, 4]]


def company() -> None:
    """After a shared trip the next waits for the tasks that are not there; no longer than that."""
    groups: list[list[int]] = []
    tasks_end = Event()

    def double(items: Sequence[int]) -> list[int | None]:
        groups.append(list(items))
        return [2 * one for one in items]

    def task() -> None:
        with runs.running("a task", Limits(60, 60), give_up=lambda _: None):
            tasks_end.wait()

    doubled: Coalesced[int, int] = Coalesced(double, pause_seconds=3600)
    assert [doubled(one) for one in range(3)] == [0, 2, 4]
    assert groups == [[0], [1], [2]], "who is alone waits for nobody"

    tasks = [gevent.spawn(task) for _ in range(3)]
    while runs.number() < 3:
        gevent.sleep(0)
    assert all_of([partial(doubled, one) for one in (3, 4)]) == [6, 8]
    late = gevent.spawn(doubled, 5)
    gone = gevent.spawn(doubled, 6)
    gevent.sleep(0.05)
    assert (late.ready(), gone.ready()) == (False, False), "a task might still come"
    gone.kill()
    assert all_of([partial(doubled, one) for one in (7, 8)]) == [14, 16]
    assert late.get(timeout=PATIENCE_SECONDS) == 10
    assert groups[3:] == [[3, 4], [5, 7, 8]]

    alone = gevent.spawn(doubled, 9)
    gevent.sleep(0)
    alone.kill()
    tasks_end.set()
    gevent.joinall(tasks, timeout=PATIENCE_SECONDS, raise_error=True)
    assert all_of([partial(doubled, 10)]) == [20], "one that went away stops nobody"


def ids_of(table: str) -> list[UUID]:
    """The rows' ids, in the order in which they were written."""
    with db.engine.connect() as connection:
        return list(connection.scalars(text(f"SELECT id FROM {table} ORDER BY created_at, id")))


def locked(table: str, row_id: UUID, work: Callable[[], Any]) -> Any:
    """Do something while somebody has a row locked."""
    with db.engine.begin() as holding:
        holding.execute(text(f"SELECT 1 FROM {table} WHERE id = :id FOR UPDATE"), {"id": row_id})
        return work()


def messages() -> None:
    """A message has one owner, who waits for no other's; each that is finished is gone."""
    ids = ids_of("outbox")
    engine = db.engine

    def pick_up(one: UUID) -> pickup.PickedUp:
        return pickup.pick_up(engine, one, 30)

    slow, others = ids[0], ids[1:]
    waiting: list[Any] = []

    def while_locked() -> list[Any]:
        waiting.append(gevent.spawn(pick_up, slow))
        return all_of([partial(pick_up, one) for one in [*others, others[0]]])

    taken = locked("outbox", slow, while_locked)
    assert isinstance(taken[-1], Superseded) != isinstance(taken[0], Superseded)
    taken = [one for one in taken if not isinstance(one, Superseded)]
    assert {one.id for one in taken} == set(others)
    assert {(one.lease.token, one.lease.attempt, one.lease.deaths) for one in taken} == {(1, 1, 0)}
    taken.append(waiting[0].get(timeout=PATIENCE_SECONDS))
    assert taken[-1].id == slow

    with engine.begin() as connection:
        connection.execute(
            text("UPDATE outbox SET lease_token = 9 WHERE id = :id"), {"id": taken[0].id}
        )
    used = statements(lambda: all_of([partial(pickup.finish, engine, one) for one in taken]))
    assert ids_of("outbox") == [taken[0].id], "a newer owner's message stays"
    assert used < len(taken) / 4, used


def leases() -> None:
    """A mail is claimed once and written by its owner alone; who lost it writes nothing."""
    ids = ids_of("mail_deliveries")
    needs, rows = mail_needs(), LeasedRows(db.engine)
    slow, others = ids[0], ids[1:]
    assert isinstance(needs.rows, LeasedRows)

    def claim() -> list[Any]:
        return all_of([partial(take_mail, one, needs) for one in [*others, others[0]]])

    claimed: list[Any] = []
    used = statements(lambda: claimed.extend(locked("mail_deliveries", slow, claim)))
    refused = [one for one in claimed if isinstance(one, Superseded)]
    assert len(refused) == 1, refused
    held: list[Lease] = [one.lease for one in claimed if not isinstance(one, Superseded)]
    assert {one.row_id for one in held} == set(others)
    assert used < len(held) / 4, used
    fields = {one.row.fields.get("account_name") for one in claimed if one not in refused}
    assert fields == {"Ada"}, "the row as the claim found it"

    stale = Lease(MailDelivery, held[0].row_id, held[0].token - 1, 1, 0, 30)
    written = all_of(
        [
            lambda: rows.release(stale, error="not mine"),
            *(partial(rows.release, one, error=f"it's {one.row_id}") for one in held),
            *(partial(rows.renew, one, copies=1, handed_over_at=Ago(5)) for one in held[:9]),
        ]
    )
    assert isinstance(written[0], LeaseLost)
    assert written[1:] == [None] * (len(written) - 1)
    with db.engine.connect() as connection:
        found = {row.id: row for row in connection.execute(select(MailDelivery.__table__))}
        ages = text("SELECT count(*) FROM mail_deliveries WHERE handed_over_at < now()")
        assert connection.scalar(ages) == 9
    assert all(found[one].error == f"it's {one}" for one in others)
    assert sum(one.copies for one in found.values()) == 9
    assert found[slow].lease_token == 0

    too_long = all_of([partial(rows.release, one, provider="x" * 17) for one in held[:2]])
    assert all("too long" in str(one) for one in too_long), "what a row cannot hold is refused"


def copies() -> None:
    """One that waits for another holds up nobody; whoever is ended in it leaves no trace."""
    engine = db.engine
    copying = text("COPY embeddings (model, hash, vector) FROM STDIN (FORMAT binary)")

    def copy(digest: int, *, commits: bool = True) -> None:
        row = [binary_copy.text("m"), binary_copy.bytea(bytes([digest])), binary_copy.NULL]
        with Session(engine) as session:
            binary_copy.copy(session, copying, [binary_copy.row(*row)])
            if commits:
                session.commit()
            else:
                copied.append(digest)
                gate.wait()

    def stored() -> list[int]:
        with engine.connect() as connection:
            found = connection.scalars(text("SELECT hash FROM embeddings ORDER BY hash"))
            return [bytes(one)[0] for one in found]

    def waiting_for_locks() -> int:
        query = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        with engine.connect() as connection:
            return connection.scalar(query) or 0

    gate, copied = Event(), list[int]()
    holding = gevent.spawn(copy, 1, commits=False)
    while not copied:
        gevent.sleep(0.01)
    waiting = [gevent.spawn(copy, 1) for _ in range(2)]
    while waiting_for_locks() < 2:
        gevent.sleep(0.01)
    assert all_of([partial(copy, digest) for digest in (2, 3)]) == [None, None]
    waiting[0].kill()
    assert waiting[0].dead
    gate.set()
    gevent.joinall([holding, waiting[1]], timeout=PATIENCE_SECONDS, raise_error=True)
    assert stored() == [1, 2, 3], "the first was rolled back, the last wrote it"
    assert all_of([partial(copy, digest) for digest in (4, 5, 6)]) == [None] * 3


def main() -> None:
    patch_psycopg()
    app = create_app()
    with app.app_context():
        globals()[sys.argv[1]]()
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main()
