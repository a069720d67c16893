r"""The rules documents are cleaned and split by, in the shape Dify's users know.

::

    {"mode": "custom",
     "rules": {"pre_processing_rules": [{"id": "remove_extra_spaces", "enabled": true}],
               "segmentation": {"separator": "\n\n", "max_tokens": 500, "chunk_overlap": 50}}}

    {"mode": "hierarchical",
     "rules": {"parent_mode": "paragraph",
               "segmentation": {"separator": "\n\n", "max_tokens": 1000},
               "subchunk_segmentation": {"separator": "\n", "max_tokens": 200}}}
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from shared.errors import InvalidRequest

MIN_TOKENS = 50
MAX_TOKENS = 4000
_MAX_SEPARATOR_CHARACTERS = 100
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}
_ESCAPED = re.compile(r"\\([nrt\\])")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class Mode(StrEnum):
    """Who decides how documents are split."""

    AUTOMATIC = "automatic"  #: at headings and sentences, by rag-worker's own sizes
    CUSTOM = "custom"  #: at a separator, by sizes of the user's
    HIERARCHICAL = "hierarchical"  #: into parents, and those into children


class ParentMode(StrEnum):
    """What a parent is."""

    PARAGRAPH = "paragraph"  #: a stretch between two separators
    FULL_DOC = "full-doc"  #: the whole document


class PreProcessing(StrEnum):
    """What is taken from a text before it is split."""

    REMOVE_EXTRA_SPACES = "remove_extra_spaces"  #: runs of white space become one
    REMOVE_URLS_EMAILS = "remove_urls_emails"  #: addresses of the web and of mail go


class DocForm(StrEnum):
    """What of a document is embedded, and what a search returns."""

    TEXT = "text_model"  #: passages, both
    HIERARCHICAL = "hierarchical_model"  #: children are embedded, their parent is returned
    QUESTIONS = "qa_model"  #: questions are embedded, with them their answers are returned


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PreProcessingRule(_Part):
    """One step, on or off."""

    id: PreProcessing
    enabled: bool = True


class Segmentation(_Part):
    r"""Where a text is cut.

    Attributes:
        separator: a literal text at which every segment ends; ``\n``, ``\t`` and ``\\``
            may be written as two characters. Without one, headings and sentences decide.
        max_tokens: of the embedding model's; what is longer is cut again.
        chunk_overlap: tokens repeated from the piece before, where a too long one was cut.
    """

    separator: str | None = Field(
        default=None, validation_alias=AliasChoices("separator", "delimiter")
    )
    max_tokens: Annotated[int, Field(ge=MIN_TOKENS, le=MAX_TOKENS, strict=True)]
    chunk_overlap: Annotated[int, Field(ge=0, strict=True)] = 0

    @field_validator("separator")
    @classmethod
    def _can_be_met(cls, separator: str | None) -> str | None:
        if separator is None:
            return None
        if not separator:
            raise ValueError(
                r"is empty: write \n\n for blank lines, or leave it out to split by meaning"
            )
        if len(separator) > _MAX_SEPARATOR_CHARACTERS:
            raise ValueError(f"has more than {_MAX_SEPARATOR_CHARACTERS} characters")
        if _UNSTORABLE.search(separator):
            raise ValueError("holds a character that no text has (NUL or half of a pair)")
        return separator

    @model_validator(mode="after")
    def _moves_on(self) -> Self:
        if self.chunk_overlap >= self.max_tokens:
            raise ValueError(
                f"chunk_overlap {self.chunk_overlap} is not less than max_tokens "
                f"{self.max_tokens}: a tenth of max_tokens is a good overlap"
            )
        return self

    @property
    def literal_separator(self) -> str | None:
        """The separator itself, its escapes resolved."""
        if self.separator is None:
            return None
        return _ESCAPED.sub(lambda found: _ESCAPES[found[1]], self.separator)


class Rules(_Part):
    """What a custom or hierarchical rule says."""

    pre_processing_rules: tuple[PreProcessingRule, ...] = ()
    segmentation: Segmentation | None = None
    parent_mode: ParentMode = ParentMode.PARAGRAPH
    subchunk_segmentation: Segmentation | None = None

    def does(self, step: PreProcessing) -> bool:
        """Whether a step is on; of several entries the last counts."""
        return {one.id: one.enabled for one in self.pre_processing_rules}.get(step, False)


class ProcessRule(_Part):
    """How documents are cleaned and split."""

    mode: Mode = Mode.AUTOMATIC
    rules: Rules | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_what_does_not_count(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        # Dify's own interface says its limits, and its defaults along with the mode automatic.
        counts = {name: value for name, value in given.items() if name != "limits"}
        if counts.get("mode", Mode.AUTOMATIC) == Mode.AUTOMATIC:
            counts["rules"] = None
        return counts

    @model_validator(mode="after")
    def _says_what_its_mode_needs(self) -> Self:
        if self.mode is Mode.CUSTOM:
            _require_custom(self.rules)
        elif self.mode is Mode.HIERARCHICAL:
            _require_hierarchical(self.rules)
        return self

    def as_json(self) -> dict[str, Any]:
        """What is stored beside the mode, and shown."""
        if self.rules is None:
            return {}
        return self.rules.model_dump(mode="json", exclude_none=True, exclude=self._left_out())

    def _left_out(self) -> set[str]:
        return set() if self.mode is Mode.HIERARCHICAL else {"parent_mode"}


def parse_process_rule(given: Any) -> ProcessRule:
    """A rule from JSON as Dify's users write it.

    Raises:
        InvalidRequest: it says something wrong; the message names the field and the way out.
    """
    if isinstance(given, ProcessRule):
        return given
    if not isinstance(given, Mapping):
        raise InvalidRequest(
            f"a process rule is an object with mode and rules, not {type(given).__name__}"
        )
    try:
        return ProcessRule.model_validate(given)
    except ValidationError as error:
        raise InvalidRequest(f"process rule: {'; '.join(_reasons(error))}") from None


def require_form(rule: ProcessRule, doc_form: str) -> None:
    """Check that documents of a form can be split by the rule.

    Raises:
        InvalidRequest: they cannot.
    """
    is_hierarchical = doc_form == DocForm.HIERARCHICAL
    if rule.mode is Mode.HIERARCHICAL and not is_hierarchical:
        raise InvalidRequest(
            f"mode hierarchical makes parents and children, which a {doc_form} dataset has not: "
            "use mode custom, or make a dataset of form hierarchical_model"
        )
    if rule.mode is Mode.CUSTOM and is_hierarchical:
        raise InvalidRequest(
            "mode custom makes no children, which a hierarchical_model dataset needs: "
            "use mode hierarchical, or automatic"
        )


def parse_doc_form(given: str) -> DocForm:
    """A form by its name.

    Raises:
        InvalidRequest: there is none of this name.
    """
    try:
        return DocForm(given)
    except ValueError:
        raise InvalidRequest(f"doc_form: {given!r} is none of {', '.join(DocForm)}") from None


def _require_custom(rules: Rules | None) -> None:
    if rules is None or rules.segmentation is None:
        raise ValueError("mode custom needs rules.segmentation with max_tokens")
    if rules.subchunk_segmentation is not None:
        raise ValueError("rules.subchunk_segmentation: only mode hierarchical has children")


def _require_hierarchical(rules: Rules | None) -> None:
    if rules is None or rules.subchunk_segmentation is None:
        raise ValueError("mode hierarchical needs rules.subchunk_segmentation with max_tokens")
    if rules.parent_mode is ParentMode.FULL_DOC:
        return
    if rules.segmentation is None:
        raise ValueError(
            "parent_mode paragraph needs rules.segmentation with max_tokens; "
            "with parent_mode full-doc the whole document is the parent"
        )
    child, parent = rules.subchunk_segmentation.max_tokens, rules.segmentation.max_tokens
    if child > parent:
        raise ValueError(
            f"rules.subchunk_segmentation.max_tokens {child} is more than the parent's "
            f"rules.segmentation.max_tokens {parent}: a child is a part of its parent"
        )


def _reasons(error: ValidationError) -> list[str]:
    found = []
    for one in error.errors(include_url=False):
        where = ".".join(str(part) for part in one["loc"])
        why = one["msg"].removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            why = "there is no such field"
        elif "input" in one and isinstance(one["input"], (str, int, float, bool)):
            why = f"{why}, not {one['input']!r}" if one["type"] != "value_error" else why
        found.append(f"{where} {why}" if where else why)
    return found
