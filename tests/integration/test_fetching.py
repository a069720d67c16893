"""URLs fetched from a real server, over real sockets, by rules that cannot be walked round."""

import gzip
import hashlib
import ssl
import threading
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
from pathlib import Path

import pytest

from shared.errors import (
    LimitExceeded,
    RagWorkerError,
    ServiceUnavailable,
    SourceGone,
    SourceRefused,
    SourceUnusable,
)
from tests.fixtures.broker_servers import new_certificate
from tests.fixtures.web_server import WebServer, serving
from worker.providers.addresses import system_resolve
from worker.providers.fetch_rules import FetchRules
from worker.providers.fetcher import Fetched, Validators
from worker.providers.http_fetcher import HttpFetcher

LOOPBACK = (ip_network("127.0.0.1/32"),)
RULES = FetchRules(
    total_seconds=5,
    silence_seconds=2,
    max_bytes=1 << 20,
    max_redirects=3,
    content_types=("text/html", "text/plain"),
    ports=frozenset({9, 80, 443}),
    networks=LOOPBACK,
)


class Got:
    def __init__(self, fetched: Fetched | None) -> None:
        self.is_unchanged = fetched is None
        if fetched is not None:
            self.body, self.fetched = fetched.file.read(), fetched


def rules_for(web: WebServer, **changes: object) -> FetchRules:
    return replace(RULES, ports=RULES.ports | {web.port}, **changes)  # type: ignore[arg-type]


def get(
    web: WebServer,
    url: str,
    seen: Validators | None = None,
    resolve=system_resolve,
    **rules: object,
) -> Got:
    fetcher = HttpFetcher(rules_for(web, **rules), resolve)
    with fetcher.fetch(url, seen, lambda: None) as fetched:
        return Got(fetched)


def test_a_page_comes_with_what_its_server_says(web: WebServer) -> None:
    url = web.page("/a.txt", b"one", ETag='"1"', Last_Modified="Sat, 01 Nov 2025 00:00:00 GMT")

    got = get(web, url)

    assert got.body == b"one"
    assert got.fetched.sha256 == hashlib.sha256(b"one").hexdigest()
    assert (got.fetched.etag, got.fetched.content_type) == ('"1"', "text/plain")
    assert got.fetched.last_modified == "Sat, 01 Nov 2025 00:00:00 GMT"
    assert web.requests[0][1]["Host"] == f"127.0.0.1:{web.port}"


@pytest.mark.parametrize(
    ("etag", "modified"), [('"1"', None), (None, "Sat, 01 Nov 2025 00:00:00 GMT")]
)
def test_what_is_as_it_was_seen_is_not_sent_again(
    web: WebServer, etag: str | None, modified: str | None
) -> None:
    headers = {"ETag": etag} if etag else {"Last_Modified": modified}
    url = web.page("/a", b"one", **headers)  # type: ignore[arg-type]

    assert get(web, url, Validators(url, etag, modified)).is_unchanged
    elsewhere = get(web, url, Validators(url + "?other", etag, modified))
    assert elsewhere.body == b"one", "another URL's validators say nothing of this one"


def test_redirects_are_followed_to_the_end(web: WebServer) -> None:
    end = web.page("/deep/end", b"here")
    web.redirect("/b", "/deep/end", 308)

    got = get(web, web.redirect("/a", f"{web.url}/b#part"))

    assert (got.body, got.fetched.url) == (b"here", end)


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://localhost.private.example/",
        "http://2130706434/",
        "http://0x7f.0.0.2/",
        "http://0/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/a",
        "http://user:password@127.0.0.1/",
        "http://127.0.0.1:22/",
    ],
)
def test_a_redirect_leads_nowhere_that_the_url_itself_may_not(
    web: WebServer, location: str
) -> None:
    def resolve(host: str, port: int) -> Sequence[str]:
        return ["10.0.0.7"] if host.endswith(".example") else system_resolve(host, port)

    web.redirect("/a", location)

    with pytest.raises(SourceRefused) as refused:
        get(web, web.url + "/a", resolve=resolve)
    assert "password" not in str(refused.value)
    with pytest.raises(SourceRefused):
        get(web, location, resolve=resolve)
    assert [path for path, _ in web.requests] == ["/a"]


def test_without_an_allowed_network_the_server_is_never_connected_to(web: WebServer) -> None:
    with pytest.raises(SourceRefused, match=r"127\.0\.0\.1, which is not public"):
        get(web, web.page("/a", b"secret"), networks=())
    assert web.requests == []


def test_a_name_that_changes_its_address_is_connected_to_where_it_was_checked(
    web: WebServer,
) -> None:
    asked: list[str] = []

    def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    web.page("/a", b"checked")

    got = get(web, f"http://name.example:{web.port}/a", resolve=rebinding)

    assert got.body == b"checked"
    assert asked == ["name.example"], "a second answer is never asked for"
    assert web.requests[0][1]["Host"] == f"name.example:{web.port}"
    with pytest.raises(SourceRefused):
        get(web, f"http://name.example:{web.port}/a", resolve=rebinding)


def test_circles_and_long_chains_of_redirects_end(web: WebServer) -> None:
    web.redirect("/a", "/b")
    web.redirect("/b", "/a")
    for number in range(6):
        web.redirect(f"/{number}", f"/{number + 1}")

    with pytest.raises(SourceUnusable, match="in a circle"):
        get(web, web.url + "/a")
    with pytest.raises(SourceUnusable, match="FETCH_MAX_REDIRECTS"):
        get(web, web.url + "/0")
    assert len(web.requests) <= 2 + 4


