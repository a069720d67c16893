"""The dataset queue's tasks about segments; producers import them from ``worker.tasks.dataset``."""

from collections.abc import Mapping, Sequence
from typing import Any

from celery import shared_task
from sqlalchemy.orm import Session

from shared.contract import (
    CREATE_SEGMENT,
    DELETE_SEGMENT,
    DISABLE_SEGMENT,
    DISABLE_SEGMENTS,
    ENABLE_SEGMENT,
    ENABLE_SEGMENTS,
    IMPORT_SEGMENTS,
    UPDATE_SEGMENT,
)
from shared.errors import RagWorkerError
from shared.queueing.task import FlaskTask
from shared.submitting.ids import first_id


class SegmentTask(FlaskTask):
    """A task about one segment: what becomes of its message shows in the segment's row."""

    abstract = True
    subject = "segment"

    def abandon(
        self, reason: RagWorkerError, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """End the segment's edit as ``error``, with the reason."""
        from worker.services.dataset.segment_edits import give_up_segment
        from worker.wiring import indexing_needs

        if segment_id := first_id("segment_id", args, kwargs):
            give_up_segment(segment_id, indexing_needs(), str(reason))

    def revive(self, session: Session, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Let the edit wait again."""
        from worker.services.dataset.segment_edits import revive_segment

        if segment_id := first_id("segment_id", args, kwargs):
            revive_segment(session, segment_id)


class ImportTask(FlaskTask):
    """A task about an import: what becomes of its message shows in the import's row."""

    abstract = True
    subject = "import"

    def abandon(
        self, reason: RagWorkerError, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """End the import as ``error``, with the reason."""
        from worker.services.dataset.segment_imports import give_up_import
        from worker.wiring import indexing_needs

        if import_id := first_id("import_id", args, kwargs):
            give_up_import(import_id, indexing_needs(), str(reason))

    def revive(self, session: Session, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Let the import go on from its checkpoint."""
        from worker.services.dataset.segment_imports import revive_import

        if import_id := first_id("import_id", args, kwargs):
            revive_import(session, import_id)


@shared_task(name=CREATE_SEGMENT.name, base=SegmentTask)
def create_segment_to_index_task(segment_id: str, *_: Any) -> None:
    """Let search see a segment that was made by hand; its words stand in its row."""
    _index_segment(segment_id)


@shared_task(name=UPDATE_SEGMENT.name, base=SegmentTask)
def update_segment_to_index_task(segment_id: str) -> None:
    """Let search see a segment's new content in place of the old."""
    _index_segment(segment_id)


@shared_task(name=IMPORT_SEGMENTS.name, base=ImportTask)
def batch_create_segment_to_index_task(import_id: str, *_: Any) -> None:
    """Add a table's rows to a document; what Dify's producers say further stands in the row."""
    from worker.services.dataset.messages import parse_id
    from worker.services.dataset.segment_imports import run_import
    from worker.wiring import indexing_needs

    run_import(parse_id("import_id", import_id), indexing_needs())


@shared_task(name=ENABLE_SEGMENT.name)
def enable_segment_to_index_task(segment_id: str) -> None:
    """See to it that an enabled segment can be found."""
    _settle([segment_id])


@shared_task(name=ENABLE_SEGMENTS.name)
def enable_segments_to_index_task(segment_ids: list[str], *_: Any) -> None:
    """See to it that enabled segments can be found."""
    _settle(segment_ids)


@shared_task(name=DISABLE_SEGMENT.name)
def disable_segment_from_index_task(segment_id: str) -> None:
    """See to it that the index agrees with a disabled segment's row."""
    _settle([segment_id])


@shared_task(name=DISABLE_SEGMENTS.name)
def disable_segments_from_index_task(segment_ids: list[str], *_: Any) -> None:
    """See to it that the index agrees with disabled segments' rows."""
    _settle(segment_ids)


@shared_task(name=DELETE_SEGMENT.name)
def delete_segment_from_index_task(
    index_node_ids: list[str],
    dataset_id: str,  # noqa: ARG001 - in Dify's order
    document_id: str,
    segment_ids: list[str] | None = None,
    child_node_ids: list[str] | None = None,
) -> None:
    """Delete segments, and what is left of such as were deleted, whatever state they are in."""
    from worker.services.dataset.messages import parse_id, parse_some
    from worker.services.dataset.segment_settling import forget_segments
    from worker.wiring import indexing_needs

    named = (index_node_ids, segment_ids or (), child_node_ids or ())
    segments = [one for several in named for one in parse_some("segment_ids", several)]
    forget_segments(parse_id("document_id", document_id), segments, indexing_needs())


def _index_segment(segment_id: str) -> None:
    from worker.services.dataset.messages import parse_id
    from worker.services.dataset.segment_edits import index_segment
    from worker.wiring import indexing_needs

    index_segment(parse_id("segment_id", segment_id), indexing_needs())


def _settle(segment_ids: list[str]) -> None:
    from worker.services.dataset.messages import parse_some
    from worker.services.dataset.segment_settling import settle_segments
    from worker.wiring import indexing_needs

    settle_segments(parse_some("segment_ids", segment_ids), indexing_needs())
