"""Qdrant's errors, as what a caller can do about them."""

from json import JSONDecodeError

from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from shared.errors import Permanent, ServiceAway, ServiceUnavailable

NOT_FOUND = 404
_CONFLICT = 409


def is_there_already(error: Exception) -> bool:
    """Whether a collection could not be made because another process has just made it."""
    if isinstance(error, UnexpectedResponse):
        return error.status_code == _CONFLICT
    return isinstance(error, ValueError) and "already exists" in str(error)


def mapped(error: Exception) -> Exception:
    """The error's family; a defect of ours stays what it is."""
    if isinstance(error, ResourceExhaustedResponse):
        return ServiceUnavailable(
            f"Qdrant is asked too often: {error}", retry_after_seconds=float(error.retry_after_s)
        )
    if isinstance(error, ResponseHandlingException):
        return ServiceAway(f"Qdrant does not answer: {error.source!r}")
    if isinstance(error, JSONDecodeError):
        return ServiceUnavailable(f"Qdrant's answer is cut off: {error}")
    if not isinstance(error, UnexpectedResponse):
        return error
    return _refusal(error)


def _refusal(error: UnexpectedResponse) -> Exception:
    status = error.status_code or 0
    said = error.content.decode(errors="replace")[:300]
    if status in {401, 403}:
        return Permanent(f"Qdrant refuses QDRANT_API_KEY (HTTP {status}): {said}")
    if status in {502, 503, 504}:
        return ServiceAway(f"Qdrant answers HTTP {status}: {said}")
    if status in {NOT_FOUND, 408, 429} or status >= 500:  # noqa: PLR2004
        return ServiceUnavailable(f"Qdrant answers HTTP {status}: {said}")
    return Permanent(f"Qdrant refuses the request (HTTP {status}): {said}")
