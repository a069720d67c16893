from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy.dialects import mysql, postgresql

from shared.models import Base
from shared.models.types import ID, IDS, JSON, MOMENT, TEXT, Stored


def columns() -> list:
    return [
        column
        for table in Base.metadata.sorted_tables
        if table.name != "segment_vectors"
        for column in table.columns
    ]


def test_postgresql_has_its_own_types() -> None:
    dialect = postgresql.dialect()
    kept = [
        str(column) for column in columns() if isinstance(dialect_type(column, dialect), Stored)
    ]
    assert kept == []


def dialect_type(column, dialect) -> object:
    return column.type.dialect_impl(dialect)


def test_mysql_has_no_type_that_is_too_short_or_unknown_there() -> None:
    """DATETIME has no fractions there, and TEXT and BLOB end at 64 KiB."""
    dialect = mysql.dialect()
    named = {str(column): column.type.compile(dialect=dialect) for column in columns()}
    wrong = {"DATETIME", "TEXT", "BLOB", "JSONB", "VARBINARY", "UUID"}
    assert {name: kind for name, kind in named.items() if kind in wrong} == {}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ID, UUID(int=1)),
        (ID, UUID(int=1).hex),
        (MOMENT, datetime(2026, 1, 2, tzinfo=UTC)),
        (JSON, {"a": [1]}),
        (IDS, [UUID(int=1)]),
        (TEXT, "text"),
    ],
)
def test_mysql_types_leave_values_to_the_connection(kind, value) -> None:
    there = kind.dialect_impl(mysql.dialect())
    for processor in (
        there.bind_processor(mysql.dialect()),
        there.result_processor(mysql.dialect(), None),
    ):
        assert processor is None or processor(value) is value
