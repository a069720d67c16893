"""A FastAPI application hands uploads to the workers."""

from uuid import UUID

from fastapi import FastAPI, UploadFile
from sqlalchemy.orm import Session

from shared.app_factory import create_app as create_rag_worker
from shared.models import Document
from shared.queueing.engine import open_engine
from shared.settings import load_settings
from shared.submitting.dataset import ensure_dataset, ensure_tenant, submit_document
from shared.submitting.files import store_file

settings = load_settings()
rag_worker = create_rag_worker(settings)  # Redis, storage and Celery from the environment
engine = open_engine(settings.database)
app = FastAPI()


# Not async: the database and the broker block, so FastAPI runs it in a thread.
@app.post("/documents", status_code=202)
def upload(file: UploadFile) -> dict[str, str]:
    name = file.filename or "unnamed"
    with Session(engine) as session, session.begin():
        tenant_id = ensure_tenant(session, "acme")
        dataset_id = ensure_dataset(session, tenant_id, "manuals")
        stored = store_file(rag_worker.extensions["storage"], tenant_id, name, file.file)
        document = submit_document(
            session,
            rag_worker.extensions["redis"],
            dataset_id,
            name,
            stored,
            celery=rag_worker.extensions["celery"],
        )
    # Committed: the row and the message about it are both there, or neither is.
    return {"id": str(document.document_id), "outcome": document.outcome}


@app.get("/documents/{document_id}")
def status(document_id: UUID) -> dict[str, str | None]:
    with Session(engine) as session:
        document = session.get_one(Document, document_id)
        return {"status": document.indexing_status, "error": document.error}
