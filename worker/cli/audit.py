"""Who changed what by which command: a line in the log, to stderr or a file of its own."""

import getpass
import json
import logging
import platform
from datetime import UTC, datetime
from pathlib import Path

import click
from flask import current_app

from shared.settings import Settings

#: Their values are nobody's business.
_SECRET = ("password", "secret", "token", "key", "body", "email")


#: The commands that change what is there, as they are called: group, then what follows it.
_CHANGING = {
    "datasets": ("delete", "reindex", "remove-index", "retrieval set", "rule set"),
    "dead-letters": ("replay", "discard"),
    "documents": (
        *("pause", "resume", "cancel", "sync", "delete", "enable", "disable", "archive"),
        *("unarchive", "retry", "update", "duplicate", "summarize"),
    ),
    "embedding-cache": ("purge",),
    "mail": ("retry",),
    "models": ("set", "delete"),
    "queues": ("pause", "resume", "purge"),
    "segments": ("create", "update", "delete", "enable", "disable", "import"),
    "switches": ("hold", "skip", "release"),
    "traces": ("replay", "config set", "config delete"),
}
CHANGING = frozenset(
    {
        *(f"{group} {name}" for group, names in _CHANGING.items() for name in names),
        *(
            "clear-embedding-cache",
            "clear-orphaned-files",
            "create-tenant",
            "reset-password",
            "reset-email",
        ),
        *("reset-encrypt-key", "vdb-migrate"),
    }
)


def called(context: click.Context) -> str:
    """The command as it is called, without the program in front of it."""
    names = context.command_path.split()
    return " ".join(names[2:] if names[:2] == ["flask", "rag"] else names[1:])


def audit(context: click.Context, *, exit_code: int = 0) -> None:
    """Write that a command has changed something, with its arguments and who called it."""
    settings: Settings = current_app.extensions["settings"]
    line = json.dumps(
        {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": "INFO",
            "logger": __name__,
            "action": "audit",
            "command": called(context),
            "arguments": {name: _shown(name, value) for name, value in context.params.items()},
            "by": caller(),
            **({"exit_code": exit_code} if exit_code else {}),
        },
        ensure_ascii=False,
        default=str,
    )
    file = settings.application.audit_log_file
    if file is None:
        # Not through logging: a command keeps quiet what libraries say on the way.
        click.echo(line, err=True)
        return
    try:
        with Path(file).open("a", encoding="utf-8") as log:
            log.write(line + "\n")
    except OSError as error:
        # What is done is done: the command must not look as if it had failed.
        logging.disable(logging.NOTSET)
        logging.getLogger(__name__).warning("no audit in %s: %s", file, error)
        click.echo(line, err=True)


def _shown(name: str, value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return "********" if any(part in name for part in _SECRET) else value


def caller() -> str:
    """Who calls a command: user and machine."""
    return f"{_user()}@{platform.node()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "?"
