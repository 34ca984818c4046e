"""What far simpler models need for the same text, in bits per character: what a model has to beat.

Each is counted on the training split's characters, whatever the model's own tokenizer, and scored
on the split in question. The largest is the uniform distribution over the characters, the smallest
as a rule a 5-gram (`semigpt.ngrams.kneser_ney`).
"""

from __future__ import annotations

import hashlib
import json
import lzma
import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from semigpt import html
from semigpt.dataset import prepare_dataset
from semigpt.errors import CorpusError
from semigpt.evaluation.information import BASELINE_NAMES
from semigpt.language import _
from semigpt.ngrams.counts import CHUNK, Counts, checked_ids
from semigpt.ngrams.packing import run_starts
from semigpt.storage import replace_file
from semigpt.tokenizers.char import CharTokenizer

if TYPE_CHECKING:
    from semigpt.corpus.corpus import Corpus

__all__ = [
    "Baselines",
    "bigram_bits",
    "compute_baselines",
    "known_baselines",
    "measure_baselines",
    "uniform_bits",
    "unigram_bits",
    "xz_bits",
]

# Tokens counted at most, from the beginning of the training split: 11 bytes and 0.2 µs each.
COUNTED_TOKENS = 100_000_000
BLOCK = 1 << 20  # bytes of a file read, and compressed, at a time


@dataclass(frozen=True, repr=False)
class Baselines:
    """What simple models need for a text, in bits per character; `xz` is None if not measured."""

    uniform: float
    unigram: float
    bigram: float
    kneser_ney_5: float
    xz: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """The fields by name, as `evaluate --json` and metadata.json hold them."""
        return asdict(self)

    def named(self) -> list[tuple[str, float]]:
        """(name for people, bits per character) of those that were measured, the weakest first."""
        values = self.as_dict()
        measured = (
            (_(name), value)
            for key, name in BASELINE_NAMES.items()
            if (value := values[key]) is not None
        )
        return sorted(measured, key=lambda pair: -pair[1])

    def __repr__(self) -> str:
        values = ", ".join(f"{name} {value:.3f}" for name, value in self.named())
        return f"<Baselines in bits per character: {values}>"

    def _repr_html_(self) -> str:
        rows = [(name, f"{value:.3f}") for name, value in self.named()]
        return html.table(_("Baselines, bits per character"), rows)


def measure_baselines(
    corpus: Corpus, split: str, *, counted_on: Corpus, xz: bool = True
) -> Baselines:
    """The baselines on one split, counted on the training split of `counted_on`.

    At most COUNTED_TOKENS characters are counted. A file beside the corpus keeps the result.
    `xz=False` leaves out xz, the slow one. Raises CorpusError for a split that is not there or
    empty.
    """
    path = _file(corpus, split, counted_on)
    values = _cached(path) or {}
    characters = corpus.characters(split)
    if not values:
        values = compute_baselines(
            *_character_ids(corpus, split, counted_on), characters=characters
        ).as_dict()
        replace_file(path, json.dumps(values).encode())
    if xz and values["xz"] is None:
        total = xz_bits(_blocks_of(counted_on, "train"), _blocks_of(corpus, split))
        values["xz"] = total / characters
        replace_file(path, json.dumps(values).encode())
    return Baselines(**(values if xz else {**values, "xz": None}))


def known_baselines(corpus: Corpus, split: str, *, counted_on: Corpus) -> Baselines | None:
    """The baselines without xz, where they have been measured before; else None, at once."""
    values = _cached(_file(corpus, split, counted_on))
    return None if values is None else Baselines(**{**values, "xz": None})


def _file(corpus: Corpus, split: str, counted_on: Corpus) -> Path:
    pair = f"1 {corpus.fingerprint} {counted_on.fingerprint}"
    key = hashlib.sha256(pair.encode()).hexdigest()[:16]
    return corpus.folder / f"baselines-{split}-{key}.json"


