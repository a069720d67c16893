"""What the schedule runs: one row an entry, leased while it runs, with how its last run ended."""

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, Created, Identified
from shared.models.leased import Leased


class ScheduledRun(Leased, Identified, Created, Base):
    """One entry of the schedule; ``id`` is a UUIDv5 of its name. Times are the database's clock."""

    __tablename__ = "scheduled_runs"

    name: Mapped[str] = mapped_column(String(255), unique=True)
    started_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    #: What stopped its last run; ``None`` when that went well.
    error: Mapped[str | None] = mapped_column(Text)
    #: What its last run did, in a few words.
    report: Mapped[str | None] = mapped_column(Text)
    #: Where a run that takes long had come to: the next one goes on from there.
    position: Mapped[str | None] = mapped_column(Text)
    #: What all its runs did: messages sent again, rows deleted.
    total: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
