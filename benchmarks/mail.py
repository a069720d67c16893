"""Mails through a server that takes 50 ms for each, against what that server allows.

``python -m benchmarks.mail [--mails 2000] [--connections 1 5 10 20 100]``: N connections
allow N times 20 a second; what a bare loop over smtplib makes of them here, with no
database and no queue, is the limit. Then a worker with a hundred greenlets sends as many
mails, from the first answer to the last. The target holds for the default connections.
"""

import argparse
import os
import signal
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from flask import current_app
from sqlalchemy import text
from sqlalchemy.orm import Session

from benchmarks.report import OURS, Figure, compared, rounds
from shared.app_factory import create_app
from shared.models import db
from shared.submitting.mail import MailRules, send_mails
from worker.cli.database import upgrade_database
from worker.cli.stack.children import kill_group, spawn
from worker.cli.stack.postgres import EmbeddedPostgres
from worker.cli.stack.valkey import EmbeddedValkey

TARGET = 0.7
DEFAULT_CONNECTIONS = 20
GREENLETS = 100
PATIENCE_SECONDS = 300.0
#: With few connections fewer mails: each number of them is measured for as long.
_SECONDS = 15.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Measured:
    """What one number of connections came to; rates are mails per second.

    Attributes:
        cpu_milliseconds: the worker's, for a mail.
    """

    connections: int
    mails: int
    limit: float
    reached: float
    cpu_milliseconds: float

    @property
    def ratio(self) -> float:
        """What the target is about."""
        return self.reached / self.limit


@contextmanager
def system(folder: Path, port: int) -> Iterator[None]:
    """Servers and an application that sends to the sink."""
    with (
        EmbeddedPostgres(folder / "postgres") as postgres,
        EmbeddedValkey(folder / "valkey") as valkey,
    ):
        os.environ |= {
            "SQLALCHEMY_DATABASE_URI": postgres.uri,
            "REDIS_URL": valkey.url,
            "CELERY_BROKER_URL": valkey.url,
            "STORAGE_URL": f"file://{folder}/storage",
            "RAG_WORKER_DATA_DIR": str(folder / "data"),
            "LOG_LEVEL": "WARNING",
            "SECRET_KEY": "a key of the benchmark",
            "MAIL_TYPE": "smtp",
            "MAIL_DEFAULT_SEND_FROM": "bench@example.com",
            "SMTP_SERVER": "127.0.0.1",
            "SMTP_PORT": str(port),
            "SMTP_USE_TLS": "false",
            "MAIL_RATE_PER_SECOND": "0",
        }
        app = create_app()
        with app.app_context():
            upgrade_database()
            yield
            db.engine.dispose()


def start_worker(folder: Path, connections: int) -> "subprocess.Popen[bytes]":
    """One worker with a hundred greenlets."""
    command = [sys.executable, "-m", "celery", "-A", "worker.celery_app", "worker", "-P", "gevent"]
    command += ["-c", str(GREENLETS), "-Q", "mail,ops_trace", "-l", "WARNING"]
    command += ["-n", f"bench-{uuid4().hex[:6]}@test"]
    environment = os.environ | {"MAIL_MAX_CONNECTIONS": str(connections)}
    return spawn(
        command, log=folder / "worker.log", death_signal=signal.SIGKILL, env=dict(environment)
    )


def accept(mails: int) -> None:
    """Write the rows and their messages."""
    with Session(db.engine) as session, session.begin():
        session.execute(text("TRUNCATE mail_deliveries"))
        people = [f"person-{number}@example.com" for number in range(mails)]
        send_mails(session, "email_code_login", people, rules=MailRules(), code="482913")


def counts() -> Counter[str]:
    """Deliveries by status."""
    with Session(db.engine) as session:
        rows = session.execute(text("SELECT status, count(*) FROM mail_deliveries GROUP BY status"))
        return Counter({row[0]: row[1] for row in rows})


