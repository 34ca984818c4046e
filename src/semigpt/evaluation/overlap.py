"""Whether a text holds what a model was trained on: passages of it that occur in the other text.

A loss on such a text says what the model remembers, not what it has learnt.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from semigpt.corpus.corpus import Corpus

__all__ = ["PASSAGE", "seen_fraction"]

Array = npt.NDArray[np.uint64]

PASSAGE = 40  # characters; two texts hardly share one by chance
MOST_PASSAGES = 100_000
BLOCK = 1 << 20  # characters hashed at a time
# An odd number has an inverse modulo 2^64, by which a window's hash is made free of its place.
BASE = 0x9E3779B97F4A7C15
INVERSE = pow(BASE, -1, 1 << 64)


def seen_fraction(corpus: Corpus, split: str, trained_on: Corpus) -> float:
    """The fraction of a split's passages that occur in the training split of `trained_on`.

    The split's documents are cut into passages of `PASSAGE` characters; what is left of each is
    not looked at. At most `MOST_PASSAGES`, evenly apart, are looked up. 0 where there is none.
    """
    parts = [_hashes(text)[::PASSAGE] for text in corpus.documents(split) if len(text) >= PASSAGE]
    if not parts:
        return 0.0
    wanted = np.concatenate(parts)
    wanted = wanted[:: -(-len(wanted) // MOST_PASSAGES)]
    unique = np.unique(wanted)
    seen = np.zeros(len(unique), dtype=bool)
    for block in _blocks(trained_on):
        found = _hashes(block)
        places = np.searchsorted(unique, found)
        places[places == len(unique)] = 0
        seen[places[unique[places] == found]] = True
    return float(seen[np.searchsorted(unique, wanted)].mean())


def _blocks(corpus: Corpus) -> Iterator[str]:
    """The training text in long blocks, each with the end of the one before."""
    block = ""
    for text in corpus.documents("train"):
        block += text
        if len(block) >= BLOCK:
            yield block
            block = block[-(PASSAGE - 1) :]
    if len(block) >= PASSAGE:
        yield block


def _hashes(text: str) -> Array:
    """A hash of the `PASSAGE` characters from each place on: `[len(text) - PASSAGE + 1]`."""
    encoded = text.encode("utf-32-le", "surrogatepass")
    characters = np.frombuffer(encoded, dtype="<u4").astype(np.uint64)
    sums = np.zeros(len(characters) + 1, dtype=np.uint64)
    np.cumsum(characters * _powers(BASE, len(characters)), out=sums[1:])
    windows: Array = sums[PASSAGE:] - sums[:-PASSAGE]
    return windows * _powers(INVERSE, len(windows))


def _powers(base: int, count: int) -> Array:
    """base^0, base^1 … modulo 2^64."""
    factors = np.full(count, base, dtype=np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)
