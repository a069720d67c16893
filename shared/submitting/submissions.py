"""What a submission of documents is answered with."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Outcome(StrEnum):
    """What a submission came to."""

    NEW = "new"  #: the dataset's first version of it: will be indexed
    CHANGED = "changed"  #: a new version: will be indexed; the old one serves meanwhile
    AGAIN = "again"  #: ended as error or still waits: will be indexed
    UNCHANGED = "unchanged"  #: indexed already, with this content
    PAUSED = "paused"  #: waits with this content until somebody resumes it
    IN_PROGRESS = "in_progress"  #: an earlier version is being indexed: submit again later


@dataclass(frozen=True, slots=True)
class Submission:
    """One document's answer to a submission; in progress means this content was not taken.

    Paused means it was, earlier: ``resume_documents`` lets it go on.
    """

    document_id: UUID
    name: str
    version: int
    outcome: Outcome
    size_bytes: int

    @property
    def will_be_indexed(self) -> bool:
        """Whether there is work to announce."""
        return self.outcome in {Outcome.NEW, Outcome.CHANGED, Outcome.AGAIN}
