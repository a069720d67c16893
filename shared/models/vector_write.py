"""What was written to a vector store outside of the database: the truth about its vectors."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, Created
from shared.models.types import MOMENT


class VectorWrite(Created, Base):
    """The vectors that one claim writes to an external store.

    The row is there before the first vector is, and outlives the last: whatever dies,
    what lies in the store is known. No two claims write the same vectors, so that one
    which lost its lease spoils nothing, and its leavings can be deleted by ``id``.
    """

    __tablename__ = "vector_writes"
    __table_args__ = (
        # The question of the clean-up: what does search not use?
        Index(
            "ix_vector_writes_unused",
            "swept_at",
            postgresql_where=text("NOT is_live OR document_id IS NULL"),
        ),
    )

    #: In the payload of each of its vectors.
    id: Mapped[UUID] = mapped_column(primary_key=True)
    dataset_id: Mapped[UUID]
    #: ``None`` once the document was deleted.
    document_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("documents.id", ondelete="SET NULL"), index=True
    )
    version: Mapped[int]
    generation: Mapped[int]
    dimension: Mapped[int]
    #: The leased row of the claim and its token: while that lease runs, so does the writing.
    holder_id: Mapped[UUID]
    token: Mapped[int] = mapped_column(BigInteger)
    #: Whether it has all vectors of its version, or only those of segments changed by hand.
    is_whole: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    #: Whether search may see it, if its version is the document's active one.
    is_live: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    #: When its vectors were deleted; that is done twice, for what was on its way meanwhile.
    swept_at: Mapped[datetime | None] = mapped_column(MOMENT)


class VectorPoint(Base):
    """A vector in an external store that does not count, or go, with the whole of its write.

    Those of a write by hand each have a row, before they are sent. One that was replaced or
    deleted has one, too, until it is gone: search leaves it out, the clean-up deletes it.
    """

    __tablename__ = "vector_points"
    __table_args__ = (
        # The question of the clean-up.
        Index(
            "ix_vector_points_unused",
            "swept_at",
            postgresql_where=text("NOT is_current"),
        ),
    )

    #: A segment's or a child's.
    vector_id: Mapped[UUID] = mapped_column(primary_key=True)
    write_id: Mapped[UUID] = mapped_column(
        ForeignKey("vector_writes.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    #: Whether it is its segment's vector now; not yet, or no longer, otherwise.
    is_current: Mapped[bool]
    #: When it was deleted for the first time.
    swept_at: Mapped[datetime | None] = mapped_column(MOMENT)
