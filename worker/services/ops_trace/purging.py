"""What the delivery machinery keeps and nobody needs any more; a short transaction a batch."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session, sessionmaker

from worker.delivery import runs

_BATCH = 1000
#: A worker of a newer version may know the task by then.
_UNKNOWN_DAYS = 1

# Celery writes UTC into a column without a time zone.
_RESULTS = text("""
    DELETE FROM celery_taskmeta WHERE id IN (
        SELECT id FROM celery_taskmeta
        WHERE date_done < timezone('UTC', now()) - make_interval(secs => :age)
        ORDER BY date_done LIMIT :limit FOR UPDATE SKIP LOCKED
    )
""")
_GROUPS = text("""
    DELETE FROM celery_tasksetmeta WHERE id IN (
        SELECT id FROM celery_tasksetmeta
        WHERE date_done < timezone('UTC', now()) - make_interval(secs => :age)
        ORDER BY date_done LIMIT :limit FOR UPDATE SKIP LOCKED
    )
""")
_LETTERS = text("""
    DELETE FROM dead_letters WHERE id IN (
        SELECT id FROM dead_letters WHERE created_at < now() - make_interval(days => :age)
        ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
""")
_UNKNOWN = text("""
    WITH gone AS (
        DELETE FROM outbox WHERE id IN (
            SELECT id FROM outbox
            WHERE task <> ALL(CAST(:known AS text[]))
              AND created_at < now() - make_interval(days => :age)
              AND (lease_expires_at IS NULL OR lease_expires_at < now())
            ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
        )
        RETURNING id, tenant_id, task, queue, args, kwargs, attempts, error
    )
    INSERT INTO dead_letters (
        id, message_id, tenant_id, task, queue, args, kwargs, attempts, exception, reason
    )
    SELECT gen_random_uuid(), id, tenant_id, task, queue, args, kwargs, attempts, 'NotRegistered',
           'no worker knows the task ' || task || coalesce('; last: ' || error, '')
    FROM gone
""")


def purge_results(sessions: sessionmaker[Session], expires_seconds: float) -> int:
    """Delete results that ended longer ago than that; returns how many."""
    values = {"age": expires_seconds}
    return _repeat(sessions, _RESULTS, values) + _repeat(sessions, _GROUPS, values)


def purge_outbox(sessions: sessionmaker[Session], known: Sequence[str], letter_days: int) -> int:
    """Make dead letters of messages whose task there is not, and delete old dead letters.

    Args:
        sessions: makes sessions.
        known: the tasks there are.
        letter_days: the age of dead letters to delete; 0 deletes none.

    Returns:
        How many messages and letters that were.
    """
    unknown = {"known": list(known), "age": _UNKNOWN_DAYS}
    purged = _repeat(sessions, _UNKNOWN, unknown)
    if letter_days:
        purged += _repeat(sessions, _LETTERS, {"age": letter_days})
    return purged


def _repeat(sessions: sessionmaker[Session], statement: TextClause, values: dict[str, Any]) -> int:
    purged = 0
    while True:
        runs.checkpoint()
        with sessions.begin() as session:
            done: Any = session.execute(statement, {**values, "limit": _BATCH})
        number = int(done.rowcount)
        purged += number
        if number < _BATCH:
            return purged
