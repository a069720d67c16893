"""The words of segments: an inverted index by rows, so that no two writers share one."""

from uuid import UUID

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base
from shared.models.types import BIG_INTEGERS, SMALL_INTEGERS


class SegmentKeywords(Base):
    """The words of one segment, as numbers that the dataset salts.

    No foreign key: a cascade over the rows of a large document would be one
    long lock. They are deleted by document and version, like vectors.
    """

    __tablename__ = "segment_keywords"
    __table_args__ = (
        Index("ix_segment_keywords_document_id_version", "document_id", "version"),
        # Salted numbers: a word's entries are those of one dataset only.
        Index("ix_segment_keywords_words", "words", postgresql_using="gin"),
    )

    segment_id: Mapped[UUID] = mapped_column(primary_key=True)
    dataset_id: Mapped[UUID]
    document_id: Mapped[UUID]
    version: Mapped[int]
    #: Each word once.
    words: Mapped[list[int]] = mapped_column(BIG_INTEGERS)
    #: How often each occurs, in the order of ``words``.
    frequencies: Mapped[list[int]] = mapped_column(SMALL_INTEGERS)
    #: Words in all, repeated ones too.
    length: Mapped[int]
