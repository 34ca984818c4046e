"""What a repair would do to a text, and how a place in a text is shown."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Change", "Detector", "Replacement", "difference", "excerpt", "substitution", "visible"]

EXCERPT_CHARACTERS = 16  # shown on each side of a place


@dataclass(frozen=True)
class Change:
    """What the repair of a finding would make of a text.

    text:   the repaired text; the text itself if nothing can be repaired
    count:  in how many places
    start, end, became: the first place, and what would stand there
    """

    text: str
    count: int
    start: int
    end: int
    became: str


Detector: TypeAlias = Callable[[str], Change | None]
"""What it would change in a text; None if it finds nothing."""

Replacement: TypeAlias = str | Callable[[re.Match[str]], str]


def substitution(pattern: re.Pattern[str], replacement: Replacement) -> Detector:
    """The detector of everything that `pattern` matches and `replacement` changes."""

    def detect(text: str) -> Change | None:
        places: list[tuple[int, int, str]] = []
        count = 0

        def replace(match: re.Match[str]) -> str:
            nonlocal count
            new = replacement if isinstance(replacement, str) else replacement(match)
            if new != match[0]:
                count += 1
                if not places:
                    places.append((*match.span(), new))
            return new

        repaired = pattern.sub(replace, text)
        return Change(repaired, count, *places[0]) if places else None

    return detect


def difference(text: str, repaired: str, count: int) -> Change | None:
    """The change from `text` to `repaired`; comparing the two finds its first place."""
    if repaired is text:
        return None
    start = next(
        (place for place, (old, new) in enumerate(zip(text, repaired, strict=False)) if old != new),
        min(len(text), len(repaired)),
    )
    end = min(start + EXCERPT_CHARACTERS, len(text))
    return Change(repaired, count, start, end, repaired[start : start + EXCERPT_CHARACTERS // 2])


def excerpt(text: str, start: int, end: int) -> str:
    """A place and a little around it, in one line that any terminal can show."""
    end = min(end, start + 2 * EXCERPT_CHARACTERS)
    before, after = max(start - EXCERPT_CHARACTERS, 0), min(end + EXCERPT_CHARACTERS, len(text))
    left, right = "…" if before else "", "…" if after < len(text) else ""
    return left + visible(text[before:after]) + right


def visible(text: str) -> str:
    """`text` with every character that has no glyph of its own written as an escape: `\\u200b`."""
    return "".join(
        character
        if character.isprintable()
        and not 0x1100 <= ord(character) <= 0x11FF
        and character not in "\u3164\uffa0"
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )
