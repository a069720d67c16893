"""A worker whose clock is wrong says so, and so does everybody who looks."""

import pytest

from tests.fixtures.clocks import shifted_clock
from tests.fixtures.commands import rag_worker
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

QUICK = {"PRESENCE_SECONDS": "0.3"}


@pytest.fixture
def ten_minutes_ahead() -> dict[str, str]:
    variables = shifted_clock(600)
    if variables is None:
        pytest.skip("libfaketime is not installed")
    return variables


def test_a_worker_that_is_ten_minutes_ahead_is_named(
    start_worker: StartWorker, ten_minutes_ahead: dict[str, str]
) -> None:
    worker = start_worker("threads", 1, **QUICK, **ten_minutes_ahead)
    line = f"the clock of worker {worker.name} is 600 s ahead of the database's"

    eventually(lambda: line in worker.output())

    seen = rag_worker("health")
    assert seen.code == 0, "leases go by the database's clock: nothing is broken"
    assert line in seen.err
    (shown,) = rag_worker("workers", "--json").json()["workers"]
    assert shown["clock_offset_seconds"] == pytest.approx(600, abs=60)


def test_a_clock_that_is_right_is_no_matter(start_worker: StartWorker) -> None:
    worker = start_worker("threads", 1, **QUICK)

    assert "clock" not in rag_worker("health").err
    assert "clock of worker" not in worker.output()
