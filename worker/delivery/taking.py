"""What the relay takes of a queue: so many messages a tenant, however many wait.

PostgreSQL does it by one statement. MariaDB has no LATERAL: there the first messages of each
lane, which is a priority and a tenant, are found one lane after the other, by a probe of the index
each, and the statement chooses among those.
"""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.contract import QUEUES
from shared.models.types import MYSQL
from shared.queueing.publishing import Bounds, Publishable
from shared.sql import text_by_database

_DUE_OF = """
    SELECT '{queue}' AS queue,
           TIMESTAMPDIFF(MICROSECOND, NOW(6), MIN(available_at)) / 1e6 AS in_seconds
    FROM outbox WHERE published_at IS NULL AND queue = '{queue}'
    HAVING in_seconds IS NOT NULL
"""
# One probe of the index a lane, however many messages wait in it.
DUE = text_by_database(
    """
    WITH RECURSIVE lanes AS (
        (SELECT queue, priority, tenant_id, available_at FROM outbox
         WHERE published_at IS NULL
         ORDER BY queue, priority, tenant_id, available_at LIMIT 1)
        UNION ALL
        SELECT following.queue, following.priority, following.tenant_id, following.available_at
        FROM lanes, LATERAL (
            SELECT queue, priority, tenant_id, available_at FROM outbox
            WHERE published_at IS NULL
              AND (queue, priority, tenant_id) > (lanes.queue, lanes.priority, lanes.tenant_id)
            ORDER BY queue, priority, tenant_id, available_at LIMIT 1
        ) AS following
    )
    SELECT queue, CAST(extract(epoch FROM min(available_at) - now()) AS float8) AS in_seconds
    FROM lanes GROUP BY queue
""",
    mariadb=" UNION ALL ".join(_DUE_OF.format(queue=queue) for queue in QUEUES),
)
_TAKE = text("""
    WITH RECURSIVE lanes AS (
        (SELECT priority, tenant_id FROM outbox
         WHERE published_at IS NULL AND queue = :queue
         ORDER BY priority DESC, tenant_id DESC LIMIT 1)
        UNION ALL
        SELECT following.priority, following.tenant_id
        FROM lanes, LATERAL (
            SELECT priority, tenant_id FROM outbox
            WHERE published_at IS NULL AND queue = :queue
              AND (priority, tenant_id) < (lanes.priority, lanes.tenant_id)
            ORDER BY priority DESC, tenant_id DESC LIMIT 1
        ) AS following
    ),
    busy AS (
        SELECT tenant_id, priority, count(*) AS messages FROM outbox
        WHERE published_at IS NOT NULL AND queue = :queue GROUP BY tenant_id, priority
    ),
    -- The cap is for the others' sake: who is alone may fill every slot besides.
    cap AS (
        SELECT :tenant_cap + CASE WHEN (SELECT count(DISTINCT tenant_id) FROM lanes) > 1 THEN 0
            ELSE (SELECT coalesce(sum(concurrency), 0) FROM worker_nodes
                  WHERE :queue = ANY(queues) AND seen_at > now() - interval '60 seconds')
        END AS most
    ),
    turns AS (
        SELECT next.id, next.available_at,
               lanes.priority + coalesce(tenants.priority, 0) AS priority,
               coalesce(ahead.messages, 0) + row_number() OVER (
                   PARTITION BY lanes.tenant_id
                   ORDER BY lanes.priority DESC, next.available_at, next.sequence
               ) AS turn
        FROM lanes
        -- A hundred summaries under way are no reason to keep an answer waiting.
        LEFT JOIN LATERAL (
            SELECT CAST(sum(messages) AS bigint) AS messages FROM busy
            WHERE busy.tenant_id = lanes.tenant_id AND busy.priority >= lanes.priority
        ) AS ahead ON true
        LEFT JOIN tenants ON tenants.id = lanes.tenant_id
        CROSS JOIN LATERAL (
            SELECT message.id, message.available_at, message.sequence
            FROM outbox AS message
            WHERE message.published_at IS NULL AND message.queue = :queue
              AND message.priority = lanes.priority AND message.tenant_id = lanes.tenant_id
              AND message.available_at <= now()
              AND NOT EXISTS (
                  SELECT 1 FROM task_switches AS held
                  WHERE held.action = 'hold'
                    AND (held.queue IS NULL OR held.queue = :queue)
                    AND (held.task IS NULL OR message.task = held.task
                         OR right(message.task, length(held.task) + 1) = '.' || held.task)
                    AND (held.tenant_id IS NULL OR held.tenant_id = message.tenant_id)
                    AND (held.subject_id IS NULL OR held.subject_id = message.id
                         OR message.args::text LIKE '%' || held.subject_id || '%'
                         OR message.kwargs::text LIKE '%' || held.subject_id || '%')
              )
            ORDER BY message.available_at, message.sequence
            LIMIT greatest((SELECT most FROM cap) - coalesce(ahead.messages, 0), 0)
        ) AS next
        WHERE NOT EXISTS (
            SELECT 1 FROM task_switches AS held
            WHERE held.action = 'hold' AND held.task IS NULL AND held.subject_id IS NULL
              AND (held.queue IS NULL OR held.queue = :queue)
              AND (held.tenant_id IS NULL OR held.tenant_id = lanes.tenant_id)
        )
    ),
    chosen AS (
        SELECT id, turn, priority, available_at FROM turns WHERE turn <= (SELECT most FROM cap)
        ORDER BY priority DESC, turn, available_at
        LIMIT greatest(
            least(:room, :high_water_mark - (SELECT coalesce(sum(messages), 0) FROM busy)), 0
        )
    )
    SELECT message.id, message.task, message.queue, message.args, message.kwargs,
           message.tenant_id, message.attempts, chosen.turn, message.headers
    FROM chosen JOIN outbox AS message
        -- Said twice, so that no statistics talk the planner into reading the whole backlog.
        ON message.id = chosen.id AND message.id = ANY(ARRAY(SELECT id FROM chosen))
    WHERE message.published_at IS NULL
    ORDER BY chosen.priority DESC, chosen.turn, chosen.available_at
    FOR UPDATE OF message SKIP LOCKED
""")
# Run on MariaDB only: PostgreSQL's words name the parameters.
_CHOOSE = text_by_database(
    "SELECT :queue, :ids, :tenants, :tenant_cap, :high_water_mark, :room",
    mariadb="""
    WITH busy AS (
        SELECT tenant_id, priority, COUNT(*) AS messages FROM outbox
        WHERE published_at IS NOT NULL AND queue = :queue GROUP BY tenant_id, priority
    ),
    cap AS (
        SELECT :tenant_cap + CASE WHEN :tenants > 1 THEN 0
            ELSE (SELECT COALESCE(SUM(concurrency), 0) FROM worker_nodes
                  WHERE JSON_CONTAINS(queues, JSON_QUOTE(:queue))
                    AND seen_at > NOW(6) - INTERVAL 60 SECOND)
        END AS most
    ),
    lanes AS (
        SELECT DISTINCT priority, tenant_id FROM outbox WHERE id IN :IDS__ids
    ),
    ahead AS (
        SELECT lanes.priority, lanes.tenant_id, COALESCE(SUM(busy.messages), 0) AS messages
        FROM lanes LEFT JOIN busy
            ON busy.tenant_id = lanes.tenant_id AND busy.priority >= lanes.priority
        GROUP BY lanes.priority, lanes.tenant_id
    ),
    waiting AS (
        SELECT message.id, message.available_at, message.sequence, message.priority,
               message.tenant_id, ROW_NUMBER() OVER (
                   PARTITION BY message.tenant_id, message.priority
                   ORDER BY message.available_at, message.sequence
               ) AS place
        FROM outbox AS message
        WHERE message.id IN :IDS__ids
    ),
    turns AS (
        SELECT waiting.id, waiting.available_at,
               waiting.priority + COALESCE(tenants.priority, 0) AS priority,
               ahead.messages + ROW_NUMBER() OVER (
                   PARTITION BY waiting.tenant_id
                   ORDER BY waiting.priority DESC, waiting.available_at, waiting.sequence
               ) AS turn
        FROM waiting
        JOIN ahead ON ahead.priority = waiting.priority AND ahead.tenant_id = waiting.tenant_id
        LEFT JOIN tenants ON tenants.id = waiting.tenant_id
        WHERE waiting.place <= (SELECT most FROM cap) - ahead.messages
    ),
    chosen AS (
        SELECT id, turn, priority, available_at, ROW_NUMBER() OVER (
            ORDER BY priority DESC, turn, available_at
        ) AS place
        FROM turns WHERE turn <= (SELECT most FROM cap)
    )
    SELECT message.id, message.task, message.queue, message.args, message.kwargs,
           message.tenant_id, message.attempts, CAST(chosen.turn AS SIGNED) AS turn,
           message.headers
    FROM chosen JOIN outbox AS message ON message.id = chosen.id
    WHERE message.published_at IS NULL AND chosen.place <=
          LEAST(:room, :high_water_mark - (SELECT COALESCE(SUM(messages), 0) FROM busy))
    ORDER BY chosen.priority DESC, chosen.turn, chosen.available_at
    FOR UPDATE SKIP LOCKED
""",
)
# The least of what follows in an index is one probe of it; the first in order is a scan there.
_NEXT_PRIORITY = text("""
    SELECT min(priority) AS priority FROM outbox
    WHERE published_at IS NULL AND queue = :queue AND priority > :priority
""")
_NEXT_TENANT = text("""
    SELECT min(tenant_id) AS tenant_id FROM outbox
    WHERE published_at IS NULL AND queue = :queue AND priority = :priority
      AND tenant_id > :tenant_id
""")
_FIRST = text_by_database(
    "SELECT :queue, :priority, :tenant_id, :most",
    mariadb="""
    SELECT message.id FROM outbox AS message FORCE INDEX (ix_outbox_unpublished)
    WHERE message.published_at IS NULL AND message.queue = :queue
      AND message.priority = :priority AND message.tenant_id = :tenant_id
      AND message.available_at <= NOW(6)
      AND NOT EXISTS (
          SELECT 1 FROM task_switches AS held
          WHERE held.action = 'hold'
            AND (held.queue IS NULL OR held.queue = :queue)
            AND (held.task IS NULL OR message.task = held.task
                 OR RIGHT(message.task, CHAR_LENGTH(held.task) + 1) = CONCAT('.', held.task))
            AND (held.tenant_id IS NULL OR held.tenant_id = message.tenant_id)
            AND (held.subject_id IS NULL OR held.subject_id = message.id
                 OR LOCATE(LOWER(INSERT(INSERT(INSERT(INSERT(held.subject_id, 9, 0, '-'),
                                 14, 0, '-'), 19, 0, '-'), 24, 0, '-')),
                           CONCAT(message.args, message.kwargs)))
      )
    ORDER BY message.available_at, message.sequence LIMIT :most
""",
)
#: Before the least priority, and before the least tenant.
_BELOW, _NOBODY = -(2**15), ""


