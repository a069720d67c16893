"""How far documents are, from SQL: for anyone with a session on rag-worker's database.

A document streams through its stages, so how many segments it becomes is known only
at its end. Until then ``total_segments`` is ``None``, and ``estimated_segments`` says what
its size would make of it at the rate of its dataset's finished documents; with none of
those there is no estimate, and what is done is "at least".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.orm import Session

from shared.models import DocumentStatus
from shared.models.document_status import IN_PROGRESS
from shared.sql import text_by_database
from shared.submitting.ids import AnyId, checked_ids

#: Finished documents of a dataset that an estimate goes by.
_SAMPLE = 200
#: Below this much time a rate says nothing.
_SHORTEST_SECONDS = 0.5

_PROGRESS = text_by_database(
    """
    WITH chosen AS (
        SELECT document.*, upload.size_bytes
        FROM documents AS document
        LEFT JOIN upload_files AS upload ON upload.id = document.upload_file_id
        WHERE document.id = ANY(CAST(:ids AS uuid[]))
    ),
    density AS MATERIALIZED (
        SELECT place.dataset_id, sum(done.segments) / nullif(sum(done.size_bytes), 0) AS a_byte
        FROM (
            SELECT DISTINCT dataset_id FROM chosen WHERE indexing_status = ANY(:in_progress)
        ) AS place
        CROSS JOIN LATERAL (
            SELECT document.completed_segments AS segments, upload.size_bytes
            FROM documents AS document
            JOIN upload_files AS upload ON upload.id = document.upload_file_id
            WHERE document.dataset_id = place.dataset_id
              AND document.indexing_status = 'completed'
            ORDER BY document.position DESC LIMIT :sample
        ) AS done
        GROUP BY place.dataset_id
    )
    SELECT chosen.id, chosen.name, chosen.dataset_id, chosen.indexing_status, chosen.is_paused,
           chosen.index_version, chosen.active_version, chosen.completed_segments,
           chosen.total_segments, chosen.error, chosen.queued_at, chosen.processing_started_at,
           chosen.parsing_completed_at, chosen.cleaning_completed_at,
           chosen.splitting_completed_at, chosen.completed_at, chosen.stopped_at,
           chosen.lease_owner,
           extract(epoch FROM statement_timestamp() - chosen.processing_started_at) AS seconds,
           round(chosen.size_bytes * density.a_byte) AS estimated
    FROM chosen LEFT JOIN density ON density.dataset_id = chosen.dataset_id
    ORDER BY chosen.dataset_id, chosen.position
""",
    mariadb="""
    WITH chosen AS (
        SELECT document.*, upload.size_bytes
        FROM documents AS document
        LEFT JOIN upload_files AS upload ON upload.id = document.upload_file_id
        WHERE document.id IN :IDS__ids
    ),
    done AS (
        SELECT document.dataset_id, document.completed_segments AS segments, upload.size_bytes,
               ROW_NUMBER() OVER (
                   PARTITION BY document.dataset_id ORDER BY document.position DESC
               ) AS place
        FROM documents AS document
        JOIN upload_files AS upload ON upload.id = document.upload_file_id
        WHERE document.indexing_status = 'completed' AND document.dataset_id IN (
            SELECT dataset_id FROM chosen WHERE indexing_status IN :LIST__in_progress
        )
    ),
    density AS (
        SELECT dataset_id, SUM(segments) / NULLIF(SUM(size_bytes), 0) AS a_byte
        FROM done WHERE place <= :sample GROUP BY dataset_id
    )
    SELECT chosen.id, chosen.name, chosen.dataset_id, chosen.indexing_status, chosen.is_paused,
           chosen.index_version, chosen.active_version, chosen.completed_segments,
           chosen.total_segments, chosen.error, chosen.queued_at, chosen.processing_started_at,
           chosen.parsing_completed_at, chosen.cleaning_completed_at,
           chosen.splitting_completed_at, chosen.completed_at, chosen.stopped_at,
           chosen.lease_owner,
           TIMESTAMPDIFF(MICROSECOND, chosen.processing_started_at, NOW(6)) / 1e6 AS seconds,
           ROUND(chosen.size_bytes * density.a_byte) AS estimated
    FROM chosen LEFT JOIN density ON density.dataset_id = chosen.dataset_id
    ORDER BY chosen.dataset_id, chosen.position
