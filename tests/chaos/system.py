"""Everything that runs: servers, the systems under test with their processes, their clients."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.checks import Kind, Violation, load_expectations, run_checks
from tests.chaos.clients import Clients
from tests.chaos.crew import Crew
from tests.chaos.servers import Servers, started_servers
from tests.chaos.subject import Subject

#: Makes a system under test on servers, in a folder, with a lease of seconds.
MakeSubject = Callable[[Servers, Path, float], Subject]


@dataclass(frozen=True, slots=True)
class System:
    """All of it; use it from the main thread."""

    servers: Servers
    crews: Sequence[Crew]
    clients: Sequence[Clients]
    lease_seconds: float

    def tick(self) -> None:
        """Restart what died; let clients do what they can."""
        for crew in self.crews:
            crew.tick()
        for clients in self.clients:
            clients.tick()


@contextlib.contextmanager
def started_system(
    folder: Path, subjects: Sequence[MakeSubject], lease_seconds: float
) -> Iterator[System]:
    """Start everything and wait until the workers are ready."""
    with contextlib.ExitStack() as stack:
        servers = stack.enter_context(started_servers(folder))
        crews, all_clients = [], []
        for number, make in enumerate(subjects):
            own = folder / f"system-{number}"
            own.mkdir()
            subject = make(servers, own, lease_seconds)
            stack.callback(subject.close)
            subject.prepare()
            crew, clients = Crew(subject), Clients(subject)
            stack.callback(crew.stop)
            crew.start()
            clients.start()
            stack.callback(clients.stop)
            crews.append(crew)
            all_clients.append(clients)
        yield System(servers, crews, all_clients, lease_seconds)


def unsettled(clients: Clients) -> list[Violation]:
    """What is still on its way."""
    subject = clients.subject
    stuck = [check for check in subject.checks if check.kind is Kind.STUCK]
    with subject.engine.connect() as connection:
        return _outside_the_database(clients) + list(run_checks(connection, stuck))


def all_violations(clients: Clients) -> list[Violation]:
    """Everything that must not be."""
    subject, book = clients.subject, clients.book
    with subject.engine.begin() as connection:
        load_expectations(connection, book.accepted(), book.deleted())
        return _outside_the_database(clients) + list(run_checks(connection, subject.checks))


def _outside_the_database(clients: Clients) -> list[Violation]:
    waiting = [Violation(Kind.STUCK, what, "a client waits for it") for what in clients.waiting()]
    guards = [Violation(Kind.STUCK, key, "a guard is left") for key in clients.subject.guards()]
    return waiting + guards
