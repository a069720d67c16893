import re

from hypothesis import given
from hypothesis import strategies as st

from worker.providers.token_estimate import estimate_tokens

#: The definition: pieces of a text, and how many of their characters make a token.
PIECES = re.compile(
    r"(?P<word>[A-Za-z]+)|(?P<number>\d+)|(?P<alphabet>[^\W\d_A-Za-z\u2e80-\U0003ffff]+)"
    r"|(?P<single>[^\s])"
)
CHARACTERS = {"word": 7, "number": 3, "alphabet": 3, "single": 1}

runs = st.tuples(st.sampled_from("aZ09 \n\x1f._-äжا漢字🙂²٣"), st.integers(1, 30))
texts = st.lists(runs).map(lambda found: "".join(letter * times for letter, times in found))


@given(st.one_of(texts, st.text(), st.text(st.characters(codec="ascii"))))
def test_a_token_is_so_many_characters_of_one_kind(text):
    expected = sum(
        -(-len(found.group()) // CHARACTERS[found.lastgroup]) for found in PIECES.finditer(text)
    )
    assert estimate_tokens(text) == expected


def test_content_is_never_nothing():
    assert estimate_tokens(" \n") == 0
    assert [estimate_tokens(one) for one in ("a", "_", "7", "é", "字")] == [1] * 5
