"""Parsing children and the processes, forks and greenlets around them."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.application import Reader, Submit
from tests.fixtures.misbehaving_parser import PARSER
from tests.fixtures.pids import is_gone, read_pid
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

ROOT = Path(__file__).parents[2]
MEBIBYTE = 1024**2
MAKE = f"""
from worker.providers.confined_parser import ConfinedParser
def make(seconds=60, children=1):
    return ConfinedParser({PARSER!r}, parse_seconds=seconds,
                          parse_memory_bytes=2**30, max_children=children)
def texts(parser, request):
    return [block.text for block in parser.parse(request.encode(), "a.pdf")]
"""
GEVENT = f"from gevent import monkey; monkey.patch_all()\nimport gevent\n{MAKE}"

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts Python scripts that find the tests, in a session of their own."""
    started: list[subprocess.Popen[str]] = []

    def run(script: str, *arguments: object) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def printed(process: "subprocess.Popen[str]") -> str:
    """What a script printed, once it ended well and without a complaint."""
    output, complaints = process.communicate(timeout=300)
    assert (process.returncode, complaints) == (0, "")
    return output.strip()


def test_a_fork_has_children_of_its_own_and_leaves_its_parents(start: Start) -> None:
    script = """
import os
parser = make()
pages = parser.parse(b"pid", "a.pdf")
before = [block.text for block in pages]
forked = os.fork()
if not forked:
    inside = texts(parser, "pid"), texts(parser, "pid")
    parser.close()
    os._exit(0 if inside[0] == inside[1] != before else 1)
_, status = os.waitpid(forked, 0)
print(os.waitstatus_to_exitcode(status), texts(parser, "pid") == before)
"""
    assert printed(start(MAKE + script)) == "0 True"


def test_a_fork_in_the_middle_of_a_parse_does_not_disturb_it(start: Start, tmp_path: Path) -> None:
    script = """
import os, pathlib, sys
parser = make()
pages = parser.parse(b"steps " + sys.argv[1].encode(), "a.pdf")
print(next(pages).text, end=" ", flush=True)
forked = os.fork()
if not forked:
    pages.close()
    os._exit(0 if texts(parser, "echo x") == ["x"] else 1)
_, status = os.waitpid(forked, 0)
pathlib.Path(sys.argv[1]).touch()
print(next(pages).text, os.waitstatus_to_exitcode(status))
"""
    assert printed(start(MAKE + script, tmp_path / "signpost")) == "first last 0"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread of the child looks")
def test_a_child_in_the_middle_of_a_parse_dies_with_its_worker(
    start: Start, tmp_path: Path
) -> None:
    script = "import sys\ntexts(make(), 'announces_and_spins ' + sys.argv[1])"
    worker = start(MAKE + script, tmp_path / "pid")
    pid = read_pid(tmp_path / "pid")
    worker.kill()
    eventually(lambda: is_gone(pid))


def test_an_idle_child_dies_with_its_worker_though_a_fork_lives_on(
    start: Start, tmp_path: Path
) -> None:
    script = """
import os, signal, sys
parser = make()
pid = texts(parser, "pid")[0]
if not os.fork():
    signal.pause()
with open(sys.argv[1] + ".part", "w") as file:
    file.write(pid)
os.rename(sys.argv[1] + ".part", sys.argv[1])
signal.pause()
"""
    worker = start(MAKE + script, tmp_path / "pid")
    pid = read_pid(tmp_path / "pid")
    worker.kill()
    eventually(lambda: is_gone(pid))


def test_a_worker_that_ends_normally_ends_quietly_and_takes_its_children(start: Start) -> None:
    pid = int(printed(start(MAKE + "parser = make(); print(*texts(parser, 'pid'))")))
    eventually(lambda: is_gone(pid))


def test_signals_to_the_whole_group_leave_a_parse_alone(start: Start, tmp_path: Path) -> None:
    script = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda *_: None)
pages = make().parse(b"steps " + sys.argv[1].encode(), "a.pdf")
next(pages)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    os.killpg(0, number)
open(sys.argv[1], "w").close()
print(next(pages).text)
"""
    assert printed(start(MAKE + script, tmp_path / "signpost")) == "last"


def test_greenlets_run_on_while_one_parses(start: Start) -> None:
    script = """
ticks = 0
def beat():
    global ticks
    while True:
        gevent.sleep(0.01)
        ticks += 1
gevent.spawn(beat)
try:
    texts(make(seconds=1), "spins")
except Exception as error:
    print(type(error).__name__, ticks > 20)
"""
    assert printed(start(GEVENT + script)) == "LimitExceeded True"


def test_greenlets_share_the_children_there_are(start: Start) -> None:
    script = """
parser = make(children=2)
jobs = [gevent.spawn(texts, parser, f"many {number}") for number in range(40)]
gevent.joinall(jobs, raise_error=True)
pids = [gevent.spawn(texts, parser, "pid") for _ in range(20)]
gevent.joinall(pids, raise_error=True)
counts = [len(job.value) for job in jobs]
print(counts == list(range(40)), len({pid.value[0] for pid in pids}) <= 2)
"""
    assert printed(start(GEVENT + script)) == "True True"


def test_a_killed_greenlet_takes_its_child_along(start: Start, tmp_path: Path) -> None:
    script = """
import os, sys, psutil
parser = make()
job = gevent.spawn(texts, parser, "announces_and_spins " + sys.argv[1])
while not os.path.exists(sys.argv[1]):
    gevent.sleep(0.01)
job.kill()
print(psutil.pid_exists(int(open(sys.argv[1]).read())), *texts(parser, "echo next"))
"""
    assert printed(start(GEVENT + script, tmp_path / "pid")) == "False next"


def test_greenlets_survive_a_crash_and_a_fork(start: Start) -> None:
    script = """
import subprocess
parser = make()
before = texts(parser, "pid")
try:
    texts(parser, "reads_nothing")
except Exception as error:
    print(error)
after = texts(parser, "pid")
subprocess.run(["true"], check=True)
print(before != after, texts(parser, "pid") == after)
"""
    expected = "the parser died on a.pdf (SIGSEGV)\nTrue True"
    assert printed(start(GEVENT + script)) == expected


def test_the_worker_does_not_load_the_library() -> None:
    script = "import sys, worker.wiring; print('kreuzberg' in sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "False"


def test_one_document_that_eats_memory_ends_and_the_others_complete(
    start_worker: StartWorker, submit: Submit, reader: Reader
) -> None:
    start_worker("prefork", 2, INDEXING_MAX_PARSE_MEMORY_BYTES=str(128 * MEBIBYTE))
    page = b"<h1>Harbour</h1><p>The lighthouse lamp turns once in twelve seconds.</p>"
    files = {f"{number}.html": page * 10 for number in range(4)}
    greedy, *others = submit({"greedy.html": page * 300_000, **files}, announce=True)

    ended = reader.await_end(greedy.document_id, *(one.document_id for one in others))

    assert ended[0].indexing_status == "error"
    assert "greedy.html needs more than 128 MB to parse" in (ended[0].error or "")
    assert [one.indexing_status for one in ended[1:]] == ["completed"] * 4
