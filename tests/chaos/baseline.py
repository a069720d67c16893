"""The common recipe under test: the same faults, at the same moments."""

from typing import Any, ClassVar
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.engine import Connection

from benchmarks.baseline.models import Base
from tests.chaos.checks import BASELINE_CHECKS
from tests.chaos.plan import Order
from tests.chaos.subject import Message, Subject

_WORKER = [
    "celery",
    "-A",
    "benchmarks.baseline.application",
    "worker",
    "-l",
    "INFO",
    "-c",
    "2",
    "-Q",
    "baseline",
]


class Baseline(Subject):
    """Two workers of two processes."""

    name = "early acks, no lease, no outbox"
    commands: ClassVar = {
        "worker-1": [*_WORKER, "-n", "baseline-one@chaos"],
        "worker-2": [*_WORKER, "-n", "baseline-two@chaos"],
    }
    producer = "tests.chaos.baseline_producer"
    checks = BASELINE_CHECKS
    database = "baseline"
    status_column = "status"
    queue = "baseline"
    redis_number = 2
    broker_number = 2

    @property
    def variables(self) -> dict[str, str]:
        url = self.servers.database_url(self.database, proxied=True)
        return {
            "BASELINE_DATABASE_URI": url.render_as_string(hide_password=False),
            "BASELINE_REDIS_URL": self.servers.redis_url(self.broker_number, proxied=True),
        }

    def prepare(self) -> None:
        """Create its database and its tables."""
        server = self.servers.engine("postgres").execution_options(isolation_level="AUTOCOMMIT")
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {self.database}"))
        Base.metadata.create_all(self.engine)

    def addressed(self, order: Order) -> dict[str, Any]:
        return {"tenant": order.tenant}

    def delete(self, connection: Connection, key: str) -> str | None:
        query = text("DELETE FROM documents WHERE source_key = :key RETURNING id::text")
        found: str | None = connection.scalar(query, {"key": key})
        return found

    def messages(self, connection: Connection) -> list[Message]:
        query = text(
            "SELECT id FROM documents WHERE status NOT IN ('completed', 'error') ORDER BY id"
        )
        return [
            Message("baseline.index_document", "baseline", [found], str(uuid4()))
            for found in connection.scalars(query)
        ]
