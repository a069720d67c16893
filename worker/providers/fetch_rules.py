"""What may be fetched, how much of it and for how long."""

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Self

from shared.settings.fetching import FetchingSettings, listed
from worker.providers.addresses import Network


@dataclass(frozen=True, slots=True)
class FetchRules:
    """What may be fetched.

    Attributes:
        total_seconds: for one URL, redirects included.
        silence_seconds: without a byte.
        max_bytes: of the unpacked content.
        content_types: patterns of media types.
        networks: allowed although they are not public.
        proxy_url: all goes through it, and names are resolved there once more.
    """

    total_seconds: float
    silence_seconds: float
    max_bytes: int
    max_redirects: int
    content_types: tuple[str, ...]
    ports: frozenset[int]
    networks: tuple[Network, ...] = ()
    proxy_url: str | None = None

    @classmethod
    def of(cls, fetching: FetchingSettings) -> Self:
        """As the settings say."""
        return cls(
            total_seconds=fetching.fetch_timeout_seconds,
            silence_seconds=fetching.fetch_silence_seconds,
            max_bytes=fetching.fetch_max_bytes,
            max_redirects=fetching.fetch_max_redirects,
            content_types=tuple(listed(fetching.fetch_content_types)),
            ports=frozenset(map(int, listed(fetching.fetch_allowed_ports))),
            networks=tuple(map(ip_network, listed(fetching.fetch_allowed_networks))),
            proxy_url=fetching.fetch_proxy_url or None,
        )
