"""``rag-worker documents``: pause, resume, cancel and sync."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from uuid import UUID

import click
from flask import current_app
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.models import Document, DocumentStatus, db
from shared.settings import Settings
from shared.submitting import control
from worker.cli import document_life
from worker.cli.application import in_application
from worker.cli.documents import DEFAULT_NAME, as_one_line, json_option
from worker.cli.overview import find_dataset
from worker.cli.printing import printable
from worker.cli.stuck import stuck
from worker.cli.summarizing import summarize
from worker.cli.transactions import committed_by_batch
from worker.cli.url_sources import sync_all

#: Documents a transaction.
_BATCH = 500
_ENDED = (DocumentStatus.COMPLETED, DocumentStatus.ERROR)

ids_argument = click.argument("ids", nargs=-1, type=click.UUID, metavar="[DOCUMENT_ID]...")
dataset_option = click.option("--dataset", help="Every document of the dataset of this name.")
tenant_option = click.option(
    "--tenant", default=DEFAULT_NAME, show_default=True, help="Whose dataset."
)

Change = Callable[[Session, Sequence[UUID]], list[UUID]]


@click.group()
def documents() -> None:
    """Pause, update, disable or delete documents.

    A worker that has one that is paused or cancelled stops within a batch, and leaves
    nothing behind.
    """


for _command in document_life.COMMANDS:
    documents.add_command(_command)
documents.add_command(stuck)
documents.add_command(summarize)


@documents.command()
@ids_argument
@dataset_option
@tenant_option
@json_option
@in_application
def pause(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    ids: tuple[UUID, ...],
    dataset: str | None,
    tenant: str,
    *,
    as_json: bool,
) -> None:
    """Let documents wait that are not finished; resumed, they start over."""
    change = partial(control.pause_documents, redis=current_app.extensions["redis"])
    _change("paused", change, _chosen(ids, dataset, tenant), as_json=as_json)


@documents.command()
@ids_argument
@dataset_option
@tenant_option
@json_option
@in_application
def resume(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    ids: tuple[UUID, ...],
    dataset: str | None,
    tenant: str,
    *,
    as_json: bool,
) -> None:
    """Let paused documents go on."""
    settings: Settings = current_app.extensions["settings"]
    change = partial(
        control.resume_documents,
        celery=current_app.extensions["celery"],
        redis=current_app.extensions["redis"],
        guard_seconds=settings.indexing.indexing_guard_seconds,
    )
    _change("resumed", change, _chosen(ids, dataset, tenant), as_json=as_json)


@documents.command()
@ids_argument
@dataset_option
@tenant_option
@json_option
@in_application
def cancel(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    ids: tuple[UUID, ...],
    dataset: str | None,
    tenant: str,
    *,
    as_json: bool,
) -> None:
    """End documents that are not finished; a version that serves goes on serving."""
    change = partial(control.cancel_documents, redis=current_app.extensions["redis"])
    _change("cancelled", change, _chosen(ids, dataset, tenant), as_json=as_json)


@documents.command()
@ids_argument
@dataset_option
@tenant_option
@json_option
@in_application
def sync(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    ids: tuple[UUID, ...],
    dataset: str | None,
    tenant: str,
    *,
    as_json: bool,
) -> None:
    """Fetch documents of URLs again; only new content is indexed."""
    asked = sync_all(_of_urls(ids, dataset, tenant))
    if as_json:
        click.echo(as_one_line({"documents": [asdict(one) for one in asked]}))
        return
    click.echo(f"{sum(one.will_be_fetched for one in asked)} will be fetched")
    for one in asked:
        if not one.will_be_fetched:
            click.echo(f"  {printable(one.url)}: is {one.outcome}")


def _of_urls(ids: Sequence[UUID], dataset: str | None, tenant: str) -> list[UUID]:
    if dataset is None:
        return _chosen(ids, dataset, tenant)
    if ids:
        raise click.UsageError("name documents by their ids, or --dataset: one of the two")
    with Session(db.engine) as session:
        query = select(Document.id).where(
            Document.dataset_id == find_dataset(session, tenant, dataset),
            Document.data_source == "url",
        )
        return list(session.scalars(query.order_by(Document.position)))


def _chosen(ids: Sequence[UUID], dataset: str | None, tenant: str) -> list[UUID]:
    if bool(ids) == (dataset is not None):
        raise click.UsageError("name documents by their ids, or --dataset: one of the two")
    if dataset is None:
        return list(dict.fromkeys(ids))
    with Session(db.engine) as session:
        dataset_id = find_dataset(session, tenant, dataset)
        return list(
            session.scalars(
                select(Document.id)
                .where(Document.dataset_id == dataset_id, Document.indexing_status.not_in(_ENDED))
                .order_by(Document.position)
            )
        )


def _change(what: str, change: Change, chosen: Sequence[UUID], *, as_json: bool) -> None:
    changed = committed_by_batch(change, chosen, _BATCH)
    done = set(changed)
    alone = _statuses([one for one in chosen if one not in done])
    if as_json:
        left = [{"document_id": one, "status": status} for one, status in alone.items()]
        click.echo(as_one_line({what: changed, "left_alone": left}))
        return
    click.echo(f"{len(changed)} {what}" + (f", {len(alone)} left alone" if alone else ""))
    for one, status in alone.items():
        click.echo(f"  {one}: is {status}")


def _statuses(ids: Sequence[UUID]) -> dict[UUID, str]:
    query = select(Document.id, Document.indexing_status).where(Document.id.in_(ids))
    with Session(db.engine) as session:
        return {row.id: str(row.indexing_status) for row in session.execute(query)}
