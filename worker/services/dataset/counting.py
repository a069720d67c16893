"""Words, as a person counts them."""

import re

# Han and kana are written without spaces: a character counts as a word, as word processors do it.
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def word_count(content: str) -> int:
    """Words divided by spaces, and each Chinese or Japanese character as one."""
    if content.isascii():
        return len(content.split())
    spaced, characters = _UNSPACED.subn(" ", content)
    return characters + len(spaced.split())


def unspaced_characters(content: str) -> int:
    """Characters of scripts that are written without spaces."""
    return 0 if content.isascii() else len(_UNSPACED.findall(content))
