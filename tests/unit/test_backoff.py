"""The wait before a retry."""

import pytest

from shared.queueing.task import BACKOFF_CAP_SECONDS, backoff_seconds


@pytest.mark.parametrize(("retries", "ceiling"), [(0, 1), (1, 2), (5, 32), (9, 300), (10_000, 300)])
def test_it_is_full_jitter_under_a_doubling_ceiling(retries: int, ceiling: float) -> None:
    drawn = [backoff_seconds(retries) for _ in range(2_000)]

    assert ceiling <= BACKOFF_CAP_SECONDS
    assert all(0 <= seconds <= ceiling for seconds in drawn)
    # Full jitter: the whole range is used, evenly (0.5 is 38 standard errors away).
    assert min(drawn) < ceiling * 0.05
    assert max(drawn) > ceiling * 0.95
    assert 0.4 < sum(drawn) / len(drawn) / ceiling < 0.6
