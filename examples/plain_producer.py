"""A script without any framework hands files to the workers."""

import sys
from pathlib import Path

from celery import Celery
from sqlalchemy.orm import Session

from shared.extensions.redis import connect
from shared.extensions.storage import open_storage
from shared.queueing.celery_settings import celery_settings
from shared.queueing.engine import open_engine
from shared.settings import load_settings
from shared.submitting.dataset import ensure_dataset, ensure_tenant, submit_documents
from shared.submitting.files import store_file


def main(paths: list[Path]) -> None:
    settings = load_settings()
    storage, redis = open_storage(settings.storage.storage_url), connect(settings)
    celery = Celery()
    celery.config_from_object(celery_settings(settings))
    engine = open_engine(settings.database)
    with Session(engine) as session, session.begin():
        tenant_id = ensure_tenant(session, "acme")
        dataset_id = ensure_dataset(session, tenant_id, "manuals")
        files = []
        for path in paths:
            with path.open("rb") as content:
                files.append((str(path), store_file(storage, tenant_id, path.name, content)))
        # Committed, they are published; without `celery` a worker's relay does it.
        documents = submit_documents(session, redis, dataset_id, files, celery=celery)
    for document in documents:
        print(document.document_id, document.outcome, document.name)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
