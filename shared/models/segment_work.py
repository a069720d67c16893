"""What is to be done to single segments: pending edits, and imports from a table."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, Created, Identified
from shared.models.leased import Leased
from shared.models.types import JSON, MOMENT, TEXT, TEXTS

WAITING = "waiting"  #: nobody works on it
INDEXING = "indexing"  #: a worker has it
COMPLETED = "completed"  #: search sees it
ERROR = "error"  #: ended; ``error`` says why


class SegmentEdit(Leased, Identified, Created, Base):
    """The content a segment is to get: search sees it, whole, in the transaction that ends this.

    There is one a segment at most. A newer edit replaces its content and takes the next
    lease token, so that a worker which still has the older content writes nothing. The
    row goes when the segment has the content; after an error it stays, to be tried again.
    """

    __tablename__ = "segment_edits"
    __table_args__ = (
        UniqueConstraint("segment_id"),
        CheckConstraint("status IN ('waiting', 'indexing', 'error')", name="status"),
        Index("ix_segment_edits_document_id", "document_id"),
    )

    tenant_id: Mapped[UUID]
    dataset_id: Mapped[UUID]
    document_id: Mapped[UUID] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"))
    segment_id: Mapped[UUID]
    #: The document's version that the segment belongs to; with another active it comes too late.
    version: Mapped[int]
    content: Mapped[str] = mapped_column(TEXT)
    answer: Mapped[str | None] = mapped_column(TEXT)
    keywords: Mapped[list[str] | None] = mapped_column(TEXTS)
    status: Mapped[str] = mapped_column(String(16), default=WAITING, server_default=WAITING)
    error: Mapped[str | None] = mapped_column(TEXT)
    #: The outbox message that announces it; gone from there, the sweeper writes another.
    message_id: Mapped[UUID | None]
    queued_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())


class SegmentImport(Leased, Identified, Created, Base):
    """A table whose rows become segments of a document's active version.

    ``last_row`` is the checkpoint: it is written with the segments of the rows up to it.
    """

    __tablename__ = "segment_imports"
    __table_args__ = (
        CheckConstraint("status IN ('waiting', 'indexing', 'completed', 'error')", name="status"),
        Index("ix_segment_imports_document_id", "document_id"),
        Index("ix_segment_imports_upload_file_id", "upload_file_id"),
        Index(
            "ix_segment_imports_unfinished",
            "queued_at",
            postgresql_where=text("status IN ('waiting', 'indexing')"),
        ),
    )

    tenant_id: Mapped[UUID]
    dataset_id: Mapped[UUID]
    document_id: Mapped[UUID] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"))
    version: Mapped[int]
    upload_file_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("upload_files.id", ondelete="SET NULL")
    )
    status: Mapped[str] = mapped_column(String(16), default=WAITING, server_default=WAITING)
    error: Mapped[str | None] = mapped_column(TEXT)
    #: Rows up to this number are done; a spreadsheet counts them so, from 1.
    last_row: Mapped[int] = mapped_column(default=0, server_default="0")
    imported_rows: Mapped[int] = mapped_column(default=0, server_default="0")
    refused_rows: Mapped[int] = mapped_column(default=0, server_default="0")
    #: The first refused rows: ``{"row": 7, "reason": "…"}``.
    problems: Mapped[list[dict[str, Any]]] = mapped_column(
        JSON, default=list, server_default=text("'[]'::jsonb")
    )
    message_id: Mapped[UUID | None]
    queued_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    completed_at: Mapped[datetime | None] = mapped_column(MOMENT)
