"""Producers as separate short-lived processes, which may be killed at any point.

A parent that has imported everything forks one child an order: a child costs some
milliseconds instead of a second. Orders come as JSON lines on standard input; what
became of them is appended to the ledger, a line by the child once its commit is
known, and a line by the parent when the child has ended, whatever way.
"""

import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from tests.chaos.documents import DocumentSpec
from tests.chaos.plan import Death

#: Submits an order's documents; returns ``{key: outcome}`` once they are committed.
Produce = Callable[[dict[str, Any], list[DocumentSpec]], dict[str, str]]
_REAP_SECONDS = 0.05


def serve(produce: Produce) -> None:
    """Fork a child an order until standard input ends."""
    ledger = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    orders: dict[int, int] = {}
    source = sys.stdin.fileno()
    pending = b""
    while True:
        readable, _, _ = select.select([source], [], [], _REAP_SECONDS)
        if readable:
            piece = os.read(source, 1 << 16)
            if not piece:
                return
            *lines, pending = (pending + piece).split(b"\n")
            for line in lines:
                order = json.loads(line)
                orders[_fork(produce, order, ledger)] = order["number"]
        _reap(orders, ledger)


def _fork(produce: Produce, order: dict[str, Any], ledger: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        specs = [DocumentSpec(**one) for one in order["documents"]]
        outcomes = produce(order, specs)
        _write(ledger, {"number": order["number"], "outcomes": outcomes})
        code = 0
    except BaseException:  # a producer that fails is a part of the play
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        # Not sys.exit: the parent's clean-up is not the child's.
        os._exit(code)


def _reap(orders: dict[int, int], ledger: int) -> None:
    while orders:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        code = os.waitstatus_to_exitcode(status)
        _write(ledger, {"number": orders.pop(pid), "code": code})


def _write(ledger: int, line: dict[str, Any]) -> None:
    os.write(ledger, json.dumps(line).encode() + b"\n")


def die_at(session: Session, death: str | None) -> None:
    """Let this process be killed when the session's transaction gets there."""

    def die(_: Session) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if death is not None:
        # First in line: publishing hangs on the same events.
        event.listen(session, Death(death).value, die, insert=True)
