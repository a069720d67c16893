"""Options that name a JSON file."""

import json
from typing import Any

import click


class JsonFile(click.ParamType[dict[str, Any]]):
    """The content of a JSON file, ``-`` for standard input."""

    name = "file"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        """Read the object in it."""
        opened = click.File(encoding="utf-8-sig").convert(value, param, ctx)
        try:
            read = json.load(opened)
        except ValueError as error:
            self.fail(f"{value} is not JSON: {error}", param, ctx)
        if not isinstance(read, dict):
            self.fail(f"{value} holds no JSON object", param, ctx)
        return read
