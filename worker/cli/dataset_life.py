"""``rag-worker datasets``: list and delete."""

import click
from flask import current_app
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.models import Dataset, Document, Tenant, db
from shared.submitting.removing import delete_dataset
from worker.cli.application import in_application
from worker.cli.documents import DEFAULT_NAME, as_one_line, json_option
from worker.cli.overview import find_dataset
from worker.cli.printing import printable


@click.command("list")
@click.option("--tenant", help="Only this tenant's.")
@json_option
@in_application
def list_datasets(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    tenant: str | None,
    *,
    as_json: bool,
) -> None:
    """List datasets: tenant, name, how they are indexed, how much they hold."""
    documents = func.count(Document.id).label("documents")
    segments = func.coalesce(func.sum(Document.completed_segments), 0).label("segments")
    query = (
        select(
            Dataset.id,
            Tenant.name.label("tenant"),
            Dataset.name,
            Dataset.indexing_technique,
            Dataset.doc_form,
            Dataset.vector_store,
            documents,
            segments,
        )
        .join(Tenant, Tenant.id == Dataset.tenant_id)
        .outerjoin(Document, Document.dataset_id == Dataset.id)
        .group_by(Dataset.id, Tenant.name)
        .order_by(Tenant.name, Dataset.name)
    )
    if tenant is not None:
        query = query.where(Tenant.name == tenant)
    with Session(db.engine) as session:
        rows = session.execute(query).all()
    if as_json:
        click.echo(as_one_line({"datasets": [dict(row._mapping) for row in rows]}))  # noqa: SLF001 - SQLAlchemy's public name for it
        return
    for row in rows:
        click.echo(
            f"{row.id}  {printable(row.tenant)}/{printable(row.name)}  {row.indexing_technique} "
            f"{row.doc_form}  {row.documents} documents, {row.segments} segments"
        )
    if not rows:
        click.echo("no datasets")


@click.command("delete")
@click.argument("name")
@click.option("--tenant", default=DEFAULT_NAME, show_default=True, help="Whose dataset.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@in_application
def delete_one(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    name: str,
    tenant: str,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete a dataset with all its documents.

    Search does not see it from now on; workers delete what it held.
    """
    with Session(db.engine) as session, session.begin():
        dataset_id = find_dataset(session, tenant, name)
        if not yes:
            click.confirm(f"Delete the dataset {printable(name)} for good?", abort=True, err=True)
        celery, redis = current_app.extensions["celery"], current_app.extensions["redis"]
        message_id = delete_dataset(session, dataset_id, celery=celery, redis=redis)
    if as_json:
        click.echo(as_one_line({"dataset_id": dataset_id, "task_id": message_id}))
    else:
        click.echo(f"{dataset_id}  deleted; what it held goes now")


#: What ``rag-worker datasets`` has from here.
COMMANDS = (list_datasets, delete_one)
