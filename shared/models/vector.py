"""The column type of pgvector's ``vector``, without the array library its own package loads."""

from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.types import UserDefinedType

from shared.models.types import MYSQL


class Vector(UserDefinedType[str]):
    """``vector``, of any dimension: read and written as text, by the vector store only."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """The type's name in SQL."""
        return "VECTOR"


def keeps_vectors(connection: Connection) -> bool:
    """Whether the database has the table of vectors: on MariaDB and MySQL there is none."""
    return connection.dialect.name not in MYSQL


# What Alembic compares: without it the column of a database has no type SQLAlchemy knows.
ischema_names["vector"] = Vector
