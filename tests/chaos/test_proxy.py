"""The breakable network breaks as it says."""

import asyncio
import contextlib
import gc
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.chaos.proxy import Proxy
from tests.fixtures.loops import end

SECONDS = 10


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A server that says what it hears."""

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while heard := connection.recv(4096):
                connection.sendall(heard)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        # Wakes the accept: closing alone does not.
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(echo_port: int) -> Iterator[Proxy]:
    with Proxy(echo_port) as made:
        yield made


@pytest.fixture
def connection(proxy: Proxy) -> Iterator[socket.socket]:
    """A connection that works."""
    with socket.create_connection(("127.0.0.1", proxy.port), SECONDS) as made:
        assert said(made, b"first") == b"first"
        yield made


def said(connection: socket.socket, what: bytes) -> bytes:
    connection.sendall(what)
    return connection.recv(4096)


def is_over(connection: socket.socket) -> bool:
    """Whether the other side ends the connection."""
    try:
        return connection.recv(4096) == b""
    except ConnectionResetError:
        return True


def test_cut_ends_connections_and_takes_new_ones(proxy: Proxy, connection: socket.socket) -> None:
    proxy.cut()
    assert is_over(connection)
    with socket.create_connection(("127.0.0.1", proxy.port), SECONDS) as again:
        assert said(again, b"new") == b"new"


def test_a_black_hole_takes_everything_and_answers_nothing(
    proxy: Proxy, connection: socket.socket
) -> None:
    proxy.swallow()
    connection.settimeout(0.3)
    with pytest.raises(TimeoutError):
        said(connection, b"lost")
    connection.settimeout(SECONDS)
    proxy.heal()
    assert is_over(connection)


def test_a_connection_silent_in_the_black_hole_goes_on(
    proxy: Proxy, connection: socket.socket
) -> None:
    proxy.swallow()
    proxy.heal()
    assert said(connection, b"second") == b"second"


def test_delay_holds_each_piece_back(proxy: Proxy, connection: socket.socket) -> None:
    proxy.slow_down(0.2)
    began = time.monotonic()
    assert said(connection, b"slow") == b"slow"
    assert time.monotonic() - began >= 0.4  # there and back


def test_connections_are_closed_that_their_server_has_just_accepted() -> None:
    async def play() -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for _ in range(3):
            stack.enter_context(socket.create_connection(address, SECONDS))
        before = asyncio.all_tasks()
        while asyncio.all_tasks() == before:  # noqa: ASYNC110 - no event says it
            await asyncio.sleep(0)
        await end(server)

    with contextlib.ExitStack() as stack:
        asyncio.run(play())
        gc.collect()  # says of a socket that it was left open: an error