@pytest.mark.parametrize("layers", [1, 2])
def test_a_bomb_is_stopped_at_the_limit_in_little_memory(web: WebServer, layers: int) -> None:
    body = gzip.compress(bytes(100 << 20), 9)
    for _ in range(layers - 1):
        body = gzip.compress(body)
    assert len(body) < RULES.max_bytes
    url = web.page("/bomb", body, Content_Encoding=", ".join(["gzip"] * layers))

    tracemalloc.start()
    with pytest.raises(LimitExceeded if layers == 1 else SourceUnusable):
        get(web, url)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def test_packed_content_is_unpacked(web: WebServer) -> None:
    text = b"a line of words\n" * 50_000
    url = web.page("/a", gzip.compress(text), Content_Encoding="gzip")
    assert get(web, url).body == text

    cut = web.page("/cut", gzip.compress(text)[:-200], Content_Encoding="gzip")
    with pytest.raises(ServiceUnavailable, match="before it was complete"):
        get(web, cut)


def test_content_beyond_the_limit_is_refused_announced_or_not(web: WebServer) -> None:
    large = bytes(RULES.max_bytes + 1)

    def unannounced(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/plain")
        request.end_headers()
        request.wfile.write(large)

    web.pages["/b"] = unannounced
    for url in (web.page("/a", large), web.url + "/b"):
        with pytest.raises(LimitExceeded, match="FETCH_MAX_BYTES"):
            get(web, url)


@pytest.mark.parametrize("where", ["headers", "body"])
def test_a_server_that_drips_is_left_when_the_time_is_over(web: WebServer, where: str) -> None:
    hung_up = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        start = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
        request.wfile.write(start + (b"\r\n" if where == "body" else b"X-Drip: "))
        try:
            while not hung_up.wait(0.05):
                request.wfile.write(b"x")
        except OSError:
            hung_up.set()

    web.pages["/drip"] = drip

    with pytest.raises(ServiceUnavailable, match="FETCH_TIMEOUT_SECONDS"):
        get(web, web.url + "/drip", total_seconds=0.6)

    assert hung_up.wait(300), "the connection is closed"


@pytest.mark.parametrize(
    ("status", "headers", "error", "wait"),
    [
        (404, {}, SourceGone, None),
        (410, {}, SourceGone, None),
        (401, {}, SourceUnusable, None),
        (403, {}, SourceUnusable, None),
        (204, {}, SourceUnusable, None),
        (304, {}, SourceUnusable, None),
        (429, {"Retry_After": "7"}, ServiceUnavailable, 7),
        (429, {}, ServiceUnavailable, None),
        (500, {}, ServiceUnavailable, None),
        (503, {"Retry_After": "Sat, 01 Nov 2025 00:00:00 GMT"}, ServiceUnavailable, 0),
        (503, {"Retry_After": "soon"}, ServiceUnavailable, None),
    ],
)
def test_each_answer_has_its_family(
    web: WebServer, status: int, headers: dict[str, str], error: type[RagWorkerError], wait: float
) -> None:
    url = web.page("/a", status=status, **headers)

    with pytest.raises(error) as raised:
        get(web, url)

    assert type(raised.value) is error
    assert url in str(raised.value)
    assert str(status) in str(raised.value)
    assert getattr(raised.value, "retry_after_seconds", None) == wait


def test_content_of_another_type_is_refused(web: WebServer) -> None:
    with pytest.raises(SourceUnusable, match=r"image/png is not accepted: .*FETCH_CONTENT_TYPES"):
        get(web, web.page("/a", b"png", Content_Type="image/png; charset=x"))
    with pytest.raises(SourceUnusable, match="content of no named type"):
        get(web, web.page("/b", b"?", Content_Type=""))


def test_nobody_at_the_port_and_silence_are_transient(web: WebServer) -> None:
    ended = threading.Event()
    web.pages["/silence"] = lambda _: (ended.wait(10), None)[1]
    with pytest.raises(ServiceUnavailable):
        get(web, web.url + "/silence", silence_seconds=0.2)
    ended.set()
    with pytest.raises(ServiceUnavailable, match=":9/"):
        get(web, "http://127.0.0.1:9/")


def test_a_proxy_of_the_environment_is_ignored(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert get(web, web.page("/a", b"direct")).body == b"direct"


def test_a_certificate_is_checked_on_the_name_and_not_on_the_address(tmp_path: Path) -> None:
    certificate = new_certificate(tmp_path / "server", "DNS:right.example")
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate, certificate.with_suffix(".key"))
    trusted = ssl.create_default_context(cafile=str(certificate))
    with serving(served) as web:
        web.page("/a", b"named")
        fetcher = HttpFetcher(rules_for(web), lambda *_: ["127.0.0.1"], trusted)
        with fetcher.fetch(f"https://right.example:{web.port}/a", None, lambda: None) as fetched:
            assert fetched is not None
            assert fetched.file.read() == b"named"
        with (
            pytest.raises(SourceUnusable, match=r"certificate is not accepted: .*wrong\.example"),
            fetcher.fetch(f"https://wrong.example:{web.port}/a", None, lambda: None),
        ):
            pass
        assert [path for path, _ in web.requests] == ["/a"]
