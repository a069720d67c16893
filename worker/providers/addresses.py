"""Which addresses may be fetched from: public ones, and networks that were allowed by name.

A name is resolved once and connected to at the address that was checked: a second
answer of the name server (DNS rebinding) is never asked for.
"""

import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from shared.errors import ServiceUnavailable, SourceRefused

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
#: The addresses of a host, as text.
Resolve = Callable[[str, int], Sequence[str]]

#: Not public although the registries say so: they carry an IPv4 address inside, lead back
#: into the network they are sent from, or are a cloud's own.
_FORBIDDEN = tuple(
    ip_network(one)
    for one in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "168.63.129.16/32",  # Azure's host
        "192.0.0.0/24",  # protocols' own, and a cloud's metadata
        "192.88.99.0/24",  # 6to4 relays
        "::/96",  # IPv4-compatible
        "::ffff:0:0/96",  # IPv4-mapped
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64 of one's own
        "2001::/32",  # Teredo
        "2002::/16",  # 6to4
        "fec0::/10",  # site-local
    )
)


def system_resolve(host: str, port: int) -> list[str]:
    """The addresses by the system's resolver.

    Raises:
        OSError: there are none, or nobody answers.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def is_public(address: Address) -> bool:
    """Whether anybody on the Internet could be reached by it."""
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address in network for network in _FORBIDDEN)


def checked_addresses(
    url: str, host: str, port: int, allowed: Sequence[Network], resolve: Resolve
) -> list[Address]:
    """The addresses of a host, each of them allowed.

    Raises:
        SourceRefused: (permanent) one of them is not.
        ServiceUnavailable: (transient) the name cannot be resolved.
    """
    try:
        found = [_plain(one) for one in resolve(host, port)]
    except (OSError, UnicodeError) as error:
        raise ServiceUnavailable(f"{url}: {host} has no address: {error}") from error
    if not found:
        raise ServiceUnavailable(f"{url}: {host} has no address")
    for address in found:
        if not is_public(address) and not any(address in network for network in allowed):
            raise SourceRefused(
                f"{url}: {host} is at {address}, which is not public: "
                "if it should be fetched, add its network to FETCH_ALLOWED_NETWORKS"
            )
    return found


def _plain(text: str) -> Address:
    # A scope (fe80::1%eth0) is the system's own affair.
    return ip_address(text.partition("%")[0])
