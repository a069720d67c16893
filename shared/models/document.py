"""Documents: what was accepted, where its newest version stands, which version serves."""

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
from shared.models.document_status import DocumentStatus
from shared.models.leased import Leased
from shared.models.types import JSON, MOMENT, TEXT

_STATUSES = ", ".join(f"'{status}'" for status in DocumentStatus)


def _when() -> Mapped[datetime | None]:
    return mapped_column(MOMENT)


class Document(Leased, Identified, Created, Base):
    """One document of a dataset.

    ``index_version`` is the version being made or made last; ``active_version``
    the one search sees, ``None`` before the first is complete. They differ
    exactly while a re-index runs or after one failed: one that finds nothing to
    change gives its number back.
    """

    __tablename__ = "documents"
    __table_args__ = (
        UniqueConstraint("dataset_id", "position"),
        CheckConstraint(f"indexing_status IN ({_STATUSES})", name="indexing_status"),
        CheckConstraint("data_source IN ('upload_file', 'text', 'url')", name="data_source"),
        CheckConstraint("active_version <= index_version", name="active_version"),
        Index("ix_documents_dataset_id_source_key", "dataset_id", "source_key", unique=True),
        # The sweeper's question: what is unfinished, and since when?
        Index(
            "ix_documents_unfinished",
            "indexing_status",
            "lease_expires_at",
            postgresql_where=text("indexing_status NOT IN ('completed', 'error', 'paused')"),
        ),
        # With the one above: how many there are of each, without reading them.
        Index(
            "ix_documents_finished",
            "indexing_status",
            postgresql_where=text("indexing_status IN ('completed', 'error', 'paused')"),
        ),
    )

    tenant_id: Mapped[UUID] = mapped_column(
        ForeignKey("tenants.id", ondelete="CASCADE"), index=True
    )
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    position: Mapped[int]
    name: Mapped[str] = mapped_column(String(512))
    data_source: Mapped[str] = mapped_column(String(16), default="upload_file")
    #: What makes a second submission the same document: a path, a URL, a caller's own key.
    source_key: Mapped[str] = mapped_column(String(1024))
    upload_file_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("upload_files.id", ondelete="SET NULL"), index=True
    )
    #: The document's own rule; ``None``: its dataset's.
    process_rule_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("dataset_process_rules.id", ondelete="SET NULL"), index=True
    )
    doc_form: Mapped[str] = mapped_column(String(32), default="text_model")
    doc_metadata: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)

    indexing_status: Mapped[DocumentStatus] = mapped_column(
        String(16), default=DocumentStatus.WAITING, server_default="waiting"
    )
    index_version: Mapped[int] = mapped_column(default=1, server_default="1")
    active_version: Mapped[int | None]
    #: All that made the active version, as a hash; ``None``: not known. Shortened to what says
    #: by which code, once a segment of it was changed by hand.
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    error: Mapped[str | None] = mapped_column(TEXT)
    #: The outbox message that announces it; gone from there, the sweeper writes another.
    message_id: Mapped[UUID | None]
    #: When it began to wait.
    queued_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())

    processing_started_at: Mapped[datetime | None] = _when()
    parsing_completed_at: Mapped[datetime | None] = _when()
    cleaning_completed_at: Mapped[datetime | None] = _when()
    splitting_completed_at: Mapped[datetime | None] = _when()
    completed_at: Mapped[datetime | None] = _when()
    stopped_at: Mapped[datetime | None] = _when()
    #: Seconds from pick-up to completion.
    indexing_latency: Mapped[float | None]

    word_count: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    tokens: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    total_segments: Mapped[int] = mapped_column(default=0, server_default="0")
    completed_segments: Mapped[int] = mapped_column(default=0, server_default="0")
    #: Of the active version: segments with keywords, ``None`` when it was indexed without.
    keyword_segments: Mapped[int | None]
    #: Their words, repeated ones too: what makes a passage long or short.
    keyword_words: Mapped[int | None] = mapped_column(BigInteger)

    enabled: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    disabled_at: Mapped[datetime | None] = _when()
    #: When somebody last enabled it or changed its segments: it is in use.
    changed_at: Mapped[datetime | None] = _when()
    archived: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    is_paused: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
