"""Failures as one line on stderr and an exit code that means something."""

import logging
import sys
from typing import Any

import click

from shared.errors import (
    ConfigurationError,
    InvalidRequest,
    Permanent,
    RagWorkerError,
    Superseded,
    Transient,
)
from worker.cli.printing import printable

SOME_FAILED = 1
SERVICE_UNAVAILABLE = 5
UNHEALTHY = 6
INTERRUPTED = 130

#: MariaDB's and MySQL's numbers; the latter's error is of the family of outages there.
UNKNOWN_TABLE, UNKNOWN_COLUMN = 1146, 1054

#: The exit code of each family; the first that fits.
EXIT_CODES: tuple[tuple[type[RagWorkerError], int], ...] = (
    (ConfigurationError, 3),
    (InvalidRequest, 4),
    (Superseded, 4),
    (Transient, SERVICE_UNAVAILABLE),
    (Permanent, SOME_FAILED),
    (RagWorkerError, SOME_FAILED),
)


class Failure(click.ClickException):
    """What the user sees of an error."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(printable(message))
        self.exit_code = exit_code  # type: ignore[misc]

    def show(self, file: Any = None) -> None:
        """Print the line to stderr."""
        click.echo(f"rag-worker: {self.format_message()}", err=True, file=file)


class ReportsFailures(click.Group):
    """Turns the error families, and servers that do not answer, into ``Failure``."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        _write_whatever_the_encoding()
        # It names its plugins at INFO whenever an application is made.
        logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)
        try:
            return super().invoke(ctx)
        except RagWorkerError as error:
            raise Failure(str(error), exit_code(error)) from error
        except KeyboardInterrupt as error:
            raise Failure("interrupted", INTERRUPTED) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            message = _server_failure(error)
            if message is None:
                raise
            raise Failure(message, SERVICE_UNAVAILABLE) from error


class ReportsOwnFailures(click.Command):
    """A command that may run without the group: it turns the error families into ``Failure``."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        _write_whatever_the_encoding()
        try:
            return super().invoke(ctx)
        except RagWorkerError as error:
            raise Failure(str(error), exit_code(error)) from error


def exit_code(error: RagWorkerError) -> int:
    """The exit code of an error's family."""
    return next(code for family, code in EXIT_CODES if isinstance(error, family))


def _server_failure(error: Exception) -> str | None:
    # Here, not above: a help page needs neither the database's nor Redis's package.
    from psycopg2.errors import UndefinedColumn, UndefinedTable
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

    from shared.queueing.outage import SERVER_LOST, mysql_number
    from shared.queueing.transactions import was_in_favour_of_another

    if isinstance(error, DBAPIError) and (
        isinstance(error.orig, (UndefinedTable, UndefinedColumn))
        or mysql_number(error.orig) in {UNKNOWN_TABLE, UNKNOWN_COLUMN}
    ):
        return "the database has no tables of this version: run `rag-worker db upgrade`"
    if isinstance(error, DBAPIError) and was_in_favour_of_another(error):
        return "the database ended this in favour of another change, nothing is done: run it again"
    if isinstance(error, (OperationalError, InterfaceError)):
        return (
            f"the database does not answer: {error.orig}; "
            "start it, or set SQLALCHEMY_DATABASE_URI, or run `rag-worker up`"
        )
    if isinstance(error, SERVER_LOST):
        return f"Redis does not answer: {error}; start it, or set REDIS_URL, or run `rag-worker up`"
    return None


def _write_whatever_the_encoding() -> None:
    """Let a name that the terminal's encoding has not got be printed all the same."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
