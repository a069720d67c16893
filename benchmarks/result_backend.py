"""What storing a result costs: no-op tasks per second of real workers, three ways.

``python -m benchmarks.result_backend`` queues the tasks before it starts a worker
on them. Each task notes the time as it starts; Celery's ``task_postrun``, which
fires once the result is stored, notes it again. The rate is the tasks over the
time from the first start to the last end, so neither queueing nor the worker's own
start counts. The ways take turns within a round: a slow minute hits all of them.
Without ``--broker`` and ``--database`` it starts a Valkey and a PostgreSQL of its own.
"""

import argparse
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
from celery import Celery
from celery.signals import task_postrun
from psycogreen.gevent import patch_psycopg
from sqlalchemy import create_engine, text

from shared.models.task_result import RESULT_METADATA, TASK_RESULTS
from shared.queueing.result_backend import result_backend_settings
from worker.patches import patch_drivers

POOLS = {"prefork": 2, "gevent": 50}
WAYS = ("ignored", "stock", "ours")
TARGET = 0.85
QUEUE = "benchmark_results"
NOTE = struct.Struct("d")
PATIENCE_SECONDS = 240.0

# What a measurement tells its worker; elsewhere nothing connects through them.
BROKER = os.environ.get("BENCHMARK_BROKER", "redis://")
DATABASE = os.environ.get("BENCHMARK_DATABASE", "postgresql+psycopg2://")
WAY = os.environ.get("BENCHMARK_WAY", "ignored")
NOTES = os.open(os.environ.get("BENCHMARK_NOTES", os.devnull), os.O_WRONLY | os.O_APPEND)


def build_app() -> Celery:
    """Return an application that differs between the ways in its result settings only."""
    made = Celery("benchmark", broker=BROKER)
    made.conf.update(
        task_ignore_result=WAY == "ignored",
        result_extended=True,
        task_acks_late=True,
        task_default_queue=QUEUE,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        # The transport's default of 10 starves a gevent worker's acknowledgements.
        broker_transport_options={"max_connections": 300},
        broker_pool_limit=200,
    )
    if WAY == "stock":
        made.conf.result_backend = f"db+{DATABASE}"
        return made
    made.conf.update(result_backend_settings(DATABASE))
    return made


if WAY != "stock":
    patch_drivers()
elif os.environ.get("BENCHMARK_POOL") == "gevent":
    # Before anything connects: psycopg2 waits in C and would stop all greenlets.
    patch_psycopg()

app = build_app()


def note(**_: Any) -> None:
    """Append the time to the notes, one atomic write of 8 bytes."""
    os.write(NOTES, NOTE.pack(time.time()))


task_postrun.connect(note)


@app.task(name="benchmarks.noop")
def noop(number: int) -> int:
    """Do nothing; the result is the number so that there is one to store."""
    note()
    return number


def fill_queue(broker: str, way: str, tasks: int) -> None:
    """Leave exactly ``tasks`` messages in the queue."""
    # The sender's choice travels in the message and outranks the worker's setting.
    ignore = way == "ignored"
    client = redis.Redis.from_url(broker)
    client.delete(QUEUE, "unacked", "unacked_index")
    with app.connection_for_write(broker) as connection, app.amqp.Producer(connection) as producer:
        for number in range(tasks):
            noop.apply_async((number,), producer=producer, ignore_result=ignore)


