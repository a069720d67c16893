"""Vectors by content: what a costly model has embedded once, for every document of everybody."""

from datetime import date

from sqlalchemy import Date, String, func
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base
from shared.models.types import BYTES, DIGEST


class Embedding(Base):
    """The vector that a model made of a text; the text itself is not kept."""

    __tablename__ = "embeddings"

    #: Provider, model, server and dimension, as the embedder names itself.
    model: Mapped[str] = mapped_column(String(512), primary_key=True)
    #: SHA-256 of the text.
    hash: Mapped[bytes] = mapped_column(DIGEST, primary_key=True)
    #: Float32, little-endian; NULL when the model takes no text of this length.
    vector: Mapped[bytes | None] = mapped_column(BYTES)
    #: Written at most once a day.
    used_on: Mapped[date] = mapped_column(Date, server_default=func.current_date(), index=True)
