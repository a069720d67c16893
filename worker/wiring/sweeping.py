"""The sweep over every queue."""

from functools import partial

from flask import current_app

from shared.contract import QUEUES
from shared.errors import ServiceUnavailable
from shared.models import db
from shared.queueing import outbox
from shared.queueing.publishing import BROKER_ERRORS
from shared.settings import Settings
from shared.submitting.control import announce_waiting
from shared.submitting.segment_announcing import announce_edits, announce_imports
from worker.delivery.sweeper import sweep_messages
from worker.services.dataset.index_changing import sweep_builds
from worker.services.dataset.removal_sweeping import sweep_removals
from worker.services.dataset.segment_sweeping import sweep_segments
from worker.services.dataset.sweeping import sweep_documents
from worker.services.generation.answer_sweeping import sweep_answers
from worker.services.mail.giving_up import sweep_mail
from worker.services.ops_trace.trace_sweeping import sweep_traces
from worker.wiring.answers import answer_needs
from worker.wiring.dataset import index_needs
from worker.wiring.foundations import sessions
from worker.wiring.generation import sweep_generation
from worker.wiring.mail import mail_needs
from worker.wiring.trace_export import export_needs
from worker.wiring.vectors import vector_stores


def sweep() -> int:
    """Send out again what got stuck, in every queue, and collect what vectors are left over.

    Returns:
        How many things were sent out again.

    Raises:
        ServiceUnavailable: the broker, or the vector store, does not answer.
    """
    swept = sweep_queues()
    # Last: a vector store that is away keeps no message back.
    collect_vectors()
    return swept


def collect_vectors() -> int:
    """Delete from an external vector store what no row stands for any more."""
    return vector_stores().collect()


def sweep_queues() -> int:
    """Send out again what got stuck, in every queue.

    Returns:
        How many things were sent out again.

    Raises:
        ServiceUnavailable: the broker does not answer.
    """
    settings: Settings = current_app.extensions["settings"]
    celery = current_app.extensions["celery"]
    seconds = settings.delivery.outbox_redelivery_seconds
    swept = sweep_documents(sessions(), partial(announce_waiting, celery=celery), seconds)
    swept += sweep_builds(index_needs(), seconds)
    swept += sweep_mail(mail_needs(), seconds)
    swept += sweep_answers(answer_needs(), seconds)
    swept += sweep_traces(export_needs(), seconds)
    swept += sweep_generation(seconds)
    swept += sweep_removals(sessions(), partial(outbox.write, celery=celery))
    swept += sweep_segments(
        sessions(),
        partial(announce_edits, celery=celery),
        partial(announce_imports, celery=celery),
        seconds,
    )
    try:
        with celery.connection_for_write() as connection:
            messages = sweep_messages(db.engine, connection, QUEUES, seconds)
    except BROKER_ERRORS as error:
        raise ServiceUnavailable(f"the broker does not answer: {error}") from error
    return swept + messages.expired + messages.lost
