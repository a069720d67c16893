"""What a trace must not tell is masked before it is stored, and texts are cut to a limit."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MASK = "***"
#: A text that may be JSON itself, as arguments of tools and attributes often are.
_JSON_BEGINS = ("{", "[")
#: What decides how the tree of spans stands is no content.
_STRUCTURE = frozenset(
    {
        "schema_version",
        "trace_id",
        "span_id",
        "parent_span_id",
        "kind",
        "status",
        "currency",
        "start_ns",
        "end_ns",
        "time_ns",
        "app_id",
    }
)
#: Columns and fields of a limited length.
_LABELS = (
    "user_id",
    "session_id",
    "tags",
    "id",
    "environment",
    "release",
    "provider",
    "request_model",
    "response_model",
    "score",
)
_CHARACTERS = {"name": 512, **dict.fromkeys(_LABELS, 256)}
#: Whatever is below these is the producer's own, keys included.
_CONTENT = frozenset({"input", "output", "attributes", "metadata", "parameters"})


@dataclass(frozen=True, slots=True)
class Redaction:
    """The rules.

    Attributes:
        keys: values of these are masked whole: ``normal_key`` of each.
        patterns: whatever fits one is masked within texts.
        keeps_content: false leaves inputs, outputs and documents' contents out.
        characters: longest text; what is longer is cut.
    """

    keys: frozenset[str] = frozenset()
    patterns: tuple[re.Pattern[str], ...] = ()
    keeps_content: bool = True
    characters: int = 100_000

    def of_config(self, options: Mapping[str, Any]) -> "Redaction":
        """These and what a configuration adds: ``redact_keys``, ``capture_content``."""
        keys = options.get("redact_keys") or []
        if not keys and options.get("capture_content", True):
            return self
        return Redaction(
            self.keys | normal_keys(keys),
            self.patterns,
            self.keeps_content and bool(options.get("capture_content", True)),
            self.characters,
        )

    def apply(self, trace: dict[str, Any]) -> dict[str, Any]:
        """A trace as JSON has it, masked and cut; applied twice it is the same."""
        return {
            name: [self._span(one) for one in value]
            if name == "spans"
            else self._field(name, value)
            for name, value in trace.items()
        }

    def shown(self, name: str) -> str:
        """A trace's name, masked and cut."""
        return str(self._field("name", name))

    def _span(self, span: dict[str, Any]) -> dict[str, Any]:
        kept = span if self.keeps_content else _without_content(span)
        return {name: self._field(name, value) for name, value in kept.items()}

    def _field(self, name: str, value: Any) -> Any:
        if name in _STRUCTURE:
            return value
        if name in _CONTENT:
            return self._value(value)
        if isinstance(value, dict):
            return {key: self._field(key, one) for key, one in value.items()}
        if isinstance(value, list):
            return [self._field(name, one) for one in value]
        if isinstance(value, str):
            return self._text(value)[: _CHARACTERS.get(name)]
        return value

    def _value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: MASK if self._is_masked(key) else self._value(one)
                for key, one in value.items()
            }
        if isinstance(value, list):
            return [self._value(one) for one in value]
        return self._text(value) if isinstance(value, str) else value

    def _is_masked(self, key: str) -> bool:
        if not self.keys:
            return False
        normal = normal_key(key)
        # ``http.request.header.authorization`` is authorization too.
        return normal in self.keys or normal.rpartition(".")[2] in self.keys

    def _text(self, text: str) -> str:
        if self.keys and text.lstrip()[:1] in _JSON_BEGINS:
            text = self._json_text(text)
        for pattern in self.patterns:
            text = pattern.sub(MASK, text)
        return _cut(text, self.characters)

    def _json_text(self, text: str) -> str:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return text
        masked = self._value(value)
        return text if masked == value else json.dumps(masked, ensure_ascii=False)


def normal_key(key: str) -> str:
    """A key as it is compared: ``X-Api-Key`` and ``x_api_key`` are the same."""
    return key.strip().lower().replace("-", "_")


def normal_keys(keys: Iterable[str]) -> frozenset[str]:
    """Several."""
    return frozenset(map(normal_key, keys))


def _without_content(span: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in span.items() if name not in {"input", "output"}}
    if "documents" in kept:
        kept["documents"] = [
            {name: value for name, value in one.items() if name != "content"}
            for one in kept["documents"]
        ]
    return kept


def _cut(text: str, characters: int) -> str:
    # Room for its own mark: cut twice it is the same.
    if len(text) <= characters + 64:
        return text
    return f"{text[:characters]}… [{len(text) - characters} characters cut]"
