"""Traces: what is accepted and what is masked, how long they are kept, where they may go."""

import json
import re
from ipaddress import ip_network

from pydantic import Field, field_validator

from shared.settings.base import SettingsGroup
from shared.settings.fetching import listed

_KEYS = (
    "authorization,proxy_authorization,api_key,apikey,x_api_key,password,passwd,secret,"
    "client_secret,access_token,refresh_token,private_key,cookie,set_cookie"
)
#: Switches a list off whose default is not empty: an empty variable means the default.
NONE = "none"


class TracingSettings(SettingsGroup):
    trace_max_bytes: int = Field(
        8 * 1024**2, ge=1024, description="Largest trace that is accepted, as JSON."
    )
    trace_max_spans: int = Field(2000, ge=1, description="Most spans of a trace that is accepted.")
    trace_value_characters: int = Field(
        100_000, ge=100, description="Longest text in a trace; what is longer is cut, and says so."
    )
    trace_redact_keys: str = Field(
        _KEYS, description="Keys whose values are masked in traces, in any case; none: no key."
    )
    trace_redact_patterns: str = Field(
        "", description='Regular expressions masked in traces, as JSON: ["\\\\d{16}", "…"].'
    )
    trace_gather_seconds: float = Field(
        10, ge=0, description="How long spans wait for their trace's root, to travel together."
    )
    trace_inline_bytes: int = Field(
        256 * 1024, ge=0, description="Ended traces that are larger move to STORAGE_URL."
    )
    trace_delivered_retention_days: int = Field(
        7, ge=1, description="Age at which delivered traces are deleted."
    )
    trace_failed_retention_days: int = Field(
        30, ge=1, description="Age at which failed, partial, cancelled and disabled ones are."
    )
    trace_allowed_networks: str = Field(
        "",
        description="Networks traces are sent to although they are not public: 10.1.0.0/16 …",
    )

    @field_validator("trace_allowed_networks")
    @classmethod
    def _networks_are_networks(cls, value: str) -> str:
        for one in listed(value):
            ip_network(one)
        return value

    @field_validator("trace_redact_patterns")
    @classmethod
    def _patterns_are_patterns(cls, value: str) -> str:
        for one in _patterns(value):
            try:
                found = re.compile(one)
            except re.error as error:
                raise ValueError(f"{one!r} is no regular expression: {error}") from None
            if found.search(""):
                raise ValueError(f"{one!r} fits everywhere: it matches the empty text")
        return value

    @property
    def redacted_keys(self) -> list[str]:
        """``TRACE_REDACT_KEYS`` one by one."""
        keys = listed(self.trace_redact_keys)
        return [] if keys == [NONE] else keys

    @property
    def redacted_patterns(self) -> list[str]:
        """``TRACE_REDACT_PATTERNS`` one by one."""
        return _patterns(self.trace_redact_patterns)


def _patterns(value: str) -> list[str]:
    if not value:
        return []
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError('not a JSON list of texts: write ["\\\\d{16}"]')
    return found
