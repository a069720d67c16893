"""The document status machine as one table.

::

    waiting -> parsing -> cleaning -> splitting -> indexing -> completed
    any of them but completed -> error, or -> paused -> waiting
    completed, error -> waiting       update, retry or sync: a new version
    in progress -> waiting            handed back: the next delivery starts over
"""

from enum import StrEnum

from shared.errors import InvalidTransition


class DocumentStatus(StrEnum):
    """Where a document's newest version stands; the active version serves meanwhile."""

    WAITING = "waiting"  #: accepted; nobody works on it
    PARSING = "parsing"  #: its file is being read
    CLEANING = "cleaning"  #: its text is being cleaned
    SPLITTING = "splitting"  #: its text is being cut into segments
    INDEXING = "indexing"  #: its segments are being embedded and written
    COMPLETED = "completed"  #: searchable in its newest version
    ERROR = "error"  #: ended; ``error`` says why
    PAUSED = "paused"  #: held by a person


S = DocumentStatus

#: A worker's stages, in order.
IN_PROGRESS = (S.PARSING, S.CLEANING, S.SPLITTING, S.INDEXING)

TRANSITIONS: dict[DocumentStatus, frozenset[DocumentStatus]] = {
    S.WAITING: frozenset({S.PARSING, S.ERROR, S.PAUSED}),
    S.PARSING: frozenset({S.CLEANING, S.ERROR, S.PAUSED, S.WAITING}),
    S.CLEANING: frozenset({S.SPLITTING, S.ERROR, S.PAUSED, S.WAITING}),
    S.SPLITTING: frozenset({S.INDEXING, S.ERROR, S.PAUSED, S.WAITING}),
    S.INDEXING: frozenset({S.COMPLETED, S.ERROR, S.PAUSED, S.WAITING}),
    S.COMPLETED: frozenset({S.WAITING}),
    S.ERROR: frozenset({S.WAITING}),
    S.PAUSED: frozenset({S.WAITING, S.ERROR}),
}


def require_transition(old: DocumentStatus, new: DocumentStatus) -> None:
    """Check one arrow of the machine.

    Raises:
        InvalidTransition: the machine has no arrow from ``old`` to ``new``.
    """
    if new not in TRANSITIONS[old]:
        reachable = ", ".join(sorted(TRANSITIONS[old]))
        raise InvalidTransition(f"a document cannot go from {old} to {new}, only to: {reachable}")
