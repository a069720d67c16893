"""Datasets that nobody uses: their documents are disabled, a batch a transaction, and noted.

Nothing is deleted: a document that is enabled again is found at once, and its dataset
counts as used from then on.
"""

import logging
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from worker.delivery import runs

logger = logging.getLogger(__name__)

_DATASETS = 100
_BATCH = 500

# Not used: neither searched nor changed.
_IS_UNUSED = """
    dataset.last_searched_at < now() - make_interval(days => :days)
    AND dataset.created_at < now() - make_interval(days => :days)
    AND NOT EXISTS (
        SELECT 1 FROM documents AS used WHERE used.dataset_id = dataset.id
          AND greatest(used.created_at, used.queued_at, used.completed_at, used.changed_at)
              >= now() - make_interval(days => :days)
    )
"""
_IS_SHOWN = """
    document.dataset_id = dataset.id AND document.enabled AND NOT document.archived
    AND document.indexing_status = 'completed'
"""
_UNUSED = text(f"""
    SELECT dataset.id, dataset.name FROM datasets AS dataset
    WHERE {_IS_UNUSED} AND dataset.id > :after
      AND EXISTS (SELECT 1 FROM documents AS document WHERE {_IS_SHOWN})
    ORDER BY dataset.id LIMIT :limit
""")  # noqa: S608 - no input in it
# Asked again with each batch: somebody may have searched meanwhile.
_DISABLE = text(f"""
    WITH chosen AS (
        SELECT document.id FROM documents AS document, datasets AS dataset
        WHERE dataset.id = :dataset_id AND {_IS_UNUSED} AND {_IS_SHOWN}
        ORDER BY document.id LIMIT :limit FOR UPDATE OF document SKIP LOCKED
    ),
    disabled AS (
        UPDATE documents SET enabled = false, disabled_at = statement_timestamp()
        FROM chosen WHERE documents.id = chosen.id
        RETURNING documents.id, documents.tenant_id, documents.dataset_id
    )
    INSERT INTO dataset_auto_disable_logs (id, tenant_id, dataset_id, document_id)
    SELECT gen_random_uuid(), tenant_id, dataset_id, id FROM disabled
""")  # noqa: S608 - no input in it


def disable_unused_datasets(sessions: sessionmaker[Session], unused_days: int) -> int:
    """Disable the documents of datasets that nobody searched or changed for so many days.

    Returns:
        How many documents were disabled.
    """
    disabled, after = 0, UUID(int=0)
    while True:
        values = {"days": unused_days, "after": after, "limit": _DATASETS}
        with sessions() as session:
            found = session.execute(_UNUSED, values).all()
        for dataset in found:
            number = _disable(sessions, dataset.id, unused_days)
            logger.info(
                "dataset %s %r is unused for %s days: %s documents disabled",
                dataset.id,
                dataset.name,
                unused_days,
                number,
                extra={"action": "dataset.unused", "dataset_id": str(dataset.id)},
            )
            disabled += number
        if len(found) < _DATASETS:
            return disabled
        after = found[-1].id


def _disable(sessions: sessionmaker[Session], dataset_id: UUID, unused_days: int) -> int:
    disabled = 0
    values = {"days": unused_days, "dataset_id": dataset_id, "limit": _BATCH}
    while True:
        runs.checkpoint()
        with sessions.begin() as session:
            done: Any = session.execute(_DISABLE, values)
        number = int(done.rowcount)
        disabled += number
        if number < _BATCH:
            return disabled
