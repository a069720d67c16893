"""Rows that COPY reads are the rows that an INSERT writes."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from psycopg2.errors import UniqueViolation
from psycopg2.extensions import set_wait_callback
from psycopg2.extras import wait_select
from sqlalchemy import text
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from sqlalchemy.orm import Session

from worker.stores import binary_copy

_KEYS = UUID(int=2**127 + 5)
_COPY = text("COPY copied (id, a, b, c, d) FROM STDIN (FORMAT binary)")


@pytest.fixture(autouse=True, params=[None, wait_select], ids=["blocking", "by callback"])
def waiting(request: pytest.FixtureRequest) -> Iterator[None]:
    """Under gevent psycopg2 waits by a callback; which one is no matter to COPY."""
    set_wait_callback(request.param)
    yield
    set_wait_callback(None)


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
    with pytest.raises(IntegrityError, match="already exists") as raised:
        binary_copy.copy(session, _COPY, [row, row])

    assert isinstance(raised.value.orig, UniqueViolation)
    assert raised.value.orig.pgcode == "23505"
    session.rollback()
    assert session.scalar(text("SELECT 1")) == 1


@pytest.mark.usefixtures("table")
def test_rows_larger_than_any_buffer_arrive_whole(session: Session) -> None:
    texts = [f"{number} {'lamp ' * 400_000}" for number in range(8)]
    rows = [
        binary_copy.row(
            binary_copy.uuid(UUID(int=number)),
            binary_copy.int4(number),
            binary_copy.text(one),
            binary_copy.NULL,
            binary_copy.NULL,
        )
        for number, one in enumerate(texts)
    ]

    binary_copy.copy(session, _COPY, rows)

    assert list(session.scalars(text("SELECT b FROM copied ORDER BY a"))) == texts


@pytest.mark.usefixtures("table")
def test_what_is_no_row_is_refused_while_much_of_it_is_still_to_be_sent(session: Session) -> None:
    with pytest.raises(DataError):
        binary_copy.copy(session, _COPY, [b"\0\7" + bytes(30_000_000)])

    session.rollback()
    assert session.scalar(text("SELECT 1")) == 1


def test_a_copy_begins_the_transaction_that_it_is_in(session: Session) -> None:
    with session.begin():
        session.execute(text("CREATE UNLOGGED TABLE begun (number integer)"))
    copying = text("COPY begun FROM STDIN (FORMAT binary)")
    try:
        binary_copy.copy(session, copying, [binary_copy.row(binary_copy.int4(1))])
        session.rollback()
        assert session.scalar(text("SELECT count(*) FROM begun")) == 0
        session.rollback()
        binary_copy.copy(session, copying, [binary_copy.row(binary_copy.int4(1))])
        session.commit()
        assert session.scalar(text("SELECT count(*) FROM begun")) == 1
    finally:
        session.rollback()
        session.execute(text("DROP TABLE begun"))
        session.commit()


def test_a_connection_that_is_lost_is_not_used_again(session: Session) -> None:
    mine = session.scalar(text("SELECT pg_backend_pid()"))
    with Session(session.get_bind()) as other:
        other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": mine})
    with pytest.raises(OperationalError) as raised:
        binary_copy.copy(session, _COPY, [bytes(10_000_000)])

    assert raised.value.connection_invalidated
    session.rollback()
    assert session.scalar(text("SELECT pg_backend_pid()")) != mine
