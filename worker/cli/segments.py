"""``rag-worker segments``: make, change, switch off and delete segments by hand."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from flask import current_app
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.errors import NotFound
from shared.models import Document, DocumentSegment, SegmentImport, db
from shared.models.segment_work import COMPLETED, ERROR
from shared.submitting import segments as submitting
from shared.submitting.files import store_file
from worker.cli.application import in_application
from worker.cli.documents import as_one_line, json_option
from worker.cli.failures import SOME_FAILED
from worker.cli.printing import printable

_SHOWN_CHARACTERS = 80
_LOOK_SECONDS = 0.5

document_argument = click.argument("document_id", type=click.UUID)
segment_argument = click.argument("segment_id", type=click.UUID)
segments_argument = click.argument(
    "segment_ids", nargs=-1, required=True, type=click.UUID, metavar="SEGMENT_ID..."
)
answer_option = click.option("--answer", help="Of a qa_model document: what is found.")
keywords_option = click.option(
    "--keyword", "keywords", multiple=True, help="A word to be found by; repeat it for several."
)


@click.group()
def segments() -> None:
    """Make, change, switch off or delete segments.

    They belong to the document's active version: indexing the document again makes
    all its segments anew from the file.
    """


@segments.command("list")
@document_argument
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@click.option(
    "--after", default=-1, type=int, metavar="POSITION", help="Those behind this position."
)
@json_option
@in_application
def list_segments(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    document_id: UUID,
    limit: int,
    after: int,
    *,
    as_json: bool,
) -> None:
    """Show the segments of a document that search sees, or will see, in order."""
    with Session(db.engine) as session:
        document = session.get(Document, document_id)
        if document is None:
            raise NotFound(f"there is no document {document_id}")
        rows = session.scalars(
            select(DocumentSegment)
            .where(
                DocumentSegment.document_id == document_id,
                DocumentSegment.version == document.active_version,
                DocumentSegment.position > after,
            )
            .order_by(DocumentSegment.position)
            .limit(limit)
        ).all()
    if as_json:
        click.echo(as_one_line({"segments": [_shown(one) for one in rows]}))
        return
    for one in rows:
        state = one.status if one.enabled else f"{one.status}, disabled"
        text = printable(one.content.replace("\n", " "))[:_SHOWN_CHARACTERS]
        click.echo(f"{one.position:>6}  {one.id}  {state:<10}  {text}")
        if one.error:
            click.echo(f"        {printable(one.error)}")


@segments.command()
@document_argument
@click.argument("content")
@answer_option
@keywords_option
@json_option
@in_application
def create(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    document_id: UUID,
    content: str,
    answer: str | None,
    keywords: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Add a segment at the end of a document."""
    with Session(db.engine) as session, session.begin():
        made = submitting.create_segment(
            session, document_id, content, answer, keywords=keywords, celery=_celery()
        )
    click.echo(as_one_line({"segment_id": made}) if as_json else f"created {made}")


@segments.command()
@segment_argument
@click.argument("content", required=False)
@answer_option
@keywords_option
@json_option
@in_application
def update(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    segment_id: UUID,
    content: str | None,
    answer: str | None,
    keywords: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Give a segment other content; the old serves until the new is indexed."""
    if content is None and answer is None and not keywords:
        raise click.UsageError("say what is to be changed: CONTENT, --answer or --keyword")
    with Session(db.engine) as session, session.begin():
        submitting.update_segment(
            session, segment_id, content, answer, keywords=keywords or None, celery=_celery()
        )
    click.echo(as_one_line({"segment_id": segment_id}) if as_json else f"updated {segment_id}")


@segments.command()
@segments_argument
@json_option
@in_application
def enable(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    segment_ids: tuple[UUID, ...],
    *,
    as_json: bool,
) -> None:
    """Let search see segments again; try again those that failed."""
    _change("enabled", submitting.enable_segments, segment_ids, as_json=as_json)


@segments.command()
@segments_argument
@json_option
@in_application
def disable(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    segment_ids: tuple[UUID, ...],
    *,
    as_json: bool,
) -> None:
    """Hide segments from search, at once."""
    _change("disabled", submitting.disable_segments, segment_ids, as_json=as_json)


@segments.command()
@segments_argument
@json_option
@in_application
def delete(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    segment_ids: tuple[UUID, ...],
    *,
    as_json: bool,
) -> None:
    """Delete segments, in whatever state they are."""
    _change("deleted", submitting.delete_segments, segment_ids, as_json=as_json)


@segments.command("import")
@document_argument
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow to the end.")
@click.option(
    "--timeout",
    "timeout_seconds",
    default=3600.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds to follow.",
)
@json_option
@in_application
def import_table(
    context: click.Context,
    document_id: UUID,
    path: Path,
    timeout_seconds: float,
    *,
    wait: bool,
    as_json: bool,
) -> None:
    """Add the rows of a CSV or TSV file to a document, as segments.

    Its columns are content and, for qa_model documents, answer.
    """
    import_id = _submit_table(document_id, path)
    shown = _follow(import_id, timeout_seconds if wait else 0.0)
    if as_json:
        click.echo(as_one_line(shown))
    else:
        _print_import(shown)
    if shown["status"] == ERROR or shown["refused_rows"]:
        context.exit(SOME_FAILED)


def _submit_table(document_id: UUID, path: Path) -> UUID:
    with Session(db.engine) as session:
        tenant_id = session.scalar(select(Document.tenant_id).where(Document.id == document_id))
    if tenant_id is None:
        raise NotFound(f"there is no document {document_id}")
    # No transaction waits for the storage.
    with path.open("rb") as content:
        file = store_file(current_app.extensions["storage"], tenant_id, path.name, content)
    with Session(db.engine) as session, session.begin():
        return submitting.import_segments(session, document_id, file, celery=_celery())


def _follow(import_id: UUID, seconds: float) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while True:
        with Session(db.engine) as session:
            row = session.get(SegmentImport, import_id)
        if row is None:
            raise NotFound(f"import {import_id} went with its document")
        if row.status in {COMPLETED, ERROR} or time.monotonic() >= end:
            return {
                "import_id": import_id,
                "status": row.status,
                "error": row.error,
                "last_row": row.last_row,
                "imported_rows": row.imported_rows,
                "refused_rows": row.refused_rows,
                "problems": row.problems,
            }
        time.sleep(_LOOK_SECONDS)


def _print_import(shown: dict[str, Any]) -> None:
    click.echo(
        f"{shown['import_id']} {shown['status']}: {shown['imported_rows']:,} rows imported, "
        f"{shown['refused_rows']:,} refused"
    )
    if shown["error"]:
        click.echo(f"  {printable(shown['error'])}")
    for one in shown["problems"]:
        click.echo(f"  row {one['row']}: {printable(one['reason'])}")


def _change(
    what: str,
    change: Callable[..., list[UUID]],
    segment_ids: Sequence[UUID],
    *,
    as_json: bool,
) -> None:
    with Session(db.engine) as session, session.begin():
        changed = change(session, segment_ids, celery=_celery())
    if as_json:
        click.echo(as_one_line({what: changed}))
    else:
        click.echo(f"{len(changed)} {what}")


def _shown(one: DocumentSegment) -> dict[str, Any]:
    return {
        "id": one.id,
        "position": one.position,
        "content": one.content,
        "answer": one.answer,
        "keywords": one.keywords,
        "status": one.status,
        "enabled": one.enabled,
        "error": one.error,
        "word_count": one.word_count,
        "tokens": one.tokens,
    }


def _celery() -> Any:
    return current_app.extensions["celery"]
