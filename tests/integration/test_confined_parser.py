"""Parsing in a child process: what passes through, and what the parent survives."""

import ctypes
import io
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from shared import errors
from shared.errors import (
    ConfigurationError,
    EmptyFile,
    LimitExceeded,
    ParserDied,
    RagWorkerError,
    Transient,
    UnexpectedFailure,
)
from shared.extensions.log_format import handler
from shared.queueing import task_context
from shared.queueing.task_context import TaskContext
from tests.fixtures.misbehaving_parser import PARSER
from tests.fixtures.pdf_files import numbered, pdf_of
from tests.fixtures.pids import is_gone, read_pid
from tests.fixtures.waiting import eventually
from worker.providers.confined_parser import ConfinedParser
from worker.providers.parser import Block

ROOT = Path(__file__).parents[2]
MEBIBYTE = 1024**2
HANDBOOK = ROOT / "worker" / "samples" / "documents" / "handbook.pdf"

Make = Callable[..., ConfinedParser]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes confined parsers whose children find the tests."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made: list[ConfinedParser] = []

    def confined(
        parser: str = PARSER, seconds: float = 60, memory: int = 1024, children: int = 1
    ) -> ConfinedParser:
        parser_ = ConfinedParser(
            parser,
            parse_seconds=seconds,
            parse_memory_bytes=memory * MEBIBYTE,
            max_children=children,
        )
        made.append(parser_)
        return parser_

    yield confined
    for parser in made:
        parser.close()


def texts(parser: ConfinedParser, request: str, name: str = "a.pdf") -> list[str]:
    return [block.text for block in parser.parse(request.encode(), name)]


def pid_of(parser: ConfinedParser) -> int:
    return int(texts(parser, "pid")[0])


def test_a_block_arrives_as_it_was(make: Make) -> None:
    parsed = list(make().parse("echo größe 🚢\n".encode(), "a.pdf"))
    assert parsed == [Block("größe 🚢\n", is_markdown=True, page=7)]


def test_a_child_is_reused(make: Make) -> None:
    parser = make()
    assert pid_of(parser) == pid_of(parser) != os.getpid()


def test_what_the_library_prints_does_not_reach_the_worker(make: Make) -> None:
    parser = make()
    assert texts(parser, "prints text") == ["text"]
    assert texts(parser, "echo more") == ["more"]


def test_ten_thousand_blocks_arrive_in_order(make: Make) -> None:
    assert texts(make(), "many 10000") == [f"block {index}" for index in range(10_000)]


def test_a_block_of_fifty_megabytes_arrives_whole(make: Make) -> None:
    parser = make()
    (text,) = texts(parser, f"large {50 * MEBIBYTE}")
    assert (len(text), set(text)) == (25 * MEBIBYTE, {"é"})


def test_a_large_file_reaches_the_parser_whole(make: Make) -> None:
    text = "x" * (30 * MEBIBYTE)
    assert texts(make(), "echo " + text) == [text]


def test_a_page_arrives_before_the_last_is_parsed(make: Make, tmp_path: Path) -> None:
    pages = make().parse(f"steps {tmp_path / 'signpost'}".encode(), "a.pdf")
    assert next(pages).text == "first"
    (tmp_path / "signpost").touch()
    assert [page.text for page in pages] == ["last"]


def test_a_child_is_free_while_its_text_is_still_being_read(make: Make) -> None:
    parser = make(children=1)
    pages = parser.parse(b"many 20", "a.pdf")
    first = next(pages)
    assert texts(parser, "echo other") == ["other"]
    assert [first.page, *(page.page for page in pages)] == list(range(1, 21))


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, RagWorkerError)
    ],
)
def test_every_error_of_ours_crosses_with_its_message(
    make: Make, kind: type[RagWorkerError]
) -> None:
    with pytest.raises(RagWorkerError) as raised:
        texts(make(), f"raises {kind.__name__}")
    assert type(raised.value) is kind
    assert str(raised.value) == f"{kind.__name__}: größer"


def test_an_error_of_the_file_costs_no_child(make: Make) -> None:
    parser = make()
    before = pid_of(parser)
    with pytest.raises(EmptyFile):
        texts(parser, "raises EmptyFile")
    assert pid_of(parser) == before


