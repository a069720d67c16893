"""A parser in a process of its own: past its limits it is killed, and its death is an error."""

import logging
import os
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence

from shared import errors
from shared.errors import (
    LimitExceeded,
    ParserDied,
    RagWorkerError,
    ServiceUnavailable,
    UnexpectedFailure,
)
from worker.providers.parser import Block
from worker.providers.parsing_connection import TICK_SECONDS, ChildEnded, Frame
from worker.providers.parsing_frames import Kind, decoded_text
from worker.providers.parsing_log import log_of_parser
from worker.providers.parsing_pool import ParsingPool
from worker.providers.parsing_process import ParsingProcess

_START_SECONDS = 60.0
#: A child that parsed this many files is replaced: what a library leaks is then bounded, memory by
#: ``_MAX_KEPT`` too. The next one takes 0.3 s to start, in which its worker waits.
_MAX_PARSES = 10_000
#: The part of the memory limit that a child may keep from one file to the next.
_MAX_KEPT = 0.25
#: Text taken from the child before its caller asks for it, so that it is free again sooner: the
#: caller may wait for a far model between two blocks.
_READ_AHEAD_CHARACTERS = 2 * 1024**2
#: How long a block may take to be waited for when others are there: many pages of a PDF.
_PATIENCE_SECONDS = TICK_SECONDS
_MEBIBYTE = 1024**2

logger = logging.getLogger(__name__)


class ConfinedParser:
    """Parses each file in a child process that can be killed.

    Children start when they are needed, are reused, and end with this process. Callers
    beyond ``max_children`` wait. Works in prefork children, threads and gevent.
    """

    def __init__(
        self, parser: str, *, parse_seconds: float, parse_memory_bytes: int, max_children: int = 0
    ) -> None:
        """Confine a parser.

        Args:
            parser: ``module:Class`` of the parser that the children run.
            parse_seconds: how long a file may take; the caller's own time does not count.
            parse_memory_bytes: resident memory that a child may reach.
            max_children: children of this process at once; 0 for the number of CPUs.
        """
        self._parser = parser
        self._parse_seconds = parse_seconds
        self._parse_memory_bytes = parse_memory_bytes
        self._pool = ParsingPool(max_children or os.cpu_count() or 1, self._make_ready)

    def parse(self, content: bytes, name: str) -> Iterator[Block]:
        """The document's text, in order, as the child finds it.

        Raises:
            LimitExceeded: it takes more time or memory than it may.
            ParserDied: (transient) the child crashed on it.
            ServiceUnavailable: (transient) no child can be started.
            UnexpectedFailure: the parser has a defect.
            RagWorkerError: whatever the parser itself raised.
        """
        process = self._pool.take()
        is_returned = False
        try:
            exchange = _Exchange(process, name, self._parse_seconds, self._parse_memory_bytes)
            exchange.ask(content)
            del content  # its reader may take minutes to the last block
            while not exchange.is_over:
                blocks = exchange.read_ahead()
                if exchange.is_over:
                    self._let_go(process, exchange)
                    is_returned = True
                yield from blocks
            exchange.raise_error()
        finally:
            if not is_returned:
                self._pool.discard(process)

    def parse_together(self, files: Sequence[tuple[bytes, str]]) -> Generator[list[Block] | None]:
        """Parse small files, one after the other, in one visit to a child.

        By itself a small file costs more to come back to than to parse: what a processor keeps
        close to it is another process's by then.

        Args:
            files: their contents and names; few enough for a socket to hold them all.

        Yields:
            The blocks of each; ``None`` where something is wrong with it: parsed by itself it
            says what. When something is wrong with the child, none for those that are left.

        Raises:
            ServiceUnavailable: (transient) no child can be started.
        """
        process = self._pool.take()
        is_returned = False
        limits = (self._parse_seconds, self._parse_memory_bytes)
        left = deque(_Exchange(process, name, *limits) for _, name in files)
        try:
            for exchange, (content, _) in zip(left, files, strict=True):
                exchange.ask(content)
            while left:
                exchange = left.popleft()
                blocks = exchange.read_whole()
                if not left:
                    self._let_go(process, exchange)
                    is_returned = True
                yield blocks
        except RagWorkerError as error:
            logger.info("not parsed together: %s", error, extra={"action": "parsing.apart"})
        finally:
            if not is_returned:
                self._pool.discard(process)

    def close(self) -> None:
        """End the children that have nothing to do."""
        self._pool.close()

    def _make_ready(self, process: ParsingProcess) -> None:
        process.start(self._parser, 2 * self._parse_memory_bytes + 512 * _MEBIBYTE)
        deadline = time.monotonic() + _START_SECONDS

        def check() -> None:
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"the parser is not ready after {_START_SECONDS:g} s")

        try:
            frame = process.connection.receive(check)
        except ChildEnded:
            raise ServiceUnavailable(f"the parser does not start ({process.epitaph()})") from None
        if frame.header["kind"] == Kind.ERROR:
            raise _error(frame, "its first file")
        process.rss_bytes_at_start = process.rss_bytes()

    def _let_go(self, process: ParsingProcess, exchange: "_Exchange") -> None:
        kept = process.rss_bytes() - process.rss_bytes_at_start
        if (
            exchange.leaves_doubt
            or process.parses >= _MAX_PARSES
            or kept > _MAX_KEPT * self._parse_memory_bytes
        ):
            self._pool.discard(process)
        else:
            self._pool.give_back(process)


