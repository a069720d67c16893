"""``rag-worker documents summarize``."""

from uuid import UUID

import click
from flask import current_app
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.models import Document, db
from shared.submitting.generation import request_document_summary
from worker.cli.application import in_application
from worker.cli.documents import DEFAULT_NAME, as_one_line, json_option
from worker.cli.overview import find_dataset


@click.command()
@click.argument("ids", nargs=-1, type=click.UUID, metavar="[DOCUMENT_ID]...")
@click.option("--dataset", help="Every indexed document of the dataset of this name.")
@click.option("--tenant", default=DEFAULT_NAME, show_default=True, help="Whose dataset.")
@json_option
@in_application
def summarize(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    ids: tuple[UUID, ...],
    dataset: str | None,
    tenant: str,
    *,
    as_json: bool,
) -> None:
    """Have documents summarized; each summary becomes a segment that search finds."""
    if bool(ids) == (dataset is not None):
        raise click.UsageError("name documents by their ids, or --dataset: one of the two")
    chosen = list(dict.fromkeys(ids)) if dataset is None else _indexed(dataset, tenant)
    celery = current_app.extensions["celery"]
    asked: list[dict[str, UUID]] = []
    for one in chosen:
        with Session(db.engine) as session, session.begin():
            work_id = request_document_summary(session, one, celery=celery)
            asked.append({"document_id": one, "work_id": work_id})
    click.echo(as_one_line({"asked": asked}) if as_json else f"{len(asked)} will be summarized")


def _indexed(dataset: str, tenant: str) -> list[UUID]:
    with Session(db.engine) as session:
        query = select(Document.id).where(
            Document.dataset_id == find_dataset(session, tenant, dataset),
            Document.active_version.is_not(None),
        )
        return list(session.scalars(query.order_by(Document.position)))
