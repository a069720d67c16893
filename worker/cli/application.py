"""Commands bring their application: ``flask rag`` runs in anybody's, which knows no settings."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import click
from flask import Flask
from flask.cli import NoAppException, ScriptInfo

from shared.app_factory import create_app
from shared.settings import Settings
from worker.cli.audit import CHANGING, audit, called

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def in_application(
    command: Callable[Concatenate[click.Context, Arguments], Result],
) -> Callable[Arguments, Result]:
    """Run a command, called with its context first, inside an application of rag-worker."""

    @click.pass_context
    @wraps(command)
    def run(context: click.Context, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        quiet_logs()
        with _application(context).app_context():
            changes = called(context) in CHANGING
            try:
                done = command(context, *args, **kwargs)
            except click.exceptions.Exit as ending:
                # What could be done was done; the exit code says that not all could.
                if changes:
                    audit(context, exit_code=ending.exit_code)
                raise
            if changes:
                audit(context)
            return done

    return run


def quiet_logs() -> None:
    """Leave to the command's own line what libraries would warn of on the way to it."""
    logging.disable(logging.WARNING)


def _application(context: click.Context) -> Flask:
    """The application the command line found, if it is one of ours; else one by the environment."""
    info = context.find_object(ScriptInfo) or ScriptInfo(create_app=create_app)
    try:
        found = info.load_app()
    except NoAppException:
        # Named and broken is the user's to know; none at all is none needed.
        if info.app_import_path:
            raise
        return create_app()
    return found if isinstance(found.extensions.get("settings"), Settings) else create_app()
