"""Datasets, the rules their documents are split by, and uploaded files."""

from datetime import datetime
from typing import Any
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
from shared.models.types import JSON, MOMENT

HIGH_QUALITY = "high_quality"  #: vectors, and keywords beside them where the settings say so
ECONOMY = "economy"  #: keywords only: nothing is embedded
TECHNIQUES = (HIGH_QUALITY, ECONOMY)
VECTOR_STORES = ("pgvector", "qdrant")


class UploadFile(Identified, Created, Base):
    """A stored file; the same content of one tenant is stored once."""

    __tablename__ = "upload_files"
    __table_args__ = (
        UniqueConstraint("tenant_id", "sha256", "name"),
        Index("ix_upload_files_storage_key", "storage_key"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    storage_key: Mapped[str] = mapped_column(String(512))
    name: Mapped[str] = mapped_column(String(512))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    mime_type: Mapped[str] = mapped_column(String(255))
    sha256: Mapped[str] = mapped_column(String(64))


class Dataset(Identified, Created, Base):
    """A knowledge base: documents searched together with one embedding model."""

    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name"),
        CheckConstraint("indexing_technique IN ('high_quality', 'economy')", name="technique"),
        CheckConstraint("vector_store IN ('pgvector', 'qdrant')", name="vector_store"),
        CheckConstraint(
            "doc_form IN ('text_model', 'hierarchical_model', 'qa_model')", name="doc_form"
        ),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(255))
    indexing_technique: Mapped[str] = mapped_column(
        String(16), default="high_quality", server_default="high_quality"
    )
    doc_form: Mapped[str] = mapped_column(
        String(32), default="text_model", server_default="text_model"
    )
    embedding_provider: Mapped[str] = mapped_column(String(64))
    embedding_model: Mapped[str] = mapped_column(String(255))
    embedding_dimension: Mapped[int | None]
    #: The rule of documents that have none of their own; ``None`` is automatic. No foreign key:
    #: the two tables would point at each other, and a rule lives as long as its dataset.
    process_rule_id: Mapped[UUID | None]
    #: Which of its indexes search uses: a rebuild makes the next one beside it.
    index_generation: Mapped[int] = mapped_column(default=0, server_default="0")
    #: Where that index is; ``None`` until its first vectors are there, and where they were
    #: written by a version that did not say: then where VECTOR_STORE says.
    vector_store: Mapped[str | None] = mapped_column(String(16))
    retrieval_model: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    #: To the hour; of one that was never searched, when it was made.
    last_searched_at: Mapped[datetime] = mapped_column(
        MOMENT, server_default=func.now(), index=True
    )


class DatasetAutoDisableLog(Identified, Created, Base):
    """A document that was disabled because nobody used its dataset, until its owners know."""

    __tablename__ = "dataset_auto_disable_logs"
    __table_args__ = (
        Index(
            "ix_dataset_auto_disable_logs_unnotified",
            "tenant_id",
            "created_at",
            postgresql_where=text("NOT notified"),
        ),
        Index("ix_dataset_auto_disable_logs_created_at", "created_at"),
    )

    tenant_id: Mapped[UUID] = mapped_column(
        ForeignKey("tenants.id", ondelete="CASCADE"), index=True
    )
    dataset_id: Mapped[UUID] = mapped_column(
        ForeignKey("datasets.id", ondelete="CASCADE"), index=True
    )
    #: No foreign key: a document goes without waiting for what is told of it.
    document_id: Mapped[UUID]
    notified: Mapped[bool] = mapped_column(default=False, server_default=text("false"))


class DatasetProcessRule(Identified, Created, Base):
    """How documents are cleaned and split; immutable, so a version can name the one it used."""

    __tablename__ = "dataset_process_rules"
    __table_args__ = (
        CheckConstraint("mode IN ('automatic', 'custom', 'hierarchical')", name="mode"),
    )

    dataset_id: Mapped[UUID] = mapped_column(
        ForeignKey("datasets.id", ondelete="CASCADE"), index=True
    )
    mode: Mapped[str] = mapped_column(String(16), default="automatic", server_default="automatic")
    rules: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
