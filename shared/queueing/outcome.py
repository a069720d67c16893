"""How the run of a message can end, as the metrics count it."""

from enum import StrEnum


class Outcome(StrEnum):
    """The end of one run. A message that is tried three times has three of them.

    ``Ignore`` carries those that Celery has no word for, as its argument: nothing else comes
    from a pool's child to the worker's main process, where runs are counted.
    """

    SUCCEEDED = "succeeded"  #: returned
    FAILED = "failed"  #: ended for good: the reason is in its row, or it is a dead letter
    SKIPPED = "skipped"  #: ended for good, by a person's switch
    RETRIED = "retried"  #: goes again, after a pause
    SUPERSEDED = "superseded"  #: nothing to do: it is done, gone, or in other hands
    HELD = "held"  #: a person's switch keeps it
    HANDED_BACK = "handed_back"  #: goes again at once: this worker ends, or is not the first to try
    IGNORED = "ignored"  #: the task itself said that there is nothing to store
    REJECTED = "rejected"  #: the task itself gave it back to the broker, or dropped it
    REVOKED = "revoked"  #: revoked, or expired before it began
    LOST = "lost"  #: its process died under it
