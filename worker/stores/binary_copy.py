"""Rows as PostgreSQL's binary COPY reads them: each value with its length in bytes before it.

As literals of an INSERT every value is read by the server's parser, planned as an expression
and cast: a third of what it took to write a small document. psycopg2 binds values as text only;
COPY is its one binary way in.
"""

import struct
from collections.abc import Iterable, Sequence
from uuid import UUID

import numpy as np
from psycopg2.extensions import get_wait_callback
from sqlalchemy import TextClause
from sqlalchemy.orm import Session

from shared.extensions import waiting_copy

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"

_COUNT = struct.Struct("!h").pack
_LENGTH = struct.Struct("!i").pack
_INT4 = struct.Struct("!ii").pack
_UUID_LENGTH = _LENGTH(16)
#: Length in bytes, dimensions, nulls, the elements' type, their number, the first one's index.
_ARRAY = struct.Struct("!iiiiii").pack
_ARRAY_BYTES = 20
#: Of a type: its number in the catalogue, the same in every database, and a value's bytes.
_INT8, _INT2 = (20, 8), (21, 2)


def is_possible(session: Session) -> bool:
    """Whether COPY may be used here."""
    return session.get_bind().dialect.name == "postgresql" and (
        get_wait_callback() is None or waiting_copy.is_possible()
    )


def copy(session: Session, statement: TextClause, rows: Iterable[bytes]) -> None:
    """Insert rows in the caller's transaction.

    Args:
        session: the caller's.
        statement: ``COPY … FROM STDIN (FORMAT binary)``.
        rows: what ``row`` returned.

    Raises:
        IntegrityError: one is there already; the transaction is over.
    """
    copied = b"".join((HEADER, *rows, TRAILER))
    session.connection().execute(statement, execution_options={"copied": copied})


def row(*values: bytes) -> bytes:
    """A row of values, each made by one of the functions below."""
    return _COUNT(len(values)) + b"".join(values)


def number_or_id(value: int | UUID) -> bytes:
    """A value of the one type or the other."""
    return uuid(value) if isinstance(value, UUID) else int4(value)


def int4(value: int) -> bytes:
    """A value of type ``integer``."""
    return _INT4(4, value)


def uuid(value: UUID) -> bytes:
    """A value of type ``uuid``."""
    return _UUID_LENGTH + value.bytes


def text(value: str) -> bytes:
    """A value of type ``text``; PostgreSQL takes no NUL in it."""
    encoded = value.encode()
    return _LENGTH(len(encoded)) + encoded


def bytea(value: bytes) -> bytes:
    """A value of type ``bytea``."""
    return _LENGTH(len(value)) + value


def int8_array(values: Sequence[int]) -> bytes:
    """A value of type ``bigint[]``, not empty."""
    return _array(values, *_INT8)


def int2_array(values: Sequence[int]) -> bytes:
    """A value of type ``smallint[]``, not empty."""
    return _array(values, *_INT2)


def _array(values: Sequence[int], kind: int, size: int) -> bytes:
    made = np.empty(len(values), [("bytes", ">i4"), ("value", f">i{size}")])
    made["bytes"], made["value"] = size, values
    elements = made.tobytes()
    return _ARRAY(_ARRAY_BYTES + len(elements), 1, 0, kind, len(values), 1) + elements
