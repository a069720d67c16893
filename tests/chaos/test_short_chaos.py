"""A short play of the chaos suite; ``make chaos`` is the long one."""

from pathlib import Path

import pytest

from tests.chaos.plan import Scale, make_plan
from tests.chaos.product import Product
from tests.chaos.run import play
from tests.fixtures.waiting import PATIENCE_SECONDS

SEED = 5
DOCUMENTS = 40
FAULTS = (
    "pool child killed",
    "worker's process group killed",
    "broker killed, data lost",
    "database restarted at once",
    "producer killed before publish",
    "message delivered twice at once",
    "documents deleted in flight",
)


@pytest.mark.timeout(1200)
def test_nothing_is_lost_doubled_or_stuck_whatever_dies(tmp_path: Path) -> None:
    scale = Scale(DOCUMENTS, len(FAULTS), round_seconds=3.0, large_documents=1, large_segments=500)
    rounds = make_plan(SEED, scale, FAULTS)

    played, (outcome,) = play(
        tmp_path, rounds, [Product], lease_seconds=4.0, settle_seconds=PATIENCE_SECONDS
    )

    assert outcome.violations == ()
    assert outcome.settled_seconds is not None
    assert outcome.accepted == DOCUMENTS
    assert outcome.deleted == 2
    assert sum(outcome.statuses.values()) == DOCUMENTS - outcome.deleted
    assert set(FAULTS) <= {name for name, times in played.times.items() if times}
