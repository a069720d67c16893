"""Addresses of the web and of mail are taken out of a text."""

import re

#: Chinese and Japanese text goes on right after an address, without a space between.
_UNSPACED = "\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"
_INSIDE = rf"""[^\s<>"`|()\[\]{{}}{_UNSPACED}]"""
_URL = (
    rf"(?<![A-Za-z0-9])(?:(?:https?|ftp)://(?:\[[0-9A-Fa-f:.]+\])?|www\.)(?:{_INSIDE}|\({_INSIDE}*\))+"
    # The sentence's own mark is no part of the address, nor is emphasis around it.
    r"(?<![.,;:!?'*_~])"
)
# Each begins where a run of such characters begins: a search from every one of a long run
# would be quadratic.
_MAIL = (
    r"(?:\bmailto:)?(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}"
    r"@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}"
)
_PICTURE = r"!\[[^\]\n]{0,500}\]\([^()\s]{0,2000}\)"
_LINK = rf"\[(?P<shown>[^\[\]\n]{{0,500}})\]\(\s{{0,9}}(?:{_URL}|{_MAIL})[^()\n]{{0,200}}\)"
_BRACKETED = rf"<(?:{_URL}|{_MAIL})>"
_FOUND = re.compile(rf"(?P<picture>{_PICTURE})|{_LINK}|{_BRACKETED}|{_URL}|{_MAIL}")
_HINTS = ("://", "www.", "@")


def without_addresses(text: str) -> str:
    """The text without URLs and e-mail addresses.

    Of a Markdown link its text stays. A Markdown picture stays whole: without its
    address it could not be shown.
    """
    if not any(hint in text for hint in _HINTS):
        return text
    return _FOUND.sub(_kept, text)


def _kept(found: "re.Match[str]") -> str:
    return found["picture"] or found["shown"] or ""
