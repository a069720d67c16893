"""The commands as one table, each imported when it is called; and those of other packages."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

logger = logging.getLogger(__name__)

#: Where other packages name commands of theirs: ``name = "package.module:command"``.
PLUGINS = "rag_worker.commands"


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """A command: its name, the module that has it, its line in the help, its name there."""

    name: str
    module: str
    summary: str
    attribute: str = ""

    def load(self) -> Any:
        """Import it."""
        return getattr(import_module(self.module), self.attribute or self.name.replace("-", "_"))


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
    CommandEntry("queues", "worker.cli.queues", "List, pause, resume or purge queues."),
    CommandEntry("workers", "worker.cli.workers", "List workers and what they have in hand."),
    CommandEntry("tasks", "worker.cli.tasks", "Show what became of a task."),
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
    CommandEntry(
        "upgrade-db", "worker.cli.database", "Bring the tables to the newest revision.", "upgrade"
    ),
    CommandEntry("create-tenant", "worker.cli.accounts", "Make a tenant and its owner."),
    CommandEntry("reset-password", "worker.cli.accounts", "Give an account another password."),
    CommandEntry("reset-email", "worker.cli.accounts", "Give an account another address."),
    CommandEntry(
        "clear-embedding-cache",
        "worker.cli.embedding_cache",
        "Delete vectors that nobody used for long.",
        "purge",
    ),
    CommandEntry(
        "clear-orphaned-files",
        "worker.cli.orphaned_files",
        "Remove stored files that no row names.",
    ),
    CommandEntry(
        "vdb-migrate",
        "worker.cli.vector_migration",
        "Move datasets' vectors to another store or model.",
    ),
    CommandEntry("completion", "worker.cli.completion", "Print the shell's completion script."),
    CommandEntry("config", "worker.cli.configuration", "Show the settings."),
)


class LazyCommands(click.Group):
    """Knows its commands by the table: a help page imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the table's order; then other packages'."""
        return [*(entry.name for entry in COMMANDS), *_plugins()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import the command's module."""
        for entry in COMMANDS:
            if entry.name == cmd_name:
                return _command(entry.load())
        plugin = _plugins().get(cmd_name)
        return _load(plugin) if plugin is not None else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(entry.name, entry.summary) for entry in COMMANDS])
        plugins = _plugins().values()
        if plugins:
            with formatter.section("Commands of other packages"):
                formatter.write_dl(list(_lines(plugins)))


@cache
def _plugins() -> dict[str, EntryPoint]:
    """Other packages' commands by name; none of them takes the place of one of ours."""
    ours = {entry.name for entry in COMMANDS}
    found = sorted(entry_points(group=PLUGINS), key=lambda one: one.name)
    return {one.name: one for one in found if one.name not in ours}


def _lines(plugins: Iterable[EntryPoint]) -> Iterable[tuple[str, str]]:
    for plugin in plugins:
        package = plugin.dist.name if plugin.dist else plugin.value
        yield plugin.name, f"Of {package}."


def _load(plugin: EntryPoint) -> click.Command:
    try:
        loaded = _command(plugin.load())
    except Exception as error:
        # Somebody else's defect: it must not take our own commands along.
        logger.debug("plugin %s cannot be loaded", plugin.name, exc_info=error)
        raise click.ClickException(
            f"command {plugin.name} of {plugin.value} cannot be loaded: {error}"
        ) from error
    if loaded is None:
        raise click.ClickException(f"{plugin.value} is no click command")
    return loaded


def _command(loaded: object) -> click.Command | None:
    return loaded if isinstance(loaded, click.Command) else None
