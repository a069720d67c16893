"""The ``rag-worker`` command, and the same commands as ``flask rag …`` in any Flask app.

Every ``flask`` command of a user imports this module: a command's own module is
imported when the command is called.
"""

from importlib.metadata import version
from typing import Any

import click
from flask import Flask
from flask.cli import FlaskGroup

from worker.cli.failures import ReportsFailures
from worker.cli.lazily import LazyCommands

HELP = """Index documents, search them, and run the stack.

\b
Exit codes: 0 done · 1 some documents failed · 2 wrong usage
3 wrong configuration · 4 no such thing, or it cannot be done as things are
5 a service does not answer · 6 a worker is wedged, or missing where there is work
130 interrupted
"""


class RagGroup(ReportsFailures, LazyCommands):
    """What ``flask rag`` shows."""


class RagWorkerGroup(RagGroup, FlaskGroup):
    """Our commands in front of our application, without those of other installed packages."""

    _loaded_plugin_commands = True

    def __init__(self, **settings: Any) -> None:
        super().__init__(create_app=_create_app, **settings)
        # There is one application here: options that choose another would do nothing.
        self.params = [one for one in self.params if one.name not in {"app", "debug"}]

    def _load_plugin_commands(self) -> None:
        """Keep out every ``flask.commands`` entry point: ``db`` here is our own."""


def _create_app() -> Flask:
    from shared.app_factory import create_app

    return create_app()


main = RagWorkerGroup(
    name="rag-worker",
    help=HELP,
    add_default_commands=False,
    add_version_option=False,
    load_dotenv=False,
    set_debug_flag=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "RAG_WORKER",
    },
)
click.version_option(version("rag-worker"), prog_name="rag-worker")(main)


@click.group(cls=RagGroup, help=HELP)
def rag() -> None:
    """Hold the commands that ``flask rag`` shows."""
