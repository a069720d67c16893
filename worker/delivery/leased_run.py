"""What a leased row's work is run by; its end is written down by the family of what ended it."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol, TypeVar

from shared.errors import (
    AttemptsExhausted,
    ConfigurationError,
    Permanent,
    RateLimited,
    ServiceAway,
    Superseded,
    UnexpectedFailure,
)
from shared.queueing.outage import RETRYABLE, SERVER_LOST, UNCOUNTED
from worker.delivery import runs
from worker.delivery.lease import Lease, table_of

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class KeepsLeases(Protocol):
    """The heartbeat."""

    def keep(self, lease: Lease) -> AbstractContextManager[None]:
        """Renew the lease while the block runs; end the task when it is lost."""

    def owe(self, give_back: Callable[[], None]) -> None:
        """Give a lease back as soon as the database answers; ``give_back`` just found it away."""


class Ends(Protocol):
    """How the row of a run says that it did not get to its end.

    Each writes in a transaction of its own, with ``release``, so that a lease that was
    lost writes nothing.
    """

    def hand_back(self, error: Exception) -> None:
        """Free the row for its next delivery; ``error`` stopped this one.

        Raises:
            Permanent: there is no next one, and the row says so.
        """

    def fail(self, error: Permanent | ConfigurationError) -> None:
        """End the row for good, with the reason."""


def unexpected(error: Exception) -> str:
    """What a row says of an error nobody expected."""
    return f"unexpected {type(error).__name__}: {error}"


def run_leased(
    work: Callable[[], Result],
    lease: Lease,
    ends: Ends,
    *,
    heartbeat: KeepsLeases,
    words: Callable[[Exception], str] = unexpected,
) -> Result:
    """Do the work of a row whose lease was claimed; the heartbeat keeps it meanwhile.

    Args:
        work: can be interrupted at any statement; writes by the lease's token only.
        lease: of the row.
        ends: told of anything that stops the work, but of a lease that was lost.
        heartbeat: keeps the lease.
        words: what the row says of an error nobody expected; where those may hold
            secrets, less than the error does.

    Raises:
        Superseded: another worker has the row, or it is gone; the row is left alone.
        Transient: and what a lost server raises, after the row was handed back.
        Permanent: after the row was ended with the reason.
        ConfigurationError: likewise.
    """
    try:
        with heartbeat.keep(lease):
            return runs.part(work)
    except Superseded:
        raise
    except RETRYABLE as error:
        _hand_back(lease, ends, error, heartbeat)
        raise
    except (Permanent, ConfigurationError) as error:
        _fail(lease, ends, error)
        raise
    except Exception as error:
        # A defect, ours or a library's: another attempt would meet it again.
        reason = UnexpectedFailure(words(error))
        _fail(lease, ends, reason)
        raise reason from error


def attempts_after(lease: Lease, error: Exception) -> int:
    """The attempts of a row that is handed back, without one that was stopped by no fault of it."""
    return lease.attempt - isinstance(error, UNCOUNTED)


def reason_of(lease: Lease, error: Exception) -> str:
    """What a row says that is handed back."""
    if isinstance(error, RateLimited):  # it waits its turn, however long that takes
        return f"waits its turn: {error}"
    if isinstance(error, ServiceAway):
        return f"waits for a service: {error}"
    return f"attempt {lease.attempt} failed and will be repeated: {error}"


def require_attempts_left(
    lease: Lease,
    subject: str,
    *,
    max_attempts: int,
    max_deaths: int,
    last_error: str | None,
    way_out: str = "",
) -> None:
    """End what was tried often enough.

    Args:
        lease: says how often, and how many workers died on it.
        subject: "this import".
        max_attempts: pick-ups before it ends.
        max_deaths: workers that may die on it before it ends.
        last_error: what stopped it last.
        way_out: what starts it over.

    Raises:
        AttemptsExhausted: it ends now.
    """
    if lease.deaths >= max_deaths:
        last = f" ({last_error})" if last_error else ""
        raise AttemptsExhausted(f"the worker died {lease.deaths} times on {subject}{last}")
    if lease.attempt > max_attempts:
        last = last_error or "the worker that had it died or was interrupted"
        after = f"; {way_out}" if way_out else ""
        raise AttemptsExhausted(
            f"given up after {max_attempts} attempts; the last ended so: {last}{after}"
        )


def _hand_back(lease: Lease, ends: Ends, error: Exception, heartbeat: KeepsLeases) -> None:
    try:
        ends.hand_back(error)
    except Superseded as superseded:
        _log_superseded(lease, superseded)
    except SERVER_LOST as lost:
        # Should this process end before that, the lease runs out by itself, and the next
        # delivery starts at the checkpoint.
        heartbeat.owe(partial(ends.hand_back, error))
        logger.warning(
            "%s not handed back: %s",
            lease.row_id,
            lost,
            extra={"action": "lease.not_handed_back", "table": table_of(lease.model).name},
        )


def _fail(lease: Lease, ends: Ends, error: Permanent | ConfigurationError) -> None:
    try:
        ends.fail(error)
    except Superseded as superseded:
        _log_superseded(lease, superseded)


def _log_superseded(lease: Lease, superseded: Superseded) -> None:
    logger.info(
        "%s",
        superseded,
        extra={"action": "lease.superseded", "table": table_of(lease.model).name},
    )
