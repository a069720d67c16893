"""The wait before a retry."""

import pytest

from shared.queueing.task import BACKOFF_CAP_SECONDS, backoff_seconds, wait_seconds


@pytest.mark.parametrize(("retries", "ceiling"), [(0, 1), (1, 2), (5, 32), (9, 300), (10_000, 300)])
def test_it_is_full_jitter_under_a_doubling_ceiling(retries: int, ceiling: float) -> None:
    drawn = [backoff_seconds(retries) for _ in range(2_000)]

    assert ceiling <= BACKOFF_CAP_SECONDS
    assert all(0 <= seconds <= ceiling for seconds in drawn)
    # Full jitter: the whole range is used, evenly (0.5 is 38 standard errors away).
    assert min(drawn) < ceiling * 0.05
    assert max(drawn) > ceiling * 0.95
    assert 0.4 < sum(drawn) / len(drawn) / ceiling < 0.6


@pytest.mark.parametrize(("wanted", "waited"), [(90.0, 90.0), (0.0, 0.0), (-3.0, 0.0)])
def test_what_the_peer_asks_for_is_what_it_gets(wanted: float, waited: float) -> None:
    assert wait_seconds(9, wanted) == waited
