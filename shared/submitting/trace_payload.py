"""A trace as bytes: JSON with the schema's version in it, deflated."""

import json
import zlib
from typing import Any

from pydantic import ValidationError

from shared.errors import InvalidRequest, Permanent
from shared.submitting.trace_redaction import Redaction
from shared.submitting.trace_schema import SCHEMA_VERSION, Trace

#: Most of what a payload may unpack to; a recorded one is far smaller (TRACE_MAX_BYTES).
_MOST_BYTES = 256 * 1024**2
_SHOWN_MISTAKES = 3


def checked_trace(given: Any) -> Trace:
    """A trace of what a producer has: a ``Trace``, or the same as a mapping.

    Raises:
        InvalidRequest: it is no trace; the message says where, and shows no content.
    """
    if isinstance(given, Trace):
        return given
    try:
        return Trace.model_validate(given)
    except ValidationError as error:
        raise InvalidRequest(f"no trace: {_mistakes(error)}") from None
    except RecursionError:
        raise InvalidRequest("no trace: something in it is nested too deeply") from None


def packed(trace: Trace, redaction: Redaction | None = None) -> tuple[bytes, int]:
    """The payload, masked and cut by the rules, and its size in bytes before it was deflated."""
    said = trace.model_dump(mode="json", exclude_defaults=True)
    if redaction is not None:
        said = redaction.apply(said)
    said["schema_version"] = trace.schema_version
    written = json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()
    return zlib.compress(written), len(written)


def unpacked(payload: bytes) -> Trace:
    """The trace of a payload.

    Raises:
        Permanent: it is broken, or of a newer release.
    """
    inflating = zlib.decompressobj()
    try:
        said = json.loads(inflating.decompress(payload, _MOST_BYTES))
        version = said["schema_version"]
    except (zlib.error, ValueError, TypeError, KeyError) as error:
        raise Permanent(f"the stored trace cannot be read: {type(error).__name__}") from None
    if version != SCHEMA_VERSION:
        raise Permanent(
            f"the stored trace has schema version {version}, this release knows up to "
            f"{SCHEMA_VERSION}: upgrade the workers, then `rag-worker traces replay`"
        )
    try:
        return Trace.model_validate(said)
    except ValidationError as error:
        raise Permanent(f"the stored trace cannot be read: {_mistakes(error)}") from None


def _mistakes(error: ValidationError) -> str:
    # Not the input: it is the user's content.
    found = error.errors(include_url=False, include_context=False, include_input=False)
    shown = [
        f"{'.'.join(map(str, one['loc'])) or 'trace'}: {one['msg'].removeprefix('Value error, ')}"
        for one in found[:_SHOWN_MISTAKES]
    ]
    more = f" (and {len(found) - len(shown)} more)" if len(found) > len(shown) else ""
    return "; ".join(shown) + more
