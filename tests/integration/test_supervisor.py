"""The process runner, with real processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil
import pytest

from shared.errors import ConfigurationError
from worker.cli.stack.children import eventually
from worker.cli.stack.supervisor import ChildSpec, Supervisor

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OBEDIENT = """
import os, signal, sys, threading
name, journal = sys.argv[1:]
def leave(*_):
    with open(journal, "a") as out: out.write(name + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
while True: signal.pause()
"""
# It stays after SIGTERM, and so does a child it has in its group.
STUBBORN = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: print("told", flush=True))
pid = os.fork()
if pid: print("ready", pid, flush=True)
while True: signal.pause()
"""
DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True: signal.pause()
"""
LEAVES_A_CHILD = """
import os, signal
pid = os.fork()
if pid == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True: signal.pause()
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("ready", pid, flush=True)
while True: signal.pause()
"""
RUNNER = """
import sys
from pathlib import Path
from worker.cli.stack.supervisor import ChildSpec, Supervisor
with Supervisor() as runner:
    argv = [sys.executable, "-c", sys.argv[1]]
    print(runner.start(ChildSpec("only", argv, Path(sys.argv[2]))), flush=True)
    runner.wait()
"""


@pytest.fixture(autouse=True)
def harmless_signals() -> Iterator[None]:
    """A signal the supervisor misses must fail its test, not end the run."""

    def missed(number: int, frame: FrameType | None) -> None: ...

    before = {number: signal.signal(number, missed) for number in STOPPING}
    yield
    left = {signal.signal(number, handler) for number, handler in before.items()}
    assert left == {missed}, "the supervisor keeps its handlers"


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def await_ready(log: Path) -> list[str]:
    assert eventually(
        lambda: log.exists() and "ready" in log.read_text() and log.read_text().endswith("\n"), 10
    )
    return log.read_text().split()


def spec(tmp_path: Path, name: str, code: str, grace_seconds: float = 5) -> ChildSpec:
    argv = [sys.executable, "-c", code, name, str(tmp_path / "journal")]
    return ChildSpec(name, argv, tmp_path / f"{name}.log", grace_seconds=grace_seconds)


@contextmanager
def interrupting(log: Path, word: str, number: signal.Signals) -> Iterator[None]:
    """Send ourselves a signal as soon as the log holds the word."""

    def send() -> None:
        if eventually(lambda: log.exists() and word in log.read_text(), 300):
            os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        sender.join()


def test_children_stop_in_the_reverse_order_of_start(tmp_path: Path) -> None:
    with Supervisor() as runner:
        for name in ("first", "second", "third"):
            runner.start(spec(tmp_path, name, OBEDIENT))
            await_ready(tmp_path / f"{name}.log")
        pids = runner.running
        assert list(pids) == ["first", "second", "third"]
        assert all(os.getsid(pid) == pid for pid in pids.values())
    assert (tmp_path / "journal").read_text().split() == ["third", "second", "first"]
    assert all(gone(pid) for pid in pids.values())


def test_a_child_past_its_grace_is_killed_with_its_group(tmp_path: Path) -> None:
    runner = Supervisor()
    pid = runner.start(spec(tmp_path, "stubborn", STUBBORN, grace_seconds=0.2))
    grandchild = int(await_ready(tmp_path / "stubborn.log")[1])
    began = time.monotonic()
    runner.stop_all()
    assert time.monotonic() - began >= 0.2
    assert gone(pid)
    assert eventually(lambda: gone(grandchild), 300)
    assert runner.running == {}


def test_what_a_leader_leaves_behind_goes_with_it(tmp_path: Path) -> None:
    runner = Supervisor()
    runner.start(spec(tmp_path, "careless", LEAVES_A_CHILD))
    grandchild = int(await_ready(tmp_path / "careless.log")[1])
    runner.stop("careless")
    assert eventually(lambda: gone(grandchild), 300)


def test_a_child_started_anew_does_not_share_with_what_the_dead_one_left(tmp_path: Path) -> None:
    with Supervisor() as runner:
        pid = runner.start(spec(tmp_path, "careless", LEAVES_A_CHILD))
        grandchild = int(await_ready(tmp_path / "careless.log")[1])
        os.kill(pid, signal.SIGKILL)
        assert runner.wait(timeout_seconds=10) == "careless"
        assert not gone(grandchild)
        runner.start(spec(tmp_path, "careless", OBEDIENT))
        assert eventually(lambda: gone(grandchild), 300)


def test_wait_names_the_first_child_that_exits(tmp_path: Path) -> None:
    with Supervisor() as runner:
        runner.start(spec(tmp_path, "steady", OBEDIENT))
        assert runner.wait(timeout_seconds=0) is None
        runner.start(spec(tmp_path, "brief", "raise SystemExit(3)"))
        assert runner.wait(timeout_seconds=10) == "brief"
        assert runner.exit_code("brief") == 3
        assert list(runner.running) == ["steady"]
        runner.start(spec(tmp_path, "brief", OBEDIENT))
        assert runner.wait(timeout_seconds=0) is None


def test_wait_reports_a_watched_server(tmp_path: Path) -> None:
    gone_dead = threading.Event()
    runner = Supervisor()
    runner.watch("broker", lambda: not gone_dead.is_set())
    assert runner.wait(timeout_seconds=0) is None
    gone_dead.set()
    assert runner.wait(timeout_seconds=5) == "broker"


def test_environment_and_folder_reach_the_child(tmp_path: Path) -> None:
    code = "import os; print(os.environ['COLOUR'], os.getcwd())"
    runner = Supervisor()
    log = tmp_path / "logs" / "echo.log"
    argv = [sys.executable, "-c", code]
    runner.start(ChildSpec("echo", argv, log, env={"COLOUR": "green"}, cwd=tmp_path))
    assert runner.wait(timeout_seconds=10) == "echo"
    assert log.read_text().split() == ["green", str(tmp_path)]
    runner.stop_all()


def test_wrong_requests_name_the_child(tmp_path: Path) -> None:
    with Supervisor() as runner:
        runner.start(spec(tmp_path, "one", OBEDIENT))
        with pytest.raises(ConfigurationError, match="one runs already"):
            runner.start(spec(tmp_path, "one", OBEDIENT))
        with pytest.raises(ConfigurationError, match=r"Cannot start two .* no-such-command"):
            runner.start(ChildSpec("two", ["no-such-command"], tmp_path / "two.log"))


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_to_the_runner_stops_in_order(tmp_path: Path, number: signal.Signals) -> None:
    pids = []

    def session() -> None:
        with Supervisor() as runner:
            for name in ("first", "second"):
                pids.append(runner.start(spec(tmp_path, name, OBEDIENT)))
                await_ready(tmp_path / f"{name}.log")
            os.kill(os.getpid(), number)
            runner.wait(timeout_seconds=10)

    with pytest.raises(KeyboardInterrupt):
        session()
    assert (tmp_path / "journal").read_text().split() == ["second", "first"]
    assert all(gone(pid) for pid in pids)


@pytest.mark.parametrize("first", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupt_cuts_the_grace_short_and_keeps_the_reason_of_the_stop(
    tmp_path: Path, first: type[BaseException]
) -> None:
    log = tmp_path / "stubborn.log"

    def session() -> None:
        with Supervisor() as runner:
            runner.start(spec(tmp_path, "stubborn", STUBBORN, grace_seconds=3600))
            await_ready(log)
            raise first

    with (
        interrupting(log, "told", signal.SIGINT),
        pytest.raises((first, KeyboardInterrupt)) as ended,
    ):
        session()
    assert ended.type is first
    grandchild = int(log.read_text().split()[1])
    assert eventually(lambda: gone(grandchild), 300)


def test_an_interrupt_while_one_child_stops_is_not_lost(tmp_path: Path) -> None:
    log = tmp_path / "stubborn.log"
    with Supervisor() as runner:
        pid = runner.start(spec(tmp_path, "stubborn", STUBBORN, grace_seconds=60))
        await_ready(log)
        with interrupting(log, "told", signal.SIGTERM), pytest.raises(KeyboardInterrupt):
            runner.stop("stubborn")
        assert gone(pid)
        assert runner.running == {}


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_killing_the_runner_ends_a_child_that_would_rather_finish(tmp_path: Path) -> None:
    log = tmp_path / "only.log"
    runner = subprocess.Popen(
        [sys.executable, "-c", RUNNER, DEAF, str(log)], stdout=subprocess.PIPE, text=True
    )
    assert runner.stdout is not None
    pid = int(runner.stdout.readline())
    await_ready(log)
    runner.kill()
    runner.communicate()
    assert eventually(lambda: gone(pid), 300)
