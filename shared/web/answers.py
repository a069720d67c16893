"""Answers over HTTP, for any Flask application to mount.

::

    GET  /answers/<message_id>/events    server-sent events; resumes by Last-Event-ID
    POST /answers/<message_id>/cancel    stops it
    POST /answers                        asks, where ``asker`` is given

Source of the format: WHATWG, HTML Living Standard, 9.2 "Server-sent events".
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from uuid import UUID

from celery import Celery
from flask import Blueprint, Response, jsonify, request
from redis import Redis
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.exceptions import BadRequest

from shared.errors import AnswerNotEnded, InvalidRequest, NotFound
from shared.models import Message
from shared.queueing.transactions import in_transaction
from shared.submitting.answer_events import AnswerEvent, EventKind
from shared.submitting.answer_reading import END, read_answer
from shared.submitting.answers import ask, cancel_answer

#: What a browser waits before it connects again.
_RETRY_MILLISECONDS = 1000
_HEADERS = {
    # No proxy may hold it back, gather or compress it.
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}


@dataclass(frozen=True, slots=True)
class Access:
    """What somebody wants of an answer; who it is your application knows."""

    action: Literal["read", "cancel"]
    message_id: UUID
    conversation_id: UUID
    tenant_id: UUID


def answers_blueprint(
    sessions: Callable[[], Session],
    redis: "Redis",
    *,
    authorize: Callable[[Access], bool],
    asker: Callable[[], UUID | None] | None = None,
    celery: Celery | None = None,
    heartbeat_seconds: float = 15.0,
    timeout_seconds: float = 600.0,
) -> Blueprint:
    """The blueprint.

    Args:
        sessions: opens a session on rag-worker's database, like a ``sessionmaker``.
        redis: any client of the Redis of the settings; each reader holds a connection.
        authorize: called within each request; anything but ``True`` is answered like a
            message that does not exist.
        asker: the tenant on whose behalf a request asks, ``None`` for nobody; without
            it nothing can be asked over HTTP.
        celery: publishes at once what is asked; without it a worker's relay does.
        heartbeat_seconds: a comment keeps a silent connection open so often.
        timeout_seconds: a stream is closed then; browsers connect again and resume.
    """
    blueprint = Blueprint("rag_worker_answers", __name__)
    blueprint.register_error_handler(NotFound, lambda error: _refused(error, 404))
    blueprint.register_error_handler(InvalidRequest, lambda error: _refused(error, 400))

    def require(action: Literal["read", "cancel"], message_id: UUID) -> None:
        with sessions() as session:
            query = select(Message.conversation_id, Message.tenant_id)
            row = session.execute(query.where(Message.id == message_id)).one_or_none()
        if row is None or authorize(Access(action, message_id, *row)) is not True:
            raise NotFound(f"there is no message {message_id}")

    @blueprint.get("/answers/<uuid:message_id>/events")
    def events(message_id: UUID) -> Response:
        """The answer as it is made."""
        require("read", message_id)
        after = request.headers.get("Last-Event-ID") or request.args.get("after")
        if after == END:
            return Response(status=204)  # tells a browser to connect no more
        found = read_answer(
            message_id,
            sessions=sessions,
            redis=redis,
            after=after,
            timeout_seconds=timeout_seconds,
            heartbeat_seconds=heartbeat_seconds,
        )
        return Response(as_text(found), mimetype="text/event-stream", headers=_HEADERS)

    @blueprint.post("/answers/<uuid:message_id>/cancel")
    def cancel(message_id: UUID) -> Response:
        """Stop the answer; ``cancelled`` says whether there was something to stop."""
        require("cancel", message_id)
        cancelled = in_transaction(
            sessions, partial(cancel_answer, message_id=message_id, celery=celery, redis=redis)
        )
        return jsonify(cancelled=cancelled)

    if asker is not None:

        @blueprint.post("/answers")
        def put_question() -> tuple[Response, int]:
            """Accept ``question`` and ``dataset_ids``, with ``conversation_id`` and ``search``."""
            tenant_id = asker()
            if tenant_id is None:
                raise NotFound("nobody may ask here")
            return jsonify(_asked(sessions, tenant_id, celery)), 202

    return blueprint


def as_text(events: Iterator[AnswerEvent]) -> Iterator[str]:
    """Events in the format of a stream of server-sent events."""
    yield f"retry: {_RETRY_MILLISECONDS}\n\n"
    try:
        for event in events:
            if event.kind is EventKind.HEARTBEAT:
                yield ": still there\n\n"
                continue
            number = "" if event.id is None else f"id: {event.id}\n"
            data = json.dumps(event.data, ensure_ascii=False)
            yield f"{number}event: {event.kind}\ndata: {data}\n\n"
    except AnswerNotEnded:
        return  # the client connects again, with the last id it has


def _asked(
    sessions: Callable[[], Session], tenant_id: UUID, celery: Celery | None
) -> dict[str, str]:
    try:
        wanted: Any = request.get_json()
    except BadRequest as error:
        raise InvalidRequest("send JSON: question and dataset_ids") from error
    if not isinstance(wanted, dict):
        raise InvalidRequest("send a JSON object: question and dataset_ids")

    def accept(session: Session) -> dict[str, str]:
        message_id = ask(
            session,
            tenant_id,
            wanted.get("question", ""),
            wanted.get("dataset_ids") or [],
            wanted.get("conversation_id"),
            search=wanted.get("search"),
            celery=celery,
        )
        message = session.get_one(Message, message_id)
        return {
            "message_id": str(message_id),
            "conversation_id": str(message.conversation_id),
        }

    return in_transaction(sessions, accept)


def _refused(error: Exception, status: int) -> tuple[Response, int]:
    return jsonify(error=str(error)), status
