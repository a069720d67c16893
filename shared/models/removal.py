"""What is deleted and still to be cleaned up; triggers write it, whoever deletes."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, Created
from shared.models.types import MOMENT


class Removal(Created, Base):
    """One thing that is gone for users and not yet gone for good.

    A trigger writes the row in the transaction that deletes a document, a dataset, an
    import or an uploaded file, or gives a document another file; an import writes it at its
    end. ``kind`` says what is left to
    do, and moves on::

        document -> upload_file -> gone
        dataset -> gone
        stored_file -> set aside -> gone
    """

    __tablename__ = "removals"
    __table_args__ = (
        CheckConstraint(
            "kind IN ('document', 'dataset', 'upload_file', 'stored_file')", name="kind"
        ),
        Index("ix_removals_document_id", "document_id"),
        Index("ix_removals_dataset_id", "dataset_id"),
        Index("ix_removals_due_at", "due_at"),
        Index("ix_removals_storage_key", "storage_key"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    kind: Mapped[str] = mapped_column(String(16))
    tenant_id: Mapped[UUID]
    dataset_id: Mapped[UUID | None]
    #: Of a document: whose segments, vectors and words are to be deleted.
    document_id: Mapped[UUID | None]
    #: The file it had, deleted with its row when no other document has it.
    upload_file_id: Mapped[UUID | None]
    #: Of a stored file: where it lies.
    storage_key: Mapped[str | None] = mapped_column(String(512))
    #: When the stored file was set aside; it can be brought back until ``due_at``.
    retired_at: Mapped[datetime | None] = mapped_column(MOMENT)
    #: The outbox message that does it; gone from there, the sweeper writes another.
    message_id: Mapped[UUID | None]
    #: Nothing is done before.
    due_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
