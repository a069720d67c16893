import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.services.dataset.cleaning import clean

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@given(ANY_TEXT)
def test_clean_text_can_be_stored_and_stays_as_it_is(text):
    cleaned = clean(text)
    assert "\0" not in cleaned
    cleaned.encode("utf-8")
    assert clean(cleaned) == cleaned


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_no_letter_digit_or_sign_is_lost(text):
    assert clean(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\r\nb\rc\x0bd\x0ce\x85f\u2028g", "a\nb\nc\nd\ne\nf\ng"),
        ("a \t  b\u00a0\u3000c", "a b c"),
        ("a\n \n\t\n\nb", "a\n\nb"),
        ("a  \nb", "a\nb"),
        ("def f():\n    return  1", "def f():\n    return 1"),
        ("in\u00adfor\u200bma\ufefftion", "information"),
        ("nul\0 lone\ud800 end\uffff", "nul lone end"),
        ("e\u0301", "é"),
        ("\u00ef\u00bf\u00be", "\u00ef\u00bf\u00be"),
        ("👩\u200d👧", "👩\u200d👧"),
    ],
)
def test_what_becomes_of(text, cleaned):
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    "text", ["a" + "\u0301\u0323" * 250_000, " " * 500_000 + "x", "\t \n" * 200_000, "\r" * 500_000]
)
def test_half_a_megabyte_of_anything_is_cleaned_at_once(text):
    started = time.process_time()
    clean(text)
    assert time.process_time() - started < 1