def _cached(path: Path) -> dict[str, Any] | None:
    """What an earlier measurement left; None where the file is missing or damaged."""
    try:
        return Baselines(**json.loads(path.read_text(encoding="utf-8"))).as_dict()
    except (ValueError, TypeError, OSError):
        return None


def _character_ids(
    corpus: Corpus, split: str, counted_on: Corpus
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], int]:
    """(training ids, the split's ids, vocabulary size) in the characters of `counted_on`."""
    # Staged text is NFC, so asking for it changes no id; with it these are the default model's own
    # token shards.
    tokenizer = CharTokenizer.from_counts(counted_on.character_counts, normalization="NFC")
    training = prepare_dataset(counted_on, tokenizer).stream("train")
    stream = prepare_dataset(corpus, tokenizer).stream(split)
    counted = training.read(0, min(len(training), COUNTED_TOKENS))
    return counted, stream.read(0, len(stream)), tokenizer.vocab_size


def compute_baselines(
    train_ids: npt.ArrayLike,
    test_ids: npt.ArrayLike,
    vocab_size: int,
    *,
    characters: int,
) -> Baselines:
    """Count a training text and score a test text by every baseline but xz.

    train_ids, test_ids: [tokens] from one *character* tokenizer, 0 ≤ id < vocab_size
    characters:          the test text's length without its end-of-text marks

    Raises CorpusError where there is no text to count or to score, SettingsError for ids outside
    the vocabulary.
    """
    test_ids = checked_ids(test_ids, vocab_size)
    if characters < 1 or len(test_ids) == 0:
        raise CorpusError(
            _("no text to measure the baselines on: give a split of at least one character")
        )
    kneser_ney_5 = Counts.fit(train_ids, vocab_size, order=5).bits(test_ids)
    return Baselines(
        uniform=uniform_bits(len(test_ids), vocab_size) / characters,
        unigram=unigram_bits(train_ids, test_ids, vocab_size) / characters,
        bigram=bigram_bits(train_ids, test_ids, vocab_size) / characters,
        kneser_ney_5=kneser_ney_5 / characters,
    )


# Each baseline's total bits for a test text


def uniform_bits(tokens: int, vocab_size: int) -> float:
    """log2 V bits for every token: what a model with fresh weights needs, too."""
    return tokens * math.log2(vocab_size)


def unigram_bits(train_ids: npt.ArrayLike, test_ids: npt.ArrayLike, vocab_size: int) -> float:
    """Total bits of `test_ids` by each token's frequency: p(w) = (c(w) + T / V) / (N + T).

    N is the number of training tokens, T that of distinct ones. Witten–Bell smoothing: T times in N
    the next token was a new one, so T / (N + T) of the probability is spread evenly. No parameter,
    no impossible token.

    train_ids, test_ids: [tokens], 0 ≤ id < vocab_size. Raises as `compute_baselines` does.
    """
    logs = np.log2(_unigram(_training_ids(train_ids, vocab_size), vocab_size))
    test = checked_ids(test_ids, vocab_size)
    return -math.fsum(
        float(logs[test[start : start + CHUNK]].sum()) for start in range(0, len(test), CHUNK)
    )


