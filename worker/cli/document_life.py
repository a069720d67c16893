"""``rag-worker documents``: what becomes of those that are there."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from flask import current_app
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from shared.errors import NotFound
from shared.models import Document, DocumentStatus, db
from shared.settings import Settings
from shared.submitting import availability, reindexing, removing
from shared.submitting.files import StoredFile, store_file
from worker.cli.application import in_application
from worker.cli.documents import DEFAULT_NAME, as_one_line, json_option
from worker.cli.json_file import JsonFile
from worker.cli.overview import find_dataset
from worker.cli.transactions import committed_by_batch

#: Documents a transaction.
_BATCH = 500

Change = Callable[[Session, Sequence[UUID]], list[UUID]]

ids_argument = click.argument("ids", nargs=-1, type=click.UUID, metavar="[DOCUMENT_ID]...")
tenant_option = click.option(
    "--tenant", default=DEFAULT_NAME, show_default=True, help="Whose dataset."
)


disabled_option = click.option(
    "--dataset", help="Every disabled document of the dataset of this name."
)
enabled_option = click.option(
    "--dataset", help="Every enabled document of the dataset of this name."
)
unarchived_option = click.option(
    "--dataset", help="Every unarchived document of the dataset of this name."
)
archived_option = click.option(
    "--dataset", help="Every archived document of the dataset of this name."
)
failed_option = click.option("--dataset", help="Every failed document of the dataset of this name.")
completed_option = click.option(
    "--dataset", help="Every completed document of the dataset of this name."
)
anew_option = click.option(
    "--anew", is_flag=True, help="Read and write them also where nothing has changed."
)


@click.command()
@click.argument("ids", nargs=-1, required=True, type=click.UUID, metavar="DOCUMENT_ID...")
@json_option
@in_application
def delete(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    ids: tuple[UUID, ...],
    *,
    as_json: bool,
) -> None:
    """Delete documents, also those that are being indexed.

    Search does not see them from now on; workers delete what they held.
    """
    _change("deleted", partial(removing.delete_documents, **_parts()), ids, as_json=as_json)


@click.command()
@ids_argument
@disabled_option
@tenant_option
@json_option
@in_application
def enable(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    ids: tuple[UUID, ...],
    dataset: str | None,
    tenant: str,
    *,
    as_json: bool,
) -> None:
    """Let search find documents again that were disabled; nothing is embedded for it."""
    chosen = _chosen(
        ids, dataset, tenant, Document.enabled.is_(False), Document.archived.is_(False)
    )
    change = partial(availability.enable_documents, **_parts())
    _change("enabled", change, chosen, as_json=as_json)


@click.command()
@ids_argument
@enabled_option
@tenant_option
@json_option
@in_application
def disable(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    ids: tuple[UUID, ...],
    dataset: str | None,
    tenant: str,
    *,
    as_json: bool,
) -> None:
    """Hide documents from search, at once."""
    chosen = _chosen(ids, dataset, tenant, Document.enabled.is_(True), Document.archived.is_(False))
    change = partial(availability.disable_documents, **_parts())
    _change("disabled", change, chosen, as_json=as_json)


@click.command()
@ids_argument
@unarchived_option
@tenant_option
@json_option
@in_application
def archive(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    ids: tuple[UUID, ...],
    dataset: str | None,
    tenant: str,
    *,
    as_json: bool,
) -> None:
    """Put documents away: search does not see them until they are unarchived."""
    chosen = _chosen(ids, dataset, tenant, Document.archived.is_(False))
    change = partial(availability.archive_documents, **_parts())
    _change("archived", change, chosen, as_json=as_json)


@click.command()
@ids_argument
@archived_option
@tenant_option
@json_option
@in_application
def unarchive(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    ids: tuple[UUID, ...],
    dataset: str | None,
    tenant: str,
    *,
    as_json: bool,
) -> None:
    """Take documents out of the archive; search sees those that are enabled."""
    chosen = _chosen(ids, dataset, tenant, Document.archived.is_(True))
    change = partial(availability.unarchive_documents, **_parts())
    _change("unarchived", change, chosen, as_json=as_json)


@click.command()
@ids_argument
@failed_option
@anew_option
@tenant_option
@json_option
@in_application
def retry(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    ids: tuple[UUID, ...],
    dataset: str | None,
    tenant: str,
    *,
    anew: bool,
    as_json: bool,
) -> None:
    """Index documents once more that ended as error."""
    chosen = _chosen(ids, dataset, tenant, Document.indexing_status == DocumentStatus.ERROR)
    change = partial(reindexing.retry_documents, anew=anew, **_parts(), **_guarded())
    _change("to be retried", change, chosen, as_json=as_json)


@click.command()
@ids_argument
@completed_option
@anew_option
@tenant_option
@json_option
@in_application
def duplicate(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    ids: tuple[UUID, ...],
    dataset: str | None,
    tenant: str,
    *,
    anew: bool,
    as_json: bool,
) -> None:
    """Index documents again as they are, by the rule that counts now.

    As if the same files had been uploaded once more. The old versions serve until the
    new ones are whole; what has not changed is not embedded. Those of which file, rule and
    settings are the same go on serving as they are, unless --anew.
    """
    chosen = _chosen(ids, dataset, tenant, Document.indexing_status == DocumentStatus.COMPLETED)
    change = partial(reindexing.duplicate_documents, anew=anew, **_parts(), **_guarded())
    _change("to be indexed again", change, chosen, as_json=as_json)


@click.command()
@click.argument("document_id", type=click.UUID)
@click.option(
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Its content from now on.",
)
@click.option("--rule", type=JsonFile(), help="How it is cleaned and split from now on: JSON.")
@anew_option
@json_option
@in_application
def update(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    document_id: UUID,
    path: Path | None,
    rule: dict[str, Any] | None,
    *,
    anew: bool,
    as_json: bool,
) -> None:
    """Give a document a new file, a new rule or both.

    The old version serves until the new one is whole.
    """

    def change(session: Session, ids: Sequence[UUID]) -> list[UUID]:
        parts = {"anew": anew, **_parts(), **_guarded()}
        return [reindexing.update_document(session, ids[0], file=file, rule=rule, **parts)]

    file = None if path is None else _stored(document_id, path)
    _change("to be indexed again", change, [document_id], as_json=as_json)


#: What ``rag-worker documents`` has from here.
COMMANDS = (delete, enable, disable, archive, unarchive, retry, duplicate, update)


def _parts() -> dict[str, Any]:
    return {
        "celery": current_app.extensions["celery"],
        "redis": current_app.extensions["redis"],
    }


def _guarded() -> dict[str, Any]:
    settings: Settings = current_app.extensions["settings"]
    return {"guard_seconds": settings.indexing.indexing_guard_seconds}


def _stored(document_id: UUID, path: Path) -> StoredFile:
    with Session(db.engine) as session:
        document = session.get(Document, document_id)
    if document is None:
        raise NotFound(f"there is no document {document_id}")
    with path.open("rb") as content:
        storage = current_app.extensions["storage"]
        return store_file(storage, document.tenant_id, path.name, content)


def _chosen(
    ids: Sequence[UUID], dataset: str | None, tenant: str, *conditions: ColumnElement[bool]
) -> list[UUID]:
    if bool(ids) == (dataset is not None):
        raise click.UsageError("name documents by their ids, or --dataset: one of the two")
    if dataset is None:
        return list(dict.fromkeys(ids))
    with Session(db.engine) as session:
        dataset_id = find_dataset(session, tenant, dataset)
        query = select(Document.id).where(Document.dataset_id == dataset_id, *conditions)
        return list(session.scalars(query.order_by(Document.position)))


def _change(what: str, change: Change, chosen: Sequence[UUID], *, as_json: bool) -> None:
    changed = committed_by_batch(change, chosen, _BATCH)
    if as_json:
        click.echo(as_one_line({"documents": changed, "number": len(changed)}))
        return
    left = len(chosen) - len(changed)
    click.echo(f"{len(changed)} {what}" + (f", {left} were so already" if left else ""))
