"""The commands as one table, each imported when it is called."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """A command: its name, the module that has it, and its line in the help."""

    name: str
    module: str
    summary: str


COMMANDS = (
    CommandEntry("index", "worker.cli.documents", "Index files, folders and URLs."),
    CommandEntry("status", "worker.cli.documents", "Show a document, or a dataset's documents."),
    CommandEntry("why", "worker.cli.why", "Say why a document is where it is."),
    CommandEntry("search", "worker.cli.searching", "Print the passages that answer QUERY."),
    CommandEntry("ask", "worker.cli.asking", "Answer QUESTION from a dataset's documents."),
    CommandEntry(
        "documents", "worker.cli.controlling", "Pause, update, disable or delete documents."
    ),
    CommandEntry("datasets", "worker.cli.datasets", "List, delete or configure datasets."),
    CommandEntry("models", "worker.cli.models", "Set, show or delete tenants' chat models."),
    CommandEntry("mail", "worker.cli.mail", "Preview, test, list, show and retry mails."),
    CommandEntry("traces", "worker.cli.traces", "List, show or replay traces; set where they go."),
    CommandEntry("segments", "worker.cli.segments", "Make, change, switch off or delete segments."),
    CommandEntry("dead-letters", "worker.cli.dead_letters", "See, replay or discard what failed."),
    CommandEntry("switches", "worker.cli.switches", "Hold or skip tasks in a running system."),
    CommandEntry(
        "embedding-cache", "worker.cli.embedding_cache", "Show or purge vectors that were paid for."
    ),
    CommandEntry("health", "worker.cli.health", "Say whether all is well; a probe for containers."),
    CommandEntry("demo", "worker.cli.demo", "Start the stack, index, ask three questions, stop."),
    CommandEntry("up", "worker.cli.demo", "Keep the whole stack in the foreground until Ctrl-C."),
    CommandEntry(
        "reset-encrypt-key",
        "worker.cli.secret_keys",
        "Seal secrets anew after SECRET_KEY was changed.",
    ),
    CommandEntry("db", "worker.cli.database", "Migrate the database."),
    CommandEntry("config", "worker.cli.configuration", "Show the settings."),
)


class LazyCommands(click.Group):
    """Knows its commands by the table: a help page imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the table's order."""
        return [entry.name for entry in COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import the command's module."""
        for entry in COMMANDS:
            if entry.name == cmd_name:
                command: Any = getattr(import_module(entry.module), entry.name.replace("-", "_"))
                return command if isinstance(command, click.Command) else None
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(entry.name, entry.summary) for entry in COMMANDS])
