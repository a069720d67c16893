"""A re-index against the first index: unchanged, a hundredth changed, another rule.

``python -m benchmarks.reindexing [--segments N] [--runs N]`` indexes a Markdown document of N
segments, then indexes it again: unchanged (forced, by ``duplicate_documents``), anew though
unchanged, with a hundredth of its chapters changed, and by another rule. Once with the local
WordLlama model, once with a model over HTTP that takes 100 ms a request (32 texts a request,
8 requests at a time). 1 when "unchanged" takes more than 5 % or embeds anything, or a changed
hundredth embeds more than what changed.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import psutil
from flask import current_app
from sqlalchemy import text
from sqlalchemy.orm import Session

from benchmarks.application import application
from shared.models import db
from shared.submitting import reindexing
from shared.submitting.dataset import ensure_dataset, ensure_tenant, submit_documents
from shared.submitting.files import StoredFile, store_file
from worker import wiring
from worker.services.dataset.indexing import index_document

DIMENSION = 768
SECONDS = 0.1
WORDS = (Path(__file__).parents[1] / "LICENSE").read_text().split()
RULE = {"mode": "custom", "rules": {"segmentation": {"separator": "\n\n", "max_tokens": 260}}}


def book(chapters: int, changed: range = range(0)) -> bytes:
    """Each chapter fills a passage; its words are its own."""
    made = []
    for number in range(chapters):
        choose = np.random.default_rng(number if number not in changed else number + 10**6)
        words = " ".join(WORDS[one] for one in choose.integers(len(WORDS), size=110))
        sentences = ". ".join(words[start : start + 80] for start in range(0, len(words), 80))
        made.append(f"# Chapter {number}\n\n{sentences}.")
    return "\n\n".join(made).encode()


class Model(BaseHTTPRequestHandler):
    """Answers after 100 ms, in the protocol of OpenAI."""

    protocol_version = "HTTP/1.1"
    texts = 0
    lock = threading.Lock()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with Model.lock:
            Model.texts += len(body["input"])
        time.sleep(SECONDS)
        data = [
            {"object": "embedding", "index": index, "embedding": VECTOR}
            for index in range(len(body["input"]))
        ]
        answer = json.dumps({"object": "list", "data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nothing."""


VECTOR = [round(float(one), 6) for one in np.random.default_rng(1).normal(size=DIMENSION)]


@contextmanager
def served() -> Iterator[str]:
    """The model's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


def processor_seconds() -> float:
    """Of this process and the servers' that it started."""
    used = time.process_time()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            used += sum(child.cpu_times()[:2])
    return used


class Bench:
    """One document in a dataset of one model."""

    def __init__(self, provider: str, model: str, chapters: int) -> None:
        self.chapters = chapters
        self.storage = current_app.extensions["storage"]
        self.redis = current_app.extensions["redis"]
        with Session(db.engine) as session:
            self.tenant_id = ensure_tenant(session, "bench")
            name = f"book {time.monotonic()}"
            self.dataset_id = ensure_dataset(session, self.tenant_id, name, provider, model)
            session.commit()
        self.embedder = wiring.indexing_needs().embedders(provider, model)
        self.calls = 0

    def file(self, content: bytes) -> StoredFile:
        return store_file(self.storage, self.tenant_id, "book.md", BytesIO(content))

    def first(self) -> UUID:
        with Session(db.engine) as session:
            file = self.file(book(self.chapters))
            (made,) = submit_documents(session, self.redis, self.dataset_id, [("book", file)])
            session.commit()
        return made.document_id

    def run(self, document_id: UUID) -> tuple[float, float, int]:
        """Seconds, seconds of a processor in all processes, texts embedded."""
        asked: list[int] = []
        real = self.embedder

        class Counting:
            model, is_costly = real.model, real.is_costly
            dimension = property(lambda _: real.dimension)
            count_tokens = staticmethod(real.count_tokens)

            @staticmethod
            def embed(texts: list[str]) -> object:
                asked.append(len(texts))
                return real.embed(texts)

        needs = wiring.indexing_needs()
        needs = type(needs)(
            **{name: getattr(needs, name) for name in needs.__slots__}
            | {"embedders": lambda *_: Counting()}
        )
        began, processor = time.perf_counter(), processor_seconds()
        index_document(document_id, self.dataset_id, needs)
        return time.perf_counter() - began, processor_seconds() - processor, sum(asked)


def measured(provider: str, model: str, chapters: int) -> dict[str, tuple[float, float, int]]:
    """What each kind of run took."""
    bench = Bench(provider, model, chapters)
    document_id = bench.first()
    taken = {"first": bench.run(document_id)}
    changed = book(chapters, range(100, 100 + chapters // 100))

    def again(name: str, **change: Any) -> None:
        with Session(db.engine) as session, session.begin():
            if "file" in change or "rule" in change:
                reindexing.update_document(session, document_id, **change)
            else:
                reindexing.duplicate_documents(session, [document_id], **change)
        taken[name] = bench.run(document_id)

    again("unchanged")
    again("unchanged, anew", anew=True)
    again("a hundredth changed", file=bench.file(changed))
    again("another rule", rule=RULE)
    with Session(db.engine) as session, session.begin():
        session.execute(text("DELETE FROM embeddings"))
        session.execute(text("DELETE FROM documents"))
    with db.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM"))
    return taken


def report(title: str, runs: list[dict[str, tuple[float, float, int]]], chapters: int) -> bool:
    """Print the medians; whether they keep what is promised."""
    first, busy = (statistics.median(run["first"][one] for run in runs) for one in (0, 1))
    print(f"\n{title}: {chapters:,} chapters, median of {len(runs)}")
    shares = {}
    for name in runs[0]:
        seconds, processor = (statistics.median(run[name][one] for run in runs) for one in (0, 1))
        texts = max(run[name][2] for run in runs)
        shares[name] = (seconds / first, texts)
        print(
            f"  {name:<20} {seconds:7.2f} s  {seconds / first:6.1%}   "
            f"{processor:6.2f} s {processor / busy:6.1%} of processor   {texts:>6,} texts embedded"
        )
    return (
        shares["unchanged"] <= (0.05, 0)
        and shares["unchanged, anew"][1] == 0
        and shares["a hundredth changed"][1] <= chapters / 100 * 1.1
    )


def main() -> int:
    """Measure on servers of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--segments", type=int, default=5_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=("wordllama", "http"))
    options = parser.parse_args()
    models = {
        "wordllama": ("WordLlama, in the process", "wordllama", "l2_supercat_256"),
        "http": ("over HTTP, 100 ms a request", "openai_compatible", "slow"),
    }
    kept = []
    with (
        tempfile.TemporaryDirectory() as folder,
        served() as url,
        application(Path(folder), EMBEDDING_BASE_URL=url),
    ):
        for key, (title, provider, model) in models.items():
            if options.only in {None, key}:
                runs = [measured(provider, model, options.segments) for _ in range(options.runs)]
                kept.append(report(title, runs, options.segments))
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
