"""Mails through a server that takes 50 ms for each, against the server's own limit.

``python -m benchmarks.mail [--mails 2000] [--connections 10]``: the limit is what a bare
loop over smtplib reaches with as many connections, with no database and no queue; then a
worker with a hundred greenlets sends as many mails, from the first row to the last answer.
"""

import argparse
import asyncio
import os
import signal
import smtplib
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiosmtpd.smtp import SMTP
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.app_factory import create_app
from shared.models import db
from shared.submitting.mail import MailRules, send_mails
from worker.cli.database import upgrade_database
from worker.cli.stack.children import kill_group, spawn
from worker.cli.stack.postgres import EmbeddedPostgres
from worker.cli.stack.valkey import EmbeddedValkey

TARGET = 0.7
SECONDS_EACH = 0.05
GREENLETS = 100
PATIENCE_SECONDS = 300.0


class Sink:
    """Takes 50 ms for each mail, and writes its Message-ID down."""

    def __init__(self, ids: Path) -> None:
        self._ids = ids.open("a", buffering=1)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        """Take it."""
        await asyncio.sleep(SECONDS_EACH)
        head = envelope.content.partition(b"\r\n\r\n")[0].decode()
        found = [line for line in head.split("\r\n") if line.startswith("Message-ID:")]
        self._ids.write((found or ["none"])[0] + "\n")
        return "250 taken"


async def serve(port: int, ids: Path) -> None:
    """Serve for ever."""
    sink = Sink(ids)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(sink, hostname="sink"), "127.0.0.1", port, backlog=1000
    )
    await server.serve_forever()


def bare(port: int, mails: int, connections: int) -> float:
    """Mails per second by smtplib alone, a connection each thread."""
    body = b"Subject: bare\r\nMessage-ID: <bare>\r\n\r\n" + b"a line of words\r\n" * 120
    left = iter(range(mails))
    lock = threading.Lock()

    def send() -> None:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="bare") as smtp:
            while True:
                with lock:
                    if next(left, None) is None:
                        return
                smtp.sendmail("a@example.com", ["b@example.com"], body)

    threads = [threading.Thread(target=send) for _ in range(connections)]
    started = time.perf_counter()
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return mails / (time.perf_counter() - started)


@contextmanager
def system(folder: Path, port: int, connections: int) -> Iterator[None]:
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
            "MAIL_MAX_CONNECTIONS": str(connections),
            "MAIL_RATE_PER_SECOND": "0",
            "OUTBOX_TENANT_CAP": "1000",
        }
        app = create_app()
        with app.app_context():
            upgrade_database()
            yield
            db.engine.dispose()


def start_worker(folder: Path) -> "subprocess.Popen[bytes]":
    """One worker with a hundred greenlets."""
    command = [sys.executable, "-m", "celery", "-A", "worker.celery_app", "worker", "-P", "gevent"]
    command += ["-c", str(GREENLETS), "-Q", "mail,ops_trace", "-l", "WARNING"]
    command += ["-n", f"bench-{uuid4().hex[:6]}@test"]
    return spawn(
        command, log=folder / "worker.log", death_signal=signal.SIGKILL, env=dict(os.environ)
    )


def accept(mails: int) -> None:
    """Write the rows and their messages."""
    with Session(db.engine) as session, session.begin():
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


def measure(folder: Path, port: int, mails: int, connections: int) -> tuple[float, float]:
    """The limit, and what a worker reaches, in mails per second."""
    limit = bare(port, mails, connections)
    with system(folder, port, connections):
        accept(mails)
        worker = start_worker(folder)
        try:
            seconds = await_sent(mails, folder)
        finally:
            kill_group(worker)
        return limit, mails / seconds


def main() -> int:
    """Measure, print the ratio, return 0 when the target is met."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mails", type=int, default=2000)
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--ids", type=Path, default=Path(os.devnull), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        warnings.simplefilter("ignore")
        asyncio.run(serve(options.serve, options.ids))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with sink(folder) as port:
            limit, reached = measure(folder, port, options.mails, options.connections)
        taken = Counter((folder / "ids").read_text().split("\n"))
        doubled = sum(number > 1 for line, number in taken.items() if "@example.com" in line)
    print(f"  the server's limit by {options.connections} connections: {limit:.0f}/s")
    print(f"  a worker with {GREENLETS} greenlets: {reached:.0f}/s, {doubled} doubled")
    print(f"\nsent / limit: {reached / limit:.2f} (at least {TARGET} is the target)")
    return 0 if reached >= TARGET * limit and not doubled else 1


@contextmanager
def sink(folder: Path) -> Iterator[int]:
    """The server, in a process of its own."""
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    command = [sys.executable, "-m", "benchmarks.mail", "--serve", str(port)]
    command += ["--ids", str(folder / "ids")]
    process = spawn(
        command, log=folder / "sink.log", death_signal=signal.SIGKILL, env=dict(os.environ)
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
