"""What a comparison of rows and points asks Qdrant.

A write's row is there before its first point and goes after its last: only what another
database wrote, or an earlier state of this one, has points without a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from qdrant_client import QdrantClient

from worker.stores.qdrant_collections import Collections

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class PageOfWrites:
    """Some points of a collection.

    Attributes:
        dimension: the collection's.
        writes: whose they are, one a point.
        next_after: where the next page begins; ``None`` after the last of all collections.
    """

    dimension: int
    writes: Sequence[UUID]
    next_after: str | None


def present(
    collections: Collections, client: QdrantClient, dimension: int, points: Sequence[str]
) -> set[str]:
    """Those of these points that a dimension's collection has."""
    if not collections.exists(dimension):
        return set()
    found = collections.call(
        client.retrieve, dimension, ids=points, with_payload=False, with_vectors=False
    )
    return {str(one.id) for one in found}


def page_of_writes(
    collections: Collections, client: QdrantClient, after: str | None
) -> PageOfWrites:
    """A page of the points of one collection."""
    begun, _, point = (after or "0/").partition("/")
    left = [one for one in collections.dimensions() if one >= int(begun)]
    if not left:
        return PageOfWrites(0, (), None)
    points, following = collections.call(
        client.scroll,
        left[0],
        limit=_PAGE,
        offset=point if point and left[0] == int(begun) else None,
        with_payload=["write_id"],
        with_vectors=False,
    )
    writes = [UUID((one.payload or {})["write_id"]) for one in points]
    if following is not None:
        return PageOfWrites(left[0], writes, f"{left[0]}/{following}")
    return PageOfWrites(left[0], writes, f"{left[1]}/" if left[1:] else None)
