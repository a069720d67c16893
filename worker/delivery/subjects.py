"""Whom a message is about, where it does not say so itself: asked for its lines in the log."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from shared.contract import TASKS
from shared.queueing import task_context
from worker.delivery.delivered import Delivered
from worker.delivery.single import single_statements

#: By what the contract calls an id: its table, and the column of the document it belongs to.
_TABLES = {
    "document_id": ("documents", "id"),
    "document_ids": ("documents", "id"),
    "segment_id": ("document_segments", "document_id"),
    "segment_ids": ("document_segments", "document_id"),
    "import_id": ("segment_imports", "document_id"),
    "work_id": ("generation_works", "document_id"),
    "dataset_id": ("datasets", "NULL"),
    "message_id": ("messages", "NULL"),
    "conversation_id": ("conversations", "NULL"),
    "delivery_ids": ("trace_deliveries", "NULL"),
    "delivery_id": ("mail_deliveries", "NULL"),
}
_OF_DOCUMENTS = {name for name, (_, document) in _TABLES.items() if document == "document_id"}
_IDS = {task.name: task.ids for task in TASKS}
_QUERIES = {
    table: text(f"SELECT tenant_id, {document} AS document_id FROM {table} WHERE id = :id")  # noqa: S608 - no input in it
    for table, document in set(_TABLES.values())
}


def name_subject(engine: Engine, delivered: Delivered) -> None:
    """Complete what the log says of the running task; a lost database is the task's concern."""
    context = task_context.current()
    names = _IDS.get(delivered.task.name, ())
    if context is None or not names:
        return
    # A row of the outbox says whose it is, or that it is nobody's.
    knows_tenant = context.tenant_id or delivered.has_row
    if knows_tenant and (context.document_id or not _OF_DOCUMENTS.intersection(names)):
        return
    found = _found(engine, names, delivered)
    if found is not None:
        task_context.note(context.document_id or found.document_id, found.tenant_id)


def _found(engine: Engine, names: tuple[str, ...], delivered: Delivered) -> Any:
    given: Mapping[str, Any] = dict(zip(names, delivered.args, strict=False)) | dict(
        delivered.kwargs
    )
    for name, (table, _) in _TABLES.items():
        row_id = _first_id(given.get(name)) if name in names else None
        if row_id is None:
            continue
        try:
            with single_statements(engine) as connection:
                return connection.execute(_QUERIES[table], {"id": row_id}).one_or_none()
        except SQLAlchemyError:
            return None
    return None


def _first_id(value: Any) -> UUID | None:
    if isinstance(value, (list, tuple)) and value:
        value = value[0]
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None
