"""The lease columns: who may work on a row, until when, and with which fencing token."""

from datetime import datetime

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.types import MOMENT


class Leased:
    """A row that one worker at a time works on.

    ``lease_token`` only grows: each claim takes the next number, and every write
    of that claim is conditional on it, so a worker that lost its lease writes
    nothing (a fencing token). Times are the database's clock.

    ``attempts`` counts pick-ups. ``deaths`` counts those whose lease ran out
    instead of being given back: the worker died, froze or lost the database.
    """

    lease_token: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    lease_expires_at: Mapped[datetime | None] = mapped_column(MOMENT)
    #: The process that holds it, as ``node/pid``; for people, and for the node's main
    #: process, which ends the leases of a child it saw die.
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    deaths: Mapped[int] = mapped_column(default=0, server_default="0")
