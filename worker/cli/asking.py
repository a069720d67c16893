"""``rag-worker ask``."""

import re
import sys
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import click
from flask import current_app
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import Permanent
from shared.models import Dataset, MessageStatus, db
from shared.submitting.answer_events import AnswerEvent, EventKind
from shared.submitting.answer_reading import read_answer
from shared.submitting.answers import ask as accept
from shared.submitting.answers import cancel_answer
from worker.cli.application import in_application
from worker.cli.documents import DEFAULT_NAME, as_one_line, json_option, tenant_option
from worker.cli.failures import INTERRUPTED
from worker.cli.overview import find_dataset
from worker.cli.printing import printable

#: Without a sign of a worker for so long there may be none.
_PATIENCE_SECONDS = 3.0
#: How long the end is waited for after Ctrl-C.
_CANCEL_SECONDS = 10.0
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@click.command()
@click.argument("question")
@tenant_option
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    default=(DEFAULT_NAME,),
    show_default=True,
    help="Whose documents answer; repeatable.",
)
@click.option("--conversation", type=click.UUID, help="Go on with this one.")
@click.option("--top-k", type=click.IntRange(1, 50), help="Passages at most.")
@click.option(
    "--stream/--whole",
    "is_live",
    default=None,
    help="Print words as they come, or the answer as a whole; by default, words on a terminal.",
)
@click.option(
    "--timeout",
    "timeout_seconds",
    default=600.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds to wait for the end.",
)
@json_option
@in_application
def ask(  # noqa: PLR0913 - one argument an option
    context: click.Context,
    question: str,
    *,
    tenant: str,
    datasets: tuple[str, ...],
    conversation: UUID | None,
    top_k: int | None,
    is_live: bool | None,
    timeout_seconds: float,
    as_json: bool,
) -> None:
    """Answer QUESTION from a dataset's documents.

    A worker answers; what it says is printed as it comes, then the passages it cites.
    Ctrl-C stops the answer. Without a chat model (GENERATION_MODEL) the answer is made
    of sentences of the documents.
    """
    with Session(db.engine) as session, session.begin():
        ids = [find_dataset(session, tenant, name) for name in datasets]
        message_id = accept(
            session,
            session.get_one(Dataset, ids[0]).tenant_id,
            question,
            ids,
            conversation,
            search={} if top_k is None else {"top_k": top_k},
            celery=current_app.extensions["celery"],
        )
    prints_words = not as_json and (sys.stdout.isatty() if is_live is None else is_live)
    try:
        message = _follow(message_id, timeout_seconds, prints_words=prints_words)
    except KeyboardInterrupt:
        _cancel(message_id)
        context.exit(INTERRUPTED)
    if as_json:
        click.echo(as_one_line(message))
    else:
        _print(message, has_words=prints_words)
    if message["status"] == MessageStatus.ERROR:
        raise Permanent(str(message["error"]))


def _events(message_id: UUID, seconds: float, **options: Any) -> Iterator[AnswerEvent]:
    return read_answer(
        message_id,
        sessions=sessionmaker(db.engine),
        redis=current_app.extensions["redis"],
        timeout_seconds=seconds,
        **options,
    )


def _follow(message_id: UUID, seconds: float, *, prints_words: bool) -> dict[str, Any]:
    """Read to the end; the message as it is then."""
    asked, has_begun, has_hinted = time.monotonic(), False, False
    message: dict[str, Any] = {}
    for event in _events(message_id, seconds, heartbeat_seconds=1.0):
        has_begun = has_begun or event.kind is not EventKind.HEARTBEAT
        if not (has_begun or has_hinted) and time.monotonic() - asked > _PATIENCE_SECONDS:
            click.echo("no worker has taken it yet: is one running? (rag-worker up)", err=True)
            has_hinted = True
        if event.kind is EventKind.WAITING:
            click.echo(f"waiting: {printable(event.data['reason'])}", err=True)
        elif event.kind is EventKind.ENDED:
            message = dict(event.data)
        elif prints_words:
            _print_words(event)
    return message


def _print_words(event: AnswerEvent) -> None:
    if event.kind is EventKind.CHUNK:
        click.echo(_shown(event.data["text"]), nl=False)
    elif event.kind is EventKind.RESTARTED:
        click.echo("\n\n--- it begins again ---\n")


def _print(message: dict[str, Any], *, has_words: bool) -> None:
    if has_words:
        click.echo()
    elif message.get("answer"):
        click.echo(_shown(message["answer"]))
    sources = message.get("sources") or []
    cited = [one for one in sources if one.get("is_cited")]
    if cited:
        click.echo()
    for one in cited:
        page = f", page {one['page']}" if one["page"] else ""
        name = printable(one["document_name"])
        click.echo(f"[{one['number']}] {name}, position {one['position']}{page}")
    if message.get("is_extractive"):
        click.echo("sentences of the documents: no chat model (GENERATION_MODEL) is set", err=True)
    if message.get("cut_by"):
        click.echo(f"the answer was cut at its limit of {message['cut_by']}", err=True)
    click.echo(f"to ask on: --conversation {message['conversation_id']}", err=True)


def _shown(text: str) -> str:
    return _CONTROLS.sub("�", text)


def _cancel(message_id: UUID) -> None:
    """Stop the answer, and see to it that it stopped."""
    with Session(db.engine) as session, session.begin():
        cancel_answer(
            session,
            message_id,
            celery=current_app.extensions["celery"],
            redis=current_app.extensions["redis"],
        )
    status = ""
    for event in _events(message_id, _CANCEL_SECONDS):
        if event.kind is EventKind.ENDED:
            status = str(event.data["status"])
    click.echo(f"\n{status}", err=True)
