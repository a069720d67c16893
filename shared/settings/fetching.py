"""Fetching URLs: what may be fetched, from where, how much and for how long."""

from ipaddress import ip_network

from pydantic import Field, field_validator

from shared.settings.base import SettingsGroup

_TYPES = (
    "text/html",
    "application/xhtml+xml",
    "text/plain",
    "text/markdown",
    "text/csv",
    "text/tab-separated-values",
    "text/xml",
    "application/xml",
    "application/json",
    "application/pdf",
    "application/rtf",
    "application/epub+zip",
    "application/vnd.openxmlformats-officedocument.*",
)


class FetchingSettings(SettingsGroup):
    fetch_timeout_seconds: float = Field(
        60, gt=0, description="Longest that fetching one URL may take, redirects included."
    )
    fetch_silence_seconds: float = Field(
        15, gt=0, description="Longest that a web server may say nothing."
    )
    fetch_max_bytes: int = Field(
        100 * 1024**2, ge=1, description="Largest content of a URL, unpacked."
    )
    fetch_max_redirects: int = Field(5, ge=0, description="Most redirects from one URL.")
    fetch_content_types: str = Field(
        ",".join(_TYPES), description="Media types that are accepted; * stands for anything."
    )
    fetch_allowed_ports: str = Field(
        "80,443", description="Ports that are connected to, separated by commas."
    )
    fetch_allowed_networks: str = Field(
        "",
        description="Networks that are fetched from although they are not public: 10.1.0.0/16 …",
    )
    fetch_proxy_url: str = Field(
        "",
        description="A proxy for every fetch, which then guards addresses; HTTP_PROXY is ignored.",
    )

    @field_validator("fetch_allowed_networks")
    @classmethod
    def _networks_are_networks(cls, value: str) -> str:
        for one in listed(value):
            ip_network(one)
        return value

    @field_validator("fetch_allowed_ports")
    @classmethod
    def _ports_are_ports(cls, value: str) -> str:
        for one in listed(value):
            if not one.isascii() or not one.isdigit() or not 0 < int(one) < 1 << 16:
                raise ValueError(f"{one!r} is not a port: write 80,443")
        return value


def listed(value: str) -> list[str]:
    """The parts of a setting that are separated by commas."""
    return [one.strip() for one in value.split(",") if one.strip()]
