"""Texts become token ids by pieces met before: a text is mostly words that others had too.

The tokenizer merges what stands side by side, step by step, over the whole text: most of the
time an embedding takes. It never merges across certain borders, as no token of its vocabulary
does: before a space, after a line, between letters and punctuation. So the pieces between them
have the same tokens in any text, and a dictionary knows those of nearly all.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from tokenizers import Tokenizer, normalizers

#: What the model has in the place of a space.
_SPACE = "\u2581"
#: How a vocabulary writes what are bytes and no characters.
_BYTE = re.compile("<0x[0-9A-F]{2}>")
#: Longer ones come once: base64, and text without spaces.
_LONGEST_KEPT = 32
#: Some MB of memory; an encyclopedia would fill it.
_MOST_KEPT = 65_536


class WordLlamaTokens:
    """The token ids of texts, as the model's own tokenizer makes them.

    Args:
        tokenizer: the model's; what it does to a text before its merges is done here from now on.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        added = tokenizer.get_added_tokens_decoder()
        self._special = {one.content: [number] for number, one in added.items()}
        self._at_special = re.compile(f"({'|'.join(map(re.escape, self._special))})")
        tokenizer.normalizer = normalizers.Sequence([])
        self._known = _Known(tokenizer)
        vocabulary = [one for one in tokenizer.get_vocab() if not _BYTE.fullmatch(one)]
        self._pieces = re.compile(_pattern(vocabulary)).findall
        # Those that do cross a border: the special ones, and some of superscripts.
        spaced = (one.replace(_SPACE, " ") for one in vocabulary)
        crossing = [one for one in spaced if len(self._pieces(one)) > 1]
        self._crosses = re.compile("|".join(map(re.escape, crossing))).search

    def ids(self, text: str) -> list[int]:
        """The ids of a text's tokens."""
        # They are the same to the model; text without the other one takes half the memory.
        text = text.replace(_SPACE, " ")
        if self._crosses(text):
            return list(chain.from_iterable(self._whole(text)))
        pieces = self._pieces(" " + text) if text else ()
        return list(chain.from_iterable(map(self._known.__getitem__, pieces)))

    def _whole(self, text: str) -> Iterator[Sequence[int]]:
        for part in self._at_special.split(text):
            if part:
                yield self._special.get(part) or self._known.made(" " + part)


class _Known(dict[str, Sequence[int]]):
    """The ids of pieces."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._encode: Any = tokenizer.encode

    def __missing__(self, piece: str) -> Sequence[int]:
        made = self.made(piece)
        if len(piece) <= _LONGEST_KEPT:
            if len(self) >= _MOST_KEPT:
                self.clear()
            self[piece] = made
        return made

    def made(self, piece: str) -> Sequence[int]:
        """By the tokenizer."""
        # No list: the garbage collector would look through all of them again and again.
        written = piece.replace(" ", _SPACE)
        return tuple(self._encode(written, add_special_tokens=False).ids)


def _pattern(vocabulary: Iterable[str]) -> str:
    """A piece: spaces with the letters, the marks or the digits after them; or lines."""
    marks = {mark for token in vocabulary for mark in token if _is_mark(mark)}
    marked = "".join(map(re.escape, sorted(marks)))
    kinds = (f"[^{marked}0-9 \n]+", f"[{marked}]+", "[0-9]{1,3}")
    return "|".join([*(f" *{kind}" for kind in kinds), " +", "\n+"])


def _is_mark(character: str) -> bool:
    # Punctuation, symbols, separators, controls.
    is_mark = unicodedata.category(character)[0] in "PSZC"
    return is_mark and character not in {_SPACE, "\n"}
