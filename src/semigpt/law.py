"""The law of learning: bits per character by text, model, tokenizer and tokens read.

A net that has read so many characters knows about as much as counting does after another number of
characters. What counting learns of a text is measured before training
(`semigpt.evaluation.counting`); how many counted characters a net's reading is worth is a law with
few coefficients, in law.toml, fitted by benchmarks/law_fit.py to runs that were measured by steps.
Text read again is worth less than fresh text, and costs what is learnt by heart (form after
Muennighoff and others, JMLR 2025). No clock has a part in it.
"""

from __future__ import annotations

import itertools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = [
    "Learner",
    "Text",
    "coefficients",
    "expected_bits",
    "law_error",
    "tokens_per_character",
    "with_memory",
]

BLOCK_PARAMETERS = 852_000  # of `tiny`, embeddings and output layer left out
CHARACTER_ENTROPY = 7.1  # bits, of Korean
# Tokens per character of tokenizers that are not learnt, on Korean.
PLAIN_KINDS = {"char": 1.0, "jamo": 2.3, "byte": 2.5}
UNIGRAM_VOCABULARY = 4000
# Of these a net learns alike: within 0.01 bits of Korean prose (docs/tokenizers.md).
AS_UNIGRAM = frozenset({"unigram", "char_bpe"})
STEP_TOKENS = 1536  # of `tiny`: 12 sequences of 128
MILLION = math.log2(1e6)
EARLIEST = -2.0  # doublings from a million characters, before which long contexts are not learnt
# Bits at equal steps, 600 of `tiny`: 3.7471 and 3.7303. docs/choices.md#output-layer.
SAMPLED_COST = 0.017
MEASURED = 3.5  # doublings about a million characters that runs of a memory have read
FIRST_DOUBLING = 0.5  # bits, before the first measured point
# How far a text may be from one that was fitted before nothing is known of its kind.
NEAR_DEPTH, NEAR_ENTROPY = 0.05, 0.2


@dataclass(frozen=True)
class Text:
    """What is known of a text before training.

    characters: of the training split
    curve:      (characters, bits per character) of counting more and more of it, the fewest first
    short_bits: bits per character of counting all that was counted with two characters of context
    entropy:    of its characters' frequencies, in bits
    distinct:   how many different characters it has
    """

    characters: int
    curve: tuple[tuple[int, float], ...]
    short_bits: float
    entropy: float
    distinct: int

    @property
    def depth(self) -> float:
        """The fraction of its bits that contexts longer than two characters take off."""
        return 1 - self.curve[-1][1] / self.short_bits


@dataclass(frozen=True)
class Learner:
    """What reads the text.

    block_parameters: of the transformer blocks alone
    kind:             of the tokenizer
    vocab_size:       does not matter to one that is not learnt: characters, bytes, jamo
    per_character:    tokens per character
    batch_tokens:     read in a step
    taught:           whether the n-gram counts teach it
    sampled:          whether a step computes a sample of the output layer
    bigrams:          whether its embeddings begin as the text's bigrams
    memory:           whether it holds the text's n-gram counts beside the net
    """

    block_parameters: int
    kind: str
    vocab_size: int | None
    per_character: float
    batch_tokens: int
    dropout: float
    weight_decay: float
    taught: bool
    sampled: bool = False
    bigrams: bool = False
    memory: bool = False


def tokens_per_character(kind: str, vocab_size: int | None, text: Text) -> float:
    """An estimate before there is a tokenizer: fewer for the smaller alphabets of other scripts."""
    if kind in PLAIN_KINDS:
        return PLAIN_KINDS[kind] if text.distinct > 500 else 1.0
    doublings = math.log2((vocab_size or 2 * UNIGRAM_VOCABULARY) / UNIGRAM_VOCABULARY)
    # A large vocabulary holds the phrases of a text that repeats itself.
    korean = 0.585 * math.pow(2, -(0.22 + 0.26 * text.depth) * doublings)
    return min(korean * math.pow(text.entropy / CHARACTER_ENTROPY, 1.8), 1.0)


