"""``rag-worker datasets reindex`` and ``remove-index``."""

import time
from dataclasses import asdict
from uuid import UUID

import click
from flask import current_app
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.models import Dataset, db
from shared.models.dataset import ECONOMY
from shared.submitting.dataset_index import (
    BuildProgress,
    IndexAction,
    change_dataset_index,
    index_builds,
)
from worker.cli.application import in_application
from worker.cli.documents import as_one_line, json_option, tenant_option
from worker.cli.failures import SOME_FAILED
from worker.cli.overview import build_line, find_dataset

_LOOK_SECONDS = 0.5

name_argument = click.argument("name", metavar="NAME")
wait_option = click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Follow to the end."
)
timeout_option = click.option(
    "--timeout",
    "timeout_seconds",
    default=3600.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds to follow.",
)


@click.command()
@name_argument
@tenant_option
@click.option("--embedding-provider", help="Of the new index; with --embedding-model.")
@click.option("--embedding-model", help="Of the new index; the dataset's own, when unset.")
@wait_option
@timeout_option
@json_option
@in_application
def reindex(
    context: click.Context,
    /,
    name: str,
    tenant: str,
    embedding_provider: str | None,
    embedding_model: str | None,
    timeout_seconds: float,
    *,
    wait: bool,
    as_json: bool,
) -> None:
    """Build the vectors of dataset NAME anew, beside those in use.

    With another embedding model, with the same, or for an economy dataset, which has
    none. Search goes on with the old ones and switches when all are there.
    """
    with Session(db.engine) as session, session.begin():
        dataset_id = find_dataset(session, tenant, name)
        technique = select(Dataset.indexing_technique).where(Dataset.id == dataset_id)
        is_update = embedding_model and session.scalar(technique) != ECONOMY
        change_dataset_index(
            session,
            dataset_id,
            IndexAction.UPDATE if is_update else IndexAction.ADD,
            embedding_provider=embedding_provider,
            embedding_model=embedding_model,
            celery=current_app.extensions["celery"],
        )
    _report(context, dataset_id, timeout_seconds if wait else 0, as_json=as_json)


@click.command("remove-index")
@name_argument
@tenant_option
@wait_option
@timeout_option
@json_option
@in_application
def remove_index(
    context: click.Context,
    /,
    name: str,
    tenant: str,
    timeout_seconds: float,
    *,
    wait: bool,
    as_json: bool,
) -> None:
    """Make dataset NAME an economy one: keywords only, all vectors deleted.

    Search goes on with the vectors until all documents have keywords.
    """
    with Session(db.engine) as session, session.begin():
        dataset_id = find_dataset(session, tenant, name)
        celery = current_app.extensions["celery"]
        change_dataset_index(session, dataset_id, IndexAction.REMOVE, celery=celery)
    _report(context, dataset_id, timeout_seconds if wait else 0, as_json=as_json)


def _report(
    context: click.Context, dataset_id: UUID, timeout_seconds: float, *, as_json: bool
) -> None:
    progress = _followed(dataset_id, timeout_seconds)
    click.echo(as_one_line(asdict(progress)) if as_json else build_line(progress))
    if progress.status == "error":
        context.exit(SOME_FAILED)


def _followed(dataset_id: UUID, timeout_seconds: float) -> BuildProgress:
    deadline, shown = time.monotonic() + timeout_seconds, ""
    while True:
        with Session(db.engine) as session:
            (progress,) = index_builds(session, dataset_id)
        if progress.status != "running" or time.monotonic() >= deadline:
            return progress
        line = build_line(progress)
        if line != shown:
            click.echo(line, err=True)
            shown = line
        time.sleep(_LOOK_SECONDS)
