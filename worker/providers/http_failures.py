"""What an HTTP provider's answers mean: a family of errors each, in the provider's words."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx

from shared.errors import (
    ProviderRefused,
    RagWorkerError,
    RateLimited,
    ServiceAway,
    ServiceUnavailable,
)
from worker.providers.retry_after import retry_after_seconds

_WORDS_CHARACTERS = 300
_MASK = "********"
_TRANSIENT_STATUSES = frozenset({408, 409, 423, 425})
#: A gateway without its server, and a server that says so itself; 529 is not registered, but used.
AWAY_STATUSES = frozenset({502, 503, 504, 529})
_TOO_LONG_STATUSES = frozenset({400, 413, 422, 500})
#: As OpenAI, vLLM, TEI, Ollama and llama.cpp say it: of a text, and of a batch.
_TOO_LONG = re.compile(
    r"context.?(length|window|size)|maximum (input|sequence|context)|input length"
    r"|(array|input|text|prompt|inputs?|content|sequence)\b.{0,40}too (long|large)"
    r"|max(imum)?\b.{0,30}tokens|(less|fewer) than \d+ tokens|batch size|entity too large",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Provider:
    """What messages call a provider, and where they send the reader.

    Attributes:
        name: who does not answer.
        key: where its key is set.
        address: where its address and its model are set.
    """

    name: str
    key: str
    address: str


EMBEDDING = Provider(
    "the embedding provider",
    key="EMBEDDING_API_KEY",
    address="EMBEDDING_BASE_URL and the dataset's embedding model",
)


def is_too_long(status: int, words: str) -> bool:
    """Whether an answer says that the texts, or one of them, are too long."""
    return status == httpx.codes.REQUEST_ENTITY_TOO_LARGE or (
        status in _TOO_LONG_STATUSES and _TOO_LONG.search(words) is not None
    )


def failure(
    status: int, headers: Mapping[str, str], words: str, provider: Provider = EMBEDDING
) -> RagWorkerError:
    """The error that an answer which is no success stands for."""
    said = f"{provider.name} answers {status}: {words}"
    after = retry_after_seconds(headers)
    if status == httpx.codes.TOO_MANY_REQUESTS:
        # Who has to pay first is not helped by waiting for ever.
        kind = ServiceUnavailable if "insufficient_quota" in words else RateLimited
        return kind(said, retry_after_seconds=after)
    if status in AWAY_STATUSES:
        return ServiceAway(said, retry_after_seconds=after)
    if status in _TRANSIENT_STATUSES or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return ServiceUnavailable(said, retry_after_seconds=after)
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        return ProviderRefused(f"{said}; see {provider.key}")
    if status == httpx.codes.NOT_FOUND or status < httpx.codes.BAD_REQUEST:
        return ProviderRefused(f"{said}; see {provider.address}")
    return ProviderRefused(said)


def unreachable(error: httpx.HTTPError, timeout_seconds: float) -> ServiceUnavailable:
    """The error that a request without a whole answer stands for."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return ServiceUnavailable(
            f"the embedding provider did not answer within {timeout_seconds:g} s"
        )
    # An answer that broke off may be about these texts; a connection that is not made is not.
    unconnected = (httpx.ConnectError, httpx.ConnectTimeout)
    kind = ServiceAway if isinstance(error, unconnected) else ServiceUnavailable
    return kind(f"the embedding provider cannot be reached, or broke off: {error}")


def provider_words(body: bytes, secret: str) -> str:
    """What the body of a failure says, in one short line, without the secret."""
    text = body.decode("utf-8", "replace")
    with suppress(ValueError):
        text = _message(json.loads(text)) or text
    if secret:
        text = text.replace(secret, _MASK)
    return " ".join(text.split())[:_WORDS_CHARACTERS] or "(no words)"


def _message(answer: Any) -> str:
    """The words among the shapes in use: ``error`` an object or a text, ``message``, ``detail``."""
    if not isinstance(answer, dict):
        return ""
    error = answer.get("error", answer)
    if not isinstance(error, dict):
        return str(error)
    found = [error.get(name) for name in ("message", "detail", "code")]
    return " ".join(str(one) for one in found if one)
