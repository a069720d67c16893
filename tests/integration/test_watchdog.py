"""The watchdog's thread lives beside everything that can block a process."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.waiting import eventually
from worker.delivery.watchdog import Watchdog

ROOT = Path(__file__).parents[2]


@pytest.fixture
def watch() -> Iterator[Callable[[Callable[[], None]], Watchdog]]:
    """Starts watchdogs and stops them."""
    started: list[Watchdog] = []

    def start(check: Callable[[], None]) -> Watchdog:
        started.append(Watchdog(0.01, check))
        started[-1].ensure_running()
        return started[-1]

    yield start
    for watchdog in started:
        watchdog.stop()


Watch = Callable[[Callable[[], None]], Watchdog]


def test_it_checks_while_the_main_thread_computes(watch: Watch) -> None:
    checks: list[int] = []
    watch(lambda: checks.append(threading.get_ident()))
    while len(checks) < 3:
        pass
    assert threading.get_ident() not in checks


def test_asked_again_it_starts_no_second_thread(watch: Watch) -> None:
    threads: list[int] = []
    watchdog = watch(lambda: threads.append(threading.get_ident()))
    for _ in range(100):
        watchdog.ensure_running()
    eventually(lambda: len(threads) >= 5)
    assert len(set(threads)) == 1


def test_a_check_that_fails_is_reported_and_the_next_one_made(
    watch: Watch, capfd: pytest.CaptureFixture[str]
) -> None:
    checks: list[int] = []

    def check() -> None:
        checks.append(1)
        raise ZeroDivisionError("a defect")

    watch(check)
    eventually(lambda: len(checks) >= 3)
    reported = capfd.readouterr().err
    assert "ZeroDivisionError: a defect" in reported
    assert "watchdog.failed" in reported


def test_stopped_it_checks_no_more_and_can_be_started_again(watch: Watch) -> None:
    beside = threading.Event()
    checks: list[int] = []

    def check() -> None:
        checks.append(1)
        beside.set()

    watchdog = watch(check)
    eventually(lambda: len(checks) >= 2)
    watchdog.stop()
    # A check that was under way ends; after that the event stays as it was left.
    eventually(lambda: not _comes_again(beside))
    watchdog.ensure_running()
    eventually(beside.is_set)


def _comes_again(event: threading.Event) -> bool:
    event.clear()
    return event.wait(0.5)


def run_script(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_forked_child_has_a_thread_of_its_own() -> None:
    run_script("""
import os, time
from worker.delivery.watchdog import Watchdog

checks = []
watchdog = Watchdog(0.01, lambda: checks.append(os.getpid()))
watchdog.ensure_running()
while not checks:
    time.sleep(0.001)
child = os.fork()
if child == 0:
    watchdog.ensure_running()
    while os.getpid() not in checks:
        time.sleep(0.001)
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert set(checks) == {os.getpid()}
print("done")
""")


def test_it_checks_while_gevents_hub_is_blocked() -> None:
    run_script("""
from gevent import monkey; monkey.patch_all()
import gevent
from gevent.hub import get_hub
from worker.delivery.watchdog import Watchdog

get_ident = monkey.get_original("_thread", "get_ident")
checks = []
watchdog = Watchdog(0.01, lambda: checks.append(get_ident()))

def block():
    watchdog.ensure_running()
    while len(checks) < 5:
        pass

gevent.spawn(block).get(timeout=300)
assert get_ident() not in checks and len(set(checks)) == 1
watchdog.stop()
print("done")
""")


def test_a_report_waits_for_no_lock_of_a_greenlet() -> None:
    """A greenlet waits inside a log handler, another blocks the hub: records cannot be made."""
    run_script("""
from gevent import monkey; monkey.patch_all()
import gevent, logging, os
from worker.delivery.watchdog import Watchdog

class SlowHandler(logging.Handler):
    def emit(self, record):
        gevent.sleep(3600)

logging.getLogger().addHandler(SlowHandler())
gevent.spawn(logging.warning, "waits with the handler's lock held")
gevent.sleep(0)

source, target = os.pipe()
os.dup2(target, 2)
checks = []

def check():
    checks.append(1)
    raise ZeroDivisionError("a defect")

watchdog = Watchdog(0.01, check)
watchdog.ensure_running()
while len(checks) < 3:
    pass
assert b"ZeroDivisionError" in os.read(source, 100_000)
watchdog.stop()
print("done", flush=True)
os._exit(0)
""")
