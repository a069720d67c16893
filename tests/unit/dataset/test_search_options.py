"""What a search may not ask for, and what it is told."""

from typing import Any
from uuid import uuid4

import pytest

from shared.errors import InvalidRequest
from worker.services.dataset.search_options import SearchOptions


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"method": "semantic"}, "'semantic', only: vector, keyword, hybrid"),
        ({"method": ""}, "no search method ''"),
        ({"top_k": 0}, "top_k is a number from 1 to 100, not 0"),
        ({"top_k": 101}, "not 101"),
        ({"top_k": 2.5}, "whole number"),
        ({"top_k": True}, "top_k"),
        ({"top_k": "5"}, "top_k"),
        ({"score_threshold": -0.1}, "score_threshold is a number from 0 to 1"),
        ({"score_threshold": 1.1}, "score_threshold"),
        ({"score_threshold": float("nan")}, "not nan"),
        ({"score_threshold": "high"}, "'high'"),
        ({"documents": "abc"}, "list of document ids"),
        ({"documents": ["abc"]}, "list of document ids"),
        ({"documents": uuid4()}, "list of document ids"),
        ({"metadata": [("a", 1)]}, "mapping"),
        ({"metadata": {"": 1}}, "a name in metadata"),
        ({"metadata": {5: 1}}, "a name in metadata"),
        ({"metadata": {"a\0": 1}}, "a name in metadata"),
        ({"metadata": {"a": []}}, "'a' has no value"),
        ({"metadata": {"a": None}}, "not None"),
        ({"metadata": {"a": {"b": 1}}}, "'a' is compared with"),
        ({"metadata": {"a": [["b"]]}}, "'a' is compared with"),
        ({"metadata": {"a": "x\0"}}, "nothing that a text can be"),
        ({"metadata": {"a": "\ud800"}}, "nothing that a text can be"),
        ({"metadata": {"\udc80": 1}}, "a name in metadata"),
        ({"metadata": {"a": float("inf")}}, "finite"),
    ],
)
def test_what_cannot_be_is_refused_by_name(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        SearchOptions(**options)
    assert told in str(refused.value)


def test_what_can_be_is_taken() -> None:
    SearchOptions("hybrid", 100, 0, [uuid4()], {"a": "x", "b": [1, 2.5, True], "c": ("y",)})
    SearchOptions(score_threshold=1, documents=[])
