"""The delivery machinery's place in a Celery worker."""

import logging
import math
from collections.abc import Callable
from typing import Any

from billiard.exceptions import WorkerLostError
from celery import Celery, bootsteps
from celery.signals import celeryd_init, worker_shutting_down
from celery.worker.request import Request as CeleryRequest
from flask import Flask
from sqlalchemy import Engine

from shared.contract import QUEUE_MONITOR, QUEUES, SWEEP, TaskContract
from shared.models import db
from shared.queueing.publishing import Bounds
from shared.queueing.task import FlaskTask
from shared.settings import Settings
from worker.delivery import lease, runs, shutdown
from worker.delivery.buffered_events import BufferedEvents
from worker.delivery.execution import Execution
from worker.delivery.frozen import end_idle_transactions
from worker.delivery.heartbeat import Heartbeat
from worker.delivery.measuring import Measurement, serve_metrics
from worker.delivery.nodes import Patience
from worker.delivery.presence import Identity, Presence
from worker.delivery.queue_state import unserved_now
from worker.delivery.relay import Relay
from worker.delivery.relay_thread import RelayThread
from worker.delivery.restarting import give_up
from worker.delivery.switches import Switches
from worker.delivery.watchdog import Watchdog

logger = logging.getLogger(__name__)

#: How often the watchdog looks: what it ends is late by no more than that.
_WATCH_SECONDS = 0.5
#: A worker sweeps by itself for each so many sweeps of the beat.
_SPARE_SWEEPS = 2
#: How often the gauges are filled.
_MEASURE_SECONDS = 5.0

#: How Celery says that a pool child went away in the middle of a task.
_CHILD_DIED = (WorkerLostError, SystemExit, KeyboardInterrupt)


class _Worker:
    """What this process's worker has, once it runs."""

    relay: RelayThread | None = None
    presence: Presence | None = None
    grace_seconds: float = 0.0


class Request(CeleryRequest):
    """A message in a worker's main process; tells the relay how tasks end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if _Worker.presence is not None:
            _Worker.presence.consumed()

    def acknowledge(self) -> None:
        """The task is over: there may be room for the next."""
        super().acknowledge()
        if _Worker.relay is not None:
            _Worker.relay.task_ended()

    def on_failure(
        self,
        exc_info: Any,
        send_failed_event: bool = True,  # noqa: FBT001, FBT002 - Celery's shape
        return_ok: bool = False,  # noqa: FBT001, FBT002
    ) -> Any:
        """What the child that died held is free at once."""
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if _Worker.relay is not None and isinstance(error, _CHILD_DIED):
            _Worker.relay.child_died(lease.owner_of(int(self.worker_pid or 0)))
        return super().on_failure(exc_info, send_failed_event, return_ok)


class RelayStep(bootsteps.StartStopStep):
    """Starts the relay when the pool is up, and stops it before the pool goes."""

    requires = ("celery.worker.components:Pool",)
    flask_app: Flask
    engine: Engine

    def start(self, parent: Any) -> None:
        """Begin to relay."""
        settings: Settings = self.flask_app.extensions["settings"]
        serve_metrics(settings.delivery.metrics_host, settings.delivery.metrics_port)
        _Worker.presence = _presence(parent, self.engine, settings)
        _Worker.relay = _relay_thread(self.flask_app, self.engine, settings, _Worker.presence)
        _Worker.grace_seconds = settings.delivery.delivery_shutdown_grace_seconds
        _Worker.relay.start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - the step's shape
        """End it."""
        relay, _Worker.relay = _Worker.relay, None
        if relay is not None:
            relay.stop()
        presence, _Worker.presence = _Worker.presence, None
        if presence is not None:
            presence.withdraw()

    terminate = stop


def install(flask_app: Flask) -> None:
    """Put the delivery contract round every task of the application's Celery app."""
    settings: Settings = flask_app.extensions["settings"]
    celery: Celery = flask_app.extensions["celery"]
    with flask_app.app_context():
        engine = db.engine
    end_idle_transactions(engine, settings.delivery.delivery_lease_seconds)
    heartbeat = Heartbeat(engine)
    flask_app.extensions["heartbeat"] = heartbeat
    flask_app.extensions["delivery"] = Execution(
        engine,
        settings.delivery,
        heartbeat,
        Watchdog(_WATCH_SECONDS, _look_after(heartbeat)),
        Switches(engine),
    )
    # On the class: a task with a base of its own does not descend from the app's.
    FlaskTask.Request = f"{__name__}:Request"
    step = type("RelayStep", (RelayStep,), {"flask_app": flask_app, "engine": engine})
    celery.steps["worker"].add(step)
    celery.steps["consumer"].add(BufferedEvents)


def _look_after(heartbeat: Heartbeat) -> Callable[[], None]:
    def look() -> None:
        heartbeat.fence_overdue()
        for run in runs.all_runs():
            reason = run.enforce()
            if reason is not None:
                give_up(run, reason)

    return look


def _relay_thread(
    flask_app: Flask, engine: Engine, settings: Settings, presence: Presence
) -> RelayThread:
    delivery, celery = settings.delivery, flask_app.extensions["celery"]
    bounds: Bounds = celery.conf.outbox_bounds
    relay = Relay(engine, celery, QUEUES, bounds, celery.connection_for_write)
    chores: list[tuple[float, Callable[[], None]]] = [
        (settings.presence.presence_seconds, presence.report),
        (math.inf, _name_unserved(engine, settings)),
        (_SPARE_SWEEPS * delivery.sweep_seconds, _by_itself(celery, SWEEP)),
    ]
    if settings.schedule.enable_queue_monitor_task:
        # A queue that nobody serves may be the very one the monitor's messages wait in.
        seconds = _SPARE_SWEEPS * settings.schedule.queue_monitor_seconds
        chores.append((seconds, _by_itself(celery, QUEUE_MONITOR)))
    if delivery.metrics_port:
        silent_seconds = Patience.of(settings).silent_seconds
        measurement = Measurement(engine, relay.broker_connection, QUEUES, bounds, silent_seconds)
        chores.append((_MEASURE_SECONDS, measurement))
    return RelayThread(relay, engine, delivery.outbox_poll_seconds, tuple(chores))


def _presence(worker: Any, engine: Engine, settings: Settings) -> Presence:
    pool = worker.pool_cls.__module__.rpartition(".")[2]
    queues = tuple(worker.app.amqp.queues.consume_from)
    identity = Identity(worker.hostname, pool, worker.pool.limit or worker.concurrency, queues)
    return Presence(engine, worker.app.connection_for_write, identity, Patience.of(settings))


def _name_unserved(engine: Engine, settings: Settings) -> Callable[[], None]:
    """Once, after this worker's first report: later ones are the monitor's."""

    def name() -> None:
        patience = Patience.of(settings)
        missing = unserved_now(engine, patience.silent_seconds)
        if missing:
            logger.warning(
                "no worker serves so far: %s",
                ", ".join(missing),
                extra={"action": "queues.unserved", "queues": missing},
            )

    return name


def _by_itself(celery: Celery, task: TaskContract) -> Callable[[], None]:
    """What the beat has done: at once, and should there be no beat."""

    def run() -> None:
        celery.tasks[task.name]()

    return run


@celeryd_init.connect
def _name_node(sender: str, **_: Any) -> None:
    lease.name_node(sender)


@worker_shutting_down.connect
def _hand_back_after_grace(**_: Any) -> None:
    shutdown.begin(_Worker.grace_seconds)
