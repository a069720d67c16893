"""The mailer protocol: one message to one address, and what the provider said."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from worker.providers.letter import Letter


@dataclass(frozen=True, slots=True)
class Receipt:
    """The provider took the mail.

    Attributes:
        words: its answer.
        provider_id: its own name for the mail, where it has one.
    """

    words: str
    provider_id: str | None = None


class Mailer(Protocol):
    """One mail provider."""

    @property
    def name(self) -> str:
        """What the delivery row calls it."""

    @property
    def sends_key_once(self) -> bool:
        """Whether a second copy with the same key goes to nobody."""

    def send(self, letter: Letter, key: str, hand_over: Callable[[], None]) -> Receipt:
        """Send a mail.

        Args:
            letter: what, and where to.
            key: the same for every copy: providers that know such keys send it once.
            hand_over: called right before the point of no return (the final dot, the
                request's body); what it raises ends the attempt, with nothing sent.

        Raises:
            MailRefused: (permanent) by the provider, for good.
            MailDeferred: (transient) nothing was taken.
            MailUnconfirmed: (transient) handed over, and no answer came.
        """
