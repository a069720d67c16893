"""Whoever takes a tenant's spans, as the delivery sees it; its kind stands beside this file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Target:
    """Where spans go.

    Attributes:
        headers: the provider's own; they may carry secrets.
        secrets: masked in whatever the provider says.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Receipt:
    """A provider's "taken".

    Attributes:
        words: its answer in one short line; empty when it said nothing.
        rejected_spans: so many of the request's it did not take; never to be sent again.
    """

    words: str = ""
    rejected_spans: int = 0


class TraceSender(Protocol):
    """Carries spans over the network, once."""

    def send(self, target: Target, content: bytes) -> Receipt:
        """Send an encoded ``ExportTraceServiceRequest``.

        Raises:
            RateLimited: (transient) the provider asks for patience.
            TracesDeferred: (transient) it is not reached, or says "later".
            SpansRefused: (permanent) it does not take what is in the request.
            ProviderRefused: (permanent) it takes no request: a key or an address is wrong.
        """
