"""Work is ended from outside wherever it runs, and nothing of it reaches what runs next."""

import contextlib
import gc
import os
import random
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import FileIO

import pytest

from shared.errors import LeaseLost, Permanent
from tests.fixtures.waiting import eventually
from worker.delivery.interruption import SIGNAL, Interruptible, interruptible


class DeadlinePassed(Permanent):
    """The work took too long."""


def compute() -> None:
    while True:
        pass


def swallow() -> None:
    while True:
        try:
            compute()
        except Exception:  # noqa: BLE001 - what libraries do
            continue


def sleep_shortly() -> None:
    while True:
        time.sleep(0.01)


def sleep_long() -> None:
    time.sleep(600)


def wait_for_a_file() -> None:
    select.select([], [], [], 600)


@pytest.fixture
def interrupting() -> Iterator[Callable[..., None]]:
    """Interrupts flows from another thread, again and again, until the test ends."""
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def interrupt(flow: Interruptible, error: BaseException, period_seconds: float = 0.1) -> None:
        def repeat() -> None:
            while not ended.wait(period_seconds):
                flow.interrupt(error)

        threads.append(threading.Thread(target=repeat))
        threads[-1].start()

    yield interrupt
    ended.set()
    for thread in threads:
        thread.join()


def in_block(work: Callable[[Interruptible], object]) -> None:
    with interruptible() as flow:
        work(flow)


@contextlib.contextmanager
def wrapped() -> Iterator[Interruptible]:
    """The block inside another, as those make it who watch tasks."""
    with interruptible() as flow:
        yield flow


def in_main_thread(work: Callable[[], None]) -> None:
    work()


