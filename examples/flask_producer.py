"""An existing Flask application hands uploads to the workers."""

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from shared.app_factory import create_app as create_rag_worker
from shared.models import db
from shared.submitting.dataset import ensure_dataset, ensure_tenant, submit_document
from shared.submitting.files import store_file

app = Flask(__name__)  # your own
rag_worker = create_rag_worker()  # settings, database, Redis and Celery from the environment


@app.post("/documents")
def upload() -> ResponseReturnValue:
    file = request.files["file"]
    name = file.filename or "unnamed"
    with rag_worker.app_context(), Session(db.engine) as session, session.begin():
        tenant_id = ensure_tenant(session, "acme")
        dataset_id = ensure_dataset(session, tenant_id, "manuals")
        stored = store_file(rag_worker.extensions["storage"], tenant_id, name, file.stream)
        document = submit_document(
            session,
            rag_worker.extensions["redis"],
            dataset_id,
            name,
            stored,
            celery=rag_worker.extensions["celery"],
        )
    # Committed: the row and the message about it are both there, or neither is.
    return jsonify(id=document.document_id, outcome=document.outcome), 202