def bigram_bits(train_ids: npt.ArrayLike, test_ids: npt.ArrayLike, vocab_size: int) -> float:
    """Total bits of `test_ids` by the token before:
    p(w | v) = (c(v w) + T(v) p(w)) / (c(v) + T(v)).

    T(v) is the number of distinct tokens that followed v: Witten–Bell again, with the unigram p(w)
    as the lower order. This is the table of counts that a neural bigram learns by gradient descent.
    The first token has no predecessor and is scored by the unigram.

    train_ids, test_ids: [tokens], 0 ≤ id < vocab_size. Raises as `compute_baselines` does.
    """
    train, test = _training_ids(train_ids, vocab_size), checked_ids(test_ids, vocab_size)
    unigram = _unigram(train, vocab_size)
    if len(test) == 0:
        return 0.0
    pairs = _pairs(train, vocab_size)
    pairs.sort()
    starts = run_starts(pairs)
    counts = np.diff(starts, append=len(pairs))
    seen = pairs[starts]
    first = (seen // np.uint64(vocab_size)).astype(np.int64)
    distinct = np.bincount(first, minlength=vocab_size)
    totals = np.bincount(first, weights=counts, minlength=vocab_size)

    # A sentinel that equals no pair keeps every index inside the table.
    seen, counts = np.append(seen, np.uint64(2**64 - 1)), np.append(counts, 0)
    logs = [float(np.log2(unigram[test[0]]))]
    for start in range(0, len(test) - 1, CHUNK):
        part = test[start : start + CHUNK + 1]
        wanted = _pairs(part, vocab_size)
        places = np.searchsorted(seen, wanted)
        count = np.where(seen[places] == wanted, counts[places], 0)
        followers, total, p = distinct[part[:-1]], totals[part[:-1]], unigram[part[1:]]
        p = np.where(total > 0, (count + followers * p) / np.maximum(total + followers, 1), p)
        logs.append(float(np.log2(p).sum()))
    return -math.fsum(logs)


def xz_bits(train: Iterable[bytes], test: Iterable[bytes]) -> float:
    """Total bits that xz -9e adds for the test text: 8 (|xz(train + test)| - |xz(train)|).

    A general compressor knows no Korean but finds repeats within its window of 64 MiB. Both texts
    come as blocks of bytes of any size and are read once. Two compressors run on two threads and
    hold 0.7 GB each, whatever the text's length (54 MB of Korean reviews: 90 s).
    """
    alone, primed = (
        lzma.LZMACompressor(check=lzma.CHECK_NONE, preset=9 | lzma.PRESET_EXTREME) for _ in range(2)
    )
    size_alone = size_primed = 0
    with ThreadPoolExecutor(1) as thread:
        for block in _joined(train):
            other = thread.submit(alone.compress, block)
            size_primed += len(primed.compress(block))
            size_alone += len(other.result())
        other = thread.submit(alone.flush)
        size_primed += sum(len(primed.compress(block)) for block in test) + len(primed.flush())
        size_alone += len(other.result())
    return 8.0 * (size_primed - size_alone)


def _training_ids(train_ids: npt.ArrayLike, vocab_size: int) -> npt.NDArray[np.unsignedinteger]:
    ids = checked_ids(train_ids, vocab_size)
    if len(ids) == 0:
        raise CorpusError(_("no training text to count the baselines on: give at least one token"))
    return ids


def _unigram(train: npt.NDArray[np.unsignedinteger], vocab_size: int) -> npt.NDArray[np.float64]:
    """p of each token by `unigram_bits`' formula. [tokens] → [vocab_size]."""
    counts = np.bincount(train, minlength=vocab_size)
    distinct = np.count_nonzero(counts)
    return (counts + distinct / vocab_size) / (len(train) + distinct)


def _pairs(ids: npt.NDArray[np.unsignedinteger], vocab_size: int) -> npt.NDArray[np.uint64]:
    """Each token w after its predecessor v as one number: v V + w. [tokens] → [tokens - 1]."""
    pairs = ids[:-1].astype(np.uint64)
    pairs *= np.uint64(vocab_size)
    pairs += ids[1:]
    return pairs


def _blocks_of(corpus: Corpus, split: str) -> Iterator[bytes]:
    """The split's staged bytes, BLOCK at a time."""
    with corpus.path(split).open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def _joined(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks joined to BLOCK bytes or more, so that the threads rarely wait for each other."""
    joined = bytearray()
    for block in blocks:
        joined += block
        if len(joined) >= BLOCK:
            yield bytes(joined)
            joined.clear()
    yield bytes(joined)
