"""The Retry-After header of a server that asks for patience."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_MOST_SECONDS = 6 * 3600.0


def retry_after_seconds(value: str | None) -> float | None:
    """The wait a server asks for, at most six hours; ``None`` when it does not say."""
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _MOST_SECONDS)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    aware = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
    return min(max((aware - datetime.now(UTC)).total_seconds(), 0.0), _MOST_SECONDS)
