"""How a dataset is searched when the caller does not say, in the shape Dify's users know.

::

    {"search_method": "hybrid_search", "top_k": 4,
     "score_threshold_enabled": true, "score_threshold": 0.5}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import InvalidRequest

MOST_PASSAGES = 100

#: Dify's words, and ours.
_METHODS = {
    "semantic_search": "vector",
    "full_text_search": "keyword",
    "keyword_search": "keyword",
    "hybrid_search": "hybrid",
    "vector": "vector",
    "keyword": "keyword",
    "hybrid": "hybrid",
}
_WORDS = {
    "vector": "semantic_search",
    "keyword": "full_text_search",
    "hybrid": "hybrid_search",
}
#: Parts of Dify's that say how passages are ranked again, or weighed: here that is fixed.
_IGNORED = {"reranking_enable", "reranking_mode", "reranking_model", "weights"}
_READ = ("search_method", "top_k", "score_threshold_enabled", "score_threshold")


@dataclass(frozen=True, slots=True)
class RetrievalModel:
    """A dataset's way of being searched; ``None`` leaves it to the search.

    Attributes:
        method: ``vector``, ``keyword`` or ``hybrid``.
        top_k: passages at most, 1 to 100.
        score_threshold: passages that score less are left out, 0 to 1.
    """

    method: str | None = None
    top_k: int | None = None
    score_threshold: float | None = None

    def as_json(self) -> dict[str, Any]:
        """As it is stored, and shown."""
        stored: dict[str, Any] = {}
        if self.method is not None:
            stored["search_method"] = _WORDS[self.method]
        if self.top_k is not None:
            stored["top_k"] = self.top_k
        if self.score_threshold is not None:
            stored |= {"score_threshold_enabled": True, "score_threshold": self.score_threshold}
        return stored


def parse_retrieval_model(given: Any) -> RetrievalModel:
    """A retrieval model from JSON as Dify's users write it; an empty one leaves all open.

    Raises:
        InvalidRequest: it says something wrong; the message names the field and the way out.
    """
    if isinstance(given, RetrievalModel):
        given = given.as_json()
    if not isinstance(given, Mapping):
        raise InvalidRequest(f"a retrieval model is an object, not {type(given).__name__}")
    if unknown := [str(name) for name in given if name not in {*_READ, *_IGNORED}]:
        raise InvalidRequest(
            f"retrieval model: there is no {', '.join(sorted(unknown))}, only: {', '.join(_READ)}"
        )
    if given.get("reranking_enable"):
        raise InvalidRequest(
            "retrieval model: reranking_enable: passages are not ranked again by a model here: "
            "set it to false"
        )
    is_cut = given.get("score_threshold_enabled", given.get("score_threshold") is not None)
    if not isinstance(is_cut, bool):
        raise InvalidRequest("retrieval model: score_threshold_enabled is true or false")
    return RetrievalModel(
        _method(given.get("search_method")),
        _number("top_k", given.get("top_k"), int, 1, MOST_PASSAGES),
        _number("score_threshold", given.get("score_threshold"), float, 0, 1) if is_cut else None,
    )


def read_retrieval_model(stored: Mapping[str, Any]) -> RetrievalModel:
    """What stands in a dataset's row; where Dify wrote it, what is Dify's alone is passed over.

    Raises:
        InvalidRequest: it says something wrong of what is read here.
    """
    return parse_retrieval_model({name: stored[name] for name in _READ if name in stored})


def _method(given: Any) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str) or given not in _METHODS:
        known = ", ".join(_METHODS)
        raise InvalidRequest(f"retrieval model: there is no search_method {given!r}, only: {known}")
    return _METHODS[given]


def _number(name: str, given: Any, kind: type, least: int, most: int) -> Any:
    if given is None:
        return None
    is_number = isinstance(given, (int, kind)) and not isinstance(given, bool)
    if not is_number or not least <= given <= most:
        whole = "whole " if kind is int else ""
        raise InvalidRequest(
            f"retrieval model: {name} is a {whole}number from {least} to {most}, not {given!r}"
        )
    return kind(given)
