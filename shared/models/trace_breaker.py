"""The circuit breaker of each trace configuration: one for all workers.

::

    closed     no row, or one without ``open_until``: spans are sent
    open       until ``open_until``: rows wait, and their attempts do not count
    half-open  afterwards: one delivery at a time tries, until ``probe_until`` at the latest

Source of the pattern: M. Nygard, "Release It!", 2007, chapter 5.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base
from shared.models.types import MOMENT, TEXT


class TraceBreaker(Base):
    """What a provider did to a configuration's latest requests; gone with its first success."""

    __tablename__ = "trace_breakers"

    config_id: Mapped[UUID] = mapped_column(
        ForeignKey("trace_configs.id", ondelete="CASCADE"), primary_key=True
    )
    #: Failed requests since the last success.
    failures: Mapped[int] = mapped_column(default=0, server_default="0")
    #: How often it was opened since the last success: each time for longer.
    openings: Mapped[int] = mapped_column(default=0, server_default="0")
    reason: Mapped[str] = mapped_column(TEXT)
    failing_since: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    open_until: Mapped[datetime | None] = mapped_column(MOMENT)
    probe_until: Mapped[datetime | None] = mapped_column(MOMENT)
