"""The courtesy flag that a document is being indexed, as services use it."""

from collections.abc import Iterable
from uuid import UUID

from redis import Redis

from shared.queueing import guard


class DocumentGuard:
    """The guard in Redis, with its life from the settings."""

    def __init__(self, redis: "Redis", seconds: int) -> None:
        self._redis = redis
        self._seconds = seconds

    def refresh(self, document_id: UUID, version: int) -> None:
        """Prolong it."""
        guard.refresh(self._redis, document_id, version, self._seconds)

    def acquire(self, document_id: UUID, version: int) -> None:
        """Set it for a version."""
        guard.acquire(self._redis, [(document_id, version)], self._seconds)

    def release(self, document_id: UUID, version: int) -> None:
        """Take it away, if it is still this version's."""
        guard.release(self._redis, document_id, version)

    def release_all(self, versions: Iterable[tuple[UUID, int]]) -> None:
        """Take several documents' away, in one round trip; as ``release``."""
        guard.release_all(self._redis, versions)
