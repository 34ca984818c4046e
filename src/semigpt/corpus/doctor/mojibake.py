"""Korean decoded with the wrong codec, and decoding it again with the right one.

Three errors leave a text that still holds its bytes:

    UTF-8 read as Latin-1 or Windows-1252    한국 → í\\x95\\x9cêµ\\xad, or í•œêµ\\xad
    CP949 read as Latin-1 or Windows-1252    한국 → ÇÑ±¹
    UTF-8 read as CP949                      값싼 → 媛믪떬

A repair is not a guess. The characters are encoded with the wrong codec, the bytes are decoded
strictly with the right one, and the result has to be Korean where none was before. One character is
no evidence that the error happened: at least two Hangul syllables are needed, because `lunedì…”` is
Italian and also the bytes of 셔. Once a document shows the error, shorter runs of it are repaired
too.

A text that lost its bytes cannot be repaired. CP949 read as UTF-8 leaves U+FFFD. So does UTF-8 read
as CP949 for nine syllables in ten, because 0x81 to 0xA0 do not follow 0xEA to 0xED in CP949.
"""

import re
import unicodedata
from collections.abc import Sequence

__all__ = ["repair_mojibake"]

# The characters of bytes 0x80 to 0x9F in Windows-1252; the five bytes it lacks stay C1 controls.
_WINDOWS = {
    bytes([byte]).decode("cp1252"): chr(byte)
    for byte in range(0x80, 0xA0)
    if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}
_TO_LATIN_1 = str.maketrans(_WINDOWS)
_C1 = "\x80-\x9f" + "".join(_WINDOWS)
_TRAIL = f"[{_C1}\xa0-\xbf]"

# 0xEA to 0xED begin every Hangul syllable in UTF-8.
_UTF_8_SIGN = re.compile(f"[êëìí]{_TRAIL}{{2}}")
_UTF_8_RUN = re.compile(f"(?:[Â-ß]{_TRAIL}|[à-ï]{_TRAIL}{{2}}|[ð-ô]{_TRAIL}{{3}})+")

# Written out, because `re` searches for a repeated group four times slower.
_CP949_SIGN = re.compile("[°-È][¡-þ][°-È][¡-þ]")
_CP949_RUN = re.compile(f"[{_C1}\xa1-\xfe]{{2,}}")
_HIGH = re.compile("[¡-þ]")
_LETTERS = re.compile("[À-ÖØ-öø-þ]")

_HANGUL = re.compile("[가-힣]")
_KOREAN = re.compile("[가-힣ㄱ-ㅣ]")


def _of_cp949(leads: range, trails: Sequence[int]) -> str:
    """The characters of CP949 with these first and second bytes, for a character class."""
    both = (bytes([lead, trail]).decode("cp949", "ignore") for lead in leads for trail in trails)
    return "".join(character for character in both if len(character) == 1)


# The 2,350 syllables of KS X 1001; written Korean hardly ever has another.
COMMON_SYLLABLES = frozenset(_of_cp949(range(0xB0, 0xC9), range(0xA1, 0xFF)))
_FIRST = _of_cp949(range(0xEA, 0xEE), range(0xA1, 0xC0))  # 0xEA…0xED and a second byte: Hanja
_MIDDLE = _of_cp949(range(0x81, 0xC0), range(0xEA, 0xEE))  # a third byte and 0xEA…0xED
_LAST = _of_cp949(range(0x81, 0xC0), range(0x81, 0xC0))  # a second byte and a third
_ODD = _of_cp949(range(0x81, 0xC0), (*range(0x41, 0x5B), *range(0x61, 0x7B)))
# 20 of the 124 are compatibility Hanja, which normalization replaces.
_AS_READ = str.maketrans({unicodedata.normalize("NFC", hanja): hanja for hanja in _FIRST})
_FIRST += unicodedata.normalize("NFC", _FIRST)
_KOREAN_SIGN = re.compile(f"[{_FIRST}][{_MIDDLE}][{_LAST}]")
_KOREAN_RUN = re.compile(f"(?:[{_FIRST}][{_MIDDLE}][{_LAST}])+(?:[{_FIRST}][{_ODD}])?")


def _hangul(text: str) -> int:
    return len(_HANGUL.findall(text))


def _latin_1_bytes(text: str) -> bytes:
    """The bytes that are `text` in Latin-1 or Windows-1252. Raises UnicodeEncodeError."""
    return text.translate(_TO_LATIN_1).encode("latin-1")


def _utf_8_again(run: str) -> str:
    try:
        return _latin_1_bytes(run).decode("utf-8")
    except UnicodeError:
        return run


def _cp949_again(run: str) -> str:
    """`run` decoded as CP949 if the result is mostly Hangul, otherwise `run` itself."""
    # A row of middle dots is the bytes of 룹룹, but Korean has letters among its characters.
    if 4 * len(_LETTERS.findall(run)) < len(run):
        return run
    try:
        text = _latin_1_bytes(run).decode("cp949")
    except UnicodeError:
        return run
    return text if 2 * len(_KOREAN.findall(text)) >= len(text) else run


def _shows_cp949(run: str) -> bool:
    """Whether `run` is evidence enough: two syllables, three different characters."""
    text = _cp949_again(run)
    return (
        text is not run and _hangul(text) >= 2 and len(set(run)) >= 3 and set(text) <= _KOREAN_SIGNS
    )


_KOREAN_SIGNS = COMMON_SYLLABLES | frozenset(_of_cp949(range(0xA1, 0xA5), range(0xA1, 0xFF)))


def _cp949_line(line: str) -> str:
    """A line of a document that shows the error.

    The whole line is tried first, because some bytes of CP949 are ASCII letters.
    """
    if any(_shows_cp949(run) for run in _CP949_RUN.findall(line)):
        try:
            return _latin_1_bytes(line).decode("cp949")
        except UnicodeError:
            pass
    return _CP949_RUN.sub(lambda match: _cp949_again(match[0]), line)


def _korean_again(run: str) -> str:
    """`run` decoded as UTF-8 that was read as CP949, if the result is Korean.

    Real Hanja and Hangul can be such bytes too, so rare syllables before or four after are needed.
    """
    try:
        text = run.translate(_AS_READ).encode("cp949").decode("utf-8")
    except UnicodeError:
        return run
    syllables = [character for character in text if not character.isascii()]
    rare_before = any(
        "가" <= character <= "힣" and character not in COMMON_SYLLABLES for character in run
    )
    good = COMMON_SYLLABLES.issuperset(syllables) and (rare_before or len(syllables) >= 4)
    return text if good else run


def repair_mojibake(text: str) -> str:
    """`text` with its mojibake decoded again; the same object if there is none."""
    repaired = text
    if _UTF_8_SIGN.search(text):
        again = _UTF_8_RUN.sub(lambda match: _utf_8_again(match[0]), text)
        gained = _hangul(again) - _hangul(text)
        # CP949 holds such bytes by chance, but among many that are not UTF-8.
        if gained >= 2 and len(_HIGH.findall(again)) <= gained:
            repaired = again
    if _CP949_SIGN.search(repaired) and any(
        _shows_cp949(run) for run in _CP949_RUN.findall(repaired)
    ):
        repaired = "".join(map(_cp949_line, repaired.splitlines(keepends=True)))
    if _KOREAN_SIGN.search(repaired):
        repaired = _KOREAN_RUN.sub(lambda match: _korean_again(match[0]), repaired)
    return text if repaired == text else repaired
