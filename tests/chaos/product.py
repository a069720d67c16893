"""rag-worker under test."""

import os
import subprocess
from typing import Any, ClassVar

from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from shared.contract import DATASET_QUEUE, QUEUES
from shared.submitting.dataset import ensure_dataset, ensure_tenant
from tests.chaos.checks import PRODUCT_CHECKS
from tests.chaos.plan import TENANTS, Order
from tests.chaos.subject import Message, Subject
from tests.fixtures.commands import RAG_WORKER
from worker.cli.stack.postgres import DATABASE

_WORKER = [
    *(
        "celery",
        "-A",
        "worker.celery_app",
        "worker",
        "-l",
        "INFO",
        "-c",
        "2",
        "-Q",
        ",".join(QUEUES),
    )
]
_PREPARE_SECONDS = 120
#: Out of reach: a document may meet many faults, and none of them is its own.
_MANY = "1000"


class Product(Subject):
    """Two workers of two processes, and a beat."""

    name = "rag-worker"
    commands: ClassVar = {
        "worker-1": [*_WORKER, "-n", "one@chaos"],
        "worker-2": [*_WORKER, "-n", "two@chaos"],
        "beat": ["celery", "-A", "worker.celery_app", "beat"],
    }
    producer = "tests.chaos.product_producer"
    checks = PRODUCT_CHECKS
    database = DATABASE
    status_column = "indexing_status"
    queue = DATASET_QUEUE
    redis_number = 0
    broker_number = 1

    @property
    def variables(self) -> dict[str, str]:
        """Short times, small batches, and limits nothing but a defect can reach."""
        lease = self.lease_seconds
        url = self.servers.database_url(self.database, proxied=True)
        return {
            "SQLALCHEMY_DATABASE_URI": url.render_as_string(hide_password=False),
            "REDIS_URL": self.servers.redis_url(self.redis_number, proxied=True),
            "CELERY_BROKER_URL": self.servers.redis_url(self.broker_number, proxied=True),
            "STORAGE_URL": f"file://{self.folder}/storage",
            "RAG_WORKER_DATA_DIR": str(self.folder / "data"),
            "INDEXING_BATCH_SEGMENTS": "16",
            "INDEXING_GUARD_SECONDS": str(int(lease * 3)),
            "INDEXING_MAX_ATTEMPTS": _MANY,
            "DELIVERY_LEASE_SECONDS": str(lease),
            "DELIVERY_MAX_ATTEMPTS": _MANY,
            "DELIVERY_MAX_DEATHS": _MANY,
            "OUTBOX_REDELIVERY_SECONDS": str(lease),
            "SWEEP_SECONDS": str(lease),
        }

    def prepare(self) -> None:
        """Migrate by the public command, and make a dataset for each tenant."""
        subprocess.run(
            [RAG_WORKER, "db", "upgrade"],
            env={**os.environ, **self.variables},
            cwd=self.folder,
            check=True,
            timeout=_PREPARE_SECONDS,
        )
        with Session(self.engine) as session, session.begin():
            tenants = [ensure_tenant(session, f"tenant-{number}") for number in range(TENANTS)]
            datasets = [ensure_dataset(session, tenant, "chaos") for tenant in tenants]
        self._places = list(zip(map(str, tenants), map(str, datasets), strict=True))

    def addressed(self, order: Order) -> dict[str, Any]:
        tenant_id, dataset_id = self._places[order.tenant]
        return {"tenant_id": tenant_id, "dataset_id": dataset_id}

    def delete(self, connection: Connection, key: str) -> str | None:
        query = text("DELETE FROM documents WHERE source_key = :key RETURNING id::text")
        found: str | None = connection.scalar(query, {"key": key})
        return found

    def messages(self, connection: Connection) -> list[Message]:
        rows = connection.execute(
            text("""
                SELECT id::text, task, queue, args, tenant_id::text FROM outbox
                WHERE queue = 'dataset' AND published_at IS NOT NULL ORDER BY sequence
            """)
        )
        return [
            Message(row.task, row.queue, row.args, row.id, _headers(row.tenant_id)) for row in rows
        ]


def _headers(tenant_id: str) -> dict[str, Any]:
    return {"outbox": True, "tenant_id": tenant_id}
