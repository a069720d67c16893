"""When datasets were last searched, noted beside the searches: none of them waits for it."""

import logging
import threading
from uuid import UUID

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

logger = logging.getLogger(__name__)

#: Whoever changes the dataset at this moment has its row: the next search notes it then.
_BRIEF = text("SET LOCAL lock_timeout = '1s'")
_NOTE = text("""
    UPDATE datasets SET last_searched_at = statement_timestamp()
    WHERE id = :id AND last_searched_at < now() - interval '1 hour'
""")


class DatasetUse:
    """Notes searches, at most one of a dataset at a time.

    Args:
        engine: the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._under_way: set[UUID] = set()

    def note(self, dataset_id: UUID) -> None:
        """Note, in a thread of its own, that a dataset was searched; raises nothing."""
        if dataset_id in self._under_way:
            return
        self._under_way.add(dataset_id)
        # No daemon: the process of a single search ends when it is noted.
        threading.Thread(target=self._write, args=(dataset_id,), name="dataset-use").start()

    def _write(self, dataset_id: UUID) -> None:
        try:
            with self._engine.begin() as connection:
                connection.execute(_BRIEF)
                connection.execute(_NOTE, {"id": dataset_id})
        except SQLAlchemyError as error:
            logger.info("a search is not noted: %s", error, extra={"action": "dataset.use"})
        finally:
            self._under_way.discard(dataset_id)
