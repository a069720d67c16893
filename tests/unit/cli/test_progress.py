"""The display of a run: a bar where one can be redrawn, lines elsewhere."""

import io
from uuid import uuid4

import pytest
from rich.console import Console

from shared.models import DocumentStatus
from worker.cli.following import Seen
from worker.cli.printing import printable, shortened
from worker.cli.progress import show_changes

NAME = "[red]a\x1b[2J.txt"


def changes() -> list[list[Seen]]:
    one = uuid4()
    return [
        [Seen(one, NAME, DocumentStatus.INDEXING, 1, None)],
        [Seen(one, NAME, DocumentStatus.COMPLETED, 2, None)],
        [Seen(uuid4(), "b.txt", DocumentStatus.ERROR, 0, "b.txt is empty")],
    ]


def shown(console: Console) -> str:
    ended = show_changes(console, changes(), 2)
    assert [one.status for one in ended] == [DocumentStatus.COMPLETED, DocumentStatus.ERROR]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_shows_a_bar() -> None:
    text = shown(
        Console(file=io.StringIO(), force_terminal=True, width=120, _environ={"TERM": "xterm"})
    )

    assert "━" in text
    assert "2/2" in text
    assert "\x1b[32m✓" in text
    assert "\x1b[2J" not in text


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": "unknown"}])
def test_a_dumb_terminal_gets_lines(environment: dict[str, str]) -> None:
    text = shown(Console(file=io.StringIO(), force_terminal=True, width=40, _environ=environment))

    assert text.splitlines() == [
        "✓ [red]a�[2J.txt  2 segments",
        "✗ b.txt  error: b.txt is empty",
    ]


def test_no_color_is_respected() -> None:
    environment = {"TERM": "xterm", "NO_COLOR": "1"}
    text = shown(Console(file=io.StringIO(), force_terminal=True, width=120, _environ=environment))

    assert "━" in text
    assert "\x1b[32m" not in text


def test_a_pipe_gets_a_line_a_document_however_long() -> None:
    text = shown(Console(file=io.StringIO(), width=10))

    assert text.splitlines() == [
        "✓ [red]a�[2J.txt  2 segments",
        "✗ b.txt  error: b.txt is empty",
    ]


def test_what_strangers_wrote_is_one_line_without_control_characters() -> None:
    assert printable("a\n b\t\x07c\x9b31m") == "a b �c�31m"
    assert shortened("x" * 300, 10) == "x" * 9 + "…"
    assert shortened("short") == "short"