""",
)


@dataclass(frozen=True, slots=True)
class DocumentProgress:
    """How far one document's newest version is.

    Attributes:
        stage: the furthest stage it has reached.
        done_segments: embedded and written.
        total_segments: known once it is completed; ``None`` before.
        estimated_segments: by its dataset's finished documents; ``None`` without any.
        segments_per_second: since its pick-up; ``None`` when nothing runs.
        eta_seconds: by rate and estimate; ``None`` when either is unknown, or was passed.
        worker: who has it, as ``node/pid``.
    """

    document_id: UUID
    dataset_id: UUID
    name: str
    stage: DocumentStatus
    version: int
    active_version: int | None
    done_segments: int
    total_segments: int | None
    estimated_segments: int | None
    segments_per_second: float | None
    eta_seconds: float | None
    worker: str | None
    error: str | None
    queued_at: datetime
    started_at: datetime | None
    parsed_at: datetime | None
    cleaned_at: datetime | None
    split_at: datetime | None
    completed_at: datetime | None
    stopped_at: datetime | None

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.stage in {
            DocumentStatus.COMPLETED,
            DocumentStatus.ERROR,
            DocumentStatus.PAUSED,
        }

    @property
    def shown_segments(self) -> str:
        """Done of total, as people read it."""
        if self.total_segments is not None:
            return f"{self.done_segments:,} of {self.total_segments:,}"
        if self.estimated_segments is not None and self.estimated_segments > self.done_segments:
            return f"{self.done_segments:,} of about {self.estimated_segments:,}"
        return f"{self.done_segments:,}, at least"


def document_progress(session: Session, ids: Sequence[AnyId]) -> list[DocumentProgress]:
    """How far documents are; one query. Those that were deleted are left out.

    Args:
        session: any on rag-worker's database.
        ids: which documents.

    Raises:
        InvalidRequest: an id is none.
    """
    rows = session.execute(
        _PROGRESS,
        {
            "ids": list(map(str, checked_ids("ids", ids))),
            "in_progress": [status.value for status in IN_PROGRESS],
            "sample": _SAMPLE,
        },
    )
    return [_progress(row) for row in rows]


def _progress(row: Row[*tuple[object, ...]]) -> DocumentProgress:
    values = row._mapping  # noqa: SLF001 - SQLAlchemy's documented way
    stage = DocumentStatus(values["indexing_status"])
    done, runs = int(values["completed_segments"]), stage in IN_PROGRESS
    seconds = float(values["seconds"] or 0)
    estimated = int(values["estimated"]) if runs and values["estimated"] is not None else None
    rate = done / seconds if runs and seconds >= _SHORTEST_SECONDS else None
    left = None if estimated is None or estimated <= done else estimated - done
    return DocumentProgress(
        document_id=values["id"],
        dataset_id=values["dataset_id"],
        name=values["name"],
        stage=stage,
        version=values["index_version"],
        active_version=values["active_version"],
        done_segments=done,
        total_segments=values["total_segments"] if stage is DocumentStatus.COMPLETED else None,
        estimated_segments=estimated,
        segments_per_second=rate,
        eta_seconds=left / rate if left and rate else None,
        worker=values["lease_owner"],
        error=values["error"],
        queued_at=values["queued_at"],
        started_at=values["processing_started_at"],
        parsed_at=values["parsing_completed_at"],
        cleaned_at=values["cleaning_completed_at"],
        split_at=values["splitting_completed_at"],
        completed_at=values["completed_at"],
        stopped_at=values["stopped_at"],
    )
