"""Workers that died on this host are noticed by others there; what they held is free at once.

Without it their leases would have to run out first. A worker that is taken for dead and
is not loses nothing but its work at hand: what it still writes its tokens refuse.
"""

import logging
import os

import psutil
from sqlalchemy import Engine, text

from worker.delivery.lease import owner_of
from worker.delivery.nodes import COLUMNS, Node, node_of
from worker.delivery.reaping import expire_leases_of_node

logger = logging.getLogger(__name__)

#: Reports a worker has missed before somebody looks for its process: where containers share
#: a host's name, one cannot see another's, and only its silence tells.
_MISSED_REPORTS = 2

_SILENT = text(f"""
    SELECT {COLUMNS} FROM worker_nodes
    WHERE host = :host AND name <> :name
      AND seen_at < statement_timestamp() - make_interval(secs => :seconds)
""")  # noqa: S608 - no input in it
_PREDECESSOR = text(f"SELECT {COLUMNS} FROM worker_nodes WHERE host = :host AND name = :name")  # noqa: S608 - no input in it


class Undertaker:
    """Looks for dead workers on behalf of a live one.

    Args:
        engine: the database.
        name: the live worker's node name.
        host: where it runs.
        report_seconds: from one report of a worker to the next.
    """

    def __init__(self, engine: Engine, name: str, host: str, report_seconds: float) -> None:
        self._engine = engine
        self._who = {"name": name, "host": host}
        self._seconds = _MISSED_REPORTS * report_seconds
        #: A row stays for a day, for people; its leases are ended once.
        self._buried: set[tuple[str, int, float]] = set()

    def bury_predecessor(self) -> None:
        """End the leases of the worker that had this one's name and is dead; before any report.

        Raises:
            SQLAlchemyError: the database does not answer.
        """
        pids = [os.getpid(), *(one.pid for one in psutil.Process().children(recursive=True))]
        for node in self._find(_PREDECESSOR):
            self._bury(node, tuple(map(owner_of, pids)))

    def bury_silent(self) -> None:
        """End the leases of workers of this host that are silent, and whose process is gone.

        Raises:
            SQLAlchemyError: the database does not answer.
        """
        for node in self._find(_SILENT):
            self._bury(node, ())

    def _find(self, query: object) -> list[Node]:
        with self._engine.connect() as connection:
            rows = connection.execute(query, {**self._who, "seconds": self._seconds})  # type: ignore[call-overload]
            return [node_of(row) for row in rows]

    def _bury(self, node: Node, spared: tuple[str, ...]) -> None:
        who = (node.name, node.pid, node.process_created)
        if who in self._buried or node.process() is not None:
            return
        expire_leases_of_node(self._engine, node.name, spared)
        self._buried.add(who)
        logger.warning(
            "worker %s is gone without a word: what it held is free",
            node.name,
            extra={"action": "presence.buried"},
        )
