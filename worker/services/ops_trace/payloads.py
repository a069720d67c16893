"""The spans of a delivery, from its row or, when they were large, from the storage."""

from collections.abc import Mapping
from typing import Any, BinaryIO, Protocol

from shared.errors import Permanent, UnreadableFile
from shared.submitting.trace_payload import packed, unpacked
from shared.submitting.trace_redaction import Redaction
from shared.submitting.trace_schema import Trace

#: What was cut was cut when it was recorded.
_NO_LIMIT = 2**62


class PayloadFiles(Protocol):
    """The storage, as far as payloads lie in it."""

    def open(self, key: str) -> BinaryIO:
        """Open for reading.

        Raises:
            UnreadableFile: (permanent) there is no such file.
            ServiceUnavailable: (transient) the storage does not answer.
        """

    def write(self, key: str, content: bytes) -> None:
        """Write a file whole, or not at all.

        Raises:
            ServiceUnavailable: (transient) the storage does not answer.
        """


def stored_trace(payload: bytes | None, storage_key: str | None, files: PayloadFiles) -> Trace:
    """A delivery's trace.

    Raises:
        Permanent: it is gone, broken, or of a newer release.
        ServiceUnavailable: (transient) the storage does not answer.
    """
    if payload is not None:
        return unpacked(bytes(payload))
    if storage_key is None:
        raise Permanent("the trace has no spans any more: record it again")
    try:
        with files.open(storage_key) as file:
            return unpacked(file.read())
    except UnreadableFile:
        raise Permanent(
            f"the stored spans {storage_key} are gone: record the trace again"
        ) from None


def masked_for(trace: Trace, options: Mapping[str, Any]) -> Trace:
    """The trace by a configuration's own rules: it may have been recorded before there were any."""
    rules = Redaction(characters=_NO_LIMIT)
    own = rules.of_config(options)
    return trace if own is rules else unpacked(packed(trace, own)[0])
