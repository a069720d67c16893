"""Where ``rag-worker`` starts: a probe by the short way, all else by the whole command."""

import sys
from typing import Any

PROBES = {"--live", "--ready"}


def start() -> Any:
    """Run the command line."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["health"] and PROBES.intersection(arguments):
        from worker.cli.health import health

        return health.main(arguments[1:], prog_name="rag-worker health")
    from worker.cli.groups import main

    return main()
