"""The connection to one chat server: bounds, foreign exceptions, and what it understands."""

import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
from pydantic import SecretStr

from shared.errors import (
    AnswerUnusable,
    PromptTooLong,
    RagWorkerError,
    RateLimited,
    ServiceUnavailable,
)
from worker.providers.chat import ChatMessage
from worker.providers.http_failures import Provider, failure, is_too_long, provider_words
from worker.providers.pacing import Rate

logger = logging.getLogger(__name__)

CHAT = Provider(
    "the chat provider",
    key="`rag-worker models` or GENERATION_API_KEY",
    address="`rag-worker models`, or GENERATION_BASE_URL and GENERATION_MODEL",
)
_CONNECT_SECONDS = 10.0
#: What JSON makes of a byte of text at most, and of what stands around it.
_JSON_FACTOR, _JSON_BYTES = 6, 65_536
#: Of a request whose parameters the server does not know.
_MOST_SPELLINGS = 5


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model of one server.

    Attributes:
        url: up to the version.
        context_tokens: what the model takes, its answer included.
        silence_seconds: longest silence that is waited for.
        call_seconds: longest that a call may take.
        max_answer_bytes: of text.
        connections: at most, of this process.
    """

    url: str
    model: str
    key: SecretStr
    context_tokens: int
    silence_seconds: float
    call_seconds: float
    max_answer_bytes: int
    connections: int


class ChatConnection:
    """Asks one model; safe in threads, greenlets and forked children.

    Args:
        endpoint: where it is.
        rate: the server's, shared by all workers.
    """

    def __init__(self, endpoint: Endpoint, rate: Rate) -> None:
        self.endpoint = endpoint
        self.rate = rate
        self._opening = threading.Lock()
        self._client: openai.OpenAI | None = None
        self._client_pid = 0
        #: Parameters the server refused: their other name, or nothing.
        self._spelling: dict[str, str | None] = {}

    def ask(self, messages: Sequence[ChatMessage], options: dict[str, Any]) -> Any:
        """Send a request once; what the server does not know of it is left out and sent again.

        Raises:
            RagWorkerError: see ``ChatModel``.
        """
        said = [{"role": one.role, "content": one.content} for one in messages]
        keyless = None if self._secret else {"Authorization": openai.Omit()}
        for _ in range(_MOST_SPELLINGS):
            spelt = self._spelt(options)
            try:
                with self.answering():
                    completions: Any = self._opened().chat.completions
                    return completions.create(
                        model=self.endpoint.model, messages=said, extra_headers=keyless, **spelt
                    )
            except _Unknown as refused:
                if not self._learn(refused.words, spelt):
                    raise refused.error from refused
        raise AnswerUnusable(f"{CHAT.name} refuses every form of the request")

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Turn what the SDK raises into a family of ours."""
        try:
            yield
        except openai.APIStatusError as error:
            raise self._refusal(error) from error
        except openai.APITimeoutError as error:
            raise ServiceUnavailable(
                f"{CHAT.name} was silent for {self.endpoint.silence_seconds:g} s"
            ) from error
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise ServiceUnavailable(
                f"{CHAT.name} cannot be reached, or broke off: {cause}"
            ) from error
        except openai.APIError as error:  # said in the middle of a stream
            words = provider_words(str(error.message).encode(), self._secret)
            raise ServiceUnavailable(f"{CHAT.name} broke off: {words}") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise AnswerUnusable(f"{CHAT.name} sent what is no JSON: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None and self._client_pid == os.getpid():
            client.close()

    @property
    def _secret(self) -> str:
        return self.endpoint.key.get_secret_value()

    def _refusal(self, error: openai.APIStatusError) -> Exception:
        response = error.response
        words = provider_words(response.content, self._secret)
        if is_too_long(response.status_code, words):
            return PromptTooLong(
                f"{CHAT.name} answers {response.status_code}: {words}; "
                "see GENERATION_CONTEXT_TOKENS"
            )
        made = failure(response.status_code, response.headers, words, CHAT)
        if isinstance(made, RateLimited) and made.retry_after_seconds:
            self.rate.hold(made.retry_after_seconds)
        if response.status_code in {400, 404, 422, 501}:
            return _Unknown(words, made)
        return made

    def _spelt(self, options: dict[str, Any]) -> dict[str, Any]:
        names = {name: self._spelling.get(name, name) for name in options}
        return {spelt: options[name] for name, spelt in names.items() if spelt is not None}

    def _learn(self, words: str, spelt: dict[str, Any]) -> bool:
        """Whether a refusal names a parameter that can be left out, or be called otherwise."""
        if "max_tokens" in spelt and "max_completion_tokens" in words:
            self._spelling["max_tokens"] = "max_completion_tokens"
        elif name := next((one for one in _DISPENSABLE if one in spelt and one in words), None):
            self._spelling[name] = None
        else:
            return False
        logger.info(
            "%s: %s", self.endpoint.model, words, extra={"action": "generation.parameter_refused"}
        )
        return True

    def _opened(self) -> openai.OpenAI:
        """The client of this process: a connection must not cross a fork."""
        with self._opening:
            if self._client is None or self._client_pid != os.getpid():
                end = self.endpoint
                bounds = _Bounds(
                    end.max_answer_bytes * _JSON_FACTOR + _JSON_BYTES, end.call_seconds
                )
                self._client = openai.OpenAI(
                    base_url=end.url,
                    api_key=self._secret or "none",
                    max_retries=0,
                    http_client=httpx2.Client(
                        timeout=httpx2.Timeout(
                            end.silence_seconds, connect=min(end.silence_seconds, _CONNECT_SECONDS)
                        ),
                        limits=httpx2.Limits(
                            max_connections=end.connections,
                            max_keepalive_connections=end.connections,
                        ),
                        follow_redirects=False,
                        headers={"Accept-Encoding": "identity"},
                        event_hooks={"response": [bounds]},
                    ),
                )
                # The SDK reads them from the environment: they are of another account.
                self._client.organization = self._client.project = None
                self._client_pid = os.getpid()
            return self._client


#: Without them an answer is still an answer.
_DISPENSABLE = ("response_format", "stream_options", "temperature")


class _Unknown(Exception):
    """A refusal that may be for a parameter the server does not know."""

    def __init__(self, words: str, error: RagWorkerError) -> None:
        super().__init__(words)
        self.words = words
        self.error = error


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What every answer is held to, before the SDK reads it: each whole one, and each line."""

    max_bytes: int
    seconds: float

    def __call__(self, response: httpx2.Response) -> None:
        if response.headers.get("content-encoding", "identity") != "identity":
            # A few bytes could unpack to any size.
            raise AnswerUnusable(f"{CHAT.name} compresses its answers, though asked not to")
        is_lines = response.headers.get("content-type", "").startswith("text/event-stream")
        response.stream = _Bounded(response.stream, self, is_lines=is_lines)


class _Bounded(httpx2.SyncByteStream):
    def __init__(self, stream: Any, bounds: _Bounds, *, is_lines: bool) -> None:
        self._stream = stream
        self._bounds = bounds
        self._is_lines = is_lines
        self._ends = time.monotonic() + bounds.seconds

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._stream:
            size += len(chunk)
            if self._is_lines and b"\n" in chunk:
                size = len(chunk) - chunk.rindex(b"\n") - 1
            if size > self._bounds.max_bytes:
                raise AnswerUnusable(
                    f"{CHAT.name} answered more than {self._bounds.max_bytes:,} bytes"
                )
            if time.monotonic() > self._ends:
                raise ServiceUnavailable(
                    f"{CHAT.name} took longer than {self._bounds.seconds:g} s for its answer"
                )
            yield chunk

    def close(self) -> None:
        self._stream.close()