def in_other_thread(work: Callable[[], None]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


PLACES = pytest.mark.parametrize("run_in", [in_main_thread, in_other_thread])
Place = Callable[[Callable[[], None]], None]


@PLACES
@pytest.mark.parametrize("work", [compute, swallow, sleep_shortly])
def test_the_error_given_ends_the_work(
    run_in: Place, work: Callable[[], None], interrupting: Callable[..., None]
) -> None:
    error = DeadlinePassed("after 0.1 s")

    def run() -> None:
        with pytest.raises(DeadlinePassed) as raised:
            in_block(lambda flow: (interrupting(flow, error), work()))
        assert raised.value is error
        # The place it was stuck in is in the traceback.
        assert work.__name__ in [entry.name for entry in raised.traceback]

    run_in(run)


@pytest.mark.parametrize("work", [sleep_long, wait_for_a_file])
def test_the_main_thread_is_woken_from_a_wait(
    work: Callable[[], None], interrupting: Callable[..., None]
) -> None:
    with pytest.raises(DeadlinePassed):
        in_block(lambda flow: (interrupting(flow, DeadlinePassed()), work()))


@PLACES
def test_work_that_swallows_everything_is_hit_again(
    run_in: Place, interrupting: Callable[..., None]
) -> None:
    hits = []

    def stubborn(flow: Interruptible) -> None:
        interrupting(flow, DeadlinePassed(), 0.02)
        while len(hits) < 3:
            try:
                sleep_shortly()
            except BaseException as hit:  # noqa: BLE001 - the test's point
                hits.append(type(hit).__name__)

    def run() -> None:
        # The fourth may come before the return.
        with contextlib.suppress(DeadlinePassed):
            in_block(stubborn)

    run_in(run)
    assert len(hits) == 3


@PLACES
def test_an_error_of_the_cleaning_up_does_not_hide_the_reason(
    run_in: Place, interrupting: Callable[..., None]
) -> None:
    def work(flow: Interruptible) -> None:
        interrupting(flow, LeaseLost(), 0.05)
        try:
            compute()
        finally:
            raise OSError("the connection is in the middle of something")

    def run() -> None:
        with pytest.raises(LeaseLost) as raised:
            in_block(work)
        assert isinstance(raised.value.__cause__, OSError)

    run_in(run)


@PLACES
def test_an_error_of_the_works_own_stays_what_it_is(run_in: Place) -> None:
    def run() -> None:
        with pytest.raises(ZeroDivisionError):
            in_block(lambda _: 1 // 0)

    run_in(run)


@PLACES
def test_the_outer_of_two_runs_is_ended_through_the_inner(
    run_in: Place, interrupting: Callable[..., None]
) -> None:
    def outer(flow: Interruptible) -> None:
        interrupting(flow, DeadlinePassed("outer"))
        try:
            in_block(lambda _: sleep_shortly())
        except DeadlinePassed:
            pytest.fail("the inner run took the outer's interrupt")

    def run() -> None:
        with pytest.raises(DeadlinePassed, match="outer"):
            in_block(outer)

    run_in(run)


def test_the_newest_error_given_leaves() -> None:
    def work(flow: Interruptible) -> None:
        try:
            flow.interrupt(DeadlinePassed())
        finally:
            flow.interrupt(LeaseLost("meanwhile"))

    with pytest.raises(LeaseLost, match="meanwhile"):
        in_block(work)


@pytest.fixture
def interrupted_at_random() -> Iterator[list[Interruptible]]:
    """What is in this list is interrupted all the time, at any moment."""
    generator = random.Random(20)
    running: list[Interruptible] = []
    ended = threading.Event()

    def interrupt_whatever_runs() -> None:
        while not ended.is_set():
            for flow in running:
                flow.interrupt(DeadlinePassed())
            sum(range(generator.randrange(2000)))

    interval_seconds = sys.getswitchinterval()
    # Threads change places as often as they can: each moment around the exit gets its turn.
    sys.setswitchinterval(1e-6)
    interrupter = threading.Thread(target=interrupt_whatever_runs)
    # What other tests left must not be finalized, and told of by pytest, while it interrupts.
    gc.collect()
    gc.disable()
    interrupter.start()
    yield running
    ended.set()
    interrupter.join()
    gc.enable()
    sys.setswitchinterval(interval_seconds)


@PLACES
@pytest.mark.parametrize("block", [interruptible, wrapped])
def test_an_interrupt_lands_inside_or_not_at_all(
    run_in: Place,
    block: Callable[[], contextlib.AbstractContextManager[Interruptible]],
    interrupted_at_random: list[Interruptible],
) -> None:
    generator = random.Random(21)
    endings = {"interrupted": 0, "completed": 0}

    def run() -> None:
        # Under load the interrupter gets few turns: as many rounds as that takes.
        while min(endings.values()) < 100 or sum(endings.values()) < 2000:
            try:
                with block() as flow:
                    interrupted_at_random[:] = [flow]
                    for _ in range(generator.randrange(50)):
                        str(flow)
                endings["completed"] += 1
            except DeadlinePassed:
                endings["interrupted"] += 1
            for number in range(50):
                str(number)  # a late one comes out here, and ends the test

    run_in(run)


def test_a_run_leaves_no_gap_where_a_wait_in_c_is_the_last_step() -> None:
    reading_end, writing_end = os.pipe()
    flows: list[Interruptible] = []

    def drain(lines: Iterable[bytes]) -> None:
        for _ in lines:
            pass

    def read_to_the_end() -> None:
        with FileIO(reading_end) as lines:
            flows.append(Interruptible.current())
            flows[0].run(lambda: drain(lines))

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(read_to_the_end)
        eventually(lambda: bool(flows))
        flows[0].interrupt(DeadlinePassed())
        os.close(writing_end)
        with pytest.raises(DeadlinePassed):
            future.result(300)
        # The same thread, the same flow: it is over.
        flows[0].interrupt(DeadlinePassed())
        assert pool.submit(sum, range(1000)).result(300) == 499500


def test_somebody_elses_signal_goes_to_the_handler_that_was_there() -> None:
    seen: list[int] = []
    before = signal.signal(SIGNAL, lambda number, _: seen.append(number))
    try:
        in_block(lambda _: signal.raise_signal(SIGNAL))
        assert seen == [SIGNAL]
        with pytest.raises(DeadlinePassed):
            in_block(lambda flow: flow.interrupt(DeadlinePassed()))
        assert seen == [SIGNAL]
    finally:
        signal.signal(SIGNAL, before)


@PLACES
def test_a_finished_flow_takes_nothing_any_more(run_in: Place) -> None:
    def run() -> None:
        flows: list[Interruptible] = []
        in_block(flows.append)
        flows[0].interrupt(DeadlinePassed())
        assert sum(len(str(number)) for number in range(1000)) == 2890

    run_in(run)
