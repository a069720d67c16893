"""What a worker loads before its pool forks."""

import os
import subprocess
import sys

import pytest

_SCRIPT = """
import os, sys
from types import SimpleNamespace
from celery.signals import celeryd_after_setup
from worker.celery_app import app

app.amqp.queues.select(sys.argv[1:])
worker = SimpleNamespace(app=app)
celeryd_after_setup.send(sender="worker@here", instance=worker, conf=app.conf)
from worker.wiring import embedder
from worker.providers import wordllama

# A child has no need of the files any more.
wordllama.load_file = None
if os.fork() == 0:
    try:
        embedder("wordllama", "l2_supercat_256").embed(["text"])
    except TypeError:
        os._exit(1)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.parametrize(
    ("queues", "loads"), [(["dataset"], True), (["mail", "generation"], True), (["mail"], False)]
)
def test_children_have_the_local_model_from_their_parent(queues: list[str], loads: bool) -> None:  # noqa: FBT001
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *queues], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ("0" if loads else "1"), done.stderr


_QDRANT = """
import sys
from celery.signals import worker_init
import worker.celery_app

worker_init.send(sender=None)
print("qdrant_client" in sys.modules)
"""


@pytest.mark.parametrize(("store", "is_there"), [("qdrant", True), ("pgvector", False)])
def test_the_client_of_qdrant_is_imported_before_any_fork(store: str, is_there: bool) -> None:  # noqa: FBT001
    """A child that is forked while a thread imports it waits for the import for ever."""
    variables = {"VECTOR_STORE": store, "QDRANT_URL": "http://127.0.0.1:1" if is_there else ""}
    done = subprocess.run(
        [sys.executable, "-c", _QDRANT],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **variables},
    )
    assert done.stdout.strip() == str(is_there), done.stderr