def take(connection: Connection, queue: str, bounds: Bounds, room: int) -> list[Publishable]:
    """Lock the messages that go now, in their order, in the connection's transaction.

    Args:
        connection: holds the queue's lock.
        queue: whose messages.
        bounds: what the broker may hold.
        room: messages that it may take.
    """
    values: dict[str, Any] = {
        "queue": queue,
        "tenant_cap": bounds.tenant_cap,
        "high_water_mark": bounds.high_water_mark,
        "room": room,
    }
    if connection.dialect.name not in MYSQL:
        rows = connection.execute(_TAKE, values)
    elif room <= 0:
        return []
    else:
        lanes = list(_lanes(connection, queue))
        tenants = len({tenant for _, tenant in lanes})
        most = room if tenants == 1 else min(room, bounds.tenant_cap)
        found = [_first(connection, queue, *lane, most) for lane in lanes]
        values |= {"tenants": tenants, "ids": [one for ids in found for one in ids]}
        rows = connection.execute(_CHOOSE, values)
    return [Publishable(*row) for row in rows]


def _lanes(connection: Connection, queue: str) -> Iterator[tuple[int, UUID]]:
    priority = _BELOW
    while True:
        at: dict[str, Any] = {"queue": queue, "priority": priority}
        priority = connection.scalar(_NEXT_PRIORITY, at)
        if priority is None:
            return
        tenant: Any = _NOBODY
        while True:
            at = {"queue": queue, "priority": priority, "tenant_id": tenant}
            tenant = connection.scalar(_NEXT_TENANT, at)
            if tenant is None:
                break
            yield priority, tenant


def _first(
    connection: Connection, queue: str, priority: int, tenant_id: UUID, most: int
) -> list[UUID]:
    lane = {"queue": queue, "priority": priority, "tenant_id": tenant_id, "most": most}
    return list(connection.scalars(_FIRST, lane))
