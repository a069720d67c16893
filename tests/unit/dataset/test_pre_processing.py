import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.services.dataset.addresses import without_addresses
from worker.services.dataset.cleaning import CleaningRule, clean, finish, prepare

SPACES = CleaningRule(collapse_spaces=True)
ADDRESSES = CleaningRule(strip_addresses=True)
NEITHER = CleaningRule()
ANY_TEXT = st.text(st.characters(exclude_categories=()))


def processed(text, rule):
    return finish(prepare(text, rule), rule)


@given(ANY_TEXT)
def test_what_is_processed_can_be_stored(text):
    for rule in (SPACES, ADDRESSES, NEITHER):
        made = processed(text, rule)
        assert "\0" not in made
        made.encode("utf-8")


@given(st.text(st.sampled_from("ab \t\n\u00a0\u3000\u2003")))
def test_collapsed_text_has_no_run_of_spaces_and_loses_nothing_else(text):
    made = processed(text, SPACES)
    assert "  " not in made
    assert "\t" not in made.strip("\t")
    assert "\n\n\n" not in made
    assert "".join(made.split()) == "".join(text.split())


@given(st.text(st.characters(categories=["L", "N"])))
def test_letters_are_no_addresses(text):
    assert without_addresses(text) == text


def test_spaces_stay_where_the_rule_leaves_them():
    text = "a    b\n\n\n\n    c\t\td  \nï ¿ ¾"
    assert processed(text, NEITHER) == text
    assert processed(text, SPACES) == "a b\n\n c d\nï ¿ ¾"
    assert clean(text) == "a b\n\n    c d\nï ¿ ¾"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("see https://example.com/a?b=c#d now", "see  now"),
        ("see http://example.com.", "see ."),
        ("(see https://example.com/a_(b))", "(see )"),
        ("write to jane.doe+tag@mail.example.co.uk!", "write to !"),
        ("mailto:jane@example.com", ""),
        ("www.example.com/a, and more", ", and more"),
        ("ftp://files.example.com/x y", " y"),
        ("http://[::1]:8080/a b", " b"),
        ("访问https://example.com/路。然后", "访问路。然后"),
        ("请写信到jane@example.com。", "请写信到。"),
        ("**https://example.com**", "****"),
        ("<https://example.com> and <jane@example.com>", " and "),
        ("[the guide](https://example.com/guide) says", "the guide says"),
        ("[mail](mailto:jane@example.com)", "mail"),
        ("![a map](https://example.com/map.png)", "![a map](https://example.com/map.png)"),
        ('<a href="https://example.com">', '<a href="">'),
        ("| https://example.com | 5 |", "|  | 5 |"),
        ("3 @ 5 EUR, @home, a@b", "3 @ 5 EUR, @home, a@b"),
        ("the scheme https:// alone", "the scheme https:// alone"),
        ("awww.that is sweet", "awww.that is sweet"),
        ("[a note](#below)", "[a note](#below)"),
    ],
)
def test_addresses_go_and_what_stands_around_them_stays(text, left):
    assert processed(text, ADDRESSES) == left
    assert processed(text, NEITHER) == text


@pytest.mark.parametrize(
    "text",
    [
        "a" * 500_000 + "@",
        "a@" * 250_000,
        "a." * 250_000 + "@x",
        "http://" + "(" * 500_000,
        "http://" + "." * 500_000,
        "https://a(" * 50_000,
        "[" * 500_000 + "@",
        "![a](" * 100_000 + "@",
        "[a](http://" * 45_000,
    ],
)
def test_half_a_megabyte_of_what_looks_like_addresses_is_cleaned_at_once(text):
    started = time.process_time()
    without_addresses(text)
    assert time.process_time() - started < 2
