"""Where a document of a URL comes from, and what its server said when it was fetched."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, Created
from shared.models.types import MOMENT, TEXT


class UrlSource(Created, Base):
    """One document's URL; columns that a fetch fills are ``None`` before the first."""

    __tablename__ = "url_sources"

    document_id: Mapped[UUID] = mapped_column(
        ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True
    )
    url: Mapped[str] = mapped_column(TEXT)
    #: Where its redirects ended; the validators below are this one's.
    final_url: Mapped[str | None] = mapped_column(TEXT)
    etag: Mapped[str | None] = mapped_column(TEXT)
    #: As the server wrote it: it is only sent back.
    last_modified: Mapped[str | None] = mapped_column(TEXT)
    content_type: Mapped[str | None] = mapped_column(String(255))
    #: Of the content that was stored last.
    sha256: Mapped[str | None] = mapped_column(String(64))
    #: When a fetch last ended with an answer, whatever that was.
    checked_at: Mapped[datetime | None] = mapped_column(MOMENT)
    #: When the content last changed.
    changed_at: Mapped[datetime | None] = mapped_column(MOMENT)
