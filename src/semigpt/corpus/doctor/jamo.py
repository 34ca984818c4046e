"""Jamo that stand for whole syllables: half-width forms, and syllables spelled jamo by jamo."""

import re
import unicodedata

__all__ = ["HALF_WIDTH", "JAMO_RUN", "JAMO_SIGN", "full_width", "spelled"]

HALF_WIDTH = re.compile("[\uffa0-\uffbe\uffc2-\uffc7\uffca-\uffcf\uffd2-\uffd7\uffda-\uffdc]+")
_LEADS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
_VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
_TAILS = " ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"
_SYLLABLE = re.compile(f"([{_LEADS}])([{_VOWELS}])([{_TAILS[1:]}]?)(?![{_VOWELS}])")
# The first form: KS X 1001 writes a syllable without a code of its own as a filler, a lead, a vowel
# and a tail or another filler. The second form: a word typed jamo by jamo. Its lookbehind stands
# after the first character because `re` searches for a first character fast.
JAMO_RUN = re.compile(
    f"\u3164([{_LEADS}])([{_VOWELS}])([{_TAILS[1:]}\u3164])"
    f"|[{_LEADS}](?<![ㄱ-ㅣ].)[{_VOWELS}](?:[{_TAILS[1:]}](?![{_VOWELS}]))?"
    f"(?:[{_LEADS}][{_VOWELS}](?:[{_TAILS[1:]}](?![{_VOWELS}]))?)+(?![ㄱ-ㅣ])",
    re.DOTALL,
)
JAMO_SIGN = re.compile("[ㄱ-ㅎ][ㅏ-ㅣ]")
_LAUGHING_AND_CRYING = frozenset("ㅋㅎㅠㅜㅡㅇㅗ")


def full_width(match: re.Match[str]) -> str:
    """The full-width jamo of a match of HALF_WIDTH, as syllables where they spell them."""
    decompositions = (unicodedata.decomposition(character) for character in match[0])
    wide = (chr(int(decomposition.split()[-1], 16)) for decomposition in decompositions)
    return _SYLLABLE.sub(_syllable, "".join(wide))


def spelled(match: re.Match[str]) -> str:
    """The syllables of a match of JAMO_RUN: ㅎㅏㄴㄱㅡㄹ is 한글.

    ㅋㅠㅋㅠ stays: laughing and crying repeat themselves, and words mostly do not.
    """
    if match[1]:
        return _syllable(match)
    syllables = _SYLLABLE.sub(_syllable, match[0])
    word = len(set(syllables)) > 1 and not set(match[0]) <= _LAUGHING_AND_CRYING
    return syllables if word else match[0]


def _syllable(match: re.Match[str]) -> str:
    lead, vowel = _LEADS.index(match[1]), _VOWELS.index(match[2])
    tail = max(_TAILS.find(match[3] or " "), 0)  # the filler is no tail
    return chr(0xAC00 + (lead * 21 + vowel) * 28 + tail)
