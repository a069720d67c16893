"""Small documents share a message: a message costs as much as indexing some short pages.

Each keeps its own lease, its own end and its own error; a document of some size
travels alone, for any idle worker to take.
"""

from collections.abc import Iterable, Iterator
from uuid import UUID

from shared.models.dataset import ECONOMY

#: With what a worker has in its process: a message is work for about a tenth of a second.
GROUP_DOCUMENTS = 16
#: With a model that takes its time: the documents of a message are indexed one after the other,
#: and many messages keep many requests under way.
SLOW_GROUP_DOCUMENTS = 8
#: The last messages of many files shall not leave one worker busy for long, and the others idle.
GROUP_BYTES = 128 * 1024

_QUICK_PROVIDERS = frozenset({"wordllama"})


def most_together(technique: str, embedding_provider: str) -> int:
    """How many documents of such a dataset may share a message."""
    is_quick = technique == ECONOMY or embedding_provider in _QUICK_PROVIDERS
    return GROUP_DOCUMENTS if is_quick else SLOW_GROUP_DOCUMENTS


def grouped(sizes: Iterable[tuple[UUID, int]], most: int) -> Iterator[list[UUID]]:
    """Cut documents with their sizes in bytes into groups of one message each, in order.

    Args:
        sizes: the documents.
        most: documents in a group, as ``most_together`` says.
    """
    group: list[UUID] = []
    total = 0
    for document_id, size_bytes in sizes:
        if group and (len(group) == most or total + size_bytes > GROUP_BYTES):
            yield group
            group, total = [], 0
        group.append(document_id)
        total += size_bytes
    if group:
        yield group