@pytest.mark.parametrize(
    ("request_", "words"),
    [("defect", "KeyError: 'no such key'"), ("panics", "Panic: index out of bounds")],
)
def test_a_defect_of_the_parser_is_told_with_its_traceback(
    make: Make, request_: str, words: str
) -> None:
    parser = make()
    before = pid_of(parser)
    with pytest.raises(UnexpectedFailure, match="the parser failed on") as raised:
        texts(parser, request_)
    assert words in str(raised.value)
    assert "misbehaving_parser.py" in "".join(raised.value.__notes__)
    assert pid_of(parser) != before


@pytest.mark.parametrize(
    ("request_", "end"),
    [
        ("reads_nothing", "SIGSEGV"),
        ("signals SIGSEGV", "SIGSEGV"),
        ("signals SIGABRT", "SIGABRT"),
        ("signals SIGKILL", "SIGKILL"),
        ("exits 3", "exit code 3"),
    ],
)
def test_a_crash_is_a_transient_error_and_the_next_file_has_a_fresh_child(
    make: Make, request_: str, end: str
) -> None:
    parser = make()
    with pytest.raises(ParserDied) as raised:
        texts(parser, request_)
    assert str(raised.value) == f"the parser died on a.pdf ({end})"
    assert isinstance(raised.value, Transient)
    assert texts(parser, "echo next") == ["next"]


def test_a_child_that_died_idle_is_nobodys_fault(make: Make) -> None:
    parser = make()
    before = pid_of(parser)
    os.kill(before, 9)
    eventually(lambda: is_gone(before))
    assert pid_of(parser) != before


@pytest.mark.parametrize("behaviour", ["spins", "announces_and_spins"])
def test_a_file_that_takes_too_long_is_given_up(make: Make, tmp_path: Path, behaviour: str) -> None:
    parser = make(seconds=0.5)
    before = pid_of(parser)
    with pytest.raises(LimitExceeded) as raised:
        texts(parser, f"{behaviour} {tmp_path / 'pid'}", "slow.pdf")
    assert str(raised.value) == (
        "slow.pdf took longer than 0.5 s to parse: split it, or raise INDEXING_MAX_PARSE_SECONDS"
    )
    eventually(lambda: is_gone(before))
    assert texts(parser, "echo next") == ["next"]


def test_the_callers_own_time_does_not_count(make: Make, tmp_path: Path) -> None:
    parser = make(seconds=1)
    pages = parser.parse(f"steps {tmp_path / 'signpost'}".encode(), "a.pdf")
    next(pages)
    threading.Event().wait(1.2)
    (tmp_path / "signpost").touch()
    assert [page.text for page in pages] == ["last"]


def test_pages_that_never_end_are_given_up_though_none_is_waited_for(make: Make) -> None:
    parser = make(seconds=0.5)
    with pytest.raises(LimitExceeded, match=r"a\.pdf took longer than 0\.5 s to parse"):
        for _ in parser.parse(b"pages_without_end", "a.pdf"):
            pass
    assert texts(parser, "echo next") == ["next"]


@pytest.mark.parametrize("behaviour", ["swells", "swells_at_once", "swells_page_by_page"])
def test_a_file_that_needs_too_much_memory_is_given_up(make: Make, behaviour: str) -> None:
    parser = make(memory=150)
    with pytest.raises(LimitExceeded) as raised:
        texts(parser, behaviour, "bomb.pdf")
    assert str(raised.value).startswith("bomb.pdf needs more than 150 MB to parse: ")
    assert "INDEXING_MAX_PARSE_MEMORY_BYTES" in str(raised.value)
    assert texts(parser, "echo next") == ["next"]


def test_a_child_that_kept_memory_is_replaced(make: Make) -> None:
    parser = make(memory=400)
    (leaked,) = texts(parser, "keeps 5")
    assert pid_of(parser) == int(leaked)
    (leaked,) = texts(parser, "keeps 150")
    eventually(lambda: is_gone(int(leaked)))
    assert pid_of(parser) != int(leaked)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets one choose")
def test_the_kernel_takes_a_child_before_the_worker(make: Make) -> None:
    assert texts(make(), "oom_score") == ["1000"]


