"""``rag-worker embedding-cache``: what is in it, and what nobody used for long."""

import click
from flask import current_app
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.models import Embedding, db
from shared.settings import Settings
from worker.cli.application import in_application
from worker.cli.documents import as_one_line, json_option


@click.group("embedding-cache")
def embedding_cache() -> None:
    """Show or purge vectors that were paid for."""


@embedding_cache.command()
@json_option
@in_application
def show(context: click.Context, *, as_json: bool) -> None:  # noqa: ARG001 - every command gets it
    """Count the vectors of each model."""
    query = (
        select(Embedding.model, func.count().label("vectors"), func.min(Embedding.used_on))
        .group_by(Embedding.model)
        .order_by(Embedding.model)
    )
    with Session(db.engine) as session:
        found = [(row[0], row[1], row[2]) for row in session.execute(query)]
    if as_json:
        models = [{"model": one[0], "vectors": one[1], "oldest_use": one[2]} for one in found]
        click.echo(as_one_line({"models": models}))
        return
    for model, vectors, oldest in found:
        click.echo(f"{vectors:>12,}  {model}  (the longest unused since {oldest})")
    if not found:
        click.echo("nothing is cached")


@embedding_cache.command()
@click.option(
    "--unused-days",
    type=click.IntRange(min=0),
    help="Unused for more days than this; EMBEDDING_CACHE_DAYS when it is not given.",
)
@json_option
@in_application
def purge(
    context: click.Context,  # noqa: ARG001 - every command gets it
    unused_days: int | None,
    *,
    as_json: bool,
) -> None:
    """Delete vectors that nobody used for long.

    What is needed again is embedded again. Safe while workers run.
    """
    from worker import wiring

    settings: Settings = current_app.extensions["settings"]
    days = settings.embedding.embedding_cache_days if unused_days is None else unused_days
    purged = wiring.embedding_cache().purge(days)
    if as_json:
        click.echo(as_one_line({"purged": purged}))
        return
    click.echo(f"{purged:,} vectors purged that were unused for more than {days} days")
