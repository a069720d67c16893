"""kombu's Redis transport without the costs it puts on every message of a worker.

A worker in gevent, threads or solo waits for its broker in kombu's poller, two
seconds at a time. While it holds as many messages as it may, it does not ask for
more, and nothing that finishes wakes the wait: with 50 greenlets and short tasks
it idled most of its life (measured: 0.26 of the rate, once tasks took as long as
storing a result does).

It makes a new client object for every acknowledgement, a quarter of the CPU
time that a no-op task costs a gevent worker. And it runs a transaction for each
message that it takes, and for each that is done; where many wait they are taken
together (``broker_stock``).
"""

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from queue import Empty
from typing import Any

from kombu.transport import redis, virtual
from kombu.utils.json import dumps

from worker.delivery.broker_stock import Stock
from worker.delivery.coalescing import Coalesced

#: How long a worker that was full may take to notice that it is not any more.
FULL_POLL_SECONDS = 0.01


class Poller(redis.MultiChannelPoller):
    """Takes what waits by the group, and waits in short steps while a channel may not consume."""

    _channels: set[Any]

    def get(self, callback: Callable[..., Any], timeout: float | None = None) -> None:
        """Wait for one event.

        Raises:
            queue.Empty: there was none within the timeout.
        """
        if any(
            channel.active_queues and not channel.qos.can_consume() for channel in self._channels
        ):
            timeout = FULL_POLL_SECONDS if timeout is None else min(timeout, FULL_POLL_SECONDS)
        if not self._taken():
            super().get(callback, timeout)
            return
        try:
            # Orders to the worker come by the other connection, also to one that is busy.
            super().get(callback, 0)
        except Empty:
            return

    def _register_BRPOP(self, channel: Any) -> None:  # noqa: N802 - kombu's
        if not channel.stock.is_expected:
            super()._register_BRPOP(channel)  # type: ignore[misc]

    def _taken(self) -> bool:
        # As kombu does: who cancels a queue meanwhile is heard when all is delivered.
        self._in_protected_read = True
        try:
            found = [one.stock.deliver() for one in self._channels if one.active_queues]
        finally:
            self._in_protected_read = False
        return any(found)


class OneClient:
    """A channel that keeps its client as long as its connection pool."""

    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's
        made: Any = super()._create_client  # type: ignore[misc]
        if asynchronous:  # those hold a connection of their own
            return made(asynchronous=True)
        pool = self.pool  # type: ignore[attr-defined]
        if self._kept is None or self._kept.connection_pool is not pool:
            self._kept = made()
        return self._kept


class QoS(redis.QoS):
    """What a channel has delivered; given back at its end, if the broker can still be reached."""

    channel: Any
    # kombu's, which says nothing of their types.
    _dirty: set[str]
    _flush: Callable[[], None]
    _quick_append: Callable[[str, Any], None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._acknowledged: Coalesced[str, bool] = Coalesced(self._forget)
        self._kept: set[str] = set()

    def keep(self, delivery_tag: str) -> None:
        """Know a message that the broker itself has put into its keeping, before it is delivered.

        So the end of the channel gives back also what was never delivered.
        """
        if self._dirty:
            self._flush()
        self._kept.add(delivery_tag)
        self._quick_append(delivery_tag, None)

    def append(self, message: Any, delivery_tag: str) -> None:
        """Keep a message until it is acknowledged.

        In one packet, and no transaction, which takes twice the replies: what is cut off
        between the two commands is lost as the message is that was just taken.
        """
        if delivery_tag in self._kept:
            self._kept.discard(delivery_tag)
            virtual.QoS.append(self, message, delivery_tag)
            return
        delivery = message.delivery_info
        kept = dumps([message._raw, delivery["exchange"], delivery["routing_key"]])  # noqa: SLF001
        with self.channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            pipe.hset(self.unacked_key, delivery_tag, kept)
            pipe.zadd(self.unacked_index_key, {delivery_tag: time.time()})
            pipe.execute()
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message; those of the same moment by one round trip."""
        if self._acknowledged(delivery_tag):
            virtual.QoS.ack(self, delivery_tag)
        else:
            super().ack(delivery_tag)

    def _forget(self, tags: Sequence[str]) -> list[bool]:
        with self.channel.conn_or_acquire() as client, client.pipeline() as pipe:
            pipe.zrem(self.unacked_index_key, *tags)
            pipe.hdel(self.unacked_key, *tags)
            pipe.execute()
        return [True] * len(tags)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Give back what is not acknowledged.

        After the connection was given up kombu fails here, which ends the worker. The
        messages stay in the broker's keeping, and the outbox publishes its own again.
        """
        if self.channel.connection.client is not None:
            super().restore_unacked_once(stderr)


class Stocked:
    """A channel that takes messages by the group where they wait already."""

    @cached_property
    def stock(self) -> Stock:
        """What waits for it."""
        return Stock(self)

    def _brpop_read(self, **options: Any) -> Any:
        found = super()._brpop_read(**options)  # type: ignore[misc]
        # Celery's event loop asks for messages one by one, and knows no stock.
        if self.connection.cycle._in_protected_read:  # type: ignore[attr-defined] # noqa: SLF001
            self.stock.expect()
        return found


class Channel(OneClient, Stocked, redis.Channel):
    """A channel to Redis, plain or over TLS."""

    QoS = QoS


class SentinelChannel(OneClient, Stocked, redis.SentinelChannel):
    """A channel to Redis through Sentinel."""

    QoS = QoS


class WatchfulPoller:
    """A transport that polls with ``Poller``."""

    cycle: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Poller()


class Transport(WatchfulPoller, redis.Transport):
    """Redis, plain or over TLS."""

    Channel = Channel


class SentinelTransport(WatchfulPoller, redis.SentinelTransport):
    """Redis through Sentinel."""

    Channel = SentinelChannel
