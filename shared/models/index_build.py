"""Changes of a whole dataset's index: what is built beside the one in use, and how far it is."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, Created, Identified
from shared.models.leased import Leased
from shared.models.types import MOMENT, TEXT


class DatasetIndexBuild(Identified, Created, Base):
    """One change of a dataset's index, from the wish to its end.

    While it is ``running`` search goes on with the index in use. ``completed`` means that
    search uses what was built; ``error`` and ``superseded`` that it never will.
    """

    __tablename__ = "dataset_index_builds"
    __table_args__ = (
        CheckConstraint("action IN ('add', 'update', 'remove')", name="action"),
        CheckConstraint("status IN ('running', 'completed', 'error', 'superseded')", name="status"),
        CheckConstraint("vector_store IN ('pgvector', 'qdrant')", name="vector_store"),
        Index("ix_dataset_index_builds_generation", "dataset_id", "generation", unique=True),
        # Of two wishes the later one counts.
        Index(
            "ix_dataset_index_builds_running",
            "dataset_id",
            unique=True,
            postgresql_where=text("status = 'running'"),
        ),
    )

    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    action: Mapped[str] = mapped_column(String(8))
    #: The number of the index it makes; never one used before.
    generation: Mapped[int]
    embedding_provider: Mapped[str] = mapped_column(String(64))
    embedding_model: Mapped[str] = mapped_column(String(255))
    #: ``None`` until the first document is embedded.
    embedding_dimension: Mapped[int | None]
    #: Where it is made; ``None`` is where VECTOR_STORE says.
    vector_store: Mapped[str | None] = mapped_column(String(16))
    #: Of a migration: how many searches of both indexes are compared before it serves. ``None``
    #: of any other change: that is not verified.
    samples: Mapped[int | None]
    #: Vectors copied or embedded together; ``None`` is what the worker's settings say.
    batch_segments: Mapped[int | None]
    #: Who asked for it: user, machine and process.
    requested_by: Mapped[str | None] = mapped_column(String(255))
    status: Mapped[str] = mapped_column(String(16), default="running", server_default="running")
    error: Mapped[str | None] = mapped_column(TEXT)
    finished_at: Mapped[datetime | None] = mapped_column(MOMENT)


class IndexBuildDocument(Leased, Identified, Base):
    """A document's part in a build; a row a document, so it goes with the document's."""

    __tablename__ = "index_build_documents"
    __table_args__ = (
        CheckConstraint("status IN ('waiting', 'completed', 'error')", name="status"),
        UniqueConstraint("build_id", "document_id"),
        Index("ix_index_build_documents_build_id_status", "build_id", "status", "document_id"),
    )

    build_id: Mapped[UUID] = mapped_column(
        ForeignKey("dataset_index_builds.id", ondelete="CASCADE")
    )
    document_id: Mapped[UUID] = mapped_column(
        ForeignKey("documents.id", ondelete="CASCADE"), index=True
    )
    status: Mapped[str] = mapped_column(String(16), default="waiting", server_default="waiting")
    #: The version that was built.
    version: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(TEXT)
    #: The lease's token when each of its vectors was found in its place; another claim, or a
    #: change by hand, makes the two differ.
    verified_token: Mapped[int | None] = mapped_column(BigInteger)
    #: How many those were.
    vectors: Mapped[int | None]
    #: The outbox message that announces it; gone from there, the sweeper writes another.
    message_id: Mapped[UUID | None]
    queued_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
