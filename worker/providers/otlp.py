"""OTLP over HTTP: protobuf, gzip, one attempt; the answer becomes a receipt or a family of error.

Source: OpenTelemetry Protocol Specification 1.x, "OTLP/HTTP". Redirects are not followed,
certificates are checked, and a name is connected to at an address that was allowed.
"""

import gzip
import json
import os
import ssl
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import httpcore
import httpx
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from shared.errors import (
    ProviderRefused,
    RagWorkerError,
    RateLimited,
    ServiceUnavailable,
    SourceRefused,
    SpansRefused,
    TracesDeferred,
)
from shared.queueing import trace_context
from worker.providers.addresses import Network, Resolve, checked_addresses, system_resolve
from worker.providers.retry_after import MOST_PATIENCE_SECONDS, retry_after_seconds
from worker.providers.trace_sender import Receipt, Target

_PROTOBUF = "application/x-protobuf"
_AGENT = "rag-worker"
_GZIP_LEVEL = 4
_ANSWER_BYTES = 64 * 1024
_WORDS_CHARACTERS = 300
_MASK = "********"
_SHORTEST_SECRET = 4

_SUCCESSES = range(200, 300)
_TOO_MANY_REQUESTS = 429
#: What the specification calls retryable, and what only says that the server is not itself.
_LATER = frozenset({500, 502, 503, 504})
#: What is in the request is wrong; half of it may not be.
_CONTENT = frozenset({400, 413, 422})


@dataclass(frozen=True, slots=True)
class OtlpRules:
    """How spans are sent.

    Attributes:
        timeout_seconds: for the whole of an exchange.
        max_connections: of this process.
        networks: allowed although they are not public.
    """

    timeout_seconds: float = 10.0
    max_connections: int = 32
    networks: tuple[Network, ...] = ()


class OtlpSender:
    """See ``TraceSender``; safe in threads, greenlets and forked children.

    Args:
        rules: limits.
        resolve: finds addresses.
        verify: how certificates are checked; the system's way, when unset.
    """

    def __init__(
        self,
        rules: OtlpRules,
        resolve: Resolve = system_resolve,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        self._rules = rules
        self._backend = _CheckedAddresses(rules, resolve)
        self._verify = verify or httpx.create_ssl_context()
        self._opening = threading.Lock()
        self._pools: dict[int, httpcore.ConnectionPool] = {}

    def send(self, target: Target, content: bytes) -> Receipt:
        """Send; see ``TraceSender``."""
        with trace_context.calling(
            "export_traces", http_method="POST", http_url=target.url
        ) as note:
            return self._sent(target, content, note)

    def _sent(self, target: Target, content: bytes, note: trace_context.Note) -> Receipt:
        seconds = self._rules.timeout_seconds
        try:
            status, headers, body = self._exchange(target, content)
        except httpcore.UnsupportedProtocol as error:
            raise ProviderRefused(f"{target.url}: only http and https are sent to") from error
        except (httpcore.TimeoutException, TimeoutError) as error:
            raise TracesDeferred(
                f"the trace provider did not answer within {seconds:g} s"
            ) from error
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise _unreached(error, target) from error
        note("http.status_code", status)
        return _read(status, headers, body, target)

    def close(self) -> None:
        """Close this process's connections."""
        pool = self._pools.pop(os.getpid(), None)
        if pool is not None:
            pool.close()

    def _exchange(self, target: Target, content: bytes) -> tuple[int, dict[str, str], bytes]:
        seconds = self._rules.timeout_seconds
        ends = time.monotonic() + seconds
        headers = {
            "Content-Type": _PROTOBUF,
            "Content-Encoding": "gzip",
            "Accept": f"{_PROTOBUF}, application/json",
            "Accept-Encoding": "identity",
            "User-Agent": _AGENT,
            **target.headers,
        }
        packed = gzip.compress(content, _GZIP_LEVEL, mtime=0)
        limits = dict.fromkeys(("connect", "read", "write", "pool"), seconds)
        body = bytearray()
        with self._pool().stream(
            "POST",
            target.url,
            headers=_encoded(headers),
            content=packed,
            extensions={"timeout": limits},
        ) as response:
            for piece in response.iter_stream():
                body += piece
                if len(body) >= _ANSWER_BYTES:
                    del body[_ANSWER_BYTES:]
                    break
                if time.monotonic() > ends:
                    raise TimeoutError
            named = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in response.headers
            }
            return response.status, named, bytes(body)

    def _pool(self) -> httpcore.ConnectionPool:
        # A fork's own: a connection that two processes use carries nonsense.
        pid = os.getpid()
        pool = self._pools.get(pid)
        if pool is not None:
            return pool
        with self._opening:
            if pid not in self._pools:
                self._pools[pid] = httpcore.ConnectionPool(
                    ssl_context=self._verify,
                    max_connections=self._rules.max_connections,
                    keepalive_expiry=30.0,
                    network_backend=self._backend,
                )
            return self._pools[pid]


