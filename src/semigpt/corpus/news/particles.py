"""Korean particles that agree with the sound before them.

A particle such as 은/는 has one form after a final consonant (받침) and another after a vowel.
으로/로 takes its short form after a vowel and after ㄹ. The sound decides, so digits, Latin
letters, units and the percent sign count as they are read in Korean: 3 is 삼, 10 is 십, 7 is 칠, %
is 퍼센트, R is 알.
"""

import re

__all__ = ["PARTICLES", "agree"]

# The form after a final consonant: the form after a vowel.
PARTICLES: dict[str, str] = {
    "은": "는",
    "이": "가",
    "을": "를",
    "과": "와",
    "아": "야",
    "으로": "로",
    "으로서": "로서",
    "으로써": "로써",
    "으로부터": "로부터",
    "으로의": "로의",
    "으로는": "로는",
    "이라고": "라고",
    "이라며": "라며",
    "이라는": "라는",
    "이란": "란",
    "이나": "나",
    "이든": "든",
    "이다": "다",
    "이며": "며",
    "이고": "고",
    "이자": "자",
    "이었다": "였다",
    "이었던": "였던",
}

_RIEUL = 8  # the index of ㄹ among the 28 finals of a Hangul syllable; 0 is none

# The final consonant of a character that is not Hangul: 0 none, 8 ㄹ, 1 any other.
_LETTERS = dict.fromkeys("ABCDEFGHIJKOPQSTUVWXYZ", 0) | {"L": _RIEUL, "R": _RIEUL, "M": 1, "N": 1}
_DIGITS = {"1": _RIEUL, "2": 0, "3": 1, "4": 0, "5": 0, "6": 1, "7": _RIEUL, "8": _RIEUL, "9": 0}
_UNITS = {"%": 0, "㎜": 0, "㎝": 0, "㎞": 0, "㎡": 0, "㎥": 0, "㎍": 1, "㎏": 1, "℃": 0, "°": 0}
# Units in Latin letters, which need a digit before them: 3m is 삼 미터, 5kg is 오 킬로그램.
_LATIN_UNITS = {
    "mm": 0,
    "cm": 0,
    "km": 0,
    "m": 0,
    "kg": 1,
    "g": 1,
    "GB": 0,
    "TB": 0,
    "MW": 0,
    "GW": 0,
}

_CLOSING = re.compile(r"(?:\([^()]*\)|[’”'\"」』》〉\]])+$")
_NUMBER = re.compile(r"\d[\d,]*(\.\d+)?$")
_MEASURE = re.compile(r"\d\s?([A-Za-z]+)$")


def _final(text: str) -> int:
    """The final consonant of `text` as it is read aloud: 0 none, 8 ㄹ, any other number another.

    Closing quotes and a remark in brackets are skipped, as readers do: 김민수(34)는.
    """
    bare = _CLOSING.sub("", text) or text
    last = bare[-1:]
    if "가" <= last <= "힣":
        return (ord(last) - 0xAC00) % 28
    if last == "0":
        return _final_of_round_number(bare)
    if last in _DIGITS:
        return _DIGITS[last]
    if last in _UNITS:
        return _UNITS[last]
    measure = _MEASURE.search(bare)
    if measure and measure[1] in _LATIN_UNITS:
        return _LATIN_UNITS[measure[1]]
    return _LETTERS.get(last.upper(), 0)


def _final_of_round_number(text: str) -> int:
    """The final consonant of a number that ends in 0.

    It is read as 영, 십, 백, 천, 만 or 억, which have one, or as 조 (10**12 to 10**15), which has
    none.
    """
    number = _NUMBER.search(text)
    if number and not number[1]:
        digits = number[0].replace(",", "")
        zeros = len(digits) - len(digits.rstrip("0"))
        if 12 <= zeros < 16 and digits.strip("0"):
            return 0
    return 1


def agree(text: str, particle: str) -> str:
    """The form of `particle` that follows `text`.

    `particle` is the form after a consonant: 은, 이, 으로. Raises `KeyError` if it is not in
    `PARTICLES`.
    """
    after_vowel = PARTICLES[particle]
    final = _final(text)
    if final == 0 or (final == _RIEUL and particle.startswith("으로")):
        return after_vowel
    return particle
