"""Every vector store of an installation: a dataset's row says which one its index is in."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy.orm import Session

from shared.errors import ConfigurationError, ServiceUnavailable
from worker.stores.vectors import VectorStore

_WAYS_OUT = {
    "qdrant": "set QDRANT_URL (or QDRANT_PATH, which one process at a time can open), "
    "and install rag-worker[qdrant]",
}


class VectorStores:
    """The stores by name; what concerns all indexes of a document is done in each.

    Args:
        default: where the first vectors of a dataset go.
        others: where datasets may be besides, and may be moved to.
        away: why one cannot be used at the moment, by name.
    """

    def __init__(
        self,
        default: VectorStore,
        *others: VectorStore,
        away: Mapping[str, ServiceUnavailable] | None = None,
    ) -> None:
        self._away = away or {}
        self._default = default
        self._by_name = {one.name: one for one in (default, *others)}

    def at(self, name: str | None) -> VectorStore:
        """The store of an index; ``None`` where the row does not say: the default.

        Raises:
            ConfigurationError: this process is not connected with it.
            ServiceUnavailable: (transient) it will be, but is not at the moment.
        """
        if name is None:
            return self._default
        if name in self._away:
            raise self._away[name]
        found = self._by_name.get(name)
        if found is None:
            way_out = _WAYS_OUT.get(name, "this version does not know it")
            raise ConfigurationError(f"the vectors are in {name}: {way_out}")
        return found

    def each(self) -> Sequence[VectorStore]:
        """All of them, the default first."""
        return list(self._by_name.values())

    def delete_other_versions(self, session: Session, document_id: UUID, keep: int | None) -> None:
        """Delete a document's vectors of every version but ``keep``, wherever they are."""
        for one in self.each():
            one.delete_other_versions(session, document_id, keep)

    def delete_other_generations(
        self, session: Session, document_ids: Sequence[UUID], keep: Sequence[int], limit: int
    ) -> int:
        """Delete at most ``limit`` of documents' vectors in any index but ``keep``, from each.

        Returns:
            How many; fewer than ``limit`` when none is left.
        """
        return sum(
            one.delete_other_generations(session, document_ids, keep, limit) for one in self.each()
        )

    def collect(self) -> int:
        """Delete from external stores what no row stands for any more; safe to repeat.

        Raises:
            ServiceUnavailable: (transient) one does not answer.
        """
        return sum(one.collect() for one in self.each())
