"""Text becomes words, and words become numbers: what a keyword search compares.

Chinese is cut by jieba's dictionary, English is reduced to stems, and words
that only hold a sentence together are left out. A number is the word's hash,
salted with the dataset: an index over the numbers is one of each dataset.
Importing this module loads a dictionary.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from uuid import UUID

import rjieba
from Stemmer import Stemmer

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_TOKEN = re.compile(f"[{_HAN}]+|[^\\W{_HAN}]+")
_ASCII_TOKEN = re.compile("[a-z0-9_]+")
_IS_HAN = re.compile(f"[{_HAN}]")
#: Nobody asks for longer ones; base64 and the like would fill the cache.
_LONGEST_STEMMED = 40
#: Tokens whose numbers are remembered.
_MOST_KNOWN = 32_768
#: What a column of the frequency's type holds.
_MOST_FREQUENT = 32_767
# fmt: off
_STOP_WORDS = frozenset((
    "a", "about", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can", "could",
    "d", "did", "do", "does", "for", "from", "had", "has", "have", "how", "i", "if", "in", "into",
    "is", "it", "its", "ll", "may", "me", "my", "no", "not", "of", "on", "or", "our", "re", "s",
    "shall", "should", "so", "some", "such", "t", "than", "that", "the", "their", "them", "then",
    "there", "these", "they", "this", "those", "to", "us", "ve", "was", "we", "were", "what",
    "when", "where", "which", "who", "why", "will", "with", "would", "you", "your",
    "的", "了", "是", "在", "和", "与", "或", "及", "也", "都", "就", "而", "着", "吗", "呢", "吧",
    "啊", "么", "什么", "怎么", "怎样", "如何", "哪", "哪些", "这", "那", "我", "你", "他", "她",
    "它", "我们", "你们", "他们", "把", "被", "为", "以", "于", "之", "其", "请问",
))
# fmt: on


@dataclass(frozen=True, slots=True)
class WordCounts:
    """The words of a text.

    Attributes:
        numbers: each word once.
        frequencies: how often each occurs.
        length: words in all, repeated ones too.
    """

    numbers: list[int]
    frequencies: list[int]
    length: int


def count_words(text: str, dataset_id: UUID) -> WordCounts:
    """The words of a text, numbered for this dataset; the same for a passage and a question."""
    salt = _salt(dataset_id)
    counts = Counter(chain.from_iterable(map(_known.__getitem__, _tokens(text))))
    frequencies = list(counts.values())
    if max(frequencies, default=0) > _MOST_FREQUENT:
        frequencies = [min(count, _MOST_FREQUENT) for count in frequencies]
    return WordCounts([number ^ salt for number in counts], frequencies, counts.total())


def _tokens(text: str) -> Iterable[str]:
    if text.isascii():
        return _ASCII_TOKEN.findall(text.lower())
    # Full-width letters and ligatures are the same words.
    plain = unicodedata.normalize("NFKC", text).lower()
    return chain.from_iterable(
        rjieba.cut_for_search(token) if _IS_HAN.match(token) else (token,)
        for token in _TOKEN.findall(plain)
    )


class _Known(dict[str, tuple[int, ...]]):
    """The numbers of tokens: ``max_segments`` is found by its parts as well."""

    def __missing__(self, token: str) -> tuple[int, ...]:
        if len(token) > _LONGEST_STEMMED:
            return (_number(token),)
        parts = [part for part in token.split("_") if part]
        words = [*parts, token] if len(parts) > 1 else parts
        # One a call: a stemmer keeps state, and threads would share it.
        stem = Stemmer("english", 0).stemWord
        numbers = tuple(
            _number(stem(word) if word.isascii() else word)
            for word in words
            if word not in _STOP_WORDS
        )
        if len(self) >= _MOST_KNOWN:
            self.clear()
        self[token] = numbers
        return numbers


# A dictionary and no cache of functions: counting then stays in C.
_known = _Known()


def _number(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), signed=True)


def _salt(dataset_id: UUID) -> int:
    first, second = dataset_id.bytes[:8], dataset_id.bytes[8:]
    return int.from_bytes(first, signed=True) ^ int.from_bytes(second, signed=True)
