"""What a search may ask for, checked before anything is looked up."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from uuid import UUID

from shared.errors import InvalidRequest
from shared.models.retrieval_model import MOST_PASSAGES, RetrievalModel

#: Where neither the caller nor the dataset says.
_PASSAGES = 5
LONGEST_QUESTION_CHARACTERS = 8_000

#: What a document's metadata can be compared with.
Scalar = str | int | float | bool


class SearchMethod(StrEnum):
    """How passages are found."""

    VECTOR = "vector"  #: by meaning: the cosine of question and passage
    KEYWORD = "keyword"  #: by words: how much of the question a passage holds
    HYBRID = "hybrid"  #: both, fused


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What a search may ask for.

    Attributes:
        method: ``vector``, ``keyword`` or ``hybrid``; ``None`` for the dataset's: what is set
            for it, else keyword of an economy dataset, else hybrid where the documents have
            keywords.
        top_k: passages at most, 1 to 100; ``None`` for what is set for the dataset, else 5.
        score_threshold: leave out passages that score less, 0 to 1; what a score means
            depends on the method, see docs/retrieval.md. ``None`` for what is set for the
            dataset; 0 leaves nothing out.
        documents: search these only; ``None`` for all.
        metadata: search documents only whose metadata has these values, each given
            as one value or as a list of which one must be met.
    """

    method: str | None = None
    top_k: int | None = None
    score_threshold: float | None = None
    documents: Sequence[UUID] | None = None
    metadata: Mapping[str, Scalar | Sequence[Scalar]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            InvalidRequest: names the field and what it takes.
        """
        _check_method(self.method)
        if self.top_k is not None:
            _check_number("top_k", self.top_k, 1, MOST_PASSAGES)
            if not isinstance(self.top_k, int):
                raise InvalidRequest(f"top_k is a whole number, not {self.top_k!r}")
        if self.score_threshold is not None:
            _check_number("score_threshold", self.score_threshold, 0, 1)
        if self.documents is not None:
            _check_documents(self.documents)
        _check_metadata(self.metadata)

    @property
    def passages(self) -> int:
        """How many there may be."""
        return _PASSAGES if self.top_k is None else self.top_k

    def over(self, dataset: RetrievalModel, *, has_vectors: bool) -> "SearchOptions":
        """These, with what they leave open as it is set for the dataset."""
        # Set when it had vectors, which it has no longer.
        fits = has_vectors or dataset.method == SearchMethod.KEYWORD
        threshold = self.score_threshold
        return replace(
            self,
            method=self.method or (dataset.method if fits else None),
            top_k=self.top_k or dataset.top_k,
            score_threshold=dataset.score_threshold if threshold is None else threshold,
        )


def check_question(question: str) -> None:
    """Check what is asked.

    Raises:
        InvalidRequest: it is empty or too long.
    """
    if not isinstance(question, str) or not question.strip():
        raise InvalidRequest("the question is empty: ask for something")
    if not _is_text(question):
        raise InvalidRequest("the question is not valid text: send it as UTF-8")
    if len(question) > LONGEST_QUESTION_CHARACTERS:
        raise InvalidRequest(
            f"the question has {len(question):,} characters, "
            f"at most {LONGEST_QUESTION_CHARACTERS:,} are searched for: shorten it"
        )


def values_of(wanted: Scalar | Sequence[Scalar]) -> list[Scalar]:
    """The values of which one must be met."""
    return [wanted] if isinstance(wanted, str | int | float) else list(wanted)


def _check_method(method: str | None) -> None:
    known = [str(one) for one in SearchMethod]
    if method is not None and method not in known:
        raise InvalidRequest(f"there is no search method {method!r}, only: {', '.join(known)}")


def _check_number(name: str, value: object, least: float, most: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= value <= most:  # type: ignore[operator]
        raise InvalidRequest(f"{name} is a number from {least:g} to {most:g}, not {value!r}")


def _check_documents(documents: object) -> None:
    is_list = isinstance(documents, Sequence) and not isinstance(documents, str)
    if not is_list or not all(isinstance(one, UUID) for one in documents):  # type: ignore[attr-defined]
        raise InvalidRequest("documents is a list of document ids (UUID)")


def _check_metadata(metadata: object) -> None:
    if not isinstance(metadata, Mapping):
        raise InvalidRequest("metadata is a mapping of names to values")
    for name, wanted in metadata.items():
        if not isinstance(name, str) or not name or not _is_text(name):
            raise InvalidRequest(f"a name in metadata is a text that is not empty, not {name!r}")
        is_list = isinstance(wanted, Sequence) and not isinstance(wanted, str)
        values = list(wanted) if is_list else [wanted]
        if not values:
            raise InvalidRequest(f"metadata {name!r} has no value: give at least one")
        for value in values:
            _check_value(name, value)


def _check_value(name: str, value: object) -> None:
    if not isinstance(value, str | int | float):
        raise InvalidRequest(
            f"metadata {name!r} is compared with a text, a number, true or false, not {value!r}"
        )
    if isinstance(value, str) and not _is_text(value):
        raise InvalidRequest(f"metadata {name!r}: {value!r} is nothing that a text can be")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest(f"metadata {name!r}: a finite number, not {value!r}")


def _is_text(value: str) -> bool:
    """Whether a database can hold it: no null character, no half of a character."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False
