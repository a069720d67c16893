"""The columns' types: PostgreSQL's own, and what MariaDB and MySQL store in their place.

There the connection turns values into the stored form and back, for every statement alike,
so that these types leave them as they are.
"""

from typing import Any, TypeVar

from sqlalchemy import BigInteger, DateTime, LargeBinary, SmallInteger, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import TypeEngine, UserDefinedType

Kind = TypeVar("Kind", bound=TypeEngine[Any])

#: The two dialects' names; to SQLAlchemy each is one of its own.
MYSQL = ("mysql", "mariadb")


class Stored(UserDefinedType[Any]):
    """A column of MariaDB or MySQL, named as its SQL does."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        """The type's name in SQL."""
        return self.name


def _stored(kind: Kind, name: str) -> Kind:
    return kind.with_variant(Stored(name), *MYSQL)


#: Hexadecimal, without dashes.
ID = _stored(Uuid(), "CHAR(32)")
#: In UTC.
MOMENT = _stored(DateTime(timezone=True), "DATETIME(6)")
#: Of any length; MySQL's TEXT ends at 64 KiB.
TEXT = _stored(Text(), "LONGTEXT")
BYTES = _stored(LargeBinary(), "LONGBLOB")
#: Of a content, SHA-256: short enough for a key.
DIGEST = _stored(LargeBinary(), "VARBINARY(64)")
JSON = _stored(JSONB(), "JSON")
#: ``None`` is SQL's NULL, not JSON's.
JSON_OR_NULL = _stored(JSONB(none_as_null=True), "JSON")
IDS = _stored(ARRAY(Uuid), "JSON")
TEXTS = _stored(ARRAY(Text), "JSON")
BIG_INTEGERS = _stored(ARRAY(BigInteger), "JSON")
SMALL_INTEGERS = _stored(ARRAY(SmallInteger), "JSON")
