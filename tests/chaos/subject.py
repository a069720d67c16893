"""A system under test, as thin as can be: how it starts, and where its truth stands."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from celery import Celery
from sqlalchemy import Engine, text
from sqlalchemy.engine import Connection

from tests.chaos.checks import Check
from tests.chaos.plan import Order
from tests.chaos.servers import Servers


@dataclass(frozen=True, slots=True)
class Message:
    """A task message, to be sent again as it was."""

    task: str
    queue: str
    args: list[Any]
    task_id: str
    headers: dict[str, Any] = field(default_factory=dict)


class Subject(ABC):
    """A system under test.

    Args:
        servers: what it runs on.
        folder: its own.
        lease_seconds: how long a silent worker may keep its work, if it knows leases.
    """

    #: What the table calls it.
    name: ClassVar[str]
    #: Its processes by name: the arguments of ``python -m``. Workers' names begin with "worker".
    commands: ClassVar[Mapping[str, list[str]]]
    #: The module whose processes submit documents.
    producer: ClassVar[str]
    checks: ClassVar[tuple[Check, ...]]
    database: ClassVar[str]
    status_column: ClassVar[str]
    #: Where its documents' messages go.
    queue: ClassVar[str]
    broker_number: ClassVar[int]
    redis_number: ClassVar[int]

    def __init__(self, servers: Servers, folder: Path, lease_seconds: float) -> None:
        self.servers = servers
        self.folder = folder
        self.lease_seconds = lease_seconds
        self.engine: Engine = servers.engine(self.database)
        self._celery = Celery(set_as_current=False)
        self._celery.conf.update(
            broker_url=servers.redis_url(self.broker_number, proxied=False),
            broker_transport_options={"socket_timeout": 5, "socket_connect_timeout": 5},
            task_create_missing_queues=True,
        )

    @property
    @abstractmethod
    def variables(self) -> dict[str, str]:
        """The environment of its processes, through the proxies."""

    @abstractmethod
    def prepare(self) -> None:
        """Make its database ready."""

    @abstractmethod
    def addressed(self, order: Order) -> dict[str, Any]:
        """What its producer must know of an order beside the documents."""

    @abstractmethod
    def delete(self, connection: Connection, key: str) -> str | None:
        """Delete a document; its row's id, or ``None`` when there is none yet."""

    @abstractmethod
    def messages(self, connection: Connection) -> list[Message]:
        """Those published and not done, as far as the database knows."""

    def send(self, message: Message) -> None:
        """Send a message once more.

        Raises:
            kombu.exceptions.OperationalError: the broker does not answer.
        """
        self._celery.send_task(
            message.task,
            args=message.args,
            task_id=message.task_id,
            queue=message.queue,
            headers=message.headers or None,
            retry=False,
        )

    def statuses(self) -> dict[str, int]:
        """How many documents are in each status."""
        column = self.status_column
        query = text(f"SELECT {column} AS status, count(*) AS documents FROM documents GROUP BY 1")
        with self.engine.connect() as connection:
            return {row.status: row.documents for row in connection.execute(query)}

    def guards(self) -> list[str]:
        """The guards that are held."""
        with self.servers.redis(self.redis_number) as redis:
            return [key.decode() for key in redis.scan_iter("document_*_indexing", 1000)]

    def is_idle(self) -> bool:
        """Whether no message waits in its queue, and no worker has one in hand."""
        with self.servers.redis(self.broker_number) as redis:
            if redis.llen(self.queue):
                return False
        inspected = self._celery.control.inspect(timeout=1)
        return not any(
            any(tasks.values()) for tasks in (inspected.active() or {}, inspected.reserved() or {})
        )

    def close(self) -> None:
        """Close its connections."""
        self._celery.close()
        self.engine.dispose()
