"""Children of hierarchical documents: what is embedded in their parents' place."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, String, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base
from shared.models.types import MOMENT, TEXT


class ChildChunk(Base):
    """A part of a segment, found in its place.

    ``id`` is a UUIDv5 of the segment, the position and the content hash, so that
    writing a child twice is an upsert. It is also its vector's id.
    """

    __tablename__ = "child_chunks"
    __table_args__ = (
        UniqueConstraint("segment_id", "position"),
        Index("ix_child_chunks_document_id_version", "document_id", "version", "index_node_hash"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    dataset_id: Mapped[UUID]
    document_id: Mapped[UUID]
    segment_id: Mapped[UUID]
    version: Mapped[int]
    #: Its place in its segment, from 0.
    position: Mapped[int]
    content: Mapped[str] = mapped_column(TEXT)
    word_count: Mapped[int]
    tokens: Mapped[int]
    #: SHA-256 of the content, hexadecimal: a re-index finds unchanged children by it.
    index_node_hash: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
