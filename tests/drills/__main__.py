"""``python -m tests.drills``: each fault on a site of its own, and what its operator sees.

Prints Markdown; takes a minute or two a drill. Names of drills play those only.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.drills.drills import DRILLS
from tests.drills.playing import DOCUMENTS, LATER, Sight, play
from tests.drills.site import CannotBeDrilled

_WIDTH = 160


def main() -> int:
    """Play the drills; 1 when one did not recover."""
    names = {drill.__name__: drill for drill in DRILLS}
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("drills", nargs="*", help=f"of {', '.join(names)}")
    wanted = parser.parse_args().drills or list(names)
    failed = 0
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            try:
                show(play(names[name](), Path(folder)))
            except CannotBeDrilled as reason:
                print(f"## {names[name].title}\n\nNot played: {reason}\n")
            except AssertionError as error:
                print(f"## {names[name].title}\n\nDid not recover: {error}\n")
                failed = 1
        sys.stdout.flush()
    return failed


def show(sight: Sight) -> None:
    """Print what was seen."""
    print(f"## {sight.title}\n\n```console")
    for command, ran in sight.commands:
        print(f"$ rag-worker {command}")
        for line in (ran.out + ran.err).strip().splitlines():
            print(line[:_WIDTH])
        print(f"[exit code {ran.code}]")
    print("```\n\nIn the workers' logs:\n\n```text")
    for line, times in sight.lines:
        print(f"{line[:_WIDTH]}   ({times}x)" if times > 1 else line[:_WIDTH])
    print("```\n")
    if sight.series:
        print("In the metrics:\n\n```text")
        for series, value in sight.series.items():
            print(f"{series} {value:g}")
        print("```\n")
    met = "taken" if sight.accepted > DOCUMENTS else "refused"
    ended = ", ".join(f"{number} {status}" for status, number in sorted(sight.statuses.items()))
    print(
        f"Of {sight.accepted} accepted documents "
        f"({LATER} were offered while it was broken, and {met}): "
        f"{ended}, {sight.doubled} passages twice; at rest {sight.rest_seconds:.0f} s after the "
        f"repair, nothing restarted by hand. Workers still there: {', '.join(sight.survivors)}.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
