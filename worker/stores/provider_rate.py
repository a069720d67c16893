"""A provider's requests and tokens a minute over all workers: GCRA as one Redis script.

Source: ITU-T recommendation I.371, the generic cell rate algorithm in its virtual
scheduling form. The clock is the Redis server's. A Redis that was emptied starts
afresh: what it forgets is at most the burst.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from redis import Redis
from redis.exceptions import RedisError

from shared.errors import ServiceUnavailable

#: What may go out at once after a pause, in seconds of the rate.
BURST_SECONDS = 2.0
_MINUTE_SECONDS = 60.0
_MICROSECONDS = 1_000_000

# KEYS[1]: a hash; for each limit the time at which its next unit is due, in microseconds.
# ARGV: the longest wait; then for each limit its name, burst and cost, all times in microseconds.
# A request may go out when every limit's due time, less the burst, has come: what it costs
# is added afterwards, so that one larger than the burst goes out, too. Returns the wait;
# negative when it is too long, and then nothing is taken.
_RESERVE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local longest, wait, due = tonumber(ARGV[1]), 0, {}
for i = 2, #ARGV, 3 do
  local burst = tonumber(ARGV[i + 1])
  due[i] = math.max(tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or 0), now - burst)
  wait = math.max(wait, due[i] - now)
end
if wait > longest then
  return -wait
end
local last = now
for i = 2, #ARGV, 3 do
  local next_due = due[i] + tonumber(ARGV[i + 2])
  redis.call('HSET', KEYS[1], ARGV[i], string.format('%.0f', next_due))
  last = math.max(last, next_due)
end
redis.call('PEXPIRE', KEYS[1], math.ceil((last - now) / 1000) + 60000)
return wait
"""

_HOLD = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local held = now + tonumber(ARGV[1])
for i = 2, #ARGV do
  local due = tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or 0)
  redis.call('HSET', KEYS[1], ARGV[i], string.format('%.0f', math.max(due, held)))
end
redis.call('PEXPIRE', KEYS[1], math.ceil(tonumber(ARGV[1]) / 1000) + 60000)
"""

_Result = TypeVar("_Result")


class ProviderRate:
    """The rate of one provider, for everybody who names it alike.

    In no minute more requests go out than ``requests_per_minute``, and at most one
    request's tokens more than ``tokens_per_minute``.

    Args:
        redis: where it is kept.
        name: the provider's.
        requests_per_minute: 0 for no limit.
        tokens_per_minute: likewise.
    """

    def __init__(
        self, redis: "Redis", name: str, requests_per_minute: int, tokens_per_minute: int
    ) -> None:
        self._reserve: Any = redis.register_script(_RESERVE)
        self._hold: Any = redis.register_script(_HOLD)
        self._key = f"rag-worker:rate:{name}"
        self._limits = {
            name: _interval(limit)
            for name, limit in (("requests", requests_per_minute), ("tokens", tokens_per_minute))
            if limit
        }

    def reserve(self, tokens: int, longest_wait_seconds: float) -> float:
        """Take a place in the sequence; see ``worker.providers.pacing.Rate``."""
        units = {"requests": 1, "tokens": tokens}
        arguments: list[Any] = [int(longest_wait_seconds * _MICROSECONDS)]
        for name, interval in self._limits.items():
            # Less the one that may go out in any case: the minute's sum comes out exactly.
            burst = max(BURST_SECONDS * _MICROSECONDS - interval, 0)
            arguments += [name, int(burst), int(interval * units[name])]
        waited = _answered(lambda: self._reserve(keys=[self._key], args=arguments))
        return float(waited) / _MICROSECONDS

    def hold(self, seconds: float) -> None:
        """Let everybody wait for so long."""
        arguments = [int(seconds * _MICROSECONDS), *self._limits]
        _answered(lambda: self._hold(keys=[self._key], args=arguments))


def _interval(per_minute: int) -> float:
    """Microseconds from one unit to the next, so that burst and rate together fit a minute."""
    return (_MINUTE_SECONDS + BURST_SECONDS) * _MICROSECONDS / per_minute


def _answered(call: Callable[[], _Result]) -> _Result:
    try:
        return call()
    except RedisError as error:
        raise ServiceUnavailable(
            f"Redis, which keeps the rate, does not answer: {error}"
        ) from error
