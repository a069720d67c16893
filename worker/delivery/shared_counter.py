"""Counters that a prefork worker's children count with too; its main process serves them.

A child writes what it counts into a pipe that all of them inherit, a line at a time: a line
is written whole or not at all, however the child dies, and needs no lock that a dead child
could keep, no file that somebody has to clear away. The main process adds it up, so that a
counter never falls when a child goes.
"""

import json
import os
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from prometheus_client import Counter, Metric

from worker.delivery.tenant_labels import TENANTS

#: Longer writes could be torn apart: PIPE_BUF of Linux.
_LINE_BYTES = 4096
_READ_BYTES = 65536

_Key = tuple[str, tuple[str, ...]]


class SharedCounter(Counter):
    """A Prometheus counter of the worker; a label ``tenant`` is kept to a bounded set."""

    def __init__(self, name: str, *arguments: Any, **options: Any) -> None:
        super().__init__(name, *arguments, **options)
        if "_labelvalues" not in options:  # else one of its series
            _COUNTERS[name] = self

    def add(self, amount: float, *values: str) -> None:
        """Count, in whichever process of the worker this is; ``values`` are the labels'."""
        if _channel is not None and _channel.is_childs:
            _channel.send(self._original_name, values, amount)
        else:
            self.count(amount, values)

    def count(self, amount: float, values: Sequence[str]) -> None:
        """Count in this process."""
        shown = [
            TENANTS.label(value) if name == "tenant" else value
            for name, value in zip(self._labelnames, values, strict=True)
        ]
        (self.labels(*shown) if shown else self).inc(amount)

    def collect(self) -> Iterable[Metric]:
        """Its series, with what children have counted so far."""
        receive()
        return super().collect()


class Channel:
    """The pipe from a worker's children to its main process; made there, before they are."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._pid = os.getpid()
        self._rest = b""
        self.forget()

    @property
    def is_childs(self) -> bool:
        """Whether this process is a child of the one that reads."""
        return os.getpid() != self._pid

    def forget(self) -> None:
        """What the parent had under way at the fork is the parent's."""
        self._lock = threading.Lock()
        self._unsent: dict[_Key, float] = {}

    def send(self, name: str, values: Sequence[str], amount: float) -> None:
        """Tell the main process; while the pipe is full it is kept, and told with the next."""
        with self._lock:
            key = (name, tuple(values))
            self._unsent[key] = self._unsent.get(key, 0) + amount
            with suppress(OSError):
                for one in list(self._unsent):
                    os.write(self._writer, _line(one, self._unsent[one]))
                    del self._unsent[one]

    def receive(self) -> None:
        """Add up what children have told; for the main process alone, from any thread."""
        if self.is_childs:
            return
        with self._lock:
            while read := self._read():
                *lines, self._rest = (self._rest + read).split(b"\n")
                for line in lines:
                    name, values, amount = json.loads(line)
                    _COUNTERS[name].count(amount, values)

    def close(self) -> None:
        """Close this process's ends."""
        os.close(self._reader)
        os.close(self._writer)

    def _read(self) -> bytes:
        try:
            return os.read(self._reader, _READ_BYTES)
        except BlockingIOError:
            return b""


def _line(key: _Key, amount: float) -> bytes:
    name, values = key
    line = json.dumps([name, values, amount]).encode() + b"\n"
    if len(line) > _LINE_BYTES:
        return _line((name, tuple(value[:200] for value in values)), amount)
    return line


_COUNTERS: dict[str, SharedCounter] = {}
_channel: Channel | None = None


def open_channel() -> None:
    """From now on what children of this process count is counted here."""
    global _channel  # noqa: PLW0603 - one a process, like the registry it serves
    _channel = Channel()


def receive() -> None:
    """Add up what children have told so far."""
    if _channel is not None:
        _channel.receive()


def _forget_parents() -> None:
    if _channel is not None:
        _channel.forget()


os.register_at_fork(after_in_child=_forget_parents)
