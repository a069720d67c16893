"""Rows of new documents, in one statement, not an object each: files come by the thousand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.models import Dataset

#: What a new document is a version of.
FIRST_VERSION = 1

_INSERT = text("""
    INSERT INTO documents (
        id, tenant_id, dataset_id, position, name, data_source, source_key, upload_file_id,
        process_rule_id, doc_form, doc_metadata, index_version, message_id
    )
    SELECT u.id, :tenant_id, :dataset_id, u.position, u.name, 'upload_file', u.source_key,
           u.upload_file_id, CAST(:process_rule_id AS uuid), :doc_form, CAST('{}' AS jsonb),
           :version, u.message_id
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:positions AS int[]), CAST(:names AS text[]),
        CAST(:source_keys AS text[]), CAST(:upload_file_ids AS uuid[]),
        CAST(:message_ids AS uuid[])
    ) AS u(id, position, name, source_key, upload_file_id, message_id)
""")


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document of which there is no row yet.

    Attributes:
        position: in its dataset.
        name: of its file.
        source_key: as it is stored.
        upload_file_id: its file's row.
    """

    id: UUID
    position: int
    name: str
    source_key: str
    upload_file_id: UUID


def insert_documents(
    session: Session,
    dataset: Dataset,
    documents: Sequence[NewDocument],
    message_ids: Mapping[UUID, UUID],
    rule_id: UUID | None,
) -> None:
    """Write the rows of new documents in the caller's transaction.

    Args:
        session: the caller's.
        dataset: theirs, which the transaction has locked.
        documents: those.
        message_ids: of the message that announces each, by its id.
        rule_id: their own process rule.
    """
    if not documents:
        return
    values = {
        "tenant_id": dataset.tenant_id,
        "dataset_id": dataset.id,
        "doc_form": dataset.doc_form,
        "process_rule_id": rule_id,
        "version": FIRST_VERSION,
        "ids": [str(one.id) for one in documents],
        "positions": [one.position for one in documents],
        "names": [one.name for one in documents],
        "source_keys": [one.source_key for one in documents],
        "upload_file_ids": [str(one.upload_file_id) for one in documents],
        "message_ids": [str(message_ids[one.id]) for one in documents],
    }
    # What they refer to may be in the session only.
    session.flush()
    session.execute(_INSERT, values)