def wait_for_notes(path: Path, worker: subprocess.Popen[bytes], notes: int) -> float:
    """Return the seconds between the first and the last of ``notes`` notes.

    Raises:
        RuntimeError: The worker ended, or took over ``PATIENCE_SECONDS``.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while path.stat().st_size < notes * NOTE.size:
        if worker.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"worker: {path.stat().st_size // NOTE.size} of {notes} notes")
        time.sleep(0.2)
    times = [moment for (moment,) in NOTE.iter_unpack(path.read_bytes())]
    return max(times) - min(times)


def measure(broker: str, database: str, pool: str, way: str, tasks: int) -> float:
    """Return the tasks per second of one worker on a full queue."""
    fill_queue(broker, way, tasks)
    with tempfile.NamedTemporaryFile() as notes:
        settings = {
            "BENCHMARK_BROKER": broker,
            "BENCHMARK_DATABASE": database,
            "BENCHMARK_WAY": way,
            "BENCHMARK_POOL": pool,
            "BENCHMARK_NOTES": notes.name,
        }
        command = [sys.executable, "-m", "celery", "-A", "benchmarks.result_backend", "worker"]
        command += ["-P", pool, "-c", str(POOLS[pool]), "-l", "WARNING", "-n", "benchmark@%h"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        with subprocess.Popen(
            command,
            env=os.environ | {"PYTHONWARNINGS": "ignore"} | settings,
            stdout=subprocess.DEVNULL,
        ) as worker:
            try:
                return tasks / wait_for_notes(Path(notes.name), worker, 2 * tasks)
            finally:
                worker.terminate()


def empty_tables(database: str) -> None:
    """Give every measurement the same, empty result tables."""
    engine = create_engine(database)
    RESULT_METADATA.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {TASK_RESULTS.name}"))
    engine.dispose()


def stored_rows(database: str) -> int:
    """Return how many results the last measurement left."""
    engine = create_engine(database)
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT count(*) FROM {TASK_RESULTS.name}")).scalar_one()
    engine.dispose()
    return int(rows)


@contextmanager
def servers(broker: str | None, database: str | None) -> Iterator[tuple[str, str]]:
    """Yield the URLs to use, of servers started here where none is given."""
    from worker.cli.stack.postgres import EmbeddedPostgres
    from worker.cli.stack.valkey import EmbeddedValkey

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if broker is None:
            valkey = EmbeddedValkey(folder / "valkey", persist=False)
            broker = stack.enter_context(valkey).url
        if database is None:
            database = stack.enter_context(EmbeddedPostgres(folder / "postgres")).uri
        yield broker, database


def run(options: argparse.Namespace, pool: str) -> dict[str, list[float]]:
    """Return each way's rates (tasks per second), one per round."""
    rates: dict[str, list[float]] = {way: [] for way in options.ways}
    for number in range(options.rounds):
        for way in options.ways[number % 2 :] + options.ways[: number % 2]:
            # The stock backend takes 20 times as long under gevent; its rate is as steady on few.
            tasks = options.tasks // 10 if (way, pool) == ("stock", "gevent") else options.tasks
            empty_tables(options.database)
            rates[way].append(measure(options.broker, options.database, pool, way, tasks))
            rows = stored_rows(options.database)
            if rows != (0 if way == "ignored" else tasks):
                raise RuntimeError(f"{way} stored {rows} of {tasks} results")
            print(f"  round {number + 1} {pool} {way}: {rates[way][-1]:.0f}/s", flush=True)
    return rates


def report(pool: str, rates: dict[str, list[float]]) -> bool:
    """Print a pool's table and return whether our backend meets the target."""
    medians = {way: statistics.median(found) for way, found in rates.items()}
    print(f"\n| {pool} {POOLS[pool]} | tasks/s (median) | min | max | of ignored |")
    print("| --- | --- | --- | --- | --- |")
    for way, found in rates.items():
        ratio = medians[way] / medians["ignored"]
        print(f"| {way} | {medians[way]:.0f} | {min(found):.0f} | {max(found):.0f} | {ratio:.2f} |")
    return medians["ours"] / medians["ignored"] >= TARGET


def main() -> int:
    """Measure, print, and return 0 if our backend meets the target in every pool."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--broker", help="Redis URL; one queue of it is emptied")
    parser.add_argument("--database", help="SQLAlchemy URI; its result table is emptied")
    parser.add_argument("--tasks", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pools", nargs="+", choices=POOLS, default=list(POOLS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    options = parser.parse_args()
    with servers(options.broker, options.database) as (options.broker, options.database):
        met = [report(pool, run(options, pool)) for pool in options.pools]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
