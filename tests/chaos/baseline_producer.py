"""The baseline's producer: ``python -m tests.chaos.baseline_producer``."""

from typing import Any

from sqlalchemy.orm import Session

from benchmarks.baseline.application import app, flask_app
from benchmarks.baseline.models import db
from benchmarks.baseline.submitting import submit
from benchmarks.baseline.tasks import index_document
from tests.chaos.documents import DocumentSpec
from tests.chaos.producers import die_at, serve


def produce(order: dict[str, Any], specs: list[DocumentSpec]) -> dict[str, str]:
    """Submit the documents of an order as the recipe does."""
    files = [(spec.key, spec.name, spec.content()) for spec in specs]
    with flask_app.app_context(), Session(db.engine) as session:
        die_at(session, order["death"])
        redis = flask_app.extensions["redis"]
        return submit(session, redis, order["tenant"], files, index_document.delay)


if __name__ == "__main__":
    app.set_current()
    serve(produce)
