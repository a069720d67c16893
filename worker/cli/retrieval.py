"""``rag-worker datasets retrieval``: how a dataset is searched when the caller does not say."""

import json
from typing import Any

import click
from sqlalchemy.orm import Session

from shared.models import db
from shared.submitting.retrieval import retrieval_of, set_retrieval
from worker.cli.application import in_application
from worker.cli.documents import as_one_line, dataset_option, json_option, tenant_option
from worker.cli.json_file import JsonFile
from worker.cli.overview import find_dataset


@click.group()
def retrieval() -> None:
    """Show or set how a dataset is searched by default."""


@retrieval.command()
@tenant_option
@dataset_option
@json_option
@in_application
def show(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    tenant: str,
    dataset: str,
    *,
    as_json: bool,
) -> None:
    """Show a dataset's search method, number of passages and threshold."""
    with Session(db.engine) as session:
        shown = retrieval_of(session, find_dataset(session, tenant, dataset)).as_json()
    _print(shown, as_json=as_json)


@retrieval.command("set")
@click.argument("given", metavar="FILE", type=JsonFile())
@tenant_option
@dataset_option
@json_option
@in_application
def set_one(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    given: dict[str, Any],
    tenant: str,
    dataset: str,
    *,
    as_json: bool,
) -> None:
    """Set them from a JSON file as Dify writes it; - is standard input, {} leaves all open."""
    with Session(db.engine) as session, session.begin():
        stored = set_retrieval(session, find_dataset(session, tenant, dataset), given).as_json()
    _print(stored, as_json=as_json)


def _print(stored: dict[str, Any], *, as_json: bool) -> None:
    click.echo(as_one_line(stored) if as_json else json.dumps(stored, indent=2))
