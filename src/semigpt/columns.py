"""Text in the columns of a terminal, where a Hangul syllable takes two."""

from __future__ import annotations

import unicodedata

__all__ = ["columns", "wrapped"]


def columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return wide + sum(not unicodedata.combining(character) for character in text)


def wrapped(text: str, width: int) -> str:
    """Sentences broken at spaces into lines of at most `width` columns."""
    lines = [""]
    for word in text.split():
        if lines[-1] and columns(lines[-1]) + 1 + columns(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".lstrip()
    return "\n".join(lines)
