"""Many messages taken from a Redis broker at once, where they wait already.

One that is waited for comes alone, and is then written down as unacknowledged: in
between a worker that dies loses it. Of a stock the broker itself moves several, in one
step: one round trip instead of two for each, and nothing is in nobody's keeping.
"""

import logging
import time
from typing import Any

from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

logger = logging.getLogger(__name__)

#: At once: few enough that workers which wait beside this one get their share.
MOST_TAKEN = 10
#: How long a broker that refuses is not asked again.
_REFUSED_SECONDS = 60.0

# By priority, and of one priority a message from each queue in turn, as BRPOP takes them.
# Written down before it is removed: a broker whose memory is full refuses the first of the two.
_TAKE = """
local most, now, queues = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local taken = {}
for first = 3, #KEYS, queues do
    local is_found = true
    while is_found do
        is_found = false
        for key = first, first + queues - 1 do
            if #taken >= 2 * most then return taken end
            local message = redis.call('LINDEX', KEYS[key], -1)
            if message then
                local is_read, found = pcall(cjson.decode, message)
                local properties = is_read and found['properties']
                local delivery = properties and properties['delivery_info']
                if not (delivery and properties['delivery_tag']) then return taken end
                local tag = properties['delivery_tag']
                local kept = '[' .. message .. ',' .. cjson.encode(delivery['exchange']) .. ','
                    .. cjson.encode(delivery['routing_key']) .. ']'
                redis.call('HSET', KEYS[1], tag, kept)
                redis.call('ZADD', KEYS[2], now, tag)
                redis.call('RPOP', KEYS[key])
                taken[#taken + 1] = key - first
                taken[#taken + 1] = message
                is_found = true
            end
        end
    end
end
return taken
"""


class Stock:
    """What waits in the broker for a channel.

    Args:
        channel: kombu's, to Redis.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        #: Whether more may wait; while it is so no message is waited for one by one.
        self.is_expected = False
        self._asks_from = 0.0
        # kombu puts a prefix before the first key of a script alone.
        self._is_possible = not channel.global_keyprefix

    def expect(self) -> None:
        """Where one message came from there may be more."""
        self.is_expected = self._is_possible and time.monotonic() >= self._asks_from

    def deliver(self) -> bool:
        """Take and deliver what there is, if anything is expected, as far as there is room.

        Returns:
            Whether anything was delivered.
        """
        channel = self._channel
        # A pending BRPOP: there was nothing, or the answer is on its way.
        if not self.is_expected or channel._in_poll:  # noqa: SLF001
            return False
        room = MOST_TAKEN
        if channel.qos.prefetch_count:
            room = min(room, channel.qos.can_consume_max_estimate())
        queues = channel._queue_cycle.consume(len(channel.active_queues))  # noqa: SLF001
        if not room or not queues:
            return False
        taken = self._taken(queues, room)
        self.is_expected = len(taken) == room
        for _, message in taken:
            channel.qos.keep(message["properties"]["delivery_tag"])
        for queue, message in taken:
            channel._queue_cycle.rotate(queue)  # noqa: SLF001
            channel.connection._deliver(message, queue)  # noqa: SLF001
        return bool(taken)

    def _taken(self, queues: list[str], most: int) -> list[tuple[str, Any]]:
        channel = self._channel
        keys = [channel.unacked_key, channel.unacked_index_key]
        keys += [channel._q_for_pri(one, step) for step in channel.priority_steps for one in queues]  # noqa: SLF001
        try:
            with channel.conn_or_acquire() as client:
                found = client.register_script(_TAKE)(keys, [most, time.time(), len(queues)])
        except channel.ResponseError as error:
            # One by one it still goes, or fails where that is reported.
            self._asks_from = time.monotonic() + _REFUSED_SECONDS
            logger.warning(
                "the broker gives messages one by one only: %s",
                error,
                extra={"action": "broker.no_stock"},
            )
            return []
        pairs = zip(found[::2], found[1::2], strict=True)
        return [(queues[number], loads(bytes_to_str(message))) for number, message in pairs]
