"""Which words of a large dataset are frequent: measured now and then, so that no search counts."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base
from shared.models.types import MOMENT


class KeywordTotals(Base):
    """What of a dataset a keyword search can see, as of a while ago.

    Only large datasets have a row: those are searched by what is known of their words.
    """

    __tablename__ = "keyword_totals"

    dataset_id: Mapped[UUID] = mapped_column(
        ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True
    )
    #: Documents that search sees, by whether they have keywords.
    with_keywords: Mapped[int]
    without_keywords: Mapped[int]
    #: Of the former.
    segments: Mapped[int] = mapped_column(BigInteger)
    #: Of these segments, repeated ones too.
    words: Mapped[int] = mapped_column(BigInteger)
    #: How many segments there were when its frequent words were looked for, and when that was.
    segments_then: Mapped[int] = mapped_column(BigInteger)
    measured_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())


class FrequentWord(Base):
    """A word that is in much of a dataset; all others of it are rare."""

    __tablename__ = "frequent_words"

    dataset_id: Mapped[UUID] = mapped_column(
        ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True
    )
    #: As in ``SegmentKeywords.words``.
    word: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    #: In which share of the segments it is, above 0, at most 1.
    share: Mapped[float]
