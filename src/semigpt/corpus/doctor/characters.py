"""Single characters that a text should not hold, and characters that are not composed."""

import re
import unicodedata

from semigpt.corpus.doctor.changes import Change, difference, substitution
from semigpt.corpus.doctor.mojibake import repair_mojibake

__all__ = [
    "BYTE_ORDER_MARK",
    "CONTROL",
    "INVISIBLE",
    "LINE_END",
    "REPLACEMENT",
    "STRANGE",
    "SURROGATE",
    "decomposed",
    "lost",
    "mojibake",
    "scalar",
    "without_control",
    "zero_width",
]

# The prefilter of seven findings, of which most text has none.
STRANGE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ud800-\udfff\ufdd0-\ufdef\ufeff\uffa0-\uffdc\ufff9-\uffff]"
)
BYTE_ORDER_MARK = re.compile("\\A\ufeff+")
SURROGATE = re.compile("[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]")
REPLACEMENT = re.compile("\ufffd+")
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")
LINE_END = re.compile("\r\n?|[\u2028\u2029]")
INVISIBLE = (
    "\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\u3164\ufeff\ufff9-\ufffb"
)
_SYLLABLE = re.compile("[가-힣]")


def scalar(match: re.Match[str]) -> str:
    """The character of a pair of surrogates, U+FFFD for a lone one."""
    return match[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def lost(text: str) -> Change | None:
    """The detector of U+FFFD, which cannot be repaired."""
    first = REPLACEMENT.search(text)
    return first and Change(text, text.count("\ufffd"), *first.span(), "")


def without_control(match: re.Match[str]) -> str:
    """Nothing, or a line end for the control characters that end a line."""
    return "\n" if match[0] in "\x0b\x0c\x85" else ""


_ZERO_WIDTH = re.compile(f"[{INVISIBLE}]")
_ZERO_WIDTH_BUT_DIRECTION = re.compile(f"(?![\u200e\u200f\u202a-\u202e\u2066-\u2069])[{INVISIBLE}]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
# Beside these a joiner joins nothing; it joins emoji, and letters of scripts that join them.
_NOT_JOINED = re.compile(
    f"[\x00-\x7f\u1100-\u11ff\u3000-\u9fff\uac00-\ud7ff\uff00-\uffef{INVISIBLE}]|\\s"
)


def _unless_it_joins(match: re.Match[str]) -> str:
    text, place, character = match.string, match.start(), match[0]
    if character not in "\u200c\u200d" or not place:
        return ""
    around = text[place - 1], text[place + 1 : place + 2]
    return character if all(side and not _NOT_JOINED.match(side) for side in around) else ""


_detect_zero_width = substitution(_ZERO_WIDTH, _unless_it_joins)
_detect_zero_width_but_direction = substitution(_ZERO_WIDTH_BUT_DIRECTION, _unless_it_joins)


def zero_width(text: str) -> Change | None:
    """The detector of characters without width; text from right to left keeps direction marks."""
    if _RIGHT_TO_LEFT.search(text):
        return _detect_zero_width_but_direction(text)
    return _detect_zero_width(text)


def decomposed(text: str) -> Change | None:
    """The detector of characters that are not composed (NFC)."""
    if unicodedata.is_normalized("NFC", text):
        return None
    composed = unicodedata.normalize("NFC", text)
    return difference(text, composed, _hangul_gained(text, composed))


def mojibake(text: str) -> Change | None:
    """The detector of Korean that was decoded with the wrong codec."""
    repaired = repair_mojibake(text)
    return None if repaired is text else difference(text, repaired, _hangul_gained(text, repaired))


def _hangul_gained(text: str, repaired: str) -> int:
    return max(1, len(_SYLLABLE.findall(repaired)) - len(_SYLLABLE.findall(text)))
