"""Workers' signs of life, as whoever looks at them finds them: see ``worker.delivery.pulse``."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from worker.delivery.processes import running


@dataclass(frozen=True, slots=True)
class Sign:
    """What a worker said of itself.

    Attributes:
        name: Celery's node name.
        pid: of its main process.
        process_created: when that was made, in seconds of the host's clock.
        queues: those it was started for.
        consuming: those it takes messages from at this moment.
        at: when it said so, in seconds of the host's monotonic clock.
    """

    name: str
    pid: int
    process_created: float
    queues: tuple[str, ...]
    consuming: tuple[str, ...] = ()
    at: float = 0.0

    @property
    def age_seconds(self) -> float:
        """Since it said so."""
        return max(0.0, time.monotonic() - self.at)

    def process(self) -> psutil.Process | None:
        """Its main process, while that runs."""
        return running(self.pid, self.process_created)

    def runs(self) -> bool:
        """Whether its process is still there."""
        return self.process() is not None


def read_signs(folder: Path) -> list[Sign]:
    """The signs of all workers of this host, by name; what cannot be read is left out."""
    return [sign for _, sign in signs_by_file(folder)]


def signs_by_file(folder: Path) -> list[tuple[Path, Sign]]:
    """As ``read_signs``, each with the file it stands in."""
    found = []
    for file in sorted(folder.glob("*.json")):
        try:
            values: dict[str, Any] = json.loads(file.read_text())
            lists = {name: tuple(values[name]) for name in ("queues", "consuming")}
            found.append((file, Sign(**{**values, **lists})))
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return found
