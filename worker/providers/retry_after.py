"""The Retry-After header of a server that asks for patience."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: For callers who believe no server that asks for more.
MOST_PATIENCE_SECONDS = 6 * 3600.0


def retry_after_seconds(headers: Mapping[str, str], most_seconds: float = math.inf) -> float | None:
    """The wait a server asks for; ``None`` when it does not say.

    In seconds, in milliseconds (``retry-after-ms``, of OpenAI's servers), or as a date:
    that is the server's, and so is the ``Date`` it is counted from, where there is one.

    Args:
        headers: of the answer, by names whose case does not matter (httpx's do so).
        most_seconds: believed of it.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return min(milliseconds / 1000, most_seconds)
    wanted = headers.get("retry-after")
    seconds = _number(wanted)
    if seconds is None:
        until = _moment(wanted)
        if until is None:
            return None
        now = _moment(headers.get("date")) or datetime.now(UTC)
        seconds = max((until - now).total_seconds(), 0.0)
    return min(seconds, most_seconds)


def _number(text: str | None) -> float | None:
    try:
        found = float((text or "").strip())
    except ValueError:
        return None
    return max(found, 0.0) if math.isfinite(found) else None


def _moment(text: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime((text or "").strip())
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
