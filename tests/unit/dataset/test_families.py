import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.providers.parser import Block
from worker.services.dataset.cleaning import CleaningRule, finish
from worker.services.dataset.families import Families
from worker.services.dataset.splitting import SplitRule

TEXTS = st.lists(st.sampled_from(["boat ", "harbour. ", "\n", "\n\n", "红隼岛。", "# "])).map(
    "".join
)
CHILDREN = SplitRule(5, 0)


def count_words(text):
    return max(len(text.split()), 1)


FAMILIES = Families(CHILDREN, count_words)


def squeezed(text):
    return "".join(text.split())


@given(TEXTS, st.sampled_from([None, "\n\n", "\n"]))
def test_every_parent_fits_and_its_children_hold_all_of_it(text, separator):
    parents = list(FAMILIES.paragraphs([Block(text)], SplitRule(12, 0, separator)))
    assert squeezed("".join(parent.text for parent in parents)) == squeezed(text)
    for parent in parents:
        assert parent.tokens == count_words(parent.text) <= 12
        assert parent.children
        assert squeezed("".join(child.text for child in parent.children)) == squeezed(parent.text)


@given(TEXTS)
def test_a_whole_document_is_one_parent(text):
    parents = list(FAMILIES.whole_documents([Block(text)], 10_000))
    assert [squeezed(parent.text) for parent in parents] == (
        [squeezed(text)] if text.strip() else []
    )


def test_a_document_above_the_limit_becomes_several_parents():
    text = "The lamp turns. " * 1000
    parents = list(FAMILIES.whole_documents([Block(text)], 2000))
    assert len(parents) == 8
    assert all(len(parent.text) <= 2000 for parent in parents)
    assert squeezed("".join(parent.text for parent in parents)) == squeezed(text)


def test_children_are_cut_where_their_separator_was_before_lines_were_collapsed():
    rule = CleaningRule(collapse_spaces=True)
    families = Families(SplitRule(50, 0, "\n\n\n\n"), count_words, lambda text: finish(text, rule))
    (parent,) = families.whole_documents([Block("one  1\n\n\n\ntwo  2")], 1000)
    assert parent.text == "one 1\n\ntwo 2"
    assert [child.text for child in parent.children] == ["one 1", "two 2"]


@pytest.mark.parametrize("text", ["", " \n\t\n "])
def test_white_space_is_no_parent(text):
    assert list(FAMILIES.whole_documents([Block(text)], 1000)) == []
    assert list(FAMILIES.paragraphs([Block(text)], SplitRule(9, 0, "\n"))) == []


def test_a_parent_that_only_seemed_to_fit_is_cut_again():
    text = "incomprehensibility " * 200 + "a " * 2000
    parents = list(FAMILIES.paragraphs([Block(text)], SplitRule(50, 0)))
    assert max(parent.tokens for parent in parents) <= 50
    assert squeezed("".join(parent.text for parent in parents)) == squeezed(text)
