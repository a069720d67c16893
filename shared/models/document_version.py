"""By which rule each version of a document was made."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base
from shared.models.types import MOMENT


class DocumentVersion(Base):
    """A completed version that was made by a rule; one without a row was made automatically.

    Kept when the rule of the document or of its dataset is replaced later. The rule
    has no foreign key: it is immutable and lives as long as the dataset.
    """

    __tablename__ = "document_versions"

    document_id: Mapped[UUID] = mapped_column(
        ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True
    )
    version: Mapped[int] = mapped_column(primary_key=True)
    process_rule_id: Mapped[UUID]
    completed_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
