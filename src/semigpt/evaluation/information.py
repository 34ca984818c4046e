"""How well a model knows a text, in units a person can compare, beside what far simpler models know.

A model gives each next token a probability p. If p was high the token told it little: -log p is how much it
told, the token's *information*. Summed over a text it is what the text costs to write down for someone who
has the same model. Everything here is that one sum in different units.

- **nats**: the natural logarithm, what cross-entropy and a training loss report, a token at a time.
- **bits**: base 2; one nat is 1 / ln 2 = 1.443 bits. A fair coin's toss is one bit.
- **perplexity**: e to the nats per token. A perplexity of 50 is as unsure as a fair choice among 50 tokens.
- **bits per character**: the whole sum in bits, divided by the text's characters. A loss a token cannot be
  compared between tokenizers, since a longer token carries more; this can. It is the number to quote.
- **bits per byte**: the same by UTF-8 bytes, as papers quote it. A Hangul syllable is three bytes, so Korean
  looks easy by this measure. Divided by 8 it is a compression ratio.

All tokens are paid for, the end-of-text marks and byte tokens too; only characters are divided by.
"""

import lzma
import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from semigpt.errors import CorpusError, SettingsError
from semigpt.ngrams.counts import CHUNK, Counts, checked_ids, run_starts

__all__ = [
    "Baselines",
    "Information",
    "baselines",
    "bigram_bits",
    "bits",
    "uniform_bits",
    "unigram_bits",
    "xz_bits",
]


def bits(nats: float) -> float:
    """Nats in bits: nats / ln 2."""
    return nats / math.log(2)


@dataclass(frozen=True)
class Information:
    """What a text told a model: `nats` in total over `tokens`, which spell `characters` and `bytes` (UTF-8).

    Raises CorpusError where there are no tokens, characters or bytes to divide by.
    """

    nats: float
    tokens: int
    characters: int
    bytes: int

    def __post_init__(self) -> None:
        if min(self.tokens, self.characters, self.bytes) < 1:
            raise CorpusError(
                f"nothing to measure in {self.tokens} tokens, {self.characters} characters, "
                f"{self.bytes} bytes: give a text of at least one character"
            )

    @property
    def loss_nats_per_token(self) -> float:
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """e^loss, infinite where a double cannot hold it."""
        return math.exp(self.loss_nats_per_token) if self.loss_nats_per_token < 709 else math.inf

    @property
    def bits_per_character(self) -> float:
        return bits(self.nats) / self.characters

    @property
    def bits_per_byte(self) -> float:
        return bits(self.nats) / self.bytes

    def as_dict(self) -> dict[str, float | int]:
        """The four measures and the three sizes, as `evaluate --json` names them."""
        return {
            "loss_nats_per_token": self.loss_nats_per_token,
            "perplexity": self.perplexity,
            "bits_per_character": self.bits_per_character,
            "bits_per_byte": self.bits_per_byte,
            "tokens": self.tokens,
            "characters": self.characters,
            "bytes": self.bytes,
        }


@dataclass(frozen=True)
class Baselines:
    """What simple models pay for a text, in bits per character; `xz` is None where it was not asked for."""

    uniform: float
    unigram: float
    bigram: float
    kneser_ney_5: float
    xz: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        return asdict(self)


def baselines(
    train_ids: npt.ArrayLike,
    test_ids: npt.ArrayLike,
    vocab_size: int,
    characters: int,
    *,
    xz: float | None = None,
) -> Baselines:
    """Count the training text, then price the test text by every baseline, in bits per character.

    `train_ids`, `test_ids` [tokens] from one *character* tokenizer; `characters` is the test text's length
    without its end-of-text marks. `xz` is the total of `xz_bits`, which is slow and so the caller's choice.

    Raises CorpusError where there is no text to count or to price, SettingsError for ids outside the
    vocabulary.
    """
    test_ids = checked_ids(test_ids, vocab_size)
    if characters < 1 or len(test_ids) == 0:
        raise CorpusError(
            "no text to price the baselines on: give a split of at least one character"
        )
    kneser_ney_5 = Counts.fit(train_ids, vocab_size, order=5).bits(test_ids)
    return Baselines(
        uniform=uniform_bits(len(test_ids), vocab_size) / characters,
        unigram=unigram_bits(train_ids, test_ids, vocab_size) / characters,
        bigram=bigram_bits(train_ids, test_ids, vocab_size) / characters,
        kneser_ney_5=kneser_ney_5 / characters,
        xz=None if xz is None else xz / characters,
    )


def uniform_bits(tokens: int, vocab_size: int) -> float:
    """Knowing nothing: every token costs log2 V bits. What a fresh model's loss should be, too."""
    return tokens * math.log2(vocab_size)


