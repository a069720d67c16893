"""``document_{id}_indexing``: lets an interface show "indexing" and refuse a second request.

A courtesy, not the safety: that is the lease. The value is the version being
indexed, so a run releases its own guard and never that of a newer version.
"""

import logging
from collections.abc import Iterable
from contextlib import suppress
from uuid import UUID

from redis import Redis
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

_ACQUIRE = """
local holder = redis.call('get', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('set', KEYS[1], ARGV[1], 'ex', ARGV[2])
return 1
"""
_RELEASE = """
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end
return 0
"""
_REFRESH = """
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('expire', KEYS[1], ARGV[2]) end
return 0
"""


def key(document_id: UUID) -> str:
    """The guard's key: the name Dify's users know."""
    return f"document_{document_id}_indexing"


def acquire(redis: Redis, versions: Iterable[tuple[UUID, int]], seconds: int) -> set[UUID]:
    """Set the guards of documents at their versions, in one round trip.

    A guard that names the same version is the caller's own: set twice, or left
    by a transaction that was rolled back.

    Returns:
        The documents whose guard was free. All of them when Redis does not
        answer: a courtesy must not stop accepted work.
    """
    wanted = list(versions)
    pipeline = redis.pipeline(transaction=False)
    for document_id, version in wanted:
        pipeline.eval(_ACQUIRE, 1, key(document_id), str(version), str(seconds))
    try:
        taken = pipeline.execute()
    except RedisError as error:
        logger.warning("guards not set: %s", error, extra={"action": "guard.unavailable"})
        return {document_id for document_id, _ in wanted}
    return {document_id for (document_id, _), free in zip(wanted, taken, strict=True) if free}


def held(redis: Redis, document_id: UUID) -> bool:
    """Whether someone holds the document's guard; ``False`` when Redis does not answer."""
    with suppress(RedisError):
        return bool(redis.exists(key(document_id)))
    return False


def held_of(redis: Redis, documents: Iterable[UUID]) -> list[UUID]:
    """Of documents those whose guard someone holds, in one round trip.

    None when Redis does not answer.
    """
    wanted = list(documents)
    if not wanted:
        return []
    try:
        values = redis.mget([key(document_id) for document_id in wanted])
    except RedisError as error:
        logger.warning("guards not read: %s", error, extra={"action": "guard.unavailable"})
        return []
    return [one for one, value in zip(wanted, values, strict=True) if value is not None]


def refresh(redis: Redis, document_id: UUID, version: int, seconds: int) -> None:
    """Prolong the guard of this version, if it is still this version's."""
    _evaluate(redis, _REFRESH, document_id, version, seconds)


def release(redis: Redis, document_id: UUID, version: int) -> None:
    """Delete the guard by compare-and-delete: a newer version's stays."""
    _evaluate(redis, _RELEASE, document_id, version)


def release_all(redis: Redis, versions: Iterable[tuple[UUID, int]]) -> None:
    """Release the guards of documents at their versions, in one round trip."""
    pipeline = redis.pipeline(transaction=False)
    for document_id, version in versions:
        pipeline.eval(_RELEASE, 1, key(document_id), str(version))
    try:
        pipeline.execute()
    except RedisError as error:
        logger.warning("guards not released: %s", error, extra={"action": "guard.unavailable"})


def _evaluate(redis: Redis, script: str, document_id: UUID, *arguments: int) -> None:
    try:
        redis.eval(script, 1, key(document_id), *map(str, arguments))
    except RedisError as error:
        # The guard runs out by itself; the work it announces goes on.
        logger.warning(
            "guard not updated: %s",
            error,
            extra={"action": "guard.unavailable", "document_id": str(document_id)},
        )
