"""``rag-worker dead-letters``: what was given up, to be read, replayed or discarded."""

from collections.abc import Iterator, Sequence
from uuid import UUID

import click
from flask import current_app
from sqlalchemy.orm import Session

from shared.models import db
from worker.cli.application import in_application
from worker.cli.documents import as_one_line, json_option
from worker.cli.printing import printable, shortened
from worker.delivery import dead_letters as letters

#: Letters a transaction.
_BATCH = 200
_REASON_CHARACTERS = 100

task_option = click.option("--task", help="Of this task: its name, or the end after a dot.")
all_option = click.option("--all", "is_all", is_flag=True, help="All of them.")
ids_argument = click.argument("ids", nargs=-1, metavar="[ID]...")


@click.group("dead-letters")
def dead_letters() -> None:
    """See, replay or discard what failed.

    A message that was given up is kept as a dead letter, with its arguments and the
    reason. An id may be shortened as long as only one letter begins so.
    """


@dead_letters.command("list")
@task_option
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="The newest.")
@json_option
@in_application
def list_letters(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    task: str | None,
    limit: int,
    *,
    as_json: bool,
) -> None:
    """Show dead letters, the newest first."""
    with Session(db.engine) as session:
        found = letters.letters(session, task=task, limit=limit)
    if as_json:
        click.echo(as_one_line({"letters": [letters.as_json(one) for one in found]}))
        return
    for one in found:
        click.echo(
            f"{one.id}  {one.created_at:%Y-%m-%d %H:%M:%S}  {printable(one.task)}"
            f"  {one.attempts} attempts"
        )
        click.echo(f"    {printable(one.exception)}: {shortened(one.reason, _REASON_CHARACTERS)}")
    if not found:
        click.echo("no dead letters")


@dead_letters.command()
@click.argument("letter_id", metavar="ID")
@json_option
@in_application
def show(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    letter_id: str,
    *,
    as_json: bool,
) -> None:
    """Show a dead letter whole, with its traceback."""
    with Session(db.engine) as session:
        found = letters.as_json(letters.letter(session, letter_id))
    if as_json:
        click.echo(as_one_line(found))
        return
    lines = str(found.pop("traceback") or "").splitlines()
    for name, value in found.items():
        click.echo(f"{name}: {printable(str(value))}")
    for line in lines:
        click.echo(f"    {_indented(line)}")


@dead_letters.command()
@ids_argument
@all_option
@task_option
@json_option
@in_application
def replay(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    ids: tuple[str, ...],
    task: str | None,
    *,
    is_all: bool,
    as_json: bool,
) -> None:
    """Send dead letters out again.

    Each becomes an ordinary message; documents that ended as error wait again.
    """
    celery = current_app.extensions["celery"]
    # Known by name are only the tasks whose modules are imported.
    celery.loader.import_default_modules()
    replayed = 0
    for session, batch in _batches(_chosen(ids, task, is_all=is_all)):
        sent = [letters.replay(session, letter_id, celery) for letter_id in batch]
        replayed += sum(one is not None for one in sent)
    _tell("replayed", replayed, as_json=as_json)


@dead_letters.command()
@ids_argument
@all_option
@task_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@in_application
def discard(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    ids: tuple[str, ...],
    task: str | None,
    *,
    is_all: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete dead letters for good."""
    chosen = _chosen(ids, task, is_all=is_all)
    if not ids and not yes:
        click.confirm(f"Discard {len(chosen)} dead letters?", abort=True, err=True)
    gone = sum(letters.discard(session, batch) for session, batch in _batches(chosen))
    _tell("discarded", gone, as_json=as_json)


def _chosen(ids: Sequence[str], task: str | None, *, is_all: bool) -> list[UUID]:
    if bool(ids) + is_all + (task is not None) != 1:
        raise click.UsageError("name letters by their ids, or --all, or --task: one of the three")
    with Session(db.engine) as session:
        if not ids:
            return letters.letter_ids(session, task=task)
        return list(dict.fromkeys(letters.letter(session, one).id for one in ids))


def _batches(chosen: Sequence[UUID]) -> Iterator[tuple[Session, list[UUID]]]:
    for start in range(0, len(chosen), _BATCH):
        with Session(db.engine) as session, session.begin():
            yield session, list(chosen[start : start + _BATCH])


def _tell(what: str, number: int, *, as_json: bool) -> None:
    click.echo(as_one_line({what: number}) if as_json else f"{number} {what}")


def _indented(line: str) -> str:
    text = printable(line)
    return " " * (len(line) - len(line.lstrip())) + text
