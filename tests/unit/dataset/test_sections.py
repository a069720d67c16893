import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.providers.parser import Block
from worker.services.dataset.sections import cut_at, whole
from worker.services.dataset.splitting import SplitRule, split

PIECES = st.lists(st.sampled_from(["a", "bc", " ", "\n", "##", "#", "d. "]), max_size=60)


def blocks_of(text, cuts):
    ends = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    return [Block(text[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def count_words(text):
    return max(len(text.split()), 1)


@given(PIECES.map("".join), st.lists(st.integers(0, 100)))
def test_sections_do_not_depend_on_where_blocks_end(text, cuts):
    found = [section.text for section in cut_at(blocks_of(text, cuts), "##")]
    assert found == [piece for piece in text.split("##") if piece.strip()]


@given(PIECES.map("".join), st.lists(st.integers(0, 100)), st.integers(4, 30))
def test_a_whole_document_is_cut_only_at_the_limit(text, cuts, limit):
    found = [block.text for block in whole(blocks_of(text, cuts), limit)]
    assert all(len(one) <= limit for one in found)
    assert "".join("".join(found).split()) == "".join(text.split())
    if len(text) <= limit:
        assert found == ([text] if text.strip() else [])


def test_pages_end_sections_and_whole_documents_keep_them_apart():
    pages = [Block("one##two", page=1), Block("three##four", page=2)]
    assert [(one.text, one.page) for one in cut_at(pages, "##")] == [
        ("one", 1),
        ("two", 1),
        ("three", 2),
        ("four", 2),
    ]
    assert [(one.text, one.page) for one in whole(pages, 1000)] == [
        ("one##two\n\nthree##four", 1),
    ]


def test_a_stretch_without_a_separator_is_not_held_and_none_is_missed():
    blocks = [Block("word " * 40_000) for _ in range(10)] + [Block("a#"), Block("#b")]
    sections = [section.text for section in cut_at(blocks, "##")]
    assert len(sections) > 2
    assert max(map(len, sections)) <= 256 * 1024
    assert sections[-2].endswith("a")
    assert sections[-1] == "b"
    assert "".join(sections) == "word " * 400_000 + "ab"


def test_what_fits_between_separators_stays_whole_and_what_does_not_is_cut():
    short, long = "one two three.", " ".join(f"w{number}" for number in range(300)) + "."
    blocks = [Block(f"{short}\n\n{long}\n\n{short}")]
    rule = SplitRule(60, 10, "\n\n")
    passages = [passage.text for passage in split(blocks, rule, count_words)]
    assert passages[0] == passages[-1] == short
    assert len(passages) > 6
    # The overlap is inside the long one only.
    assert passages[2].split()[0] in passages[1].split()


@pytest.mark.parametrize("separator", [".", "\\d", "$^", "a|b", "["])
def test_a_separator_is_no_pattern(separator):
    blocks = [Block(f"one 1{separator}two ab")]
    found = [passage.text for passage in split(blocks, SplitRule(60, 0, separator), count_words)]
    assert found == ["one 1", "two ab"]


@given(PIECES.map("".join), st.integers(1, 5))
def test_nothing_but_separators_and_white_space_is_lost(text, max_tokens):
    rule = SplitRule(max_tokens, 0, "##")
    found = "".join(passage.text for passage in split([Block(text)], rule, count_words))
    assert "".join(found.split()) == "".join(text.replace("##", "").split())


def test_a_separator_that_has_begun_is_kept_together_at_the_longest_stretch():
    begun = "x" * (256 * 1024 - 1) + "##"
    sections = [section.text for section in cut_at([Block(begun), Block("#b")], "###")]
    assert "".join(sections) == "x" * (256 * 1024 - 1) + "b"
