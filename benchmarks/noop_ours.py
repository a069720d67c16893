"""What ``celery -A`` names for rag-worker and these tasks; see ``benchmarks.noop``."""

import os
import platform

from benchmarks.noop import add_tasks

if "BENCHMARK_HOST" in os.environ:
    # A host of another name: what rag-worker tells hosts apart by.
    platform.node = lambda: os.environ["BENCHMARK_HOST"]

from worker.celery_app import app as rag_worker

app = add_tasks(rag_worker)
