"""``rag-worker search``."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from uuid import UUID

import click
from sqlalchemy.orm import Session

from shared.models import db
from worker.cli.application import in_application
from worker.cli.documents import as_one_line, dataset_option, json_option, tenant_option
from worker.cli.overview import find_dataset
from worker.cli.printing import printable, shortened

_METHODS = ("vector", "keyword", "hybrid")
#: Of a parent, beside its own text; ``--json`` has them all.
_SHOWN_CHILDREN = 3

Values = list[str | int | float | bool]


@click.command()
@click.argument("query")
@tenant_option
@dataset_option
@click.option(
    "--method",
    type=click.Choice(_METHODS),
    help="By meaning, by words, or both; by default what the dataset has.",
)
@click.option(
    "--top-k",
    "--limit",
    type=click.IntRange(1, 100),
    help="Passages at most; by default what is set for the dataset, else 5.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Leave out passages that score less; what a score means: docs/retrieval.md.",
)
@click.option(
    "--document", "documents", multiple=True, type=click.UUID, help="Only this one; repeatable."
)
@click.option(
    "--metadata",
    multiple=True,
    metavar="NAME=VALUE",
    help="Only documents with this metadata. Of one name repeated, one value must be met.",
)
@json_option
@in_application
def search(  # noqa: PLR0913 - one argument an option
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    query: str,
    *,
    tenant: str,
    dataset: str,
    method: str | None,
    top_k: int | None,
    threshold: float | None,
    documents: tuple[UUID, ...],
    metadata: tuple[str, ...],
    as_json: bool,
) -> None:
    """Print the passages that answer QUERY.

    Each with its document, its position there and its score.
    """
    from worker.services.dataset.retrieval import search as find
    from worker.services.dataset.search_options import SearchOptions
    from worker.wiring import retrieval_needs

    options = SearchOptions(method, top_k, threshold, documents or None, _conditions(metadata))
    with Session(db.engine) as session:
        dataset_id = find_dataset(session, tenant, dataset)
    found = find(dataset_id, query, retrieval_needs(), options)
    if as_json:
        click.echo(as_one_line({"passages": [asdict(one) for one in found]}))
        return
    for one in found:
        page = f", page {one.page}" if one.page else ", summary" if one.is_summary else ""
        click.echo(
            f"{one.score:.3f}  {printable(one.document_name)}, position {one.position}{page}"
        )
        click.echo(f"       {shortened(one.content)}")
        if one.answer is not None:
            click.echo(f"       → {shortened(one.answer)}")
        for child in one.children[:_SHOWN_CHILDREN]:
            click.echo(f"       · {child.score:.3f}  {shortened(child.content)}")
    if not found:
        click.echo("nothing found")


def _conditions(pairs: Sequence[str]) -> dict[str, Values]:
    wanted: dict[str, Values] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"NAME=VALUE, not {pair!r}", param_hint="--metadata")
        wanted.setdefault(name, []).extend(_readings(value))
    return wanted


def _readings(value: str) -> Values:
    """The text, and the number or truth value that it may stand for in the metadata."""
    try:
        read = json.loads(value)
    except ValueError:
        return [value]
    return [value, read] if isinstance(read, int | float) and isfinite(read) else [value]
