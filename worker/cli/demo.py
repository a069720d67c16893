"""``rag-worker demo`` and ``up``: the whole stack from one command."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.app_factory import create_app
from shared.models import Document, DocumentSegment, db
from worker.cli.application import quiet_logs
from worker.cli.database import upgrade_database
from worker.cli.documents import print_failed
from worker.cli.failures import SOME_FAILED
from worker.cli.indexing import index_paths
from worker.cli.printing import printable, shortened
from worker.cli.stack.running import (
    RunningStack,
    announced,
    outside_settings,
    processes,
    servers,
)

TENANT = "demo"
_QUESTIONS = 3
_QUESTION_WORDS = 12
#: Of the best passage all there is, of the next its beginning.
_SHOWN_CHARACTERS = (3000, 240)
_TIMEOUT_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and where it comes from."""

    text: str
    origin: str = ""


@contextmanager
def running_stack() -> Iterator[RunningStack]:
    """The migrated, running stack and an application on it."""
    quiet_logs()
    settings = outside_settings()
    with servers(settings) as started:
        os.environ.update(started.variables)
        app = create_app()
        with app.app_context():
            # Flower and beat come up meanwhile: they touch no table.
            with processes(settings, started) as stack:
                upgrade_database()
                stack.start_worker()
                yield stack
            db.engine.dispose()


@click.command()
@click.pass_context
@click.option(
    "--docs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Your own folder, in place of the sample documents.",
)
def demo(context: click.Context, docs: Path | None) -> None:
    """Start the stack, index, ask three questions, stop.

    Files of your own that cannot be read are listed at the end, each with its reason.
    """
    started = time.monotonic()
    folder = docs.absolute() if docs else _samples() / "documents"
    dataset = f"demo: {folder}" if docs else "demo"
    with running_stack() as stack:
        click.echo(f"Stack up in {time.monotonic() - started:.1f} s; indexing {folder}")
        report = index_paths(
            (folder,),
            TENANT,
            dataset,
            wait=True,
            timeout_seconds=_TIMEOUT_SECONDS,
            check=stack.require_alive,
        )
        click.echo(f"\n{len(report.indexed)} indexed, {len(report.unchanged)} there already")
        for question in _own_questions(report.dataset_id) if docs else _sample_questions():
            _ask(report.dataset_id, question)
        print_failed(report)
        stack.await_flower()
        click.echo(f"\nFlower: {stack.flower_url} (login {stack.flower_login})")
        click.echo("`make up` keeps the stack, and Flower, running.")
    click.echo(f"Everything stopped; {time.monotonic() - started:.1f} s in all.")
    if report.failed and not docs:
        context.exit(SOME_FAILED)


@click.command()
def up() -> None:
    """Keep the whole stack in the foreground until Ctrl-C."""
    with running_stack() as stack, announced(stack.servers.variables):
        stack.await_flower()
        click.echo(f"Flower:  {stack.flower_url} (login {stack.flower_login})")
        click.echo(f"Logs:    {stack.log_folder}")
        click.echo("Ready. In another terminal, in this folder: rag-worker index PATH, then")
        click.echo("rag-worker search 'your words' or rag-worker ask 'your question'.")
        click.echo("Ctrl-C stops everything.")
        with suppress(KeyboardInterrupt):
            stack.require_alive(wait_seconds=None)
        click.echo("Stopping …")


def _samples() -> Path:
    return Path(str(files("worker"))) / "samples"


def _sample_questions() -> list[Question]:
    entries: list[dict[str, Any]] = json.loads((_samples() / "questions.json").read_text("utf-8"))
    return [Question(entry["question"]) for entry in entries[:_QUESTIONS]]


def _own_questions(dataset_id: UUID) -> list[Question]:
    """Words out of the middle of three documents: nobody can ask about files unseen."""
    middle = (
        select(DocumentSegment.content, Document.name)
        .join(Document, Document.id == DocumentSegment.document_id)
        .where(
            Document.dataset_id == dataset_id,
            DocumentSegment.version == Document.active_version,
            DocumentSegment.position == func.floor(Document.total_segments / 2),
        )
        .order_by(Document.position)
        .limit(_QUESTIONS)
    )
    with Session(db.engine) as session:
        rows = session.execute(middle).all()
    return [
        Question(" ".join(row.content.split()[:_QUESTION_WORDS]), f" (words of {row.name})")
        for row in rows
    ]


def _ask(dataset_id: UUID, question: Question) -> None:
    from worker.services.dataset.retrieval import search
    from worker.services.dataset.search_options import SearchOptions
    from worker.wiring import retrieval_needs

    click.echo(f"\n? {shortened(question.text, 100)}{question.origin}")
    options = SearchOptions(top_k=len(_SHOWN_CHARACTERS))
    found = search(dataset_id, question.text, retrieval_needs(), options)
    for one, characters in zip(found, _SHOWN_CHARACTERS, strict=False):
        click.echo(f"  {one.score:.3f}  {printable(one.document_name)}, position {one.position}")
        click.echo(f"         {shortened(one.content, characters)}")
