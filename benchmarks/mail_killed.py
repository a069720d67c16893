"""kill -9 in the middle of 2,000 mails: each arrives, and what came twice is counted.

``python -m benchmarks.mail_killed [--mails 2000] [--kills 3] [--seed 7]``: workers of a hundred
greenlets are killed at moments that the seed chooses, one after another. Of each mail
that came twice the server's book says whether it had confirmed the first copy: then the
worker died between hearing so and writing it down, and no sender can tell that from silence.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.mail import (
    DEFAULT_CONNECTIONS,
    PATIENCE_SECONDS,
    accept,
    counts,
    sink,
    start_worker,
    system,
)
from worker.cli.stack.children import kill_group

#: So that what a dead worker held is free soon.
_QUICK = {"DELIVERY_LEASE_SECONDS": "5", "SWEEP_SECONDS": "2", "OUTBOX_REDELIVERY_SECONDS": "3"}


def ended() -> int:
    """Mails that came to an end; one whose worker died at both hand-overs is given up."""
    found = counts()
    return found["sent"] + found["resent"] + found["failed"]


def await_ended(mails: int, folder: Path) -> None:
    """Wait until so many came to an end."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while ended() < mails:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{counts()}\n{(folder / 'worker.log').read_text()[-3000:]}")
        time.sleep(0.05)


def run(folder: Path, port: int, mails: int, moments: list[int]) -> Counter[str]:
    """Send them all, a worker dying each time that so many have arrived; how the rows ended."""
    os.environ |= _QUICK
    with system(folder, port):
        accept(mails)
        for moment in moments:
            worker = start_worker(folder, DEFAULT_CONNECTIONS)
            try:
                await_ended(moment, folder)
            finally:
                kill_group(worker)
        worker = start_worker(folder, DEFAULT_CONNECTIONS)
        try:
            await_ended(mails, folder)
            return counts()
        finally:
            kill_group(worker)


def main() -> int:
    """Send, kill, count; 0 when nothing is lost and nothing came more than twice."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mails", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    chosen = random.Random(options.seed)
    moments = sorted(chosen.sample(range(options.mails // 10, options.mails), options.kills))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with sink(folder) as port:
            rows = run(folder, port, options.mails, moments)
        book = [line for line in (folder / "copies").read_text().split("\n") if "@" in line]
    took = Counter(line.removeprefix("took ") for line in book if line.startswith("took "))
    confirmed = Counter(line.removeprefix("confirmed ") for line in book if line[0] == "c")
    twice = [one for one, copies in took.items() if copies > 1]
    in_between = sum(confirmed[one] > 1 for one in twice)
    lost = options.mails - len(took)
    print(f"  {options.mails} mails, workers killed after {moments} of them (seed {options.seed})")
    print(
        f"  rows: {dict(rows)}; lost: {lost}; most copies of one: {max(took.values(), default=0)}"
    )
    print(
        f"  came twice: {len(twice)}; {len(twice) - in_between} the server had not confirmed, "
        f"{in_between} it had, and the worker died before that was written down"
    )
    is_bounded = (
        len(twice) <= rows["resent"] + rows["failed"] <= options.kills * DEFAULT_CONNECTIONS
    )
    return 0 if not lost and max(took.values()) <= 2 and is_bounded else 1


if __name__ == "__main__":
    sys.exit(main())