def test_a_reader_that_stops_early_leaves_nothing_behind(make: Make) -> None:
    parser = make()
    before = pid_of(parser)
    blocks = parser.parse(b"many 1000000", "a.pdf")
    next(blocks)
    blocks.close()
    eventually(lambda: is_gone(before))
    assert texts(parser, "echo next") == ["next"]


def test_an_exception_from_outside_ends_the_child(make: Make, tmp_path: Path) -> None:
    class Order(BaseException):
        """What a watchdog raises in a thread."""

    parser, caught = make(), []

    def parse() -> None:
        try:
            texts(parser, f"announces_and_spins {tmp_path / 'pid'}")
        except Order as order:
            caught.append(order)

    thread = threading.Thread(target=parse)
    thread.start()
    pid = read_pid(tmp_path / "pid")
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Order)
    )
    thread.join(300)
    assert len(caught) == 1
    eventually(lambda: is_gone(pid))
    assert texts(parser, "echo next") == ["next"]


def test_threads_have_children_of_their_own_up_to_the_limit(make: Make) -> None:
    parser = make(children=2)
    with ThreadPoolExecutor(6) as pool:
        requests = [f"many {number}" for number in range(60)]
        answers = list(pool.map(lambda request: texts(parser, request), requests))
        pids = set(pool.map(lambda _: pid_of(parser), range(30)))
    assert [len(answer) for answer in answers] == list(range(60))
    assert len(pids) <= 2


def test_two_threads_parse_at_once(make: Make, tmp_path: Path) -> None:
    parser = make(children=2)
    waiting = parser.parse(f"steps {tmp_path / 'signpost'}".encode(), "a.pdf")
    next(waiting)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(texts, parser, "echo meanwhile").result(300) == ["meanwhile"]
    (tmp_path / "signpost").touch()
    assert [page.text for page in waiting] == ["last"]


def test_a_child_outlives_the_thread_that_started_it(make: Make) -> None:
    parser = make()
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(pid_of, parser).result(300)
    assert pid_of(parser) == started


def test_a_parser_that_cannot_be_loaded_is_a_wrong_setting(make: Make) -> None:
    with pytest.raises(ConfigurationError, match="no_such_module:Parser cannot be loaded"):
        texts(make("no_such_module:Parser"), "echo x")


def test_a_real_document_reads_the_same_in_a_child(make: Make) -> None:
    from worker.providers.kreuzberg import KreuzbergParser

    content = HANDBOOK.read_bytes()
    confined = make("worker.providers.kreuzberg:KreuzbergParser")
    assert list(confined.parse(content, "a.pdf")) == list(KreuzbergParser().parse(content, "a.pdf"))


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for the peak")
def test_many_pages_take_no_more_memory_than_few(make: Make) -> None:
    parser = make("worker.providers.kreuzberg:KreuzbergParser")
    own: list[int] = []
    for count in (600, 6000):
        content = pdf_of(numbered(count, lines=12))
        blocks = parser.parse(content, "a.pdf")
        assert [block.page for block in blocks] == list(range(1, count + 1))
        own.append(_peak_bytes_of_child() - len(content))
    # Parsed as a whole, it took 88 MB more; now 8, which are the list of its pages.
    assert own[1] < own[0] + 40 * MEBIBYTE


def _peak_bytes_of_child() -> int:
    # The newest: other tests of this process may have left theirs.
    child = max(
        (
            process
            for process in psutil.Process().children()
            if "worker.providers.kreuzberg:KreuzbergParser" in process.cmdline()
        ),
        key=psutil.Process.create_time,
    )
    status = Path(f"/proc/{child.pid}/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_what_a_parser_logs_is_logged_by_the_task_it_works_for(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    parser = make()
    stream = io.StringIO()
    ours = handler(stream, "json")
    logging.getLogger().addHandler(ours)
    try:
        for word in ("first", "second"):
            with task_context.entered(TaskContext(f"id-{word}", "parse", "trace")):
                assert texts(parser, f"logs {word}")[0] == word
    finally:
        logging.getLogger().removeHandler(ours)

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    said = [line for line in lines if line["logger"] in {"a.parsing.library", "its.thread"}]
    assert len(said) == 2 * 22
    for line in said:
        assert line["task_id"] == "id-" + line["message"].split()[0]
    assert sum("KeyError" in line["message"] for line in said) == 2
