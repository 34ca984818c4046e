"""Every automatic choice: what a run does where its settings leave it open.

What a model is and how it is trained is one choice: of all that is open, the candidate that the law
of learning (`semigpt.law`) says ends lowest in the time there is. Each other function takes plain
numbers and answers one question. What was measured stands in docs/choices.md.
`semigpt.config.Recipe` applies the answers and keeps them in the run's config.toml, so a run that
is resumed never asks again. A rung names the questions that were measured for it in
`LanguageModel.auto`; the others keep their settings' own defaults.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from semigpt import started_law
from semigpt.law import Learner, Text, expected_bits, law_error, tokens_per_character
from semigpt.sizes import LARGER_SIZES, SIZES, Size, own_vocabulary
from semigpt.started_law import Known

__all__ = [
    "LARGER_SIZES",
    "SIZES",
    "Candidate",
    "Choice",
    "Open",
    "Shape",
    "Size",
    "begins_as_bigrams",
    "candidates",
    "checkpoint_due",
    "compiles",
    "documents_step",
    "evaluations",
    "output_rows",
    "shards",
    "sizes",
    "started",
    "started_rate",
    "starter_may_help",
    "vocabularies",
    "with_started",
]

Choice = Literal[
    "size",
    "tokenizer",
    "batch_size",
    "teacher",
    "dropout",
    "weight_decay",
    "compile",
    "output_sample",
    "embeddings",
    "start",
]

# Characters of training text from which a size is a candidate: the law has no runs of it on less.
# `large` is beyond the law's data.
SMALLEST_TEXT: dict[Size, int] = {"tiny": 0, "small": 800_000, "base": 5_000_000}
# Tokens that there must be time for, of all but the smallest: some fewer than any run of the law.
FEWEST_TOKENS: dict[Size, float] = {"small": 400_000, "base": 4_000_000}
# The tokens longer than a character that a model reads by itself: of all kinds that are the same in
# every program, a net learns most from these. docs/choices.md#tokenizer-kind.
LONG_TOKENS: Literal["char_bpe"] = "char_bpe"
VOCABULARIES = (2000, 4000, 8000)
VOCABULARY_CHARACTERS = 50  # of training text for each token of a vocabulary, at least
BATCHES = (1, 2, 4)  # times the size's own
DROPOUTS = (0.0, 0.1, 0.2)
WEIGHT_DECAYS = (0.0, 0.1)
# Tokens of training text per token of the vocabulary, from which a fresh model begins as bigrams:
# with 27 its end is 0.04 bits higher for it, with 48 0.16 lower. docs/choices.md#embeddings.
BIGRAM_TOKENS = 40
# Ways that end nearer to each other than this, of the law's error, are alike: take the smallest.
# 0.01 bits on a text like those that it was fitted to, more on others.
ALIKE = 0.125
# A run ends before its minutes only where the law says that this is worth so many bits.
EARLY_END = 0.01
TEACHER_ORDER = 5
# A run that reads more than 20 times the 100 million tokens that are counted soon knows more than
# the counts, which take over a gigabyte in every process: no teacher then.
TAUGHT_TOKENS = 2_000_000_000
TOKENIZER_CHARACTERS = 6_000_000  # of a training split, from which a tokenizer is learnt
COMPILE_SECONDS = 60
HEADROOM = 1.1  # what a process needs is reckoned: within a fifth of what it takes
# Readings of a text by a run that begins from the starter: without counts of it, and with.
STARTED_READINGS = (3.0, 2.0)
STARTED_GAIN = (0.12, 0.06)  # bits, from which the starter is taken: without counts, and with
LEARNT_WELL = 2.5  # bits per character
STARTED_RATE = 0.3  # of the usual rates, for a run that begins from a trained model
SAMPLED_VOCABULARY = 6000  # tokens: the output layer of fewer is always whole
# Characters of training text below which it is whole too: more steps of a text that is soon read
# again gain less than a sample costs (docs/choices.md#output-layer).
SAMPLED_TEXT = 5_000_000
DRAWN = 0.18  # of the tokens that are no targets, in a sample of the output layer
EVALUATIONS, EVALUATION_FRACTION = 10, 0.05
SAVING_FRACTION, SAVING_PAUSE = 0.02, 30.0


class Shape(NamedTuple):
    """What the law and the clock ask of a size."""

    block_parameters: int  # without embeddings and output layer
    context_length: int
    batch_size: int  # the size's own


@dataclass(frozen=True)
class Open:
    """What a recipe leaves open: for each question the answers to choose from, one where it is
    asked for.
    """

    shapes: Mapping[Size, Shape]
    tokenizers: tuple[tuple[str, int | None], ...]  # kind and vocabulary
    batches: tuple[int, ...] | None  # sequences; None: BATCHES of the size's own
    dropouts: tuple[float, ...]
    weight_decays: tuple[float, ...]
    teachers: tuple[bool, ...]
    has_counts: bool = False  # the model holds the n-gram counts of the text
    bigrams: bool = False  # its embeddings may begin as the text's bigrams


@dataclass(frozen=True)
class Candidate:
    """One way to train, and the bits per character that the law expects at its end."""

    size: Size
    tokenizer: str
    vocab_size: int | None
    batch_size: int
    dropout: float
    weight_decay: float
    taught: bool
    tokens: int  # read in all; at most, where it may end early
    early: bool  # of its own accord, before its time: more readings would only hurt
    expected: float
    start: str | None = None  # the model that it begins from


def candidates(
    text: Text,
    left: Open,
    fitting: Callable[[Size, int, int], float],
    *,
    may_end_early: bool,
    sampled: Callable[[Size, int, int], bool] = lambda *_: False,
) -> list[Candidate]:
    """Every way to train that is left open, the one that is expected to end lowest first: the
    smallest model, with the least dropout, where several are expected to end alike.

    fitting: how many tokens a size with a vocabulary and a batch size reads in the time there is
    sampled: whether its steps sample the output layer
    """
    found = []
    smallest = next(iter(left.shapes))  # is always one
    for size, (kind, vocab_size) in itertools.product(left.shapes, left.tokenizers):
        shape = left.shapes[size]
        per_character = tokens_per_character(kind, vocab_size, text)
        rows = vocab_size or text.distinct
        batches = left.batches or tuple(times * shape.batch_size for times in BATCHES)
        for batch_size in batches:
            most = fitting(size, rows, batch_size)
            if size != smallest and most < FEWEST_TOKENS.get(size, 0):
                continue
            teachers = left.teachers if most <= TAUGHT_TOKENS else left.teachers[:1]
            for dropout, decay, taught in itertools.product(
                left.dropouts, left.weight_decays, teachers
            ):
                learner = Learner(
                    block_parameters=shape.block_parameters,
                    kind=kind,
                    vocab_size=vocab_size,
                    per_character=per_character,
                    batch_tokens=batch_size * shape.context_length,
                    dropout=dropout,
                    weight_decay=decay,
                    taught=taught,
                    sampled=sampled(size, rows, batch_size),
                    bigrams=left.bigrams
                    and begins_as_bigrams(per_character * text.characters, rows),
                    memory=left.has_counts,
                )
                expected, tokens = expected_bits(text, learner, most), most
                if may_end_early:
                    best = min(
                        (
                            (expected_bits(text, learner, n), n)
                            for n in earlier(text, learner, most)
                        ),
                        default=(expected, most),
                    )
                    if best[0] < expected - EARLY_END:
                        expected, tokens = best
                found.append(
                    Candidate(
                        *(size, kind, vocab_size, batch_size, dropout, decay, taught),
                        tokens=int(tokens),
                        early=tokens < most,
                        expected=expected,
                    )
                )
    found.sort(key=lambda candidate: candidate.expected)
    alike = ALIKE * law_error(text)
    near = [way for way in found if way.expected <= found[0].expected + alike]
    smallest_first = list(left.shapes)
    simplest = min(
        near, key=lambda way: (smallest_first.index(way.size), way.dropout, way.expected)
    )
    found.remove(simplest)
    return [simplest, *found]


def earlier(text: Text, learner: Learner, most: float) -> Iterator[float]:
    """Numbers of tokens at which a run might end early: from two readings of the text on, each a
    quarter more than the one before.
    """
    tokens = 2.0 * text.characters * learner.per_character
    while tokens < most:
        yield tokens
        tokens *= 1.25


def started(
    way: Candidate, text: Text, known: Known, most: float, *, has_counts: bool, may_end_early: bool
) -> Candidate:
    """The way to train of a run that begins from the starter, of `most` tokens.

    It ends after a few readings of the text at the latest, where it may: it has no dropout, and
    soon learns a text by heart.
    """
    longest = STARTED_READINGS[has_counts] * text.characters * known.per_character
    tokens = min(most, longest) if may_end_early else most
    return replace(
        way,
        tokens=int(longest if may_end_early else most),
        early=may_end_early,
        expected=started_law.expected_bits(text, known, tokens, has_counts=has_counts),
        start="starter",
    )


def starter_may_help(way: Candidate) -> bool:
    """Whether what the starter knows is worth measuring, beside the best way from random weights:
    a text that is learnt so well repeats itself.
    """
    return way.expected > LEARNT_WELL


def with_started(ways: list[Candidate], begun: Candidate, *, has_counts: bool) -> list[Candidate]:
    """The ways from random weights and the one from the starter, which comes first where it is
    expected to end lower by more than both laws may be off: less with counts, which both have.
    """
    if begun.expected < ways[0].expected - STARTED_GAIN[has_counts]:
        return [begun, *ways]
    best, *others = ways
    return [best, *sorted([*others, begun], key=lambda way: way.expected)]


def sizes(characters: int) -> tuple[Size, ...]:
    """The sizes to choose from for a training text."""
    return tuple(size for size, least in SMALLEST_TEXT.items() if characters >= least)


def vocabularies(characters: int, size: Size | None = None) -> tuple[int, ...]:
    """The Unigram vocabularies that a training text is long enough for; the one of a `size` that
    has its own.
    """
    longest = characters // VOCABULARY_CHARACTERS
    own = None if size is None else own_vocabulary(size)
    if own is not None and own <= longest:
        return (own,)
    return tuple(vocabulary for vocabulary in VOCABULARIES if vocabulary <= longest)


def documents_step(characters: int) -> int:
    """Learn tokens longer than a character from every n-th document: some six million characters
    say as much as all of them.
    """
    return max(-(-characters // TOKENIZER_CHARACTERS), 1)


def started_rate(rate: float) -> float:
    """The learning rate of a run that begins from a trained model, from that of one that begins
    from random weights. docs/choices.md#started-rate.
    """
    return STARTED_RATE * rate


def begins_as_bigrams(tokens: float, vocab_size: int) -> bool:
    """Whether a training text of so many tokens says enough of which token follows which."""
    return tokens >= BIGRAM_TOKENS * vocab_size


def output_rows(vocab_size: int, tokens: int, width: int, block_parameters: int) -> int:
    """How many rows of the output layer a step on so many tokens computes; 0: all of them.

    The distinct targets, and a part of the others, where that layer is half of the net and at least
    half of a large vocabulary is left out. docs/choices.md#output-layer.
    """
    targets = min(3.2 * tokens**0.757, vocab_size)  # of Unigram tokens of film reviews
    rows = int(targets + DRAWN * (vocab_size - targets))
    half = vocab_size * width >= block_parameters and 2 * rows <= vocab_size
    return rows if half and vocab_size >= SAMPLED_VOCABULARY else 0


def compiles(device_type: str, seconds: float) -> bool:
    """Whether torch.compile pays for itself in a run of so many seconds: on an NVIDIA GPU, from a
    minute on.

    On a CPU the compiled C step is faster than what it gives. docs/choices.md#compile.
    """
    return device_type == "cuda" and seconds >= COMPILE_SECONDS


def shards(needed: Mapping[int, int], free: int | None) -> int:
    """How many processes cut a model among them: the fewest that certainly fit, else those that
    need least.

    needed: bytes that all on a device need, by such a number, the fewest first
    free:   what it has; None where nothing says
    """
    certain = (n for n, memory in needed.items() if free is None or HEADROOM * memory <= free)
    return next(certain, min(needed, key=needed.__getitem__))


def evaluations(minutes: float | None, seconds_per_evaluation: float) -> int:
    """How often a run is evaluated: ten times, or fewer (two at least) where that would take over 5
    % of its minutes.
    """
    if (
        minutes is None
        or seconds_per_evaluation * EVALUATIONS <= EVALUATION_FRACTION * 60 * minutes
    ):
        return EVALUATIONS
    return max(int(EVALUATION_FRACTION * 60 * minutes / seconds_per_evaluation), 2)


def checkpoint_due(seconds: float, since_last: float, spent: float, next_cost: float) -> bool:
    """Whether a run of so many seconds saves a checkpoint now: half a minute apart, 2 % of its time
    in all at most.

    spent: seconds that saving has taken so far. next_cost: seconds that the next checkpoint is
    expected to take.
    """
    return since_last >= SAVING_PAUSE and spent + next_cost <= SAVING_FRACTION * seconds
