"""kombu's Redis transport without two costs it puts on every message of a worker.

A worker in gevent, threads or solo waits for its broker in kombu's poller, two
seconds at a time. While it holds as many messages as it may, it does not ask for
more, and nothing that finishes wakes the wait: with 50 greenlets and short tasks
it idled most of its life (measured: 0.26 of the rate, once tasks took as long as
storing a result does).

And it makes a new client object for every acknowledgement, a quarter of the CPU
time that a no-op task costs a gevent worker.
"""

from collections.abc import Callable
from typing import Any

from kombu.transport import redis

#: How long a worker that was full may take to notice that it is not any more.
FULL_POLL_SECONDS = 0.01


class Poller(redis.MultiChannelPoller):
    """Waits in short steps while a channel may not consume."""

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
        super().get(callback, timeout)


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

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Give back what is not acknowledged.

        After the connection was given up kombu fails here, which ends the worker. The
        messages stay in the broker's keeping, and the outbox publishes its own again.
        """
        if self.channel.connection.client is not None:
            super().restore_unacked_once(stderr)


class Channel(OneClient, redis.Channel):
    """A channel to Redis, plain or over TLS."""

    QoS = QoS


class SentinelChannel(OneClient, redis.SentinelChannel):
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
