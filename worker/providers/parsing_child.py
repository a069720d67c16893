"""The process that parses files for a worker: it may crash, hang and swell, and be killed for it.

Started as ``python -m worker.providers.parsing_child PARSER LIFELINE MAX_DATA_BYTES`` by
:mod:`worker.providers.parsing_process`, with one socket as both standard input and
output. ``LIFELINE`` is a second socket on which nothing is ever said: it closes when
the worker dies.
"""

import contextlib
import importlib
import logging
import os
import resource
import select
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import BinaryIO

import orjson

from shared.errors import ConfigurationError, RagWorkerError
from worker.providers.parser import Block, Parser
from worker.providers.parsing_frames import (
    LENGTHS,
    SMALL_BYTES,
    Kind,
    beginning,
    encoded_text,
)
from worker.providers.parsing_log import LogToWorker

_FIRST_VICTIM = "1000"
#: A parser's threads log while it answers; a signal handler may, within one of its lines.
_sending = threading.RLock()


def main(parser_name: str, lifeline: int, max_data_bytes: int) -> None:
    """Answer requests until the worker closes the connection or dies."""
    connection = _taken_over_connection()
    _die_with_the_worker(lifeline)
    # They are for the worker, which decides what they mean for a parse; a terminal and a
    # service manager send them to every process they find.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _go_first_when_memory_ends(max_data_bytes)
    # The worker is gone or has given this file up.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        _serve(connection, parser_name)


def _taken_over_connection() -> socket.socket:
    """The socket behind standard input and output, out of the reach of whatever prints."""
    connection = socket.socket(fileno=os.dup(0))
    connection.settimeout(None)  # the worker's end, if gevent's, made this one non-blocking
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return connection


def _die_with_the_worker(lifeline: int) -> None:
    os.set_inheritable(lifeline, False)  # noqa: FBT003 - its only argument
    if sys.platform == "linux":
        import fcntl

        # The kernel ends this process by itself, even in the middle of C code that holds the
        # interpreter. A parent-death signal would come when the *thread* that started us ends.
        signal.signal(signal.SIGIO, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGIO})
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
        if select.select([lifeline], [], [], 0)[0]:
            os._exit(1)
    else:
        threading.Thread(target=_exit_at_the_end_of, args=(lifeline,), daemon=True).start()


def _exit_at_the_end_of(lifeline: int) -> None:
    select.select([lifeline], [], [])
    os._exit(1)


def _go_first_when_memory_ends(max_data_bytes: int) -> None:
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_VICTIM)
    # Behind the worker's watch, for what grows faster than it looks. Not the address space:
    # every thread reserves a lot of it and uses little.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (max_data_bytes, max_data_bytes))


def _serve(connection: socket.socket, parser_name: str) -> None:
    try:
        parser = _loaded(parser_name)
    except ConfigurationError as error:
        _send_error(connection, error)
        return
    connection.sendall(beginning(Kind.READY))
    logging.captureWarnings(True)  # noqa: FBT003 - its only argument
    logging.getLogger().addHandler(LogToWorker(connection, _sending))
    with connection.makefile("rb") as requests:
        while _answer_next(requests, connection, parser):
            pass


def _loaded(name: str) -> Parser:
    module, _, kind = name.partition(":")
    try:
        parser: Parser = getattr(importlib.import_module(module), kind)()
    except Exception as error:
        raise ConfigurationError(
            f"the parser {name} cannot be loaded ({type(error).__name__}: {error})"
        ) from error
    return parser


def _answer_next(requests: BinaryIO, connection: socket.socket, parser: Parser) -> bool:
    lengths = requests.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return False
    header_bytes, payload_bytes = LENGTHS.unpack(lengths)
    header = orjson.loads(requests.read(header_bytes))
    content = requests.read(payload_bytes)
    if len(content) < payload_bytes:
        return False
    logging.getLogger().setLevel(header["log_level"])
    try:
        for block in parser.parse(content, header["name"]):
            _send_block(connection, block)
    except BaseException as error:  # noqa: BLE001 - a panic of Rust code is no Exception
        _send_error(connection, error)
    else:
        _send(connection, beginning(Kind.END))
    return True


def _send_block(connection: socket.socket, block: Block) -> None:
    text = encoded_text(block.text)
    start = beginning(Kind.BLOCK, len(text), is_markdown=block.is_markdown, page=block.page)
    if len(text) <= SMALL_BYTES:
        _send(connection, start + text)
    else:
        _send(connection, start, text)


def _send_error(connection: socket.socket, error: BaseException) -> None:
    ours = isinstance(error, RagWorkerError)
    # A parser that translates every error says "damaged" of what was only too large.
    is_memory = isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError)
    trace = "" if ours else _sendable("".join(traceback.format_exception(error)))
    message = _sendable(str(error)).encode()
    start = beginning(
        Kind.ERROR,
        len(message),
        error=MemoryError.__name__ if is_memory else type(error).__name__,
        is_ours=ours,
        traceback=trace,
    )
    _send(connection, start + message)


def _send(connection: socket.socket, *parts: bytes) -> None:
    with _sending:
        for part in parts:
            connection.sendall(part)


def _sendable(text: str) -> str:
    return text.encode("utf-8", errors="replace").decode()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