def unigram_bits(train_ids: npt.ArrayLike, test_ids: npt.ArrayLike, vocab_size: int) -> float:
    """Knowing how frequent each token is: p(w) = (c(w) + T / V) / (N + T), N tokens of T kinds in training.

    Total bits of `test_ids`. Witten–Bell smoothing: T times in N a token was new, so T / (N + T) is kept for
    what is not yet known and shared out evenly. Nothing to tune, and no token is impossible.
    """
    logs = np.log2(_unigram(_training_ids(train_ids, vocab_size), vocab_size))
    test = checked_ids(test_ids, vocab_size)
    return -math.fsum(
        float(logs[test[start : start + CHUNK]].sum()) for start in range(0, len(test), CHUNK)
    )


def bigram_bits(train_ids: npt.ArrayLike, test_ids: npt.ArrayLike, vocab_size: int) -> float:
    """Knowing one token back: the counts table that the book's bigram model learns by gradient descent.

    Total bits of `test_ids`: p(w | v) = (c(v w) + T(v) p(w)) / (c(v) + T(v)), where T(v) is how many kinds of
    token followed v. Witten–Bell again, resting on the unigram: it says how sure a row of the table is by how
    often that row brought news. The first token has no predecessor and is priced as a unigram.
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
    kinds = np.bincount(first, minlength=vocab_size)
    totals = np.bincount(first, weights=counts, minlength=vocab_size)

    # A sentinel no pair can equal keeps every place inside the table.
    seen, counts = np.append(seen, np.uint64(2**64 - 1)), np.append(counts, 0)
    logs = [float(np.log2(unigram[test[0]]))]
    for start in range(0, len(test) - 1, CHUNK):
        part = test[start : start + CHUNK + 1]
        wanted = _pairs(part, vocab_size)
        places = np.searchsorted(seen, wanted)
        count = np.where(seen[places] == wanted, counts[places], 0)
        kind, total, p = kinds[part[:-1]], totals[part[:-1]], unigram[part[1:]]
        p = np.where(total > 0, (count + kind * p) / np.maximum(total + kind, 1), p)
        logs.append(float(np.log2(p).sum()))
    return -math.fsum(logs)


def xz_bits(train: Iterable[bytes], test: Iterable[bytes], *, limit: int | None = None) -> float:
    """What `xz -9e` adds for the test text after the training text: 8 (|xz(train + test)| - |xz(train)|).

    Total bits of `test`. A general compressor knows no Korean but remembers repeats within its window of
    64 MiB. Both texts come as pieces of bytes, any size, read once; `limit` primes on the last that many
    bytes of `train` alone. The two compressors run side by side on two threads and hold 0.7 GB each, whatever
    the text's length: 22 million characters of Korean reviews, 54 MB, take 90 s, their last 8 MB 7 s.

    Raises SettingsError for a limit below 1.
    """
    if limit is not None:
        train = [_tail(train, limit)]
    alone, primed = (
        lzma.LZMACompressor(check=lzma.CHECK_NONE, preset=9 | lzma.PRESET_EXTREME) for _ in range(2)
    )
    size_alone = size_primed = 0
    with ThreadPoolExecutor(1) as beside:
        for block in _blocks(train):
            other = beside.submit(alone.compress, block)
            size_primed += len(primed.compress(block))
            size_alone += len(other.result())
        other = beside.submit(alone.flush)
        size_primed += sum(len(primed.compress(piece)) for piece in test) + len(primed.flush())
        size_alone += len(other.result())
    return 8.0 * (size_primed - size_alone)


def _training_ids(train_ids: npt.ArrayLike, vocab_size: int) -> npt.NDArray[np.unsignedinteger]:
    ids = checked_ids(train_ids, vocab_size)
    if len(ids) == 0:
        raise CorpusError("no training text to count the baselines on: give at least one token")
    return ids


def _unigram(train: npt.NDArray[np.unsignedinteger], vocab_size: int) -> npt.NDArray[np.float64]:
    counts = np.bincount(train, minlength=vocab_size)
    kinds = np.count_nonzero(counts)
    return (counts + kinds / vocab_size) / (len(train) + kinds)


def _pairs(ids: npt.NDArray[np.unsignedinteger], vocab_size: int) -> npt.NDArray[np.uint64]:
    """Each token with its predecessor as one number: v V + w. [tokens] → [tokens - 1]."""
    pairs = ids[:-1].astype(np.uint64)
    pairs *= np.uint64(vocab_size)
    pairs += ids[1:]
    return pairs


def _tail(pieces: Iterable[bytes], limit: int) -> bytes:
    """The last `limit` bytes."""
    if limit < 1:
        raise SettingsError(
            f"xz cannot be primed with {limit} bytes: give 1 or more, or None for all"
        )
    tail = bytearray()
    for piece in pieces:
        tail += piece
        del tail[:-limit]
    return bytes(tail)


def _blocks(pieces: Iterable[bytes], size: int = 1 << 20) -> Iterator[bytes]:
    """The pieces joined to about 1 MiB, so that the two threads meet seldom."""
    block = bytearray()
    for piece in pieces:
        block += piece
        if len(block) >= size:
            yield bytes(block)
            block.clear()
    yield bytes(block)
