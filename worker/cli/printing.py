"""Text of strangers (file names, passages, reasons) on a terminal."""

import re

# Escape sequences in a name could move the cursor, retitle or even feed the terminal.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """The text on one line, without control characters."""
    return _CONTROLS.sub("�", " ".join(text.split()))


def shortened(text: str, characters: int = 240) -> str:
    """The beginning of a text on one line."""
    line = printable(text)
    return line if len(line) <= characters else line[: characters - 1] + "…"
