"""Fetches URLs over HTTP: public addresses only, within limits of size, time and redirects."""

import hashlib
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import cache
from mimetypes import guess_type
from typing import BinaryIO

import httpx

from shared.errors import (
    LimitExceeded,
    RagWorkerError,
    ServiceUnavailable,
    SourceGone,
    SourceRefused,
    SourceUnusable,
)
from shared.settings.fetching import FetchingSettings
from worker.providers.addresses import Address, Resolve, checked_addresses, system_resolve
from worker.providers.fetch_rules import FetchRules
from worker.providers.fetcher import Fetched, Validators
from worker.providers.retry_after import MOST_PATIENCE_SECONDS, retry_after_seconds
from worker.providers.temporary_files import temporary_file, temporary_file_failures
from worker.providers.time_limit import TimeLimit
from worker.providers.unpacking import unpacked

_DEFAULT_PORTS = {"http": 80, "https": 443}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_OK, _NOT_MODIFIED, _SERVER_ERRORS = 200, 304, 500
_GONE = frozenset({404, 410})
_LATER = frozenset({408, 425, 429})
_AGENT = "rag-worker"


class HttpFetcher:
    """See ``Fetcher``.

    Args:
        rules: what may be fetched.
        resolve: finds addresses.
        verify: how certificates are checked; the system's way, when unset.
    """

    def __init__(
        self,
        rules: FetchRules,
        resolve: Resolve = system_resolve,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        self._rules = rules
        self._resolve = resolve
        self._verify = verify or httpx.create_ssl_context()

    @contextmanager
    def fetch(
        self, url: str, seen: Validators | None, progress: Callable[[], None]
    ) -> Iterator[Fetched | None]:
        """Fetch; see ``Fetcher``."""
        with temporary_file() as file:
            with TimeLimit(self._rules.total_seconds) as limit:
                try:
                    fetched = self._follow(url, seen, file, limit, progress)
                except ServiceUnavailable as error:
                    if limit.is_over:
                        raise self._too_slow(url) from error
                    raise
            yield fetched

    def _follow(
        self,
        url: str,
        seen: Validators | None,
        file: BinaryIO,
        limit: TimeLimit,
        progress: Callable[[], None],
    ) -> Fetched | None:
        visited: list[str] = []
        while True:
            progress()
            if url in visited or len(visited) > self._rules.max_redirects:
                raise SourceUnusable(
                    f"{visited[0]} is redirected in a circle, or more than "
                    f"{self._rules.max_redirects} times (FETCH_MAX_REDIRECTS): submit the URL "
                    "that a browser ends at"
                )
            visited.append(url)
            target = self._admitted(url)
            valid = seen if seen is not None and seen.url == url else None
            with self._answer(target, valid, limit) as response:
                if response.status_code in _REDIRECTS and "location" in response.headers:
                    url = _joined(target, response.headers["location"])
                    continue
                if response.status_code == _NOT_MODIFIED and valid is not None:
                    return None
                _require_content(url, response)
                return self._received(url, response, file, limit, progress)

    def _admitted(self, url: str) -> httpx.URL:
        try:
            target = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise SourceUnusable(f"{url}: not a URL: {error}") from error
        if target.scheme not in _DEFAULT_PORTS or not target.host:
            raise SourceRefused(f"{url}: only http and https are fetched")
        if target.userinfo:
            raise SourceRefused(f"the URL of {target.host} carries credentials: leave them out")
        port = target.port or _DEFAULT_PORTS[target.scheme]
        if port not in self._rules.ports:
            raise SourceRefused(
                f"{url}: port {port} is not fetched from: "
                "add it to FETCH_ALLOWED_PORTS if it should be"
            )
        return target.copy_with(fragment=None)

    @contextmanager
    def _answer(
        self, target: httpx.URL, valid: Validators | None, limit: TimeLimit
    ) -> Iterator[httpx.Response]:
        url, port = str(target), target.port or _DEFAULT_PORTS[target.scheme]
        host = target.raw_host.decode("ascii")
        addresses = checked_addresses(url, host, port, self._rules.networks, self._resolve)
        # A client a hop: two names at one address must not share a connection, whose
        # certificate was checked for the first.
        with self._client() as client, _mapped(url):
            response = self._connected(client, target, addresses, valid, limit)
            try:
                yield response
            finally:
                response.close()

    def _client(self) -> httpx.Client:
        rules = self._rules
        return httpx.Client(
            verify=self._verify,
            trust_env=False,
            proxy=rules.proxy_url,
            follow_redirects=False,
            timeout=min(rules.silence_seconds, rules.total_seconds),
        )

    def _connected(
        self,
        client: httpx.Client,
        target: httpx.URL,
        addresses: list[Address],
        valid: Validators | None,
        limit: TimeLimit,
    ) -> httpx.Response:
        headers = {
            "Host": target.netloc.decode("ascii"),
            "User-Agent": _AGENT,
            "Accept": ", ".join(self._rules.content_types),
            "Accept-Encoding": "gzip",
        }
        if valid is not None and valid.etag:
            headers["If-None-Match"] = valid.etag
        if valid is not None and valid.last_modified:
            headers["If-Modified-Since"] = valid.last_modified
        extensions = {"sni_hostname": target.raw_host.decode("ascii"), "trace": limit.trace}
        *others, last = [target] if self._rules.proxy_url else _pinned(target, addresses)
        for pinned in others:
            try:
                request = client.build_request(
                    "GET", pinned, headers=headers, extensions=extensions
                )
                return client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if limit.is_over:
                    raise
        request = client.build_request("GET", last, headers=headers, extensions=extensions)
        return client.send(request, stream=True)

    def _received(
        self,
        url: str,
        response: httpx.Response,
        file: BinaryIO,
        limit: TimeLimit,
        progress: Callable[[], None],
    ) -> Fetched:
        content_type = self._content_type(url, response)
        encoding = response.headers.get("content-encoding", "")
        announced = response.headers.get("content-length", "")
        digest, size_bytes = hashlib.sha256(), 0
        if announced.isdigit():
            self._require_room(url, int(announced))
        for piece in unpacked(url, response.iter_raw(), encoding):
            progress()
            size_bytes += len(piece)
            self._require_room(url, size_bytes)
            if limit.is_over:
                raise self._too_slow(url)
            digest.update(piece)
            with temporary_file_failures():
                file.write(piece)
        if limit.is_over:  # a connection that was cut can look like an end
            raise self._too_slow(url)
        with temporary_file_failures():
            file.seek(0)
        headers = response.headers
        return Fetched(
            file,
            size_bytes,
            digest.hexdigest(),
            url,
            content_type,
            headers.get("etag"),
            headers.get("last-modified"),
        )

    def _content_type(self, url: str, response: httpx.Response) -> str:
        said = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        content_type = said or guess_type(httpx.URL(url).path)[0] or ""
        if not any(fnmatch(content_type, one) for one in self._rules.content_types):
            raise SourceUnusable(
                f"{url}: {content_type or 'content of no named type'} is not accepted: "
                "add it to FETCH_CONTENT_TYPES if it should be"
            )
        return content_type

    def _require_room(self, url: str, size_bytes: int) -> None:
        if size_bytes > self._rules.max_bytes:
            raise LimitExceeded(
                f"{url} has more than {self._rules.max_bytes:,} bytes: raise FETCH_MAX_BYTES, "
                "or submit a smaller one"
            )

    def _too_slow(self, url: str) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"{url}: not received in {self._rules.total_seconds:g} s (FETCH_TIMEOUT_SECONDS)"
        )


