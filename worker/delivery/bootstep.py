"""The delivery machinery's place in a Celery worker."""

import logging
import math
import os
import time
from collections.abc import Callable
from typing import Any

import psutil
from celery import Celery, bootsteps
from celery.signals import celeryd_init, worker_init, worker_shutting_down
from flask import Flask
from sqlalchemy import Engine

from shared.contract import QUEUE_MONITOR, QUEUES, SWEEP, TaskContract
from shared.models import db
from shared.queueing import task_context
from shared.queueing.publishing import Bounds
from shared.queueing.task import FlaskTask
from shared.settings import Settings
from worker.delivery import lease, runs, shared_counter, shutdown
from worker.delivery.buffered_events import BufferedEvents
from worker.delivery.draining import Draining
from worker.delivery.execution import Execution
from worker.delivery.frozen import end_idle_transactions
from worker.delivery.heartbeat import Heartbeat
from worker.delivery.measuring import Measurement
from worker.delivery.nodes import Patience
from worker.delivery.presence import Identity, Presence
from worker.delivery.pulse import PULSE_SECONDS, Pulse, clear_signs_of_the_dead
from worker.delivery.queue_state import unserved_now
from worker.delivery.relay import Relay
from worker.delivery.relay_thread import RelayThread
from worker.delivery.restarting import give_up
from worker.delivery.serving_metrics import serve_metrics
from worker.delivery.signs import Sign
from worker.delivery.switches import Switches
from worker.delivery.task_counts import CHILD_DIED, CountedRequest, error_of
from worker.delivery.task_logging import context_of
from worker.delivery.tenant_labels import TENANTS
from worker.delivery.watchdog import Watchdog

logger = logging.getLogger(__name__)

#: How often the watchdog looks: what it ends is late by no more than that.
_WATCH_SECONDS = 0.5
#: A worker sweeps by itself for each so many sweeps of the beat.
_SPARE_SWEEPS = 2

#: A relay that has not turned for longer than a statement may take, and this, hangs.
_HUNG_SECONDS = 300.0

#: How often what children have counted is added up, whether anybody asks or not.
_RECEIVE_SECONDS = 5.0


class _Worker:
    """What this process's worker has, once it runs."""

    relay: RelayThread | None = None
    presence: Presence | None = None
    pulse: Pulse | None = None
    pulse_thread: Watchdog | None = None
    grace_seconds: float = 0.0


class Request(CountedRequest):
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
        if _Worker.relay is not None and isinstance(error_of(exc_info), CHILD_DIED):
            _Worker.relay.child_died(lease.owner_of(int(self.worker_pid or 0)))
        with task_context.entered(context_of(self)):
            return super().on_failure(exc_info, send_failed_event, return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> None:  # noqa: FBT001 - Celery's shape
        """Celery's own; its lines say whose time is over."""
        with task_context.entered(context_of(self)):
            super().on_timeout(soft, timeout)


class RelayStep(bootsteps.StartStopStep):
    """Starts the relay when the pool is up, and stops it before the pool goes."""

    requires = ("celery.worker.components:Pool",)
    flask_app: Flask
    engine: Engine

    def start(self, parent: Any) -> None:
        """Begin to relay."""
        settings: Settings = self.flask_app.extensions["settings"]
        _serve_metrics(self.flask_app, settings)
        _Worker.presence = _presence(parent, self.engine, settings)
        _Worker.relay = _relay_thread(self.flask_app, self.engine, settings, _Worker.presence)
        _Worker.grace_seconds = settings.delivery.delivery_shutdown_grace_seconds
        _Worker.relay.start()
        _Worker.pulse = _pulse(parent, settings, _Worker.relay)
        _Worker.pulse_thread = Watchdog(PULSE_SECONDS, _Worker.pulse.beat)
        _Worker.pulse_thread.ensure_running()

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - the step's shape
        """End it."""
        pulse_thread, _Worker.pulse_thread = _Worker.pulse_thread, None
        if pulse_thread is not None:
            pulse_thread.stop()
        pulse, _Worker.pulse = _Worker.pulse, None
        if pulse is not None:
            pulse.end()
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
    celery.steps["worker"].add(Draining)
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
        (_RECEIVE_SECONDS, shared_counter.receive),
        (_SPARE_SWEEPS * delivery.sweep_seconds, _by_itself(celery, SWEEP)),
    ]
    if settings.schedule.enable_queue_monitor_task:
        # A queue that nobody serves may be the very one the monitor's messages wait in.
        seconds = _SPARE_SWEEPS * settings.schedule.queue_monitor_seconds
        chores.append((seconds, _by_itself(celery, QUEUE_MONITOR)))
    return RelayThread(relay, engine, delivery.outbox_poll_seconds, tuple(chores))


def _serve_metrics(flask_app: Flask, settings: Settings) -> None:
    celery, found = flask_app.extensions["celery"], settings.metrics
    TENANTS.most = found.metrics_tenants_max
    measurement = Measurement.of(settings, celery)
    serve_metrics(found.metrics_host, found.metrics_port, found.metrics_ports, measurement)


def _presence(worker: Any, engine: Engine, settings: Settings) -> Presence:
    pool = worker.pool_cls.__module__.rpartition(".")[2]
    queues = tuple(worker.app.amqp.queues.consume_from)
    identity = Identity(worker.hostname, pool, worker.pool.limit or worker.concurrency, queues)
    return Presence(engine, worker.app.connection_for_write, identity, Patience.of(settings))


def _pulse(worker: Any, settings: Settings, relay: RelayThread) -> Pulse:
    queues = tuple(worker.app.amqp.queues.consume_from)
    created = psutil.Process().create_time()
    sign = Sign(worker.hostname, os.getpid(), created, queues)
    statement_seconds = settings.database.db_statement_timeout_seconds or math.inf

    def consuming() -> list[str]:
        consumer: Any = getattr(worker, "consumer", None)
        tasks = getattr(consumer, "task_consumer", None)
        if shutdown.is_begun() or tasks is None or consumer.connection is None:
            return []
        return [queue for queue in queues if tasks.consuming_from(queue)]

    def is_stuck() -> bool:
        # It notices a worker that takes nothing: one whose relay hangs would not be noticed.
        return time.monotonic() - relay.turned > statement_seconds + _HUNG_SECONDS

    clear_signs_of_the_dead(settings.presence.signs_folder)
    return Pulse(settings.presence.signs_folder, sign, consuming, is_stuck)


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


@worker_init.connect
def _hear_of_children(**_: Any) -> None:
    shared_counter.open_channel()


@celeryd_init.connect
def _name_node(sender: str, **_: Any) -> None:
    lease.name_node(sender)


@worker_shutting_down.connect
def _hand_back_after_grace(**_: Any) -> None:
    shutdown.begin(_Worker.grace_seconds)
