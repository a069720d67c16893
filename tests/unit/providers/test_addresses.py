"""Which addresses are public, whatever they are dressed up as."""

from ipaddress import ip_address, ip_network

import pytest

from shared.errors import ServiceUnavailable, SourceRefused
from worker.providers.addresses import checked_addresses, is_public

FORBIDDEN = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "192.88.99.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2002:a00:1::",
    "2001:0:1::1",
    "fe80::1",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "2001:db8::1",
    "100::1",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001::1"]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_what_is_not_public_is_refused(address: str) -> None:
    assert not is_public(ip_address(address))
    with pytest.raises(SourceRefused, match="FETCH_ALLOWED_NETWORKS"):
        checked_addresses("http://a.example/", "a.example", 80, (), lambda *_: [address])


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_not(address: str) -> None:
    assert is_public(ip_address(address))


def test_one_bad_address_among_good_ones_refuses_the_host() -> None:
    with pytest.raises(SourceRefused, match=r"a\.example is at 10\.0\.0\.1"):
        checked_addresses(
            "http://a.example/", "a.example", 80, (), lambda *_: ["8.8.8.8", "10.0.0.1"]
        )


def test_an_allowed_network_is_allowed_and_no_other() -> None:
    allowed = (ip_network("10.1.0.0/16"),)
    found = checked_addresses("http://a/", "a", 80, allowed, lambda *_: ["10.1.2.3"])
    assert found == [ip_address("10.1.2.3")]
    with pytest.raises(SourceRefused):
        checked_addresses("http://a/", "a", 80, allowed, lambda *_: ["10.2.0.1"])
    with pytest.raises(SourceRefused):
        checked_addresses("http://a/", "a", 80, allowed, lambda *_: ["::ffff:10.1.2.3"])


def test_a_scope_does_not_hide_a_link_local_address() -> None:
    with pytest.raises(SourceRefused):
        checked_addresses("http://a/", "a", 80, (), lambda *_: ["fe80::1%lo"])


def test_a_name_without_an_address_is_tried_again() -> None:
    def nobody(*_: object) -> list[str]:
        raise OSError("Name or service not known")

    with pytest.raises(ServiceUnavailable, match="has no address"):
        checked_addresses("http://a/", "a", 80, (), nobody)
