"""Rows that COPY reads are the rows that an INSERT writes."""

from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from worker.stores import binary_copy

_KEYS = UUID(int=2**127 + 5)
_COPY = text("COPY copied (id, a, b, c, d) FROM STDIN (FORMAT binary)")


@pytest.fixture
def table(session: Session) -> None:
    session.execute(
        text("""
            CREATE TEMPORARY TABLE copied (
                id uuid PRIMARY KEY, a integer, b text, c bigint[], d smallint[]
            )
        """)
    )


@pytest.mark.usefixtures("table")
def test_values_of_every_type_come_as_they_were(session: Session) -> None:
    numbers = [0, 1, -1, 2**63 - 1, -(2**63)]
    rows = [
        binary_copy.row(
            binary_copy.number_or_id(_KEYS),
            binary_copy.number_or_id(-(2**31)),
            binary_copy.text("a\\N\t\n«红» 😀"),
            binary_copy.int8_array(numbers),
            binary_copy.int2_array([1, 32_767, -3]),
        ),
        binary_copy.row(binary_copy.uuid(uuid4()), *[binary_copy.NULL] * 4),
        binary_copy.row(
            binary_copy.uuid(uuid4()),
            binary_copy.int4(7),
            binary_copy.text(""),
            binary_copy.NULL,
            binary_copy.NULL,
        ),
    ]

    binary_copy.copy(session, _COPY, rows)

    found = session.execute(text("SELECT * FROM copied ORDER BY a NULLS FIRST")).all()
    assert [tuple(one)[1:] for one in found] == [
        (None, None, None, None),
        (-(2**31), "a\\N\t\n«红» 😀", numbers, [1, 32_767, -3]),
        (7, "", None, None),
    ]
    assert found[1].id == _KEYS


@pytest.mark.usefixtures("table")
def test_a_row_that_is_there_is_an_error_of_the_database(session: Session) -> None:
    row = binary_copy.row(binary_copy.uuid(_KEYS), *[binary_copy.NULL] * 4)
    with pytest.raises(IntegrityError):
        binary_copy.copy(session, _COPY, [row, row])