@cache
def fitted() -> dict[str, dict[str, Any]]:
    """The tables of law.toml."""
    path = Path(__file__).with_name("law.toml")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def coefficients() -> dict[str, float]:
    """The fitted coefficients, by name."""
    return fitted()["coefficients"]


def law_error(text: Text) -> float:
    """What the law may be off by on a text, in bits: a root of the mean square.

    On a text that is like one of those that it was fitted to, that of their runs. On any other,
    more: up to that of the kinds of text that were left out of the fit in turn.
    """
    errors = fitted()["errors"]
    unlike: float = min(
        max(abs(text.depth - depth) / NEAR_DEPTH, abs(text.entropy - entropy) / NEAR_ENTROPY)
        for depth, entropy in fitted()["texts"].values()
    )
    known, left_out = float(errors["fitted"]), float(errors["left_out"])
    return known + (left_out - known) * min(unlike, 1.0)


def expected_bits(
    text: Text, learner: Learner, tokens: float, by: Mapping[str, float] | None = None
) -> float:
    """Bits per character on unseen text after so many tokens, their rate fallen to its end.

    by: other coefficients than law.toml's, while they are fitted
    """
    by = coefficients() if by is None else by
    bits = net_bits(text, learner, tokens, by)
    if learner.memory:  # its net reads features of the counts besides, and learns faster by that
        doublings = math.log2(max(tokens, 1.0) / learner.per_character) - MILLION
        bits -= by["memory_slope"] * min(max(doublings, -MEASURED), MEASURED)
        bits = with_memory(bits, text, memory_worth(text, learner.kind, by), by)
    return bits + SAMPLED_COST * learner.sampled


def net_bits(text: Text, learner: Learner, tokens: float, by: Mapping[str, float]) -> float:
    """Bits per character of the net alone, each step with all of its output layer."""
    characters = max(tokens, 1.0) / learner.per_character
    readings = characters / text.characters
    known = math.log2(text.characters)
    fresh = effective_readings(readings, by["repeats"]) * text.characters
    if learner.bigrams:  # as if some of the text had been read, less of a long one
        fresh += by["bigrams"] * 1e6 * math.pow(text.characters / 1e6, by["bigrams_growth"])
    worth = counted_worth(text, learner, math.log2(fresh), by)
    misled = 0.0
    if learner.taught:
        # What the counts of the whole text know is learnt from them, sooner than from the text;
        # but they know no long contexts, and hold up what reads the text itself again.
        taught = by["taught"] + by["taught_slope"] * (math.log2(fresh) - MILLION)
        taught += known + by["taught_depth"] * text.depth
        worth = soft_maximum(worth, taught, by["taught_sharpness"])
        misled = by["taught_cost"] * min(readings, 3.0)
    bits = counted_bits(text, worth, by)
    learnt_by_heart = overfitting(text, learner, readings, by) * counted_bits(text, known, by)
    return bits + learnt_by_heart + misled


def memory_worth(text: Text, kind: str, by: Mapping[str, float]) -> float:
    """log2 of how many counted characters know as much as a memory's n-gram counts."""
    doublings = math.log2(text.characters) + by["memory"]
    if kind != "char":  # as many tokens reach further, and are seen again in a deep text alone
        doublings += by["memory_tokens"] + by["memory_token_depth"] * text.depth
    return doublings


def with_memory(bits: float, text: Text, doublings: float, by: Mapping[str, float]) -> float:
    """Bits per character of a net that has so many alone, with a gate between it and n-gram counts
    that know as much as 2**doublings counted characters.

    They err in different places, so the mixture gains most where both are as good, and near nothing
    where one is far better.
    """
    counts = counted_bits(text, doublings, by)
    return -soft_maximum(-bits - by["memory_net"], -counts, 1 / by["memory_gain"])


def effective_readings(readings: float, repeats: float) -> float:
    """How many readings of fresh text so many readings of one text are worth.

    Each is worth less than the one before: R* (1 - exp(-(R - 1) / R*)) beyond the first.
    """
    if readings <= 1:
        return readings
    return 1 + repeats * -math.expm1((1 - readings) / repeats)


