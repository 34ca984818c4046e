"""The law of learning of a run that begins from the starter: bits per character by what it knew of
the text and what it reads of it.

As in `semigpt.law` a net knows about as much as counting does after a number of characters. Before
it reads any of a text, that number is measured: where counting reaches the starter's own bits. Each
character that it reads then adds a fraction of one, a larger fraction of a text that it knew. The
coefficients, in started_law.toml, are fitted by benchmarks/started_fit.py.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from semigpt import law
from semigpt.law import Text

__all__ = ["Known", "coefficients", "counted_worth", "expected_bits"]

STRANGE = 12.0  # doublings: of a text of which it knows less, how much less makes no difference
MOST_DOUBLINGS = 30.0


@dataclass(frozen=True)
class Known:
    """What the starter knows of a text before it reads it.

    bits:          per character, on unseen text
    per_character: tokens per character, of its tokenizer
    vocab_size:    of that
    """

    bits: float
    per_character: float
    vocab_size: int


@cache
def coefficients() -> dict[str, float]:
    """The fitted coefficients of started_law.toml, by name."""
    path = Path(__file__).with_name("started_law.toml")
    found = tomllib.loads(path.read_text(encoding="utf-8"))["coefficients"]
    return {name: float(value) for name, value in found.items()}


def expected_bits(
    text: Text,
    known: Known,
    tokens: float,
    *,
    has_counts: bool,
    by: Mapping[str, float] | None = None,
) -> float:
    """Bits per character on unseen text of the starter after so many tokens of the text.

    has_counts: the model holds the counts of the text besides
    by: other coefficients than started_law.toml's, while they are fitted
    """
    by = coefficients() if by is None else by
    characters = max(tokens, 1.0) / known.per_character
    readings = law.effective_readings(characters / text.characters, by["repeats"])
    before = counted_worth(text, known.bits)
    # A character that is read is worth one that is counted at most.
    learning = min(by["learning"] + by["related"] * max(before - STRANGE, 0.0), 0.0)
    counted = math.pow(2, before) + readings * text.characters * math.pow(2, learning)
    bits = law.counted_bits(text, math.log2(counted), law.coefficients())
    if not has_counts:
        return bits
    counts = math.log2(text.characters) + by["counts"]
    return law.with_memory(bits, text, counts, law.coefficients())


def counted_worth(text: Text, bits: float) -> float:
    """log2 of how many characters must be counted to need as many bits, by bisection."""
    low, high = 0.0, MOST_DOUBLINGS
    for _ in range(40):
        middle = (low + high) / 2
        needs_more = law.counted_bits(text, middle, law.coefficients()) > bits
        low, high = (middle, high) if needs_more else (low, middle)
    return low
