"""Qdrant's collections, one a dimension, and its requests with their errors as families."""

from collections.abc import Callable
from typing import Any, TypeVar

from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from worker.stores.qdrant_errors import NOT_FOUND, is_there_already, mapped

Answer = TypeVar("Answer")


class Collections:
    """The collections of a prefix.

    Args:
        client: the server, or a folder's or memory's local mode.
        prefix: they are called by it and their dimension.
        is_local: local mode has no payload indexes.
    """

    def __init__(self, client: QdrantClient, prefix: str, *, is_local: bool) -> None:
        self._client = client
        self._prefix = prefix
        self._is_local = is_local
        self._made: set[int] = set()

    def call(self, request: Callable[..., Answer], dimension: int, **kwargs: Any) -> Answer:
        """Ask something of a dimension's collection.

        Raises:
            ServiceUnavailable: (transient) Qdrant does not answer.
            Permanent: it refuses.
        """
        return self._call(request, self._name(dimension), **kwargs)

    def exists(self, dimension: int) -> bool:
        """Whether there is one of a dimension."""
        if dimension not in self._made:
            if not self._call(self._client.collection_exists, self._name(dimension)):
                return False
            self._made.add(dimension)
        return True

    def dimensions(self) -> list[int]:
        """Those there is a collection of, the smallest first."""
        named = [one.name for one in self._call(self._client.get_collections).collections]
        begin = f"{self._prefix}_"
        ends = [one.removeprefix(begin) for one in named if one.startswith(begin)]
        return sorted(int(one) for one in ends if one.isdecimal())

    def make(self, dimension: int) -> None:
        """Make one of a dimension, if there is none."""
        if self.exists(dimension):
            return
        name = self._name(dimension)
        # The inner product of unit vectors is the cosine, and nothing is scaled again.
        shape = models.VectorParams(size=dimension, distance=models.Distance.DOT)
        try:
            self._client.create_collection(name, vectors_config=shape)
        except Exception as error:
            if not is_there_already(error):
                raise mapped(error) from error
        if not self._is_local:
            by_tenant = models.KeywordIndexParams(
                type=models.KeywordIndexType.KEYWORD, is_tenant=True
            )
            plain = models.PayloadSchemaType.KEYWORD
            for field, kind in (
                ("index", by_tenant),
                ("document_id", plain),
                ("write_id", plain),
            ):
                self._call(self._client.create_payload_index, name, field, kind)
        self._made.add(dimension)

    def _name(self, dimension: int) -> str:
        return f"{self._prefix}_{dimension}"

    def _call(self, request: Callable[..., Answer], *args: Any, **kwargs: Any) -> Answer:
        try:
            return request(*args, **kwargs)
        except Exception as error:
            if isinstance(error, UnexpectedResponse) and error.status_code == NOT_FOUND:
                # Somebody deleted the collection: the next attempt makes it again.
                self._made.clear()
            raise mapped(error) from error
