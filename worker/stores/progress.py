"""Live progress as a Redis stream a document; SQL has the same for anyone without Redis."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from redis import Redis
from redis.exceptions import RedisError

_ENTRIES = 200
_KEEP_SECONDS = 3600


def stream_key(document_id: UUID) -> str:
    """The stream of one document's progress."""
    return f"document_{document_id}_progress"


class ProgressStream:
    """Writes progress; a Redis that does not answer costs the display, never the work."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def publish(self, document_id: UUID, **fields: Any) -> None:
        """Append one entry; readers resume by its id."""
        self.publish_all([(document_id, fields)])

    def publish_all(self, entries: Iterable[tuple[UUID, Mapping[str, Any]]]) -> None:
        """Append entries to several documents' streams, in one round trip."""
        pipeline = self._redis.pipeline(transaction=False)
        for document_id, fields in entries:
            pipeline.xadd(
                stream_key(document_id),
                {name: str(value) for name, value in fields.items()},
                maxlen=_ENTRIES,
                approximate=True,
            )
            pipeline.expire(stream_key(document_id), _KEEP_SECONDS)
        try:
            pipeline.execute()
        except RedisError:
            return
