"""``rag-worker why``: one sentence about one document, and what to do."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

import click
from flask import current_app
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, NotFound
from shared.models import Document, db
from shared.settings import Settings
from worker.cli.application import in_application
from worker.cli.documents import as_one_line, dataset_option, json_option, tenant_option
from worker.cli.overview import find_dataset
from worker.cli.printing import printable
from worker.services.dataset.explaining import Bounds, explain
from worker.services.dataset.verdict import Verdict

#: Reports that a worker may miss before nobody counts on it.
_MISSED_REPORTS = 3
_SHOWN = ("since", "until", "stage", "position", "worker", "error")


@click.command()
@click.argument("document", metavar="DOCUMENT")
@tenant_option
@dataset_option
@json_option
@in_application
def why(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    document: str,
    tenant: str,
    dataset: str,
    *,
    as_json: bool,
) -> None:
    """Say why a document is where it is.

    DOCUMENT is its id or its name.

    The verdict is one of: queued, held_back, starved, running, retrying, stuck,
    dead, completed, gone.
    """
    with Session(db.engine) as session:
        verdict = explain(session, _document_id(session, document, tenant, dataset), bounds())
    if as_json:
        click.echo(as_one_line(asdict(verdict)))
        return
    for line in _lines(verdict):
        click.echo(printable(line))


def _lines(verdict: Verdict) -> list[str]:
    name = verdict.name or str(verdict.document_id)
    cause = f" ({verdict.cause})" if verdict.cause else ""
    lines = [f"{name}: {verdict.kind}{cause}: {verdict.summary}"]
    shown: dict[str, Any] = asdict(verdict)
    lines += [f"{field}: {shown[field]}" for field in _SHOWN if shown[field] is not None]
    if verdict.eta_seconds is not None:
        lines.append(f"eta: about {verdict.eta_seconds:,.0f} s")
    return [*lines, f"then: {verdict.way_out}"]


def bounds() -> Bounds:
    """What a verdict depends on, by the settings of the current application."""
    settings: Settings = current_app.extensions["settings"]
    delivery, presence = settings.delivery, settings.presence
    return Bounds(
        tenant_cap=delivery.outbox_tenant_cap,
        high_water_mark=delivery.outbox_high_water_mark,
        sweep_seconds=delivery.sweep_seconds,
        redelivery_seconds=delivery.outbox_redelivery_seconds,
        silent_seconds=_MISSED_REPORTS * presence.presence_seconds,
        wedged_seconds=presence.wedged_seconds,
    )


def _document_id(session: Session, document: str, tenant: str, dataset: str) -> UUID:
    try:
        return UUID(document)
    except ValueError:
        pass
    query = select(Document.id).where(
        Document.dataset_id == find_dataset(session, tenant, dataset),
        (Document.name == document) | (Document.source_key == document),
    )
    found = session.scalars(query.limit(2)).all()
    if not found:
        raise NotFound(
            f"dataset {dataset!r} has no document {document!r}: it was deleted, or never accepted"
        )
    if len(found) > 1:
        raise InvalidRequest(f"several documents are called {document!r}: give the id of one")
    return found[0]
