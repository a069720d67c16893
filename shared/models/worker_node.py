"""Worker nodes: who is there, what it serves, and when it last took a message."""

from datetime import datetime

from sqlalchemy import Float, String, func
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base
from shared.models.types import MOMENT, TEXTS


class WorkerNode(Base):
    """One worker, as its main process last described itself; times are the database's clock."""

    __tablename__ = "worker_nodes"

    #: Celery's node name: ``celery@host``.
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    #: When the process was made, in seconds of its host's clock: a pid is given out again.
    process_created: Mapped[float] = mapped_column(Float(53))
    pool: Mapped[str] = mapped_column(String(64))
    concurrency: Mapped[int]
    #: Those it was started for, also while it consumes from none of them.
    queues: Mapped[list[str]] = mapped_column(TEXTS)
    started_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    #: When it last took a message from the broker.
    last_consumed_at: Mapped[datetime | None] = mapped_column(MOMENT)
    #: Messages in hand; with as many as ``concurrency`` it takes no more.
    busy: Mapped[int] = mapped_column(default=0, server_default="0")
    #: Its host's clock less the database's, at its last report.
    clock_offset_seconds: Mapped[float] = mapped_column(Float(53), default=0.0, server_default="0")
    #: Since when every look found messages in its queues and a free slot.
    unserved_since: Mapped[datetime | None] = mapped_column(MOMENT)
