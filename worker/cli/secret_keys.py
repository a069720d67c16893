"""``rag-worker reset-encrypt-key``: what was sealed with an old SECRET_KEY is sealed anew."""

from dataclasses import asdict

import click
from flask import current_app
from sqlalchemy.orm import sessionmaker

from shared.models import db
from shared.settings import Settings
from shared.submitting.resealing import Resealed, reseal
from shared.submitting.sealing import SealingKeys
from worker.cli.application import in_application
from worker.cli.documents import as_one_line, json_option
from worker.cli.failures import SOME_FAILED


@click.command("reset-encrypt-key")
@click.option(
    "--invalidate",
    is_flag=True,
    help="Take away secrets that no key opens, and say so in the rows.",
)
@click.option("--dry-run", "is_trial", is_flag=True, help="Count, and change nothing.")
@json_option
@in_application
def reset_encrypt_key(
    context: click.Context, *, invalidate: bool, is_trial: bool, as_json: bool
) -> None:
    """Seal secrets anew after SECRET_KEY was changed.

    Set the new SECRET_KEY and the old one as SECRET_KEY_PREVIOUS everywhere, restart,
    run this, then leave SECRET_KEY_PREVIOUS out. It can be interrupted and repeated, and
    workers may run meanwhile. Secrets that no key opens stay as they are, and it ends
    with 1, unless --invalidate takes them away.
    """
    settings: Settings = current_app.extensions["settings"]
    keys = SealingKeys.of(settings.application)
    results: list[Resealed] = []
    for one in reseal(sessionmaker(db.engine), keys, invalidate=invalidate, is_trial=is_trial):
        results.append(one)
        if not as_json:
            _print(one, is_trial=is_trial)
    if as_json:
        click.echo(as_one_line({"tables": [asdict(one) for one in results]}))
    if any(one.unreadable > one.invalidated for one in results):
        context.exit(SOME_FAILED)


def _print(one: Resealed, *, is_trial: bool) -> None:
    said = "to be sealed anew" if is_trial else "sealed anew"
    line = f"{one.table}: {one.renewed} {said}, {one.current} current already"
    if one.invalidated:
        line += f", {one.invalidated} invalidated"
    if one.unreadable > one.invalidated:
        line += f", {one.unreadable - one.invalidated} opened by no key"
    click.echo(line)
    for unreadable in one.ids:
        click.echo(f"    {unreadable}")
