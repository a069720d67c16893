"""Workers are told of traces that wait, by way of the outbox: small ones of a provider together."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

from celery import Celery
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.contract import PROCESS_TRACE
from shared.queueing import outbox

_TOGETHER_TRACES, _TOGETHER_SPANS = 100, 2000
_ANNOUNCED = text("""
    UPDATE trace_deliveries
    SET message_id = announced.message_id
    FROM unnest(CAST(:ids AS uuid[]), CAST(:message_ids AS uuid[])) AS announced(id, message_id)
    WHERE trace_deliveries.id = announced.id
""")


def announce_traces(
    session: Session, rows: Iterable[Any], celery: Celery, *, delay_seconds: float = 0.0
) -> int:
    """Announce deliveries of one configuration, if and when the caller's transaction commits.

    Args:
        session: the caller's.
        rows: each with ``id``, ``tenant_id`` and ``span_count``.
        celery: publishes right after the commit.
        delay_seconds: not before this from now.

    Returns:
        How many.
    """
    announced: dict[str, str] = {}
    for group in _groups(rows):
        ids = [str(row.id) for row in group]
        message_id = outbox.write(
            session,
            PROCESS_TRACE.name,
            [ids],
            celery=celery,
            tenant_id=group[0].tenant_id,
            delay_seconds=delay_seconds,
        )
        announced |= dict.fromkeys(ids, str(message_id))
    if announced:
        session.flush()
        values = {"ids": list(announced), "message_ids": list(announced.values())}
        session.execute(_ANNOUNCED, values)
    return len(announced)


def delivery_ids(given: Any) -> list[UUID]:
    """The ids a message carries: one, or a list of them; what is no id is left out."""
    found: list[UUID] = []
    for one in [given] if isinstance(given, str) else given or ():
        try:
            found.append(UUID(one))
        except (ValueError, TypeError, AttributeError):
            continue
    return found


def _groups(rows: Iterable[Any]) -> Iterator[Sequence[Any]]:
    group: list[Any] = []
    spans = 0
    for row in rows:
        if group and (len(group) == _TOGETHER_TRACES or spans + row.span_count > _TOGETHER_SPANS):
            yield group
            group, spans = [], 0
        group.append(row)
        spans += row.span_count
    if group:
        yield group
