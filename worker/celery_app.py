"""The Celery app that ``celery -A worker.celery_app`` names."""

from worker.patches import patch_drivers

patch_drivers()

from celery.signals import worker_init  # noqa: E402 - the patch comes before any connection

from shared.app_factory import create_app  # noqa: E402 - the patch comes before any connection
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


@worker_init.connect
def load_services(**_: object) -> None:
    """Import them before the pool forks: its processes share the memory, and no import lock."""
    import worker.wiring

    worker.wiring.preload_chat(flask_app.extensions["settings"])
