"""Where sentences begin and end, in English and Chinese, and what is none."""

import pytest

from worker.services.generation.sentences import all_pieces, is_prose, joined, sentences

MARKDOWN = """\
# Heading of it

- The first item is a sentence.
- The second item is one, too.

```
code is not a sentence at all.
```

| a table | is none of them either |
"""
RESTRUCTURED = """\
Title of this
=============

The text **begins** here and goes on.

.. note:: this is a directive.

    >>> x = literal(block)
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "The lamp turns at night. Who keeps it lit? Dr. Smith does, e.g. in winter at 3.5 C.",
            [
                "The lamp turns at night.",
                "Who keeps it lit?",
                "Dr. Smith does, e.g. in winter at 3.5 C.",
            ],
        ),
        (
            'He said: "The lamp is out." Then the keeper climbed\nthe long stairs again.',
            ['He said: "The lamp is out."', "Then the keeper climbed the long stairs again."],
        ),
        (
            "灯塔的灯在夜里转动。“谁在看守它？”船长大声问道！冬天里看守人\n每天爬上楼梯；夏天没有人。",
            [
                "灯塔的灯在夜里转动。",
                "“谁在看守它？”",
                "船长大声问道！",
                "冬天里看守人每天爬上楼梯；",
                "夏天没有人。",
            ],
        ),
        (MARKDOWN, ["The first item is a sentence.", "The second item is one, too."]),
        (RESTRUCTURED, ["The text begins here and goes on."]),
    ],
)
def test_sentences_are_found(text: str, found: list[str]) -> None:
    assert list(sentences(text)) == [one for one in found if is_prose(one)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Too short.",
        "a = {b: c} | d; e = f() or {}",
        "The options that it takes are:",
        "1 2 3 4",
    ],
)
def test_what_nobody_could_have_said_is_no_prose(text: str) -> None:
    assert not is_prose(text)


def test_a_table_still_has_pieces() -> None:
    assert list(all_pieces("| lamp | 40 W |\n| oil | 3 l |")) == [
        "| lamp | 40 W |",
        "| oil | 3 l |",
    ]


def test_scripts_without_spaces_are_joined_without_them() -> None:
    assert (
        joined(["灯在夜里转动。", "看守人在楼上。", "The end."])
        == "灯在夜里转动。看守人在楼上。The end."
    )
    assert joined(["It turns.", "Who knows?"]) == "It turns. Who knows?"