@cache
def fetcher_of(fetching: FetchingSettings) -> HttpFetcher:
    """The fetcher that the settings say; its certificates are loaded once a process."""
    return HttpFetcher(FetchRules.of(fetching))


def _pinned(target: httpx.URL, addresses: list[Address]) -> list[httpx.URL]:
    return [target.copy_with(host=str(address)) for address in addresses]


def _joined(target: httpx.URL, location: str) -> str:
    try:
        return str(target.join(location))
    except httpx.InvalidURL as error:
        raise SourceUnusable(f"{target}: is redirected to {location!r}: {error}") from error


def _require_content(url: str, response: httpx.Response) -> None:
    status = response.status_code
    if status == _OK:
        return
    answer = f"{url}: the server answers {status} {response.reason_phrase}".strip()
    if status in _GONE:
        raise SourceGone(f"{answer}: delete the document, or submit the new URL")
    if status in _LATER or status >= _SERVER_ERRORS:
        asked = retry_after_seconds(response.headers, MOST_PATIENCE_SECONDS)
        raise ServiceUnavailable(answer, retry_after_seconds=asked)
    raise SourceUnusable(f"{answer}: open it in a browser without logging in to see why")


@contextmanager
def _mapped(url: str) -> Iterator[None]:
    """Turn httpx's errors into ours."""
    try:
        yield
    except RagWorkerError:
        raise
    except httpx.UnsupportedProtocol as error:
        raise SourceRefused(f"{url}: only http and https are fetched") from error
    except httpx.TransportError as error:
        cause = _certificate_error(error)
        if cause is not None:
            reason = cause.verify_message or str(cause)
            raise SourceUnusable(f"{url}: its certificate is not accepted: {reason}") from error
        what = str(error) or type(error).__name__
        raise ServiceUnavailable(f"{url}: {what}") from error
    except (httpx.DecodingError, httpx.InvalidURL) as error:
        raise SourceUnusable(f"{url}: {error}") from error


def _certificate_error(error: BaseException) -> ssl.SSLCertVerificationError | None:
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLCertVerificationError):
            return found
        found = found.__cause__ or found.__context__
    return None
