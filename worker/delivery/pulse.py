"""A worker's sign of life: a file on its host, new every second, for a probe beside it.

A liveness probe must ask no server: a worker that is restarted because the database is away
is no nearer to it. So the worker's main process says here that it runs, from a thread that
waits for nobody, and which queues it consumes.
"""

import json
import os
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import quote

from worker.delivery.signs import Sign, signs_by_file
from worker.delivery.watchdog import tell

PULSE_SECONDS = 1.0
_UNFINISHED = ".unfinished"
_MOST_DEAD_SECONDS = 3600.0


class Pulse:
    """Writes one worker's sign; called by a watchdog, which may neither wait nor log.

    Args:
        folder: where; made when it is missing.
        sign: what does not change.
        consuming: the queues it consumes at this moment.
        is_stuck: whether a part of the worker hangs that should turn: then it is silent.
    """

    def __init__(
        self,
        folder: Path,
        sign: Sign,
        consuming: Callable[[], Sequence[str]],
        is_stuck: Callable[[], bool],
    ) -> None:
        self._file = folder / f"{quote(sign.name, safe='@')}.json"
        self._sign = sign
        self._consuming = consuming
        self._is_stuck = is_stuck
        self._is_over = False
        self._has_failed = False

    def beat(self) -> None:
        """Say that it lives; a folder that cannot be written is told once, until it can be."""
        if self._is_over or self._is_stuck():
            return
        try:
            self._write()
            self._has_failed = False
        except OSError as error:
            if not self._has_failed:
                folder = self._file.parent
                tell("pulse.failed", f"no sign of life in {folder}: {error}; see PRESENCE_DIR")
            self._has_failed = True

    def _write(self) -> None:
        _require_own(self._file.parent)
        sign = replace(self._sign, consuming=tuple(self._consuming()), at=time.monotonic())
        unfinished = self._file.with_suffix(f".{os.getpid()}{_UNFINISHED}")
        unfinished.write_text(json.dumps(asdict(sign)))
        unfinished.replace(self._file)

    def end(self) -> None:
        """Take the sign away: the worker ends as it should."""
        self._is_over = True
        with suppress(OSError):
            self._file.unlink(missing_ok=True)


def clear_signs_of_the_dead(folder: Path) -> int:
    """Remove signs whose worker is gone, and was for an hour: until then a probe names it.

    Its process is not there, and its file, new every second, is old: where one of the two
    misleads, as processes of other containers and clocks that jump do, the other does not.
    A live worker would write its sign again in a second.

    Returns:
        How many there were.
    """
    cleared = 0
    with suppress(OSError):
        _require_own(folder)
        old = time.time() - _MOST_DEAD_SECONDS
        dead = [file for file, sign in signs_by_file(folder) if not sign.runs()]
        for file in (*dead, *folder.glob(f"*{_UNFINISHED}")):
            with suppress(FileNotFoundError):
                if file.stat().st_mtime < old:
                    file.unlink()
                    cleared += 1
    return cleared


def _require_own(folder: Path) -> None:
    """Make the folder; one that somebody else made could lead the writing anywhere.

    Raises:
        PermissionError: it is not ours alone to write.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    seen = folder.lstat()
    is_ours = stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.getuid()
    if not is_ours or seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{folder} must be a folder that only its owner can write")
