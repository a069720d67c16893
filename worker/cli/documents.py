"""``rag-worker index`` and ``status``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from rich.console import Console
from sqlalchemy.orm import Session

from shared.models import db
from shared.models.dataset import TECHNIQUES
from shared.models.process_rule import DocForm
from worker.cli.application import in_application
from worker.cli.failures import SOME_FAILED
from worker.cli.indexing import IndexReport, index_paths
from worker.cli.json_file import JsonFile
from worker.cli.overview import dataset_overview, document_overview, find_dataset
from worker.cli.printing import printable
from worker.cli.submitting import Manner
from worker.cli.watching import watch

DEFAULT_NAME = "default"

tenant_option = click.option(
    "--tenant", default=DEFAULT_NAME, show_default=True, help="Whose documents."
)
dataset_option = click.option(
    "--dataset", default=DEFAULT_NAME, show_default=True, help="The dataset's name."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--url", "urls", multiple=True, help="A URL to fetch and index; once for each.")
@tenant_option
@dataset_option
@click.option(
    "--technique",
    type=click.Choice(TECHNIQUES),
    help="Of a new dataset: with vectors (the default), or keywords only.",
)
@click.option(
    "--form",
    "doc_form",
    type=click.Choice([form.value for form in DocForm]),
    help="Of a new dataset: passages (the default), parents with children, or questions.",
)
@click.option(
    "--rule",
    type=JsonFile(),
    metavar="FILE",
    help="A process rule as JSON, - for standard input: how these files are split from now on.",
)
@click.option("--embedding-provider", help="Of a new dataset: wordllama, openai_compatible …")
@click.option("--embedding-model", help="Of a new dataset: the provider's name of it.")
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
def index(
    context: click.Context,
    /,
    paths: tuple[Path, ...],
    urls: tuple[str, ...],
    tenant: str,
    dataset: str,
    timeout_seconds: float,
    *,
    wait: bool,
    as_json: bool,
    **manner: Any,
) -> None:
    """Index files, folders and URLs.

    What is indexed already and unchanged costs nothing. In a folder, hidden files
    and links to other folders are left out.
    """
    if not paths and not urls:
        raise click.UsageError("name files or folders, or give --url")
    report = index_paths(
        paths,
        tenant,
        dataset,
        wait=wait,
        timeout_seconds=timeout_seconds,
        manner=Manner(**manner),
        urls=urls,
    )
    if as_json:
        click.echo(as_one_line(asdict(report)))
    else:
        click.echo(
            f"{len(report.indexed)} indexed, {len(report.unchanged)} unchanged, "
            f"{len(report.submitted)} submitted, {len(report.failed)} failed"
        )
        print_failed(report)
    if report.failed:
        context.exit(SOME_FAILED)


@click.command()
@click.argument("document_id", required=False, type=click.UUID)
@tenant_option
@dataset_option
@click.option("--watch", "watches", is_flag=True, help="Follow the dataset until Ctrl-C.")
@click.option("--until-rest", is_flag=True, help="With --watch: end when no document goes on.")
@json_option
@in_application
def status(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    document_id: UUID | None,
    tenant: str,
    dataset: str,
    *,
    watches: bool,
    until_rest: bool,
    as_json: bool,
) -> None:
    """Show a document, or a dataset's documents.

    Of a dataset: how many documents stand where, and why some ended as error.
    """
    if watches or until_rest:
        if document_id is not None or as_json or not watches:
            raise click.UsageError(
                "--watch shows a dataset, for people: without an id or --json; "
                "--until-rest goes with it"
            )
        _watch(tenant, dataset, until_rest=until_rest)
        return
    with Session(db.engine) as session:
        if document_id is not None:
            shown = document_overview(session, document_id)
        else:
            shown = dataset_overview(session, find_dataset(session, tenant, dataset))
    if as_json:
        click.echo(as_one_line(shown))
        return
    _print_overview(shown)


def _print_overview(shown: dict[str, object]) -> None:
    for name, value in shown.items():
        if isinstance(value, dict):
            click.echo(f"{name}: " + ", ".join(f"{count} {kind}" for kind, count in value.items()))
        elif isinstance(value, list):
            for one in value:
                click.echo(f"  {printable(one['name'])}: {printable(one['reason'] or '')}")
        elif value is not None:
            click.echo(f"{name}: {printable(str(value))}")


def _watch(tenant: str, dataset: str, *, until_rest: bool) -> None:
    with Session(db.engine) as session:
        dataset_id = find_dataset(session, tenant, dataset)
    watch(Console(), dataset_id, until_rest=until_rest)


def print_failed(report: IndexReport) -> None:
    """List what could not be indexed, each with its reason."""
    if report.failed:
        click.echo(f"\nNot indexed: {len(report.failed)}")
        for one in sorted(report.failed, key=lambda failed: failed.name):
            click.echo(f"  {printable(one.name)}: {printable(one.reason or '')}")


def as_one_line(value: dict[str, object]) -> str:
    """A JSON object; ids and times as text."""
    return json.dumps(value, ensure_ascii=False, default=str)