def await_sent(mails: int, folder: Path) -> float:
    """Wait for the last one; seconds between the first and the last answer."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := counts())["sent"] < mails:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{found}\n{(folder / 'worker.log').read_text()[-3000:]}")
        time.sleep(0.1)
    query = "SELECT extract(epoch FROM max(ended_at) - min(ended_at)) FROM mail_deliveries"
    with Session(db.engine) as session:
        return float(session.scalar(text(query)) or 0)


def await_worker(folder: Path) -> None:
    """Wait until a worker answers."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    celery = current_app.extensions["celery"]
    while not celery.control.ping(timeout=0.5):
        if time.monotonic() > deadline:
            raise RuntimeError((folder / "worker.log").read_text()[-3000:])


def processor_seconds(pid: int) -> float:
    """What a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def measure(folder: Path, port: int, most: int, connections: int) -> Measured:
    """The limit, and what a worker reaches."""
    mails = min(most, int(connections * _SECONDS / 0.05))
    command = [sys.executable, "-m", "benchmarks.mail_sink", "bare"]
    command += [str(port), str(mails), str(connections)]
    limit = float(subprocess.check_output(command))
    worker = start_worker(folder, connections)
    try:
        await_worker(folder)
        # The first mail of a process imports what sending takes.
        accept(GREENLETS)
        await_sent(GREENLETS, folder)
        before = processor_seconds(worker.pid)
        accept(mails)
        seconds = await_sent(mails, folder)
        used = processor_seconds(worker.pid) - before
    finally:
        kill_group(worker)
    return Measured(connections, mails, limit, mails / seconds, 1000 * used / mails)


def doubled(copies: Path) -> int:
    """Mails of which the server got more than one copy."""
    taken = Counter(line for line in copies.read_text().split("\n") if line.startswith("took"))
    return sum(number > 1 for line, number in taken.items() if "@example.com" in line)


def figures(budget_seconds: float) -> Iterator[Figure]:
    """Mails per second on the default number of connections, against the server's limit."""
    runs: dict[str, list[float]] = {"the server's limit": [], OURS: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with sink(folder) as port, system(folder, port):
            for _ in rounds(budget_seconds, at_least=1, at_most=5):
                one = measure(folder, port, 2000, DEFAULT_CONNECTIONS)
                runs["the server's limit"].append(one.limit)
                runs[OURS].append(one.reached)
        if twice := doubled(folder / "copies"):
            raise RuntimeError(f"{twice} mails were sent twice")
    yield from compared(
        f"mails of 50 ms, {DEFAULT_CONNECTIONS} connections",
        runs,
        "mails/s",
        against="the server's limit",
        target=TARGET,
    )


def main() -> int:
    """Measure, print the ratios, return 0 when the target is met."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mails", type=int, default=2000)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 5, 10, 20, 100])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with sink(folder) as port, system(folder, port):
            found = [measure(folder, port, options.mails, one) for one in options.connections]
        twice = doubled(folder / "copies")
    for one in found:
        print(
            f"  {one.connections:>3} connections: {one.reached:.0f}/s of {one.limit:.0f}/s = "
            f"{one.ratio:.2f} ({one.cpu_milliseconds:.1f} ms of CPU a mail, {one.mails} mails)"
        )
    judged = [one.ratio for one in found if one.connections <= DEFAULT_CONNECTIONS]
    print(
        f"\nsent / limit, up to {DEFAULT_CONNECTIONS} connections: {min(judged, default=1):.2f} "
        f"(at least {TARGET} is the target), {twice} doubled"
    )
    return 0 if all(one >= TARGET for one in judged) and not twice else 1


@contextmanager
def sink(folder: Path) -> Iterator[int]:
    """The server, in a process of its own."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    command = [sys.executable, "-m", "benchmarks.mail_sink", "serve", str(port)]
    process = spawn(
        [*command, str(folder / "copies")],
        log=folder / "sink.log",
        death_signal=signal.SIGKILL,
        env=dict(os.environ),
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                smtplib.SMTP("127.0.0.1", port, local_hostname="probe").quit()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield port
    finally:
        kill_group(process)


if __name__ == "__main__":
    sys.exit(main())
