"""A mail server that takes 50 ms for each mail, as light as Python allows, and a bare client.

``python -m benchmarks.mail_sink serve PORT FILE``: each copy that the server got is a line
of the file, and so is each answer that reached a client who was still there.
``python -m benchmarks.mail_sink bare PORT MAILS CONNECTIONS``: mails per second by smtplib
alone, a greenlet each connection: what any client on this machine can reach.
"""

import asyncio
import smtplib
import sys
import time
from pathlib import Path
from typing import Any

SECONDS_EACH = 0.05
_HELLO = b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
_ANSWERS = {b"MAIL": b"250 ok\r\n", b"RCPT": b"250 ok\r\n", b"RSET": b"250 ok\r\n"}
_BODY = b"Subject: bare\r\nMessage-ID: <bare>\r\n\r\n" + b"a line of words\r\n" * 120


class Sink(asyncio.Protocol):
    """One connection.

    Args:
        copies: where what came and what was answered is written down.
        seconds: taken for each mail.
    """

    _transport: asyncio.Transport

    def __init__(self, copies: Any, seconds: float) -> None:
        self._copies = copies
        self._seconds = seconds
        self._came = bytearray()
        self._is_in_mail = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        """Take commands, or a mail up to its dot."""
        self._came += data
        while self._took_mail() if self._is_in_mail else self._took_command():
            pass

    def _took_mail(self) -> bool:
        end = self._came.find(b"\r\n.\r\n")
        if end < 0:
            return False
        head = bytes(self._came[:end])
        del self._came[: end + 5]
        self._is_in_mail = False
        found = head.find(b"Message-ID:")
        line = head[found : head.find(b"\r\n", found)].decode() if found >= 0 else "none"
        self._copies.write(f"took {line}\n")
        asyncio.get_running_loop().call_later(self._seconds, self._confirm, line)
        return True

    def _confirm(self, line: str) -> None:
        if not self._transport.is_closing():
            self._transport.write(b"250 taken\r\n")
            self._copies.write(f"confirmed {line}\n")

    def _took_command(self) -> bool:
        line, end, rest = bytes(self._came).partition(b"\r\n")
        if not end:
            return False
        self._came = bytearray(rest)
        word = line[:4].upper()
        if word == b"DATA":
            self._is_in_mail = True
            self._transport.write(b"354 go on\r\n")
        elif word == b"QUIT":
            self._transport.write(b"221 bye\r\n")
            self._transport.close()
        else:
            self._transport.write(
                _HELLO if word == b"EHLO" else _ANSWERS.get(word, b"500 what\r\n")
            )
        return True


async def serve(port: int, copies: Path) -> None:
    """Serve for ever."""
    loop = asyncio.get_running_loop()
    with copies.open("a", buffering=1) as written:
        server = await loop.create_server(
            lambda: Sink(written, SECONDS_EACH), "127.0.0.1", port, backlog=1000
        )
        await server.serve_forever()


def bare(port: int, mails: int, connections: int) -> float:
    """Mails per second by smtplib, a greenlet each connection; for a patched process."""
    import gevent

    left = iter(range(mails))

    def send() -> None:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="bare") as smtp:
            while next(left, None) is not None:
                smtp.sendmail("a@example.com", ["b@example.com"], _BODY)

    started = time.perf_counter()
    gevent.joinall([gevent.spawn(send) for _ in range(connections)], raise_error=True)
    return mails / (time.perf_counter() - started)


def main() -> None:
    """Serve, or send."""
    what, port, *others = sys.argv[1:]
    if what == "serve":
        asyncio.run(serve(int(port), Path(others[0])))
    else:
        from gevent import monkey

        monkey.patch_all()
        print(bare(int(port), int(others[0]), int(others[1])))


if __name__ == "__main__":
    main()
