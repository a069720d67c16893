import itertools
import random
import time
from collections import Counter

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


def document(lines: int, seed: int) -> list[str]:
    """Lines of made-up text, in paragraphs, with headings and lists: three or four a passage."""
    choose = random.Random(seed)
    made = []
    for _ in range(lines):
        words = ("".join(choose.choices("abcdefghij", k=choose.randint(2, 9))) for _ in range(14))
        made.append(" ".join(words) + choose.choice([".", ".", "", ":"]))
        if choose.random() < 0.3:
            made.append(choose.choice(["", "", "", "# Heading", "- item of a list"]))
    return made


def texts_of(lines: list[str], *, is_markdown: bool, block_lines: int = 100_000) -> Counter[str]:
    blocks = (
        Block("".join(f"{line}\n" for line in lines[start : start + block_lines]), is_markdown)
        for start in range(0, len(lines), block_lines)
    )
    return Counter(passage.text for passage in split(blocks, SplitRule(100, 10), count_bytes))


LINES = document(1_500, seed=1)
WHOLE = {is_markdown: texts_of(LINES, is_markdown=is_markdown) for is_markdown in (False, True)}
#: Of about 400: a stretch of the text, and what its neighbours repeat.
FEW = 40


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, len(LINES) - 1),
    st.sampled_from(["", "x", "# New heading", "a line of several words more.", "红隼岛。" * 9]),
    st.booleans(),
    st.booleans(),
)
def test_an_edit_of_one_line_changes_few_passages_wherever_it_is(at, new, is_added, is_markdown):
    edited = [*LINES[:at], new, *LINES[at + (not is_added) :]]
    changed = texts_of(edited, is_markdown=is_markdown) - WHOLE[is_markdown]
    assert changed.total() <= FEW


@pytest.mark.parametrize("is_markdown", [False, True])
def test_a_hundredth_edited_all_over_a_document_changes_about_a_hundredth(is_markdown):
    lines = document(18_000, seed=2)
    before = texts_of(lines, is_markdown=is_markdown)
    choose = random.Random(3)
    for at in choose.sample(range(len(lines)), before.total() // 100):
        lines[at] += " some words more"
    assert before.total() > 5_000
    changed = texts_of(lines, is_markdown=is_markdown) - before
    assert before.total() * 0.005 < changed.total() < before.total() * 0.03


@pytest.mark.parametrize("block_lines", [7, 501])
def test_passages_do_not_depend_on_where_a_streamed_file_was_cut(block_lines):
    assert (texts_of(LINES, is_markdown=False, block_lines=block_lines) - WHOLE[False]).total() <= 2
