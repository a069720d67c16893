"""A contender's process: it loads everything, says so, and then does what each line asks for.

A line on stdin is JSON: ``{"files": [...], "table": "...", "peak": false}``. The answer is one
JSON line: seconds, segments written in this turn and, in bytes, the most memory the process
ever had. So neither a start nor a model's loading is ever in a measured time.
"""

import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: About what rag-worker makes of a page by its default rule.
CHUNK_CHARACTERS = 1100


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn is about.

    Attributes:
        files: to be indexed.
        table: where their vectors go; another table is another, empty index.
    """

    files: list[Path]
    table: str


def take_turns(index: Callable[[Turn], int]) -> None:
    """Answer each line until stdin ends; ``index`` returns how many segments it wrote."""
    logging.disable(logging.WARNING)
    # What a framework prints on the way is no answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        turn = Turn([Path(one) for one in asked["files"]], asked["table"])
        began, busy = time.perf_counter(), time.process_time()
        segments = index(turn)
        found = {
            "seconds": time.perf_counter() - began,
            "busy": time.process_time() - busy,
            "segments": segments,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        print(json.dumps(found), file=answers, flush=True)
