"""Values on their way to MariaDB: what a statement makes of its parameters."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from shared.mysql.values import encoded, with_lists

ONE, OTHER = UUID(int=1), UUID(int=2)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (ONE, ONE.hex),
        (
            datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=3))),
            datetime(2026, 1, 2),  # noqa: DTZ001 - that is what is stored
        ),
        ({"a": [ONE, True]}, f'{{"a": ["{ONE.hex}", true]}}'),
        (["ä"], '["ä"]'),
        (memoryview(b"x"), b"x"),
        (None, None),
        (True, True),
    ],
)
def test_a_value_has_the_form_that_is_stored(given: Any, stored: Any) -> None:
    assert encoded("SELECT %(x)s", {"x": given}) == {"x": stored}


def test_a_list_stands_in_the_statement_as_its_values() -> None:
    ready = encoded("a IN %(LIST__names)s", {"names": ["a", "b"]})
    assert ready["LIST__names"] == ("a", "b")
    pairs = encoded("(a, b) IN %(LIST__keys)s", {"keys": [(ONE, 1)]})
    assert pairs["LIST__keys"] == ((ONE.hex, 1),)


def test_ids_may_be_given_as_text() -> None:
    ready = encoded("a IN %(IDS__ids)s", {"ids": [str(ONE), OTHER]})
    assert ready["IDS__ids"] == (ONE.hex, OTHER.hex)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("a IN %(LIST__x)s", "a IN (SELECT NULL FROM DUAL WHERE FALSE)"),
        ("NOT (a IN %(IDS__x)s)", "NOT (a IN (SELECT NULL FROM DUAL WHERE FALSE))"),
        ("(a, b) IN %(LIST__x)s", "(a, b) IN (SELECT NULL, NULL FROM DUAL WHERE FALSE)"),
    ],
)
def test_an_empty_list_is_an_empty_set(statement: str, said: str) -> None:
    assert with_lists(statement, {"x": []}) == said
    assert with_lists(statement, {"x": [1]}) == statement


def test_lists_of_one_length_are_rows() -> None:
    given = {"ids": [ONE, OTHER], "hashes": [b"\x01", None], "are": [True, False]}
    ready = encoded("%(ZIP__ids__hashes__are)s", given)
    assert ready["ZIP__ids__hashes__are"] == (f'[["{ONE.hex}", "01", 1], ["{OTHER.hex}", null, 0]]')
    with pytest.raises(ValueError, match="zip"):
        encoded("%(ZIP__a__b)s", {"a": [1], "b": []})


def test_times_are_told_in_utc() -> None:
    noon = datetime(2026, 6, 1, 12, tzinfo=UTC)
    assert encoded("%(x)s", {"x": noon}) == {"x": noon.replace(tzinfo=None)}
