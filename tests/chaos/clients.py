"""The clients of a system under test: they submit, update, delete, and remember."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from kombu.exceptions import OperationalError as BrokerError

from tests.chaos.book import Book, Wish, granted
from tests.chaos.crew import ROOT
from tests.chaos.documents import DocumentSpec
from tests.chaos.plan import Order
from tests.chaos.servers import AWAY
from tests.chaos.subject import Message, Subject

_AGAIN_SECONDS = 1.0
_SENT_TWICE = 2


@dataclass
class _Asked:
    order: Order
    outcomes: dict[str, str] | None = None


@dataclass
class Clients:
    """All clients of one system; ``tick`` lets them do what they can do now."""

    subject: Subject
    book: Book = field(default_factory=Book)
    #: Messages that were sent twice, to be sent once more when all is over.
    kept: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._asked: dict[int, _Asked] = {}
        self._later: list[tuple[float, Order]] = []
        self._wishes: list[Wish] = []
        self._number = 0
        self._ledger = self.subject.folder / "ledger"
        self._read_bytes = 0

    def start(self) -> None:
        """Start the process that forks the producers."""
        self._ledger.touch()
        with (self.subject.folder / "producers.log").open("ab") as log:
            self._producers = subprocess.Popen(
                [sys.executable, "-m", self.subject.producer, str(self._ledger)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT), **self.subject.variables},
                cwd=self.subject.folder,
            )

    def stop(self) -> None:
        """End it."""
        self._producers.kill()
        self._producers.communicate()

    def submit(self, order: Order) -> None:
        """Ask a new producer to submit documents."""
        self._number += 1
        self._asked[self._number] = _Asked(order)
        self.book.opened(order)
        line = {
            "number": self._number,
            "documents": [spec.as_json() for spec in order.documents],
            "death": order.death,
            **self.subject.addressed(order),
        }
        assert self._producers.stdin is not None
        self._producers.stdin.write(json.dumps(line).encode() + b"\n")
        self._producers.stdin.flush()

    def update(self, tenant: int, spec: DocumentSpec) -> None:
        """Submit other content for a document, once its first is accepted."""

        def submit() -> bool:
            if not self._is_quiet(spec.key):
                return False
            self.submit(Order(tenant, (spec,)))
            return True

        self._wish(f"update {spec.key}", submit)

    def delete(self, key: str) -> None:
        """Delete a document as soon as it is accepted."""

        def delete() -> bool:
            if not self._is_quiet(key):
                return False
            with self.subject.engine.begin() as connection:
                found = self.subject.delete(connection, key)
            self.book.entries[key].deleted_id = found
            return found is not None

        self._wish(f"delete {key}", delete)

    def send_twice(self, dice: float) -> None:
        """Deliver a message that is on its way twice more, at once."""

        def send() -> bool:
            with self.subject.engine.connect() as connection:
                found = self.subject.messages(connection)
            if not found:
                return False
            message = found[int(dice * len(found))]
            for _ in range(_SENT_TWICE):
                self.subject.send(message)
            self.kept.append(message)
            return True

        self._wish("send a message twice", send)

    def send_late(self) -> int:
        """Deliver the kept messages once more; their number."""
        for message in self.kept:
            self.subject.send(message)
        return len(self.kept)

    def tick(self) -> None:
        """Read what became of producers, and do what waits."""
        self._read_ledger()
        now = time.monotonic()
        due = [order for at, order in self._later if at <= now]
        self._later = [(at, order) for at, order in self._later if at > now]
        for order in due:
            self.submit(order)
        for wish in granted(tuple(self._wishes), (*AWAY, BrokerError)):
            self._wishes.remove(wish)

    def waiting(self) -> list[str]:
        """What clients still wait for."""
        return [wish.what for wish in self._wishes] + [
            f"an answer about {key}" for key in self.book.unquiet()
        ]

    def _is_quiet(self, key: str) -> bool:
        entry = self.book.entries.get(key)
        return entry is not None and entry.is_quiet and not self._awaits(key)

    def _awaits(self, key: str) -> bool:
        return any(key == spec.key for _, order in self._later for spec in order.documents)

    def _wish(self, what: str, try_once: Callable[[], bool]) -> None:
        self._wishes.append(Wish(what, try_once))

    def _read_ledger(self) -> None:
        with self._ledger.open("rb") as ledger:
            ledger.seek(self._read_bytes)
            *lines, _ = ledger.read().split(b"\n")
        self._read_bytes += sum(len(line) + 1 for line in lines)
        for line in lines:
            said = json.loads(line)
            asked = self._asked[said["number"]]
            if "outcomes" in said:
                asked.outcomes = said["outcomes"]
            else:
                del self._asked[said["number"]]
                again = self.book.closed(asked.order, said["code"], asked.outcomes)
                if again is not None:
                    self._later.append((time.monotonic() + _AGAIN_SECONDS, again))
