"""Segments and their vectors."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, String, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base
from shared.models.types import MOMENT, TEXT, TEXTS
from shared.models.vector import Vector


class DocumentSegment(Base):
    """One passage of one version of a document.

    ``id`` is a UUIDv5 of document, version, position and content hash, so that
    writing a segment twice is an upsert. It is also its vector's id.
    """

    __tablename__ = "document_segments"
    __table_args__ = (
        UniqueConstraint("document_id", "version", "position"),
        CheckConstraint("status IN ('waiting', 'indexing', 'completed', 'error')", name="status"),
        # A re-index finds by it what is unchanged.
        Index(
            "ix_document_segments_document_id_version_index_node_hash",
            "document_id",
            "version",
            "index_node_hash",
        ),
        # What a search leaves out: few, so that no search joins every segment to learn it.
        Index(
            "ix_document_segments_disabled",
            "dataset_id",
            "id",
            postgresql_where=text("NOT enabled"),
        ),
        # The sweeper's question: what waits, and has nobody to come for it?
        Index(
            "ix_document_segments_waiting",
            "created_at",
            postgresql_where=text("status = 'waiting'"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    dataset_id: Mapped[UUID]
    #: No foreign key that cascades: a deletion would lock what the document holds (``Removal``).
    document_id: Mapped[UUID]
    version: Mapped[int]
    position: Mapped[int]
    content: Mapped[str] = mapped_column(TEXT)
    answer: Mapped[str | None] = mapped_column(TEXT)
    keywords: Mapped[list[str] | None] = mapped_column(TEXTS)
    word_count: Mapped[int]
    tokens: Mapped[int]
    #: SHA-256 of the content, hexadecimal: a re-index finds unchanged passages by it.
    index_node_hash: Mapped[str] = mapped_column(String(64))
    #: The page the passage begins on, from 1, where the format has pages.
    page: Mapped[int | None]
    status: Mapped[str] = mapped_column(String(16), server_default="completed")
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    error: Mapped[str | None] = mapped_column(TEXT)
    #: Written about the whole document, and no passage of it.
    is_summary: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())


class SegmentVector(Base):
    """A segment's embedding in one of its dataset's indexes.

    In the first, of generation 0, ``id`` is the segment's. A later one, built beside it,
    has ids of its own, and ``segment_id`` says whose they are.
    """

    __tablename__ = "segment_vectors"
    __table_args__ = (Index("ix_segment_vectors_document_id_version", "document_id", "version"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    dataset_id: Mapped[UUID]
    document_id: Mapped[UUID]
    version: Mapped[int]
    generation: Mapped[int] = mapped_column(default=0, server_default="0")
    segment_id: Mapped[UUID | None]
    #: Unit length, so that the inner product is the cosine.
    embedding: Mapped[Any] = mapped_column(Vector())
