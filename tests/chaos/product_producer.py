"""rag-worker's producer, as an API process would be: ``python -m tests.chaos.product_producer``."""

import io
from typing import Any
from uuid import UUID

from celery import Celery
from sqlalchemy.orm import Session

from shared.extensions.redis import connect
from shared.extensions.storage import open_storage
from shared.queueing.celery_settings import celery_settings
from shared.queueing.engine import open_engine
from shared.settings import load_settings
from shared.submitting.dataset import submit_documents
from shared.submitting.files import store_file
from tests.chaos.documents import DocumentSpec
from tests.chaos.producers import die_at, serve


def produce(order: dict[str, Any], specs: list[DocumentSpec]) -> dict[str, str]:
    """Submit the documents of an order in one transaction."""
    settings = load_settings(())
    storage = open_storage(settings.storage.storage_url)
    celery = Celery()
    celery.config_from_object(celery_settings(settings))
    engine = open_engine(settings.database)
    tenant_id = UUID(order["tenant_id"])
    files = [
        (spec.key, store_file(storage, tenant_id, spec.name, io.BytesIO(spec.content())))
        for spec in specs
    ]
    with Session(engine) as session:
        die_at(session, order["death"])
        submissions = submit_documents(
            session,
            connect(settings),
            UUID(order["dataset_id"]),
            files,
            settings.indexing.indexing_guard_seconds,
            celery=celery,
        )
        session.commit()
    return {
        spec.key: submission.outcome for spec, submission in zip(specs, submissions, strict=True)
    }


if __name__ == "__main__":
    serve(produce)
