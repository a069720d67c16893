"""What could not be handed back while the database was away is, as soon as it answers.

Without it each lease would have to run out first. It is kept in memory and is a
courtesy, no promise: of a process that dies meanwhile the leases run out, as ever.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field

from shared.errors import Superseded
from shared.queueing.outage import SERVER_LOST

logger = logging.getLogger(__name__)

#: By then somebody else has it, if anybody will.
_MOST_SECONDS = 3600.0
_WRITTEN = {"action": "lease.handed_back_late"}
_SUPERSEDED = {"action": "lease.superseded"}
_FAILED = {"action": "lease.not_handed_back"}


@dataclass(frozen=True, slots=True)
class _Debt:
    write: Callable[[], None]
    #: Of whoever owes it: its application, and whose the log's lines are.
    context: Context = field(default_factory=copy_context)
    since: float = field(default_factory=time.monotonic)


class Owed:
    """Writes of one process that wait for the database, in their order.

    Each is fenced by its lease's token: one that comes after another worker's claim
    writes nothing. Done twice it is as done once.
    """

    def __init__(self) -> None:
        self._debts: deque[_Debt] = deque()

    def __bool__(self) -> bool:
        return bool(self._debts)

    def add(self, write: Callable[[], None]) -> None:
        """Keep a write for later; from any thread."""
        self._debts.append(_Debt(write))

    def settle(self) -> None:
        """Write what can be written; from one thread only.

        The first that finds the database away ends it: the others would wait as long.
        """
        while self._debts:
            debt = self._debts[0]
            try:
                debt.context.run(debt.write)
            except SERVER_LOST:
                if time.monotonic() - debt.since < _MOST_SECONDS:
                    return
            except Superseded as superseded:
                debt.context.run(logger.info, "%s", superseded, extra=_SUPERSEDED)
            except Exception:  # noqa: BLE001 - logged; those behind it may be written
                debt.context.run(logger.exception, "not handed back", extra=_FAILED)
            else:
                debt.context.run(logger.info, "handed back late", extra=_WRITTEN)
            self._debts.popleft()
