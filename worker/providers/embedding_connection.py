"""Connections to a server with ``/v1/embeddings``: each lent to one request at a time.

A client that has all of them in one pool looks at every idle socket for every request: with
32 of them that took a tenth of a worker's processor time.
"""

import os
import threading
import time
from collections.abc import Generator

import httpx
from pydantic import SecretStr

from shared.errors import ServiceUnavailable
from shared.settings.embedding import EmbeddingSettings
from worker.providers.http_failures import unreachable

_CONNECT_SECONDS = 10.0
#: One more than a request needs: what a broken one leaves may not be closed yet.
_LIMITS = httpx.Limits(max_connections=2, max_keepalive_connections=1)


class _Bearer(httpx.Auth):
    """The key as a header; in no attribute that prints it."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header, if there is a key."""
        if self._key.get_secret_value():
            request.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        yield request


class EmbeddingConnections:
    """As many connections as there are requests at a time; safe in threads and forked children.

    Args:
        settings: where the server is, and how long it may take.
    """

    def __init__(self, settings: EmbeddingSettings) -> None:
        self._url = f"{settings.embedding_base_url}/embeddings"
        self._key = settings.embedding_api_key
        self._seconds = settings.embedding_timeout_seconds
        self._opening = threading.Lock()
        self._idle: list[httpx.Client] = []
        self._tls: object = None
        self._pid = 0

    def post(self, question: bytes, most_bytes: int) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and body of the answer.

        Args:
            question: JSON.
            most_bytes: a longer answer is not read to its end.

        Raises:
            ServiceUnavailable: (transient) no answer, not a whole one, or not in time.
        """
        client = self._taken()
        try:
            answer = self._answer(client, question, most_bytes)
        except BaseException:
            client.close()
            raise
        self._idle.append(client)
        return answer

    def close(self) -> None:
        """Close those that are idle."""
        while self._idle:
            client = self._idle.pop()
            if self._pid == os.getpid():
                client.close()

    def _answer(
        self, client: httpx.Client, question: bytes, most_bytes: int
    ) -> tuple[int, httpx.Headers, bytes]:
        ends, body = time.monotonic() + self._seconds, bytearray()
        headers = {"Content-Type": "application/json"}
        try:
            with client.stream("POST", self._url, content=question, headers=headers) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if time.monotonic() > ends:
                        raise httpx.ReadTimeout("the answer came too slowly")
                    if len(body) > most_bytes:
                        raise ServiceUnavailable(
                            f"the embedding provider's answer is longer than {most_bytes:,} bytes"
                        )
                return response.status_code, response.headers, bytes(body)
        except httpx.HTTPError as error:
            raise unreachable(error, self._seconds) from error

    def _taken(self) -> httpx.Client:
        """One of this process: a connection must not cross a fork."""
        with self._opening:
            if self._pid != os.getpid():
                self._idle, self._pid = [], os.getpid()
            if self._idle:
                return self._idle.pop()
            if self._tls is None:
                # The certificates are read once, not for each connection.
                self._tls = httpx.create_ssl_context()
        return httpx.Client(
            auth=_Bearer(self._key),
            timeout=httpx.Timeout(self._seconds, connect=min(self._seconds, _CONNECT_SECONDS)),
            limits=_LIMITS,
            verify=self._tls,  # type: ignore[arg-type]
        )
