"""Requests wait their turn at a provider that only takes so many a minute."""

import random
import time
from typing import Protocol

from shared.errors import RateLimited

#: The longest that a worker's slot waits; beyond it the work goes back into the queue.
LONGEST_WAIT_SECONDS = 1.0
_EMBEDDING_LIMITS = "EMBEDDING_REQUESTS_PER_MINUTE and EMBEDDING_TOKENS_PER_MINUTE"


class Rate(Protocol):
    """A provider's rate, shared by all workers."""

    def reserve(self, tokens: int, longest_wait_seconds: float) -> float:
        """Take a place in the sequence for one request.

        Returns:
            Seconds until it is this request's turn; negative, and no place is taken,
            when they are more than ``longest_wait_seconds``: so long to stay away.

        Raises:
            ServiceUnavailable: (transient) whoever keeps the rate does not answer.
        """

    def hold(self, seconds: float) -> None:
        """Let everybody wait for so long: the provider asked for it."""


class Unlimited:
    """No rate at all."""

    def reserve(self, tokens: int, longest_wait_seconds: float) -> float:  # noqa: ARG002 - the protocol's
        """Go ahead."""
        return 0.0

    def hold(self, seconds: float) -> None:
        """Each worker finds out by itself."""


def wait_for_turn(rate: Rate, tokens: int, limits: str = _EMBEDDING_LIMITS) -> None:
    """Wait, at most ``LONGEST_WAIT_SECONDS``, until a request of so many tokens may go out.

    Args:
        rate: the provider's.
        tokens: what the request costs of it.
        limits: the settings that the message names.

    Raises:
        RateLimited: (transient) it would take longer; carries ``retry_after_seconds``.
        ServiceUnavailable: (transient) whoever keeps the rate does not answer.
    """
    seconds = rate.reserve(tokens, LONGEST_WAIT_SECONDS)
    if seconds < 0:
        # Those who are sent away together must not all come back together.
        again = -seconds * random.uniform(1, 2)  # noqa: S311 - spreading load, not a secret
        raise RateLimited(
            f"the rate allowed by {limits} is used up for {-seconds:.1f} s",
            retry_after_seconds=again,
        )
    if seconds > 0:
        time.sleep(seconds)