class _Exchange:
    """One file and one child: what was sent, what came back, what it cost."""

    def __init__(
        self, process: ParsingProcess, name: str, parse_seconds: float, parse_memory_bytes: int
    ) -> None:
        self.is_over = False
        self._error: Exception | None = None
        self._process = process
        self._name = name
        self._parse_seconds = parse_seconds
        self._parse_memory_bytes = parse_memory_bytes
        self._spent_seconds = 0.0
        self._waiting_since = self._weighed_at = time.monotonic()

    def ask(self, content: bytes) -> None:
        """Send the file."""
        self._process.parses += 1
        shown = self._name.encode("utf-8", errors="replace").decode()
        try:
            self._process.connection.send(
                Kind.PARSE,
                content,
                self._check,
                name=shown,
                log_level=logging.getLogger().getEffectiveLevel(),
            )
        except ChildEnded:
            raise self._death() from None

    def read_ahead(self) -> list[Block]:
        """Wait for a block, then take those that follow without delay, up to a limit."""
        self._waiting_since = time.monotonic()
        try:
            return self._blocks_ahead()
        except ChildEnded:
            raise self._death() from None
        finally:
            self._spent_seconds += time.monotonic() - self._waiting_since

    def _blocks_ahead(self) -> list[Block]:
        blocks: list[Block] = []
        connection, characters = self._process.connection, 0
        while characters < _READ_AHEAD_CHARACTERS:
            self._check()  # a child that is never waited for must keep to its limits, too
            if blocks and not connection.says_more(_PATIENCE_SECONDS):
                break
            frame = self._received()
            if frame.header["kind"] != Kind.BLOCK:
                self.is_over = True
                if frame.header["kind"] == Kind.ERROR:
                    self._error = self._explained(frame)
                break
            text = decoded_text(frame.payload)
            blocks.append(Block(text, frame.header["is_markdown"], frame.header["page"]))
            characters += len(text)
        return blocks

    def read_whole(self) -> list[Block] | None:
        """All blocks of a small file; ``None`` where the parser has an error of ours for it.

        Raises:
            UnexpectedFailure: the parser met a defect.
        """
        blocks: list[Block] = []
        while not self.is_over:
            blocks += self.read_ahead()
        if self.leaves_doubt:
            self.raise_error()
        return None if self._error is not None else blocks

    @property
    def leaves_doubt(self) -> bool:
        """Whether the parser met a defect, after which nobody knows what state it is in."""
        return isinstance(self._error, UnexpectedFailure)

    def raise_error(self) -> None:
        """Raise what the parser raised, if it did."""
        if self._error is not None:
            raise self._error

    def _received(self) -> Frame:
        while True:
            frame = self._process.connection.receive(self._check)
            if frame.header["kind"] != Kind.LOG:
                return frame
            log_of_parser(frame.header, decoded_text(frame.payload))

    def _check(self) -> None:
        now = time.monotonic()
        if self._spent_seconds + now - self._waiting_since > self._parse_seconds:
            raise LimitExceeded(
                f"{self._name} took longer than {self._parse_seconds:g} s to parse: "
                "split it, or raise INDEXING_MAX_PARSE_SECONDS"
            )
        if now - self._weighed_at >= TICK_SECONDS:
            self._weighed_at = now
            rss_bytes = self._process.rss_bytes()
            if rss_bytes > self._parse_memory_bytes:
                raise self._too_large()
            if not rss_bytes:
                raise ChildEnded

    def _too_large(self) -> LimitExceeded:
        return LimitExceeded(
            f"{self._name} needs more than {self._parse_memory_bytes // _MEBIBYTE} MB to parse: "
            "split it, or raise INDEXING_MAX_PARSE_MEMORY_BYTES"
        )

    def _explained(self, frame: Frame) -> Exception:
        if frame.header["error"] == MemoryError.__name__:
            return self._too_large()
        return _error(frame, self._name)

    def _death(self) -> ParserDied:
        return ParserDied(f"the parser died on {self._name} ({self._process.epitaph()})")


def _error(frame: Frame, name: str) -> RagWorkerError:
    """The parser's error as this process knows it."""
    message, kind = decoded_text(frame.payload), frame.header["error"]
    ours = getattr(errors, kind, None) if frame.header["is_ours"] else None
    if isinstance(ours, type) and issubclass(ours, RagWorkerError):
        return ours(message)
    failure = UnexpectedFailure(f"the parser failed on {name}: {kind}: {message}")
    failure.add_note(frame.header["traceback"])
    return failure
