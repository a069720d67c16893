"""Where a text can be cut with the least harm."""

#: In order of preference.
MARKS = ("\n\n", "\n", "。", ". ", " ")


def last_break(text: str, start: int, size: int) -> int:
    """The end of a piece of at most ``size`` characters from ``start``.

    After the last blank line, line, sentence or word in its second half, in that
    order of preference; in the middle of a word when there is none.
    """
    end = start + size
    for mark in MARKS:
        found = text.rfind(mark, start + size // 2, end)
        if found != -1:
            return found + len(mark)
    return end
