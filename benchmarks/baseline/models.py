"""The recipe's tables: a document with a status, its segments with their vectors."""

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, Text
from sqlalchemy.dialects.postgresql import ARRAY, REAL
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """All tables of the baseline."""


class Document(Base):
    """A document; its content lies in the row, so that no storage is needed."""

    __tablename__ = "documents"

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int]
    source_key: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    content: Mapped[bytes]
    status: Mapped[str] = mapped_column(default="waiting")
    error: Mapped[str | None] = mapped_column(Text)


class Segment(Base):
    """A passage of a document with its vector."""

    __tablename__ = "segments"

    id: Mapped[int] = mapped_column(primary_key=True)
    document_id: Mapped[int] = mapped_column(
        ForeignKey("documents.id", ondelete="CASCADE"), index=True
    )
    position: Mapped[int]
    content: Mapped[str] = mapped_column(Text)
    content_hash: Mapped[str]
    embedding: Mapped[list[float]] = mapped_column(ARRAY(REAL))


db = SQLAlchemy(model_class=Base)
