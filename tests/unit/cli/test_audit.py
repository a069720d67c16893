"""Every command that changes something is audited."""

from collections.abc import Iterator

import click

from worker.cli import rag
from worker.cli.audit import CHANGING

#: They change nothing, submit work that has rows of its own, or run without an application.
OTHERS = {
    *("ask", "completion", "config example", "config show", "datasets list"),
    *("datasets retrieval show", "datasets rule show", "dead-letters list", "dead-letters show"),
    *("demo", "documents stuck", "embedding-cache show", "health", "index", "mail list"),
    *("mail preview", "mail show", "mail test", "models show", "queues list", "search"),
    *("segments list", "status", "switches list", "tasks show", "traces config show"),
    *("traces config test", "traces list", "traces show", "up", "upgrade-db", "why", "workers"),
}


def leaves(command: click.Command, names: tuple[str, ...], ctx: click.Context) -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield " ".join(names)
        return
    for name in command.list_commands(ctx):
        found = command.get_command(ctx, name)
        assert found is not None
        yield from leaves(found, (*names, name), ctx)


def test_each_command_is_known_to_change_something_or_not() -> None:
    found = {one for one in leaves(rag, (), click.Context(rag)) if not one.startswith("db ")}

    assert found - CHANGING == OTHERS
    assert found >= CHANGING
