"""One seed decides everything."""

from collections import Counter

from tests.chaos.faults import FAULTS
from tests.chaos.plan import Scale, make_plan

SCALE = Scale(documents=200, faults=50)


def test_the_same_seed_makes_the_same_plan() -> None:
    assert make_plan(3, SCALE, list(FAULTS)) == make_plan(3, SCALE, list(FAULTS))
    assert make_plan(3, SCALE, list(FAULTS)) != make_plan(4, SCALE, list(FAULTS))


def test_every_document_is_submitted_once_and_every_fault_as_often_as_the_others() -> None:
    rounds = make_plan(3, SCALE, list(FAULTS))
    keys = [spec.key for one in rounds for order in one.orders for spec in order.documents]
    times = Counter(one.fault.name for one in rounds)
    assert len(keys) == len(set(keys)) == SCALE.documents
    assert len({order.tenant for one in rounds for order in one.orders}) == 3
    assert set(times) == set(FAULTS)
    assert max(times.values()) - min(times.values()) <= 1
