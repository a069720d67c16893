"""The column type of pgvector's ``vector``, without the array library its own package loads."""

from typing import Any

from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.types import UserDefinedType


class Vector(UserDefinedType[str]):
    """``vector``, of any dimension: read and written as text, by the vector store only."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """The type's name in SQL."""
        return "VECTOR"


# What Alembic compares: without it the column of a database has no type SQLAlchemy knows.
ischema_names["vector"] = Vector
