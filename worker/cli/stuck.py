"""``rag-worker documents stuck``: those that wait for longer than they should, and why."""

from dataclasses import asdict

import click
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.models import db
from worker.cli.application import in_application
from worker.cli.documents import as_one_line, json_option
from worker.cli.failures import UNHEALTHY
from worker.cli.printing import printable
from worker.cli.why import bounds
from worker.services.dataset.explaining import explain
from worker.services.dataset.verdict import Kind

#: Verdicts that mean: nobody comes for it, or nobody can.
_STUCK = {Kind.STUCK, Kind.STARVED}

_UNFINISHED = text("""
    SELECT id FROM documents
    WHERE indexing_status NOT IN ('completed', 'error', 'paused') AND NOT is_paused
      AND (lease_expires_at < statement_timestamp()
           OR (lease_expires_at IS NULL
               AND queued_at < statement_timestamp() - make_interval(secs => :seconds)))
    ORDER BY queued_at LIMIT :limit
""")


@click.command()
@click.option(
    "--older-than",
    "seconds",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Waiting for more seconds than this.",
)
@click.option("--all", "is_all", is_flag=True, help="Also those that merely wait, or are held.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="The oldest.")
@json_option
@in_application
def stuck(
    context: click.Context, seconds: float, limit: int, *, is_all: bool, as_json: bool
) -> None:
    """List documents that nobody comes for, and say why.

    Exit code 6: there are some.
    """
    with Session(db.engine) as session:
        ids = list(session.scalars(_UNFINISHED, {"seconds": seconds, "limit": limit}))
        verdicts = [explain(session, one, bounds()) for one in ids]
    found = [one for one in verdicts if is_all or one.kind in _STUCK]
    if as_json:
        click.echo(as_one_line({"documents": [asdict(one) for one in found]}))
    for one in () if as_json else found:
        click.echo(f"{one.document_id}  {one.kind}  {printable(one.name or '')}")
        click.echo(f"    {printable(one.summary)}; then: {printable(one.way_out)}")
    number = sum(one.kind in _STUCK for one in found)
    if number:
        click.echo(f"rag-worker: {number} documents are stuck", err=True)
        context.exit(UNHEALTHY)
    if not found and not as_json:
        click.echo("no document is stuck")
