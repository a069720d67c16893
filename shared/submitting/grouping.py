"""Small documents share a message: a message costs as much as indexing a short page.

Each keeps its own lease, its own end and its own error; a document of some size
travels alone, for any idle worker to take.
"""

from collections.abc import Iterable, Iterator
from uuid import UUID

GROUP_DOCUMENTS = 8
GROUP_BYTES = 512 * 1024


def grouped(sizes: Iterable[tuple[UUID, int]]) -> Iterator[list[UUID]]:
    """Cut documents with their sizes in bytes into groups of one message each, in order."""
    group: list[UUID] = []
    total = 0
    for document_id, size_bytes in sizes:
        if group and (len(group) == GROUP_DOCUMENTS or total + size_bytes > GROUP_BYTES):
            yield group
            group, total = [], 0
        group.append(document_id)
        total += size_bytes
    if group:
        yield group
