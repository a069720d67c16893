"""Messages of the outbox picked up and finished by the group, where greenlets share a process.

A row that anybody has locked is left out, and its caller goes for it alone: nobody else
waits for it, and two groups cannot deadlock.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from worker.delivery.coalescing import Coalesced
from worker.delivery.lease import owner
from worker.delivery.single import single_statements

_PICK_UP = text("""
    SET LOCAL synchronous_commit = off;
    WITH free AS (
        SELECT id FROM outbox
        WHERE id = ANY(CAST(:ids AS uuid[]))
          AND (lease_expires_at IS NULL OR lease_expires_at < now())
        FOR UPDATE SKIP LOCKED
    )
    UPDATE outbox
    SET lease_token = lease_token + 1, attempts = attempts + 1, lease_owner = :owner,
        deaths = deaths + CAST(lease_expires_at IS NOT NULL AS int),
        lease_expires_at = statement_timestamp() + make_interval(secs => :seconds),
        published_at = coalesce(published_at, statement_timestamp())
    FROM free
    WHERE outbox.id = free.id
    RETURNING outbox.id, lease_token, attempts, deaths, tenant_id, error,
              extract(epoch FROM now() - created_at) AS age_seconds
""")
_FINISH = text("""
    SET LOCAL synchronous_commit = off;
    WITH ours AS (
        SELECT outbox.id
        FROM unnest(CAST(:ids AS uuid[]), CAST(:tokens AS bigint[])) AS given(id, token)
        JOIN outbox ON outbox.id = given.id AND outbox.lease_token = given.token
        FOR UPDATE OF outbox SKIP LOCKED
    )
    DELETE FROM outbox USING ours WHERE outbox.id = ours.id
    RETURNING outbox.id, outbox.lease_token
""")


@lru_cache(maxsize=8)
def picked_up(engine: Engine, lease_seconds: float) -> Coalesced[UUID, Any]:
    """Picks up a message by its id; ``None`` unless it was free at once."""

    def pick_up(ids: Sequence[UUID]) -> list[Any]:
        values = {"ids": list(map(str, ids)), "owner": owner(), "seconds": lease_seconds}
        with single_statements(engine) as connection:
            rows = {row.id: row for row in connection.execute(_PICK_UP, values)}
        # Popped: of a message that came twice only one has it.
        return [rows.pop(one, None) for one in ids]

    return Coalesced(pick_up)


@lru_cache(maxsize=8)
def finished(engine: Engine) -> Coalesced[tuple[UUID, int], bool]:
    """Finishes a message by its id and its lease's token; ``None`` unless it was there."""

    def finish(leases: Sequence[tuple[UUID, int]]) -> list[bool | None]:
        values = {"ids": [str(one) for one, _ in leases], "tokens": [token for _, token in leases]}
        with single_statements(engine) as connection:
            gone = {(row.id, row.lease_token) for row in connection.execute(_FINISH, values)}
        return [True if one in gone else None for one in leases]

    return Coalesced(finish)
