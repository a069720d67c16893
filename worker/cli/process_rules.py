"""``rag-worker datasets rule``: how documents are cleaned and split."""

import json
from typing import Any
from uuid import UUID

import click
from sqlalchemy.orm import Session

from shared.models import Document, db
from shared.models.process_rule import ProcessRule
from shared.submitting.process_rules import (
    rule_of_dataset,
    rule_of_document,
    rule_of_version,
    set_dataset_rule,
    set_document_rule,
)
from worker.cli.application import in_application
from worker.cli.documents import as_one_line, dataset_option, json_option, tenant_option
from worker.cli.json_file import JsonFile
from worker.cli.overview import find_dataset

document_option = click.option(
    "--document", "document_id", type=click.UUID, help="Of this document, not of a dataset."
)


@click.group()
def rule() -> None:
    """Show or set how documents are cleaned and split.

    A rule counts for what is indexed from now on; what is indexed already stays as
    it is until its content changes or it is indexed with a rule of its own.
    """


@rule.command()
@tenant_option
@dataset_option
@document_option
@json_option
@in_application
def show(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    tenant: str,
    dataset: str,
    document_id: UUID | None,
    *,
    as_json: bool,
) -> None:
    """Show a dataset's rule; of a document also the one its version in search was made by."""
    with Session(db.engine) as session:
        if document_id is None:
            shown = _shown(rule_of_dataset(session, find_dataset(session, tenant, dataset)))
        else:
            shown = {"next": _shown(rule_of_document(session, document_id))}
            version = session.get_one(Document, document_id).active_version
            made_by = version and _shown(rule_of_version(session, document_id, version))
            shown |= {"active_version": version, "active": made_by}
    if as_json:
        click.echo(as_one_line(shown))
    else:
        click.echo(json.dumps(shown, ensure_ascii=False, indent=2))


@rule.command("set")
@click.argument("given", metavar="FILE", type=JsonFile())
@tenant_option
@dataset_option
@document_option
@json_option
@in_application
def set_rule(
    context: click.Context,  # noqa: ARG001 - every command in an application gets it
    given: dict[str, Any],
    tenant: str,
    dataset: str,
    document_id: UUID | None,
    *,
    as_json: bool,
) -> None:
    """Set a dataset's rule, or a document's own, from a JSON file; - is standard input."""
    with Session(db.engine) as session, session.begin():
        if document_id is None:
            rule_id = set_dataset_rule(session, find_dataset(session, tenant, dataset), given)
        else:
            rule_id = set_document_rule(session, document_id, given)
    if as_json:
        click.echo(as_one_line({"process_rule_id": rule_id}))
    else:
        click.echo(f"{rule_id}  set; it counts for what is indexed from now on")


def _shown(found: ProcessRule) -> dict[str, Any]:
    return {"mode": found.mode.value, "rules": found.as_json()}
