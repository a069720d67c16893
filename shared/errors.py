"""The error tree: a family tells what a caller can do about it.

::

    RagWorkerError
     x ConfigurationError          a setting is wrong: fix it and start again
     x InvalidRequest              the caller asked for something that cannot be done
       + DocumentIndexingInProgress
       + IndexChangeInProgress
       + NotFound
       + RecipientLimitReached
       + TraceTooLarge
       + UnusableUrl
     x Transient                   the same call can succeed later: retry
       + ServiceUnavailable
         + AnswerUnusable
         + MailDeferred
         + ServiceAway
           + StorageFull
         + TracesDeferred
       + IndexReplaced
       + SegmentsChanged
       + ParserDied
       + Stalled
       + ShuttingDown
       + RateLimited
         + BudgetExceeded
         + PairsPending
       + MailUnconfirmed
       + AnswerNotEnded
     x Permanent                   trying again changes nothing: record the reason
       + UnreadableFile
         + EmptyFile
         + EncryptedFile
         + LimitExceeded
       + MailRefused
       + ProviderRefused
         + ModelRefused
         + PromptTooLong
       + SpansRefused
       + SourceUnusable
         + SourceGone
         + SourceRefused
       + MigrationUnverified
       + AttemptsExhausted
       + DeadlineExceeded
       + SkippedBySwitch
       + PurgedFromQueue
       + UnexpectedFailure
       + InvalidTransition
     x Superseded                  somebody else owns or removed the subject: step back quietly
       + LeaseHeld
       + LeaseLost
       + SubjectGone
       + AnswerCancelled

A class's docstring is its default message. ``FlaskTask`` maps the families to
Celery's answers once: done, retry, failure, quiet acknowledgement.
"""

from inspect import cleandoc


class RagWorkerError(Exception):
    """Something went wrong in rag-worker."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or cleandoc(self.__doc__ or type(self).__name__))


class ConfigurationError(RagWorkerError):
    """A setting is missing or wrong."""


class InvalidRequest(RagWorkerError):
    """The request cannot be carried out as it stands."""


class DocumentIndexingInProgress(InvalidRequest):
    """The document is being indexed: wait for it to finish, then ask again."""


class IndexChangeInProgress(InvalidRequest):
    """The dataset's index is being changed otherwise: wait for that to end, then ask again."""


class NotFound(InvalidRequest):
    """No such row."""


class RecipientLimitReached(InvalidRequest):
    """Too many mails of this kind went to this address of late: ask again later."""


class TraceTooLarge(InvalidRequest):
    """The trace passes a limit: record it in parts, or raise the limit."""


class UnusableUrl(InvalidRequest):
    """Not a URL that can be fetched: write http or https, a host, and no credentials."""


class Transient(RagWorkerError):
    """The same call can succeed later.

    ``retry_after_seconds`` is what the peer asked for, or ``None``.
    """

    def __init__(
        self, message: str | None = None, *, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ServiceUnavailable(Transient):
    """A service this work needs does not answer at the moment."""


class IndexReplaced(Transient):
    """The dataset has another index meanwhile: the document is indexed again, for that one."""


class SegmentsChanged(Transient):
    """Segments of the version that serves were changed meanwhile: it is indexed again."""


class ParserDied(Transient):
    """The process that parsed the file crashed or was killed by the system."""


class Stalled(Transient):
    """The task reported no progress for too long."""


class ShuttingDown(Transient):
    """The worker shuts down: the work is handed back, the attempt does not count."""


class RateLimited(Transient):
    """The rate is used up: the work waits its turn, and the attempt does not count."""


class AnswerUnusable(ServiceUnavailable):
    """The model's answer is not what was asked for, nor was its second one."""


class ServiceAway(ServiceUnavailable):
    """A service this work needs is down: the work waits for it, and the attempt does not count."""


class StorageFull(ServiceAway):
    """A disk is full: make room there; the work waits for it, and the attempt does not count."""


class MailDeferred(ServiceUnavailable):
    """The mail was not taken, and may be later: the server said so, or was not reached."""


class TracesDeferred(ServiceUnavailable):
    """The trace provider did not take the spans, and may later: it said so, or was not reached."""


class BudgetExceeded(RateLimited):
    """The tenant's tokens of the day are used up: the work waits until the day turns (UTC)."""


class PairsPending(RateLimited):
    """The questions of its passages are being written: then the document goes on."""


class MailUnconfirmed(Transient):
    """The mail was handed over and no answer came: it may have been taken."""


class AnswerNotEnded(Transient):
    """The answer goes on: read it on from the last event's id."""


class Permanent(RagWorkerError):
    """Trying again changes nothing."""


class UnreadableFile(Permanent):
    """Nothing can read this file: check that it opens in its own program, then upload it again."""


class EmptyFile(UnreadableFile):
    """The file holds no text: upload one that does."""


class EncryptedFile(UnreadableFile):
    """The file is protected by a password: upload a copy without one."""


class LimitExceeded(UnreadableFile):
    """The file passes a limit: split it, or raise the limit."""


class MailRefused(Permanent):
    """The mail server refused the mail for good."""


class ProviderRefused(Permanent):
    """A provider refuses the request: its words say what to set right."""


class SpansRefused(Permanent):
    """The trace provider refuses these spans, alone or together; others it may take."""


class ModelRefused(ProviderRefused):
    """The model refuses to answer this: its words say why."""


class PromptTooLong(ProviderRefused):
    """The prompt is longer than the model takes: lower the tokens it is given."""


class SourceUnusable(Permanent):
    """The URL gives nothing that can be indexed: open it in a browser to see why."""


class SourceGone(SourceUnusable):
    """The URL is gone: delete the document, or submit the new URL."""


class SourceRefused(SourceUnusable):
    """The rules for fetching forbid this URL: see the FETCH_ settings."""


class MigrationUnverified(Permanent):
    """What was moved is not what there is: search goes on with the old vectors."""


class AttemptsExhausted(Permanent):
    """Every attempt ended without a result."""


class DeadlineExceeded(Permanent):
    """The task ran for longer than it may."""


class SkippedBySwitch(Permanent):
    """An operator told the workers to skip this."""


class PurgedFromQueue(Permanent):
    """An operator purged the queue it waited in."""


class UnexpectedFailure(Permanent):
    """An error nobody expected ended it; it is recorded, with its traceback, as a dead letter."""


class InvalidTransition(Permanent):
    """The status machine has no such arrow."""


class Superseded(RagWorkerError):
    """Somebody else owns this work now, or its subject is gone."""


class LeaseHeld(Superseded):
    """Another worker has it: if that one dies, the sweeper sends it out again."""


class LeaseLost(Superseded):
    """Another worker holds the lease: this run leaves no trace."""


class SubjectGone(Superseded):
    """The row this work is about was deleted."""


class AnswerCancelled(Superseded):
    """Who asked wants no answer any more."""
