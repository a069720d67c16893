"""What the schedule runs: one row an entry, leased while it runs, with how its last run ended."""

from datetime import datetime

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, Created, Identified
from shared.models.leased import Leased
from shared.models.types import MOMENT, TEXT


class ScheduledRun(Leased, Identified, Created, Base):
    """One entry of the schedule; ``id`` is a UUIDv5 of its name. Times are the database's clock."""

    __tablename__ = "scheduled_runs"

    name: Mapped[str] = mapped_column(String(255), unique=True)
    started_at: Mapped[datetime | None] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)
    #: What stopped its last run; ``None`` when that went well.
    error: Mapped[str | None] = mapped_column(TEXT)
    #: What its last run did, in a few words.
    report: Mapped[str | None] = mapped_column(TEXT)
    #: Where a run that takes long had come to: the next one goes on from there.
    position: Mapped[str | None] = mapped_column(TEXT)
    #: What all its runs did: messages sent again, rows deleted.
    total: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
