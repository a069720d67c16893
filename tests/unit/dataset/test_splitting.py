import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.providers.parser import Block
from worker.services.dataset.splitting import Passage, SplitRule, split, split_again

WORDS = st.sampled_from(
    [
        "boat",
        "harbour. ",
        "\n",
        "\n\n",
        " ",
        "# ",
        "- ",
        "```\n",
        "红隼岛",
        "。",
        "👩‍👧",
        "e\u0301",
        "|",
        "\t",
        "*",
        "> ",
        "    ",
    ]
)
TEXTS = st.one_of(st.lists(WORDS, max_size=300).map("".join), st.text(max_size=500))
RULES = st.builds(SplitRule, max_tokens=st.integers(1, 50), overlap_tokens=st.integers(0, 20))


def count_bytes(text: str) -> int:
    """Tokens of three bytes: as uneven per character as a real vocabulary."""
    return -(-len(text.encode()) // 3)


def settled(passage: Passage, rule: SplitRule) -> list[Passage]:
    tokens = count_bytes(passage.text)
    if tokens <= rule.max_tokens or len(passage.text) == 1:
        return [passage]
    pieces = list(split_again(passage, tokens, rule))
    assert all(len(piece.text) < len(passage.text) for piece in pieces)
    return [end for piece in pieces for end in settled(piece, rule)]


def require_covered(text: str, passages: list[Passage]) -> None:
    """Walk through the text: each passage begins at or before the end of what is covered."""
    covered = 0
    for passage in passages:
        start = text.find(passage.text, max(covered - len(passage.text), 0))
        while start != -1 and start + len(passage.text) <= covered:
            start = text.find(passage.text, start + 1)
        assert start != -1
        assert not text[covered:start].strip()
        covered = start + len(passage.text)
    assert not text[covered:].strip()


@settings(deadline=None)
@given(TEXTS, RULES, st.booleans())
def test_no_passage_is_empty_or_stays_too_long(text, rule, is_markdown):
    for passage in split([Block(text, is_markdown)], rule, count_bytes):
        for piece in settled(passage, rule):
            assert piece.text.strip()
            assert count_bytes(piece.text) <= rule.max_tokens or len(piece.text) == 1


@settings(deadline=None)
@given(TEXTS, RULES, st.booleans())
def test_nothing_but_white_space_is_lost(text, rule, is_markdown):
    without_overlap = SplitRule(rule.max_tokens, 0)
    passages = list(split([Block(text, is_markdown)], without_overlap, count_bytes))
    joined = "".join(passage.text for passage in passages)
    assert "".join(joined.split()) == "".join(text.split())
    pieces = [piece for passage in passages for piece in settled(passage, rule)]
    joined = "".join(piece.text for piece in pieces)
    assert "".join(joined.split()) == "".join(text.split())


@pytest.mark.parametrize("is_markdown", [False, True])
@pytest.mark.parametrize("overlap_tokens", [0, 30])
def test_numbered_words_are_covered_in_order_through_every_window(is_markdown, overlap_tokens):
    text = " ".join(f"word{number}." for number in range(20_000))
    rule = SplitRule(100, overlap_tokens)
    require_covered(text, list(split([Block(text, is_markdown)], rule, count_bytes)))


def test_each_passage_repeats_the_end_of_the_one_before():
    text = " ".join(f"word{number}" for number in range(10_000))
    passages = list(split([Block(text)], SplitRule(100, 30), count_bytes))
    for before, after in itertools.pairwise(passages):
        first = after.text.split()[0]
        assert first in before.text.split()
        repeated = before.text[before.text.index(first) :]
        assert after.text.startswith(repeated)
        assert count_bytes(repeated) <= 31


def test_without_overlap_nothing_is_repeated():
    text = " ".join(f"word{number}" for number in range(10_000))
    passages = split([Block(text)], SplitRule(100, 0), count_bytes)
    assert " ".join(passage.text for passage in passages).split() == text.split()


def test_headings_and_pages_are_kept():
    text = "# One\n\nFirst text.\n\n# Two\n\nSecond text."
    passages = list(split([Block(text, is_markdown=True, page=3)], SplitRule(8, 0), count_bytes))
    assert [passage.text for passage in passages][:1] == ["# One\n\nFirst text."]
    assert {passage.page for passage in passages} == {3}
    assert all(passage.is_markdown for passage in passages)


def test_blank_blocks_become_nothing():
    blank = [Block(""), Block(" \n\t\n" * 50_000), Block("\u3000")]
    assert list(split(blank, SplitRule(), count_bytes)) == []


def test_a_character_that_is_too_long_is_given_back_once():
    only = Passage("\U0001f6a2", None, is_markdown=False)
    assert list(split_again(only, 4, SplitRule(1, 0))) == [only]


@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000,
        "中" * 100_000,
        "\n" * 100_000,
        "🚢" * 100_000,
        "a" + "\u0301" * 100_000,
        "`" * 100_000,
        "[" * 100_000,
        "> " * 50_000,
        "|a" * 50_000,
    ],
    ids=["one word", "CJK", "newlines", "emoji", "marks", "ticks", "brackets", "quotes", "table"],
)
def test_text_without_a_place_to_cut_is_still_fast(text):
    started = time.process_time()
    for is_markdown in (False, True):
        list(split([Block(text, is_markdown)], SplitRule(), count_bytes))
    assert time.process_time() - started < 4


def test_a_code_block_at_which_the_markdown_splitter_panics_is_cut_as_text() -> None:
    text = "    \t ```\n\t\té    - "
    rule = SplitRule(max_tokens=8, overlap_tokens=17)

    passages = list(split([Block(text, is_markdown=True)], rule, count_bytes))

    assert "é" in "".join(one.text for one in passages)