def counted_worth(text: Text, learner: Learner, read: float, by: Mapping[str, float]) -> float:
    """log2 of how many counted characters know as much as the net that has read 2**read fresh ones.

    A line in the logarithm of what was read: another for tokens than for characters, for each size,
    and for a text whose long contexts say much.
    """
    beyond = read - MILLION  # doublings of what was read, from a million characters on
    offset, slope = by["offset"], by["slope"]
    if learner.kind != "char":
        vocabulary = vocabulary_doublings(learner)
        offset += by["token_offset"] + by["vocabulary_offset"] * vocabulary
        slope += by["token_slope"] + by["vocabulary_slope"] * vocabulary
        offset += text.depth * (by["token_depth"] + by["vocabulary_depth"] * vocabulary)
        if learner.kind not in AS_UNIGRAM:
            offset += by["other_tokens"]
    size = math.log(learner.block_parameters / BLOCK_PARAMETERS, 4)
    offset += by["size_offset"] * size
    slope += by["size_slope"] * size
    offset -= by["dropout_cost"] * learner.dropout + by["decay_cost"] * learner.weight_decay
    # A step's noise matters less the longer the run: larger batches lose less then.
    noise = by["batch"] - by["batch_depth"] * text.depth
    critical = math.pow(2, noise + by["batch_growth"] * beyond)
    offset -= math.log2((critical + learner.batch_tokens) / (critical + STEP_TOKENS))
    long_contexts = by["depth_offset"] + by["depth_slope"] * max(beyond, EARLIEST)
    return read + offset + slope * beyond + text.depth * long_contexts


def vocabulary_doublings(learner: Learner) -> float:
    return math.log2((learner.vocab_size or 2 * UNIGRAM_VOCABULARY) / UNIGRAM_VOCABULARY)


def overfitting(text: Text, learner: Learner, readings: float, by: Mapping[str, float]) -> float:
    """What learning a text by heart costs, as a fraction of its bits.

    More for a large net, a large vocabulary and few tokens; less with dropout and weight decay.
    """
    if readings <= 1:
        return 0.0
    tokens = text.characters * learner.per_character
    scarcity = by["heart_scarcity"] * (MILLION - math.log2(tokens))
    size = by["heart_size"] * math.log(learner.block_parameters / BLOCK_PARAMETERS, 4)
    if learner.kind not in PLAIN_KINDS:
        size += by["heart_vocabulary"] * vocabulary_doublings(learner)
    kept = math.exp(-by["heart_dropout"] * learner.dropout)
    cost = by["heart"] * math.pow(readings - 1, by["heart_power"]) * math.pow(2, scarcity + size)
    return math.log1p(cost * kept)


def counted_bits(text: Text, doublings: float, by: Mapping[str, float]) -> float:
    """Bits per character of counting 2**doublings characters of a text: between the measured
    points, and past the last each doubling gives a fixed fraction of the one before.
    """
    points = [(math.log2(characters), bits) for characters, bits in text.curve]
    if doublings <= points[0][0]:
        return points[0][1] + FIRST_DOUBLING * (points[0][0] - doublings)
    for (start, above), (end, below) in itertools.pairwise(points):
        if doublings <= end:
            return above + (below - above) * (doublings - start) / (end - start)
    last = slope_between(points[-2], points[-1]) if len(points) > 1 else FIRST_DOUBLING
    ratio = by["ratio"]
    beyond = doublings - points[-1][0]
    return points[-1][1] - max(last, 0.0) * ratio * (1 - math.pow(ratio, beyond)) / (1 - ratio)


def slope_between(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Bits lost per doubling between two points."""
    return (first[1] - second[1]) / (second[0] - first[0])


def soft_maximum(a: float, b: float, sharpness: float) -> float:
    """A smooth maximum of two logarithms: what two sources know together."""
    high, low = max(a, b), min(a, b)
    return high + math.log2(1 + math.pow(2, sharpness * (low - high))) / sharpness
