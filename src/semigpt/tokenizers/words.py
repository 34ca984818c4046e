"""Count the words of a text, which are what tokens longer than a character are learnt from."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from semigpt.native import tokenize as native
from semigpt.tokenizers.base import Normalization

__all__ = ["count_words"]

# GPT-2's words: a word, a number or a run of signs, each with the space before it, and runs of
# white space. Python's `re` has no \p{L} and \p{N}, so numerals that are not digits (², Ⅷ) count as
# letters here: 17 of 390,000 distinct words of film reviews differ. It only decides what is
# learned; encoding uses the exact expression of the `tokenizers` library.
_GPT2_WORDS = re.compile(r"'(?:[sdmt]|ll|ve|re)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")

# A run of letters, of digits or of signs, with the spaces before it, or a line end (or a tab) with
# the white space behind it.
_RUNS = re.compile(r" *(?:[^\W\d_]+|\d+|(?:[^\s\w]|_)+)|[^\S ]\s*| +")


def count_words(
    documents: Iterable[str],
    normalization: Normalization | None,
    *,
    runs: bool = False,
) -> dict[str, int]:
    """How often each word occurs, in the order of the words.

    runs: a word is a run of letters, of digits or of signs, with the spaces before it, or a line
        end with the white space behind it; else it is one of GPT-2's
    """
    if normalization:
        documents = (unicodedata.normalize(normalization, text) for text in documents)
    if native.available():
        counts = native.count_words(documents, _classes_of_words(), runs=runs)
    else:
        words = _RUNS if runs else _GPT2_WORDS
        counts = Counter(found[0] for text in documents for found in words.finditer(text))
    return {word: counts[word] for word in sorted(counts)}


@cache
def _classes_of_words() -> NDArray[np.uint8]:
    """`character_classes` as `_GPT2_WORDS` and `_RUNS` see them."""
    classes = np.zeros(0x110000, np.uint8)
    text = "".join(map(chr, range(0x40000)))  # no plane from the fourth on has any
    for number, expression in enumerate((r"[^\W\d_]+", r"\d+", r"\s+"), start=1):
        for found in re.finditer(expression, text):
            classes[found.start() : found.end()] = number
    return classes
