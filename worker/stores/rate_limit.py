"""A rate over all workers: the generic cell rate algorithm as one Redis script.

Source: ITU-T recommendation I.371 (the virtual scheduling form). The clock is the
Redis server's. A Redis that was emptied forgets at most one burst.
"""

from redis import Redis

# KEYS[1]: the time at which the next unit would come exactly at the rate, in microseconds.
# ARGV: interval and burst in microseconds, the longest wait a caller takes, likewise.
# Returns the wait; negative when it is too long, and nothing was reserved then.
_SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local interval, burst, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local wait = due - burst - now
if wait > longest then
  return -wait
end
due = due + interval
redis.call('SET', KEYS[1], string.format('%.0f', due), 'PX',
           math.ceil((due - now) / 1000) + 1000)
return math.max(wait, 0)
"""
_MICROSECONDS = 1_000_000


class RateLimit:
    """Units at a rate, shared by everybody who names the same key.

    Args:
        redis: the server.
        key: what is limited.
        per_second: the rate, above zero.
        burst_seconds: how much of the rate may be used at once after a pause.
    """

    def __init__(
        self, redis: Redis, key: str, per_second: float, burst_seconds: float = 1.0
    ) -> None:
        self._script = redis.register_script(_SCRIPT)
        self._key = f"rate:{key}"
        self._interval = max(int(_MICROSECONDS / per_second), 1)
        # One unit is always there: the burst is what comes on top of it.
        self._burst = max(int(burst_seconds * _MICROSECONDS) - self._interval, 0)

    def reserve(self, longest_wait_seconds: float) -> float:
        """Take a place in the sequence.

        Returns:
            Seconds until it is this caller's turn; negative, and no place is taken, when
            they are more than ``longest_wait_seconds``: so long the caller should stay away.

        Raises:
            redis.exceptions.RedisError: the server does not answer.
        """
        longest = int(longest_wait_seconds * _MICROSECONDS)
        waited = self._script(keys=[self._key], args=[self._interval, self._burst, longest])
        return float(waited) / _MICROSECONDS
