"""How often a process of the stack may die before that is a reason to end the stack."""

import time
from collections import defaultdict, deque

#: So many deaths within so many seconds are no accident.
MOST_DEATHS = 5
WINDOW_SECONDS = 120.0
_FIRST_PAUSE_SECONDS = 0.5


class Revivals:
    """Counts deaths by name."""

    def __init__(self) -> None:
        self._deaths: defaultdict[str, deque[float]] = defaultdict(deque)

    def pause_seconds(self, name: str) -> float | None:
        """Count a death; say how long to wait before the next start, ``None`` to give up."""
        deaths, now = self._deaths[name], time.monotonic()
        deaths.append(now)
        while deaths[0] < now - WINDOW_SECONDS:
            deaths.popleft()
        if len(deaths) >= MOST_DEATHS:
            return None
        return _FIRST_PAUSE_SECONDS * 2.0 ** (len(deaths) - 1)
