"""Each drill recovers by itself, loses nothing, doubles nothing, and is seen while it lasts."""

from pathlib import Path

import pytest

from tests.drills.drills import (
    ClockBehind,
    ClockOff,
    DatabaseDiskFull,
    DatabaseDown,
    Drill,
    ProviderDown,
    RedisDown,
    StorageFull,
)
from tests.drills.playing import HANDED_IN, Sight, play
from tests.drills.site import CannotBeDrilled
from worker.cli.failures import SERVICE_UNAVAILABLE

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def drilled(drill: Drill, folder: Path, survivors: tuple[str, ...] = ("one", "two")) -> Sight:
    try:
        sight = play(drill, folder)
    except CannotBeDrilled as reason:
        pytest.skip(str(reason))
    assert set(sight.statuses) == {"completed"}
    assert sight.statuses["completed"] >= sight.accepted
    assert sight.doubled == 0
    assert sight.survivors == survivors
    assert sight.after is not None
    assert sight.after.code == 0
    shown = sight.everything + "".join(ran.out + ran.err for _, ran in sight.commands)
    for secret in sight.secrets:
        assert secret not in shown
    assert "Traceback" not in "".join(ran.err for _, ran in sight.commands)
    return sight


def logged(sight: Sight, words: str) -> bool:
    return any(words in line for line, _ in sight.lines)


def test_redis_down(tmp_path: Path) -> None:
    sight = drilled(RedisDown(), tmp_path)

    health = sight.ran("health")
    assert health.code == SERVICE_UNAVAILABLE
    assert "the broker does not answer" in health.err
    assert logged(sight, "the relay waits")
    assert any(name.startswith("rag_worker_relay_failures_total") for name in sight.series)


def test_database_down(tmp_path: Path) -> None:
    sight = drilled(DatabaseDown(), tmp_path)

    health = sight.ran("health")
    assert health.code == SERVICE_UNAVAILABLE
    assert "the database does not answer" in health.err
    assert logged(sight, "the relay waits")


def test_provider_down(tmp_path: Path) -> None:
    sight = drilled(ProviderDown(), tmp_path)

    assert "waits for a service: the embedding provider answers 503" in (
        sight.ran("status --dataset drill").out
    )
    assert logged(sight, "waits for a service: the embedding provider answers 503")


def test_storage_full(tmp_path: Path) -> None:
    sight = drilled(StorageFull(), tmp_path)

    handed_in = sight.ran(HANDED_IN)
    assert handed_in.code == SERVICE_UNAVAILABLE
    assert "storage is full (No space left on device): make room there" in handed_in.err


def test_database_disk_full(tmp_path: Path) -> None:
    drilled(DatabaseDiskFull(), tmp_path)


@pytest.mark.parametrize(("drill", "side"), [(ClockOff, "ahead of"), (ClockBehind, "behind")])
def test_clock_off(drill: type[Drill], side: str, tmp_path: Path) -> None:
    sight = drilled(drill(), tmp_path, survivors=("one",))

    assert (
        f"the clock of worker one@drill is 600 s {side} the database's" in sight.ran("health").err
    )
    assert abs(sight.series["rag_worker_clock_offset_seconds"]) == pytest.approx(600, abs=5)
