"""The rate of a provider: one for all workers, whole again when Redis was emptied."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from redis import Redis

from shared.errors import RateLimited, ServiceUnavailable
from tests.fixtures.embedding_server import EmbeddingServer
from worker.providers.pacing import LONGEST_WAIT_SECONDS, wait_for_turn
from worker.stores.provider_rate import BURST_SECONDS, ProviderRate

HOUR_SECONDS = 3600.0


@pytest.fixture
def redis(redis_url: str) -> Iterator["Redis"]:
    with contextlib.closing(Redis.from_url(redis_url, decode_responses=True)) as client:
        yield client


def places(rate: ProviderRate, number: int, tokens: int = 1) -> list[float]:
    return [rate.reserve(tokens, HOUR_SECONDS) for _ in range(number)]


@pytest.mark.parametrize("per_minute", [1, 7, 60, 600])
def test_no_minute_has_more_requests_than_allowed(redis: "Redis", per_minute: int) -> None:
    rate = ProviderRate(redis, "p", per_minute, 0)

    waits = places(rate, per_minute + 1)

    # All were asked for at about one moment: the last comes after the minute is over.
    assert waits[0] == 0
    assert waits[-1] > 59
    assert waits[-1] < 66
    assert waits == sorted(waits)


def test_the_rate_is_used(redis: "Redis") -> None:
    waits = places(ProviderRate(redis, "p", 600, 0), 600)

    assert waits[-1] < 61
    at_once = [wait for wait in waits if wait == 0]
    assert 0 < len(at_once) <= 600 / 60 * BURST_SECONDS + 1


def test_tokens_are_counted_too_and_a_large_request_is_taken(redis: "Redis") -> None:
    rate = ProviderRate(redis, "p", 0, 60_000)

    first, second, third = places(rate, 3, tokens=30_000)

    assert first == 0
    assert second == pytest.approx(31 - BURST_SECONDS, abs=0.5)
    assert third == pytest.approx(62 - BURST_SECONDS, abs=0.5)


def test_the_slower_of_both_limits_counts(redis: "Redis") -> None:
    rate = ProviderRate(redis, "p", 6_000, 6_000)

    assert places(rate, 2, tokens=1_000)[1] > 7
    assert places(ProviderRate(redis, "q", 60, 6_000_000), 4, tokens=1)[3] > 1.5


def test_one_who_would_wait_too_long_takes_no_place(redis: "Redis") -> None:
    rate = ProviderRate(redis, "p", 60, 0)
    places(rate, 5)

    refused = [rate.reserve(1, 1.0) for _ in range(50)]

    assert all(-6 < seconds < -1 for seconds in refused)
    with pytest.raises(RateLimited, match="EMBEDDING_REQUESTS_PER_MINUTE") as raised:
        wait_for_turn(rate, 1)
    assert raised.value.retry_after_seconds > LONGEST_WAIT_SECONDS
    assert rate.reserve(1, HOUR_SECONDS) < 6


def test_whom_the_provider_sends_away_sends_all_others_away(redis: "Redis") -> None:
    ProviderRate(redis, "p", 60_000, 0).hold(30)

    assert ProviderRate(redis, "p", 60_000, 0).reserve(1, 1.0) == pytest.approx(-30, abs=1)
    assert ProviderRate(redis, "other", 60_000, 0).reserve(1, 1.0) == 0


def test_an_emptied_redis_starts_afresh_and_old_rates_go_away(redis: "Redis") -> None:
    rate = ProviderRate(redis, "p", 60, 60)
    places(rate, 100)
    (key,) = redis.keys()
    assert 60_000 < redis.pttl(key) < 300_000

    redis.flushall()
    redis.script_flush()

    assert rate.reserve(1, 1.0) == 0


def test_a_redis_that_is_away_is_a_service_unavailable() -> None:
    rate = ProviderRate(Redis(port=9), "p", 60, 60)

    with pytest.raises(ServiceUnavailable, match="Redis"):
        rate.reserve(1, 1.0)


WORKER = """
import sys, threading, time
from redis import Redis
from shared.errors import RateLimited
from shared.settings.embedding import EmbeddingSettings
from worker.providers.openai_compatible import OpenAICompatibleEmbedder
from worker.stores.provider_rate import ProviderRate
redis_url, base_url, seconds = sys.argv[1:]
settings = EmbeddingSettings(embedding_base_url=base_url)
rate = ProviderRate(Redis.from_url(redis_url), "p", 600, 0)
embedder = OpenAICompatibleEmbedder("m", settings, rate)
print("ready", flush=True)
sys.stdin.readline()
ends = time.monotonic() + float(seconds)
def work():
    while time.monotonic() < ends:
        try:
            embedder.embed(["text"])
        except RateLimited:
            pass
threads = [threading.Thread(target=work) for _ in range(4)]
for one in threads: one.start()
for one in threads: one.join()
"""


def test_two_processes_of_four_threads_share_one_rate_at_the_server(
    redis_url: str, embedding_server: EmbeddingServer, pytestconfig: pytest.Config
) -> None:
    seconds = 3.0
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, redis_url, embedding_server.url, str(seconds)],
            cwd=pytestconfig.rootpath,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=300)

    moments = sorted(asked.at for asked in embedding_server.asked)
    per_second = 600 / (60 + BURST_SECONDS)
    most = per_second * (seconds + LONGEST_WAIT_SECONDS + BURST_SECONDS) + 1
    assert [worker.returncode for worker in workers] == [0, 0]
    # Eight threads that ask without a pause would send hundreds.
    assert per_second < len(moments) <= most


def test_waiting_threads_do_not_wait_for_each_other(redis: "Redis") -> None:
    rate = ProviderRate(redis, "p", 120, 0)
    started, ended = time.monotonic(), []

    def take() -> None:
        with contextlib.suppress(RateLimited):
            wait_for_turn(rate, 1)
        ended.append(time.monotonic() - started)

    threads = [threading.Thread(target=take) for _ in range(30)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert max(ended) < LONGEST_WAIT_SECONDS + 2
