"""``rag-worker vdb-migrate``: datasets' vectors go to another store, or model."""

import os
from dataclasses import dataclass
from typing import Any

import click
from flask import current_app
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest
from shared.models import db
from shared.models.dataset import VECTOR_STORES
from shared.settings import Settings
from shared.submitting.vector_migration import SAMPLES, Destination, migrate_dataset_vectors
from worker.cli.application import in_application
from worker.cli.audit import caller
from worker.cli.documents import as_one_line, json_option
from worker.cli.failures import SOME_FAILED
from worker.cli.migrating_datasets import Chosen, Outcome, chosen_datasets, shown
from worker.cli.migration_following import Follower
from worker.cli.reindexing import timeout_option, wait_option


@click.command("vdb-migrate")
@click.option("--dataset", metavar="ID", help="This one; a name is looked for in --tenant.")
@click.option("--tenant", metavar="ID", help="All of this tenant's, by its id or name.")
@click.option("--all", "is_all", is_flag=True, help="All there are.")
@click.option("--to-store", type=click.Choice(VECTOR_STORES), help="Where to; as now, when unset.")
@click.option(
    "--to-model", metavar="PROVIDER/MODEL", help="Made by which model; as now, when unset."
)
@click.option(
    "--batch",
    "batch_segments",
    type=click.IntRange(min=1, max=10_000),
    help="Vectors moved together; INDEXING_BATCH_SEGMENTS, when unset.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=0),
    default=SAMPLES,
    show_default=True,
    help="Searches compared in both places before the new one serves.",
)
@click.option("--here", is_flag=True, help="Work in this process too: it needs no worker.")
@wait_option
@timeout_option
@click.option("--dry-run", "is_trial", is_flag=True, help="Say what would be done, and end.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@in_application
def vdb_migrate(
    context: click.Context,
    /,
    dataset: str | None,
    tenant: str | None,
    *,
    is_all: bool,
    is_trial: bool,
    yes: bool,
    as_json: bool,
    **manner: Any,
) -> None:
    """Move datasets' vectors to another store or model.

    Of the same model they are copied, of another one embedded anew. Search goes on in the
    old place until all are there and verified; then it switches at once, and the old
    ones are deleted. Whatever is interrupted goes on when the command is called again.
    """
    if is_all == (dataset is not None or tenant is not None):
        raise click.UsageError("name one --dataset, or one --tenant, or --all")
    way = _Way(**manner)
    destination = way.destination()
    way.require_store()
    found = chosen_datasets(dataset, tenant)
    outcomes = [_asked(one, destination, way, is_strict=dataset is not None) for one in found]
    _print(outcomes, is_said=not as_json, is_trial=is_trial)
    wanted = [one for one in outcomes if one.status == "planned"]
    if wanted and not is_trial:
        if not yes:
            click.confirm(f"Move {len(wanted)} datasets?", abort=True, err=True)
        _begin(wanted, destination, way)
        if way.wait:
            Follower(wanted, way.timeout_seconds, works=way.here).follow()
    if as_json:
        click.echo(as_one_line({"datasets": [one.as_dict() for one in outcomes]}))
    else:
        _print(outcomes, is_said=not is_trial)
    if any(one.has_failed or (way.wait and one.status == "running") for one in outcomes):
        context.exit(SOME_FAILED)


@dataclass(frozen=True, slots=True)
class _Way:
    """Where to, and how."""

    to_store: str | None
    to_model: str | None
    batch_segments: int | None
    samples: int
    here: bool
    wait: bool
    timeout_seconds: float

    def destination(self) -> Destination:
        if self.to_store is None and self.to_model is None:
            raise click.UsageError("say where to: --to-store, or --to-model, or both")
        settings: Settings = current_app.extensions["settings"]
        provider = model = None
        if self.to_model is not None:
            provider, _, model = self.to_model.partition("/")
            if not provider or not model:
                raise click.UsageError("--to-model is PROVIDER/MODEL, as wordllama/l2_supercat_256")
        return Destination(settings.vectors.vector_store, self.to_store, provider, model)

    def require_store(self) -> None:
        """Know before anything is begun that the store is there."""
        settings: Settings = current_app.extensions["settings"]
        # A folder belongs to one process: the worker that has it open.
        is_folder = settings.vectors.qdrant_path and not settings.vectors.qdrant_url
        if self.to_store is not None and (self.here or not is_folder):
            from worker import wiring

            wiring.vector_stores().at(self.to_store).check()

    @property
    def options(self) -> dict[str, Any]:
        return {"samples": self.samples, "batch_segments": self.batch_segments}


def _print(outcomes: list[Outcome], *, is_said: bool, is_trial: bool = True) -> None:
    """A line each: the plan, which is for stderr unless it is all there will be; or the end."""
    if is_said:
        for one in outcomes:
            click.echo(shown(one), err=not is_trial)
        if not outcomes and is_trial:
            click.echo("no datasets")


def _asked(chosen: Chosen, destination: Destination, way: _Way, *, is_strict: bool) -> Outcome:
    try:
        with Session(db.engine) as session:
            migration = migrate_dataset_vectors(
                session, chosen.id, destination, is_trial=True, **way.options
            )
    except InvalidRequest as error:
        if is_strict:
            raise
        status = "skipped" if chosen.is_economy else "error"
        return Outcome(chosen, status, reason=str(error))
    is_due = migration.build_id is not None or migration.is_needed
    return Outcome(chosen, "planned" if is_due else "nothing to do", migration)


def _begin(wanted: list[Outcome], destination: Destination, way: _Way) -> None:
    by = f"{caller()}, process {os.getpid()}"
    celery = current_app.extensions["celery"]
    for one in wanted:
        try:
            with Session(db.engine) as session, session.begin():
                one.migration = migrate_dataset_vectors(
                    session,
                    one.chosen.id,
                    destination,
                    requested_by=by,
                    celery=celery,
                    **way.options,
                )
        except InvalidRequest as error:
            one.status, one.reason = "error", str(error)
        else:
            one.status = "running" if one.migration.build_id else "nothing to do"
            if one.migration.is_joined:
                click.echo(
                    f"{one.chosen.label}: is being moved already, asked for by "
                    f"{one.migration.requested_by or 'a producer'}: following that",
                    err=True,
                )
