"""The probes of a container: answers within a second, whatever hangs.

Most of that second is imports, so this needs neither Flask nor Celery nor an engine. Each
server is asked in a thread of its own, and who has not answered in time is not waited for.
"""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import click

from shared.settings import Settings, load_settings
from shared.settings.base import load_group
from shared.settings.delivery import DeliverySettings
from shared.settings.presence import PresenceSettings
from worker.cli.failures import SERVICE_UNAVAILABLE, UNHEALTHY, UNKNOWN_TABLE
from worker.cli.printing import printable
from worker.delivery.signs import Sign, read_signs

_QUESTION = "SELECT 1 FROM outbox LIMIT 1"
_NO_TABLES = "it has no tables: run `rag-worker db upgrade`"


@dataclass
class Findings:
    """What a probe saw: lines for people."""

    well: list[str] = field(default_factory=list)
    #: Servers that do not answer.
    away: list[str] = field(default_factory=list)
    #: What is wrong with the workers.
    problems: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0, or what is worst."""
        if self.away:
            return SERVICE_UNAVAILABLE
        return UNHEALTHY if self.problems else 0


def report(findings: Findings, *, as_json: bool) -> int:
    """Print what was found, problems to stderr, and return the exit code."""
    for line in (*findings.away, *findings.problems):
        click.echo(f"rag-worker: {printable(line)}", err=True)
    if as_json:
        problems = [*findings.away, *findings.problems]
        shown = {"healthy": not problems, "problems": problems, "notes": findings.well}
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    elif not findings.exit_code:
        for line in findings.well:
            click.echo(printable(line))
    return findings.exit_code


@dataclass(frozen=True, slots=True)
class Live:
    """Is the worker of this host alive? No server is asked: a restart would bring none back.

    Attributes:
        restart: whether to end one that hangs.
    """

    restart: bool = False

    def look(self, name: str) -> Findings:
        """At the worker of this name, or those that run on this host."""
        presence = load_group(PresenceSettings)
        patience_seconds = presence.live_seconds
        found = Findings()
        for sign in _signs(presence, name, found):
            if not sign.runs():
                found.problems.append(f"worker {sign.name} is gone: process {sign.pid} has ended")
            elif sign.age_seconds > patience_seconds:
                hangs = f"gave no sign of life for {sign.age_seconds:.0f} s"
                found.problems.append(f"worker {sign.name} {hangs}")
                if self.restart:
                    found.problems.append(f"worker {sign.name} {_ended(sign)}")
            else:
                found.well.append(f"worker {sign.name} is alive")
        return found


@dataclass(frozen=True, slots=True)
class Ready:
    """Do the servers answer, and does the worker of this host consume?

    Attributes:
        timeout_seconds: what the servers have together.
    """

    timeout_seconds: float

    def look(self, name: str) -> Findings:
        """At the servers, and the worker of this name or those that run on this host."""
        settings = load_settings()
        asked = [_Asked("the database", lambda: _ask_database(settings))]
        # Imported while the database is being asked.
        from worker.cli.asking_redis import servers_to_ask

        asked += [_Asked(what, ask) for what, ask in servers_to_ask(settings)]
        deadline = time.monotonic() + self.timeout_seconds
        found = Findings()
        for sign in _signs(settings.presence, name, found):
            _judge(sign, settings.presence.live_seconds, found)
        for one in asked:
            reason = one.reason(deadline, self.timeout_seconds)
            if reason:
                found.away.append(reason)
        return found


class _Asked:
    """A server that is being asked."""

    def __init__(self, what: str, ask: Callable[[], None]) -> None:
        self._what = what
        self._ask = ask
        self._failure: str | None = None
        # A daemon: the process ends without it.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._ask()
        except Exception as error:  # noqa: BLE001 - whatever it is, it goes into the answer
            self._failure = str(error) or type(error).__name__

    def reason(self, deadline: float, timeout_seconds: float) -> str:
        """Why it is of no use; empty when it is well."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            return f"{self._what} does not answer within {timeout_seconds:g} s"
        return f"{self._what} does not answer: {self._failure}" if self._failure else ""


def _signs(presence: PresenceSettings, name: str, found: Findings) -> Sequence[Sign]:
    """Of the worker meant; without a name of those that run, or else of those that did."""
    folder = presence.signs_folder
    signs = read_signs(folder)
    if name:
        signs = [sign for sign in signs if sign.name == name]
    else:
        signs = [sign for sign in signs if sign.runs()] or signs
    if not signs:
        which = f"worker {name}" if name else "worker"
        found.problems.append(f"no {which} gives a sign of life in {folder}")
    return signs


def _judge(sign: Sign, patience_seconds: float, found: Findings) -> None:
    missing = [queue for queue in sign.queues if queue not in sign.consuming]
    if not sign.runs() or sign.age_seconds > patience_seconds:
        found.problems.append(f"worker {sign.name} is not alive")
    elif missing:
        found.problems.append(f"worker {sign.name} does not consume {', '.join(missing)}")
    else:
        found.well.append(f"worker {sign.name} consumes {', '.join(sign.consuming)}")


def _ask_database(settings: Settings) -> None:
    if settings.database.is_mysql:
        _ask_mysql(settings)
        return
    import psycopg2

    connection = psycopg2.connect(**settings.database.connect_arguments)
    try:
        with connection.cursor() as cursor:
            cursor.execute(_QUESTION)
    except psycopg2.errors.UndefinedTable as error:
        raise RuntimeError(_NO_TABLES) from error
    finally:
        connection.close()


def _ask_mysql(settings: Settings) -> None:
    import pymysql

    connection = pymysql.connect(**settings.database.connect_arguments)
    try:
        with connection.cursor() as cursor:
            cursor.execute(_QUESTION)
    except pymysql.err.ProgrammingError as error:
        if error.args[0] != UNKNOWN_TABLE:
            raise
        raise RuntimeError(_NO_TABLES) from error
    finally:
        connection.close()


def _ended(sign: Sign) -> str:
    from worker.cli.ending import CLOSING_SECONDS, end_worker

    delivery = load_group(DeliverySettings)
    grace_seconds = delivery.delivery_shutdown_grace_seconds + CLOSING_SECONDS
    return end_worker(sign.process(), grace_seconds)
