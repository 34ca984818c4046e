"""The symbols that automata read: the 256 bytes, then the 67 letters of the jamo tokenizer.

A set of code points is turned into sequences of symbols here, in UTF-8 or in letters.
"""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np

__all__ = [
    "SYMBOLS",
    "Ranges",
    "SymbolRanges",
    "category",
    "complement",
    "jamo_sequences",
    "jamo_symbols",
    "letter_symbol",
    "utf8_sequences",
]

Ranges = list[tuple[int, int]]
"""A set of code points: the first and last of each run."""
SymbolRanges = tuple[tuple[int, int], ...]
"""A set of symbol sequences of one length: the first and last symbol at each place."""

LAST_CODE_POINT = 0x10FFFF
SYMBOLS = 256 + 67


LAST_OF_A_CLASS = 0x3FFFF  # beyond it Unicode has no letter, digit or space


@cache
def category(name: str) -> Ranges:
    r"""The code points of \d, \s or \w, or of \D, \S or \W, as Python's `re` has them."""
    letter = name.removeprefix("CATEGORY_").removeprefix("NOT_")[0].lower()
    # A string of them all, and a search in it, would hold Python's lock for 180 ms.
    every = np.arange(LAST_OF_A_CLASS + 2, dtype=np.uint32).view("U1")
    kinds = {"d": np.strings.isdecimal, "s": np.strings.isspace, "w": np.strings.isalnum}
    inside = kinds[letter](every)
    if letter == "w":
        inside[ord("_")] = True
    borders = np.flatnonzero(np.diff(inside, prepend=False)).tolist()
    ranges = [
        (first, behind - 1) for first, behind in zip(borders[::2], borders[1::2], strict=True)
    ]
    return complement(ranges) if "NOT_" in name else ranges


def complement(ranges: Ranges) -> Ranges:
    """Every other code point."""
    others, begin = [], 0
    for first, last in sorted(ranges):
        if begin < first:
            others.append((begin, first - 1))
        begin = max(begin, last + 1)
    return [*others, (begin, LAST_CODE_POINT)] if begin <= LAST_CODE_POINT else others


def _within(ranges: Ranges, first: int, last: int) -> Ranges:
    return [(max(a, first), min(b, last)) for a, b in ranges if a <= last and b >= first]


def utf8_sequences(ranges: Ranges) -> tuple[SymbolRanges, ...]:
    """The UTF-8 sequences of the code points without surrogates.

    A range is split until each byte's range is the same whatever the other bytes are.
    """
    sequences: list[SymbolRanges] = []
    blocks = (
        (0, 0x7F),
        (0x80, 0x7FF),
        (0x800, 0xD7FF),
        (0xE000, 0xFFFF),
        (0x10000, LAST_CODE_POINT),
    )
    waiting = [part for block in reversed(blocks) for part in reversed(_within(ranges, *block))]
    while waiting:
        first, last = waiting.pop()
        length = len(chr(first).encode())
        for bits in (6 * n for n in range(1, length)):
            low = (1 << bits) - 1
            if first & ~low != last & ~low:
                if first & low:
                    waiting += [((first | low) + 1, last), (first, first | low)]
                    break
                if last & low != low:
                    waiting += [(last & ~low, last), (first, (last & ~low) - 1)]
                    break
        else:
            sequences.append(tuple(zip(chr(first).encode(), chr(last).encode(), strict=True)))
    return tuple(sequences)


def letter_symbol(letter: str) -> int:
    """The symbol of a letter token of the jamo tokenizer (U+1100-1112, U+1161-1175 or U+11A8-11C2).

    Decoding joins it to a syllable. The same letter spelled in byte tokens stays alone, so it is no
    such symbol.
    """
    code_point = ord(letter)
    first, index = next(
        (first, index)
        for first, index in ((0x11A8, 40), (0x1161, 19), (0x1100, 0))
        if code_point >= first
    )
    return 256 + index + code_point - first


def jamo_symbols(text: str) -> tuple[int, ...]:
    """A text as the jamo tokenizer writes it, with its syllables in letters."""
    symbols: list[int] = []
    for character in text:
        if "가" <= character <= "힣":
            symbols += map(letter_symbol, unicodedata.normalize("NFD", character))
        else:
            symbols += character.encode("utf-8", "surrogatepass")
    return tuple(symbols)


def jamo_sequences(ranges: Ranges) -> tuple[SymbolRanges, ...]:
    """As `utf8_sequences`, with syllables in letters (The Unicode Standard, 3.12).

    A letter by itself is left out: it would join the syllable before it.
    """
    rest = (
        _within(ranges, 0, 0x10FF)
        + _within(ranges, 0x1200, 0xABFF)
        + _within(ranges, 0xD7A4, LAST_CODE_POINT)
    )
    sequences = list(utf8_sequences(rest))
    finals: dict[int, set[int]] = {}  # of each initial and vowel; 0 is no final
    for first, last in _within(ranges, 0xAC00, 0xD7A3):
        first, last = first - 0xAC00, last - 0xAC00
        for open_syllable in range(first // 28, last // 28 + 1):
            begin = max(first - 28 * open_syllable, 0)
            last_final = min(last - 28 * open_syllable, 27)
            finals.setdefault(open_syllable, set()).update(range(begin, last_final + 1))
    for open_syllable, ends in finals.items():
        initial, vowel = divmod(open_syllable, 21)
        two = ((256 + initial,) * 2, (256 + 19 + vowel,) * 2)
        if 0 in ends:
            sequences.append(two)
        present = [(256 + 39 + end,) * 2 for end in sorted(ends) if end]
        if len(present) == 27:
            present = [(present[0][0], present[-1][0])]
        sequences += [(*two, final) for final in present]
    return tuple(sequences)
