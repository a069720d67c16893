"""Values of OpenTelemetry's attributes, flattened ones put together again."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_MOST_ITEMS = 1000


class Attributes:
    """A span's attributes; what was asked for is used up, what is left is the rest."""

    def __init__(self, given: Mapping[str, Any] | None) -> None:
        self._given = {str(name): plain(value) for name, value in (given or {}).items()}
        self._used: set[str] = set()

    def first(self, *names: str) -> Any:
        """The first of these that is there; all of them are used up."""
        self._used.update(names)
        return next((self._given[name] for name in names if name in self._given), None)

    def text(self, *names: str) -> str | None:
        """Likewise, as text; ``None`` when it is empty."""
        found = self.first(*names)
        return str(found) if found is not None and found != "" else None

    def number(self, *names: str) -> float | None:
        """Likewise, of a number that is not negative."""
        found = self.first(*names)
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        return found if is_number and found >= 0 else None

    def count(self, *names: str) -> int | None:
        """Likewise, as a whole number."""
        found = self.number(*names)
        return int(found) if found is not None else None

    def json(self, *names: str) -> Any:
        """Likewise; text that is JSON is what it says."""
        return parsed(self.first(*names))

    def below(self, prefix: str) -> dict[str, Any]:
        """All that begin with the prefix, without it."""
        found = [name for name in self._given if name.startswith(prefix)]
        self._used.update(found)
        return {name.removeprefix(prefix): self._given[name] for name in found}

    def listed(self, prefix: str) -> list[Any]:
        """``prefix.0.a``, ``prefix.1.a`` … as a list of objects, in their order."""
        tree = _tree(self.below(prefix).items())
        return _lists(tree) if isinstance(_lists(tree), list) else []

    def rest(self) -> dict[str, Any]:
        """What nobody asked for."""
        return {name: one for name, one in self._given.items() if name not in self._used}


def plain(value: Any) -> Any:
    """A value that JSON can say, whatever was given."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, Sequence):
        return [plain(one) for one in value]
    return str(value)


def parsed(value: Any) -> Any:
    """Text that is a JSON object or list, read; anything else as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in {"{", "["}:
        return value
    try:
        return plain(json.loads(value))
    except (ValueError, RecursionError):
        return value


def _tree(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in items:
        *above, last = name.split(".")
        here = tree
        for part in above:
            below = here.setdefault(part, {})
            if not isinstance(below, dict):
                below = here[part] = {"value": below}
            here = below
        if not isinstance(here.get(last), dict):
            here[last] = value
    return tree


def _lists(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    made = {key: _lists(value) for key, value in tree.items()}
    if made and all(key.isascii() and key.isdigit() for key in made):
        ordered = sorted(made.items(), key=lambda pair: int(pair[0]))
        return [value for _, value in ordered[:_MOST_ITEMS]]
    return made
