"""Known-item search over a real manual: how often is the page among the first five?

``python -m benchmarks.retrieval_quality [--seed N]`` indexes Python's own manual (see
``benchmarks.manual``) and asks a question a page, by vector, by keyword and by both.
The target: hybrid is no worse than the better of the two.
"""

import argparse
import io
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

from flask import current_app
from sqlalchemy.orm import Session

from benchmarks.application import application
from benchmarks.manual import Page, manual
from shared.models import db
from shared.submitting.dataset import ensure_dataset, ensure_tenant, submit_documents
from shared.submitting.files import store_file
from worker import wiring
from worker.services.dataset.indexing import index_document
from worker.services.dataset.retrieval import search
from worker.services.dataset.search_options import SearchMethod, SearchOptions

HITS = 5
#: Several passages of one page may be among the first.
PASSAGES = 25


def index(pages: list[Page]) -> UUID:
    """Index the pages in this process; returns the dataset."""
    app = current_app
    with Session(db.engine) as session:
        tenant_id = ensure_tenant(session, "bench")
        dataset_id = ensure_dataset(session, tenant_id, "manual")
        stored = [
            (
                page.name,
                store_file(
                    app.extensions["storage"],
                    tenant_id,
                    f"{page.name}.txt",
                    io.BytesIO(page.text.encode()),
                ),
            )
            for page in pages
        ]
        submissions = submit_documents(session, app.extensions["redis"], dataset_id, stored)
        session.commit()
    needs = wiring.indexing_needs()
    segments = sum(
        index_document(one.document_id, dataset_id, needs).segments for one in submissions
    )
    print(f"{len(pages)} pages, {segments} segments")
    return dataset_id


def place_of(page: Page, dataset_id: UUID, method: SearchMethod) -> int | None:
    """The page's place among the pages found, from 0."""
    options = SearchOptions(method, top_k=PASSAGES)
    found = search(dataset_id, page.question or "", wiring.retrieval_needs(), options)
    pages = list(dict.fromkeys(one.document_name for one in found))
    name = f"{page.name}.txt"
    return pages.index(name) if name in pages else None


def measure(pages: list[Page], dataset_id: UUID) -> dict[SearchMethod, float]:
    """Ask every question by every method, and print a line for each."""
    asked = [page for page in pages if page.question]
    print(f"{len(asked)} questions\n{'':10}  hit@1  hit@{HITS}    MRR  ms a search")
    hits: dict[SearchMethod, float] = {}
    for method in SearchMethod:
        started = time.perf_counter()
        places = [place_of(page, dataset_id, method) for page in asked]
        seconds = time.perf_counter() - started
        found = [place for place in places if place is not None]
        hits[method] = sum(place < HITS for place in found) / len(asked)
        first = sum(place == 0 for place in found) / len(asked)
        reciprocal = sum(1 / (place + 1) for place in found) / len(asked)
        print(
            f"{method:10}  {first:5.3f}  {hits[method]:5.3f}  {reciprocal:5.3f}"
            f"  {seconds / len(asked) * 1000:.1f}"
        )
    return hits


def main() -> int:
    """Measure, print the table, return 0 when the target is met."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=7, help="of the choice of questions")
    seed = parser.parse_args().seed
    with tempfile.TemporaryDirectory() as folder, application(Path(folder)):
        pages = manual(seed)
        hits = measure(pages, index(pages))
    best = max(hits[SearchMethod.VECTOR], hits[SearchMethod.KEYWORD])
    print(f"\nhybrid over the better of the two: {hits[SearchMethod.HYBRID] - best:+.3f}")
    return 0 if hits[SearchMethod.HYBRID] >= best else 1


if __name__ == "__main__":
    sys.exit(main())
