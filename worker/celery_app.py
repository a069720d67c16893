"""The Celery app that ``celery -A worker.celery_app`` names."""

import gc
from typing import Any

from worker.patches import patch_drivers

patch_drivers()

from celery.signals import celeryd_after_setup, worker_init  # noqa: E402 - the patch comes before any connection

from shared.app_factory import create_app  # noqa: E402 - the patch comes before any connection
from shared.contract import DATASET_QUEUE, GENERATION_QUEUE  # noqa: E402
from worker import dashboard  # noqa: E402
from worker.beat_schedule import beat_settings  # noqa: E402
from worker.delivery import bootstep, task_logging  # noqa: E402

flask_app = create_app()
celery = flask_app.extensions["celery"]
celery.conf.update(beat_settings(flask_app.extensions["settings"]))
bootstep.install(flask_app)
task_logging.install(flask_app)
dashboard.install(flask_app.extensions["settings"])
app = celery

#: Whose tasks turn texts into vectors.
_EMBEDDING_QUEUES = frozenset({DATASET_QUEUE, GENERATION_QUEUE})


@worker_init.connect
def load_services(**_: object) -> None:
    """Import them before the pool forks: its processes share the memory, and no import lock."""
    import worker.wiring

    worker.wiring.preload_chat(flask_app.extensions["settings"])
    worker.wiring.preload_vector_stores(flask_app.extensions["settings"])


@celeryd_after_setup.connect
def load_models(instance: Any, **_: object) -> None:
    """Load what the queues it serves need before the pool forks: its processes share the memory."""
    import worker.wiring

    if not _EMBEDDING_QUEUES.isdisjoint(instance.app.amqp.queues.consume_from):
        worker.wiring.preload_embedder(flask_app.extensions["settings"])
    # Each collection would write to all that is there by now, and so take it out of what is shared.
    gc.collect()
    gc.freeze()