class _CheckedAddresses(httpcore.NetworkBackend):
    """Connects to addresses that were checked, never to a name: that could lead elsewhere then."""

    def __init__(self, rules: OtlpRules, resolve: Resolve) -> None:
        self._rules = rules
        self._resolve = resolve
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        def connected(address: str) -> httpcore.NetworkStream:
            return self._plain.connect_tcp(address, port, timeout, local_address, socket_options)

        *others, last = self._addresses(host, port)
        for address in others:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return connected(address)
        return connected(last)

    def _addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            found = checked_addresses(host, host, port, self._rules.networks, self._resolve)
        except SourceRefused as error:
            raise ProviderRefused(
                f"{host} is at an address that is not public: "
                "if traces should be sent there, see TRACE_ALLOWED_NETWORKS"
            ) from error
        except ServiceUnavailable as error:
            raise TracesDeferred(str(error)) from error
        return [str(address) for address in found]


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("utf-8")) for name, value in headers.items()]


def _unreached(error: Exception, target: Target) -> RagWorkerError:
    cause = _certificate_error(error)
    if cause is not None:
        return ProviderRefused(
            f"the trace provider's certificate is not accepted: {cause.verify_message or cause}"
        )
    what = _masked(str(error) or type(error).__name__, target)
    return TracesDeferred(f"the trace provider cannot be reached, or broke off: {what}")


def _read(status: int, headers: dict[str, str], body: bytes, target: Target) -> Receipt:
    if status in _SUCCESSES:
        partial = _partial_success(headers.get("content-type", ""), body)
        words = _masked(partial.error_message, target)
        return Receipt(words, max(int(partial.rejected_spans), 0))
    said = f"the trace provider answers {status}: {_words(headers, body, target)}"
    after = retry_after_seconds(headers, MOST_PATIENCE_SECONDS)
    if status == _TOO_MANY_REQUESTS:
        raise RateLimited(said, retry_after_seconds=after)
    if status in _LATER:
        raise TracesDeferred(said, retry_after_seconds=after)
    if status in _CONTENT:
        raise SpansRefused(said)
    if status in range(300, 400):
        said = f"{said}; redirects are not followed: set the endpoint that it names"
    raise ProviderRefused(said)


def _partial_success(content_type: str, body: bytes) -> ExportTracePartialSuccess:
    """What a success says; nobody may try again for an answer that cannot be read."""
    if "json" in content_type:
        with suppress(ValueError, AttributeError, TypeError):
            said = json.loads(body).get("partialSuccess") or {}
            return ExportTracePartialSuccess(
                rejected_spans=int(said.get("rejectedSpans") or 0),
                error_message=str(said.get("errorMessage") or ""),
            )
    elif _PROTOBUF in content_type:
        with suppress(DecodeError):
            return ExportTraceServiceResponse.FromString(body).partial_success
    return ExportTracePartialSuccess()


def _words(headers: dict[str, str], body: bytes, target: Target) -> str:
    text = body.decode("utf-8", "replace")
    if _PROTOBUF in headers.get("content-type", ""):
        # A google.rpc.Status: its message is the second field, the rest is no text.
        text = "".join(one if one.isprintable() else " " for one in text)
    else:
        with suppress(ValueError):
            text = _message(json.loads(text)) or text
    return _masked(text, target) or "(no words)"


def _message(answer: object) -> str:
    if not isinstance(answer, dict):
        return ""
    found = [answer.get(name) for name in ("message", "error", "detail", "title")]
    return " ".join(one for one in found if isinstance(one, str))


def _masked(text: str, target: Target) -> str:
    for secret in target.secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, _MASK)
    return " ".join(text.replace("\0", "").split())[:_WORDS_CHARACTERS]


def _certificate_error(error: BaseException) -> ssl.SSLCertVerificationError | None:
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLCertVerificationError):
            return found
        found = found.__cause__ or found.__context__
    return None
