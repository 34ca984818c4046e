"""Count n-grams with NumPy: the oracle of ngrams.c's counting, and the way without a compiler.

Each place's n-gram is one number of 64 bits. Sorted, contexts lie as the tree of
`semigpt.ngrams.counts.Counts`, each with its followers, ascending.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semigpt.native.ngrams import CountTables

__all__ = ["count_in_numpy", "run_starts"]

Ids = NDArray[np.unsignedinteger[Any]]
Indices = NDArray[np.signedinteger[Any]]

PAIRS = 1 << 26  # the largest table of pairs of tokens: 64 MB of what occurs, 256 MB of ranks


def count_in_numpy(ids: Ids, vocab_size: int, order: int) -> CountTables:
    """The n-grams of a text `[tokens]`, as `semigpt.native.ngrams.count` gives them."""
    # Each place's context and its token as one number: sorted, contexts lie as a tree, each
    # with its followers, ascending.
    radix = np.uint64(vocab_size)
    keys, packing = Packing.of(np.roll(ids, 1), vocab_size, order - 1, factor=vocab_size)
    ranks: NDArray[np.uint64] | None = None
    if packing.span * vocab_size > 2**64:
        ranks, places = np.unique(keys, return_inverse=True)
        keys = places.astype(np.uint64)
    contexts, follower, counts = _counted(keys, ids, radix)
    del keys
    starts = run_starts(contexts)
    nodes = contexts[starts] if ranks is None else ranks[contexts[starts]]
    oldest, first_child = packing.tree(nodes)
    context = np.repeat(np.arange(len(nodes)), np.diff(starts, append=len(contexts)))
    del contexts, nodes, ranks
    # From the longest contexts up: an n-gram of fewer tokens counts as often as it was seen in
    # different longer ones.
    levels = [(np.append(starts, len(follower)), follower, counts)]
    for level in reversed(range(order - 1)):
        parents = np.repeat(np.arange(len(first_child[level]) - 1), np.diff(first_child[level]))
        contexts, follower, counts = _counted(parents[context].astype(np.uint64), follower, radix)
        context = contexts.astype(np.int64)
        levels.insert(0, (np.append(run_starts(contexts), len(contexts)), follower, counts))
    tables = zip(*levels, strict=True)
    first_follower, followers, how_often = ([_whole(part) for part in table] for table in tables)
    children = [_whole(table) for table in first_child]
    return CountTables(
        children, [_whole(table) for table in oldest], first_follower, followers, how_often
    )


@dataclass(frozen=True)
class Packing:
    """How n-grams are packed into 64 bits, newest token first.

    Sorted, n-grams that share their newest k tokens are then neighbours, for every k.

    A token is a digit. Where these would not fit (order 5 over more than 7,131 tokens, order 6 over
    more than 1,625) a digit is the rank of two tokens among the pairs that occur: of film reviews,
    4,420 tokens, half a million of twenty. Where that does not help, or a table of all pairs would
    be large, the number so far is replaced by its rank among the distinct ones, which costs as much
    again as all the rest.
    """

    vocab_size: int
    order: int
    dtype: np.dtype[Any]
    span: int  # all numbers are less
    base: int  # of a digit that is a pair
    pairs: Indices | None
    """[pairs that occur]: newer token * vocab_size + older, ascending; None where a digit is a
    token."""
    ranked: dict[int, NDArray[np.uint64]]
    """Before the token of that age was added: the numbers so far, [distinct], ascending, by
    rank."""

    @classmethod
    def of(
        cls, ids: Ids, vocab_size: int, order: int, *, factor: int = 1
    ) -> tuple[NDArray[np.uint64], Packing]:
        """The number of the n-gram that ends at each place of `ids` [tokens], read as a circle.

        Where they can, the numbers times `factor` fit too.
        """
        pairs: NDArray[np.intp] | None = None
        digits, base, most = ids, vocab_size, 2**64 // factor
        if vocab_size**order > most and vocab_size**2 <= PAIRS:
            both = ids.astype(np.int64) * vocab_size + np.roll(ids, 1)
            occurs = np.zeros(vocab_size**2, bool)
            occurs[both] = True
            pairs = np.flatnonzero(occurs)
            digits = (np.cumsum(occurs, dtype=np.uint32) - np.uint32(1))[both]
            base = max(len(pairs), vocab_size)
            del both, occurs
        keys, span = np.zeros(len(ids), np.uint64), 1
        ranked: dict[int, NDArray[np.uint64]] = {}
        for age in range(0, order, 1 if pairs is None else 2):
            last = age == order - 1
            digit, radix = (ids, vocab_size) if last else (digits, base)
            if span * radix > most:
                ranked[age], ranks = np.unique(keys, return_inverse=True)
                keys, span = ranks.astype(np.uint64), len(ranked[age])
            keys *= np.uint64(radix)
            keys += np.roll(digit, age)
            span *= radix
        return keys, cls(vocab_size, order, ids.dtype, span, base, pairs, ranked)

    def tree(self, keys: NDArray[np.uint64]) -> tuple[list[Ids], list[Indices]]:
        """The distinct n-grams, ascending, as `Counts.oldest` and `Counts.first_child`."""
        tokens: list[Ids] = [np.zeros(0, self.dtype)]
        first_child: list[Indices] = []
        for age in reversed(range(self.order)):
            if self.pairs is not None and age % 2:
                keys, digit = np.divmod(keys, np.uint64(self.base))
                newer, oldest = np.divmod(self.pairs[digit], self.vocab_size)
                keys *= np.uint64(self.vocab_size)
                keys += newer.astype(np.uint64)
            else:
                keys, oldest = np.divmod(keys, np.uint64(self.vocab_size))
            tokens.insert(1, oldest.astype(self.dtype))
            if age in self.ranked:
                keys = self.ranked[age][keys]
            starts = run_starts(keys)
            first_child.insert(0, np.append(starts, len(keys)).astype(np.int32))
            keys = keys[starts]
        return tokens, first_child


def run_starts(ordered: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Where each run of equal values begins. Sorted [n] -> [runs]."""
    changed = np.empty(len(ordered), bool)
    changed[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=changed[1:])
    return np.flatnonzero(changed)


def _counted(
    contexts: NDArray[np.uint64], followers: NDArray[Any], radix: np.uint64
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]:
    """The distinct pairs of a context and its follower, ascending, and how often each occurs.

    `contexts` is overwritten.
    """
    contexts *= radix
    contexts += followers
    contexts.sort()
    starts = run_starts(contexts)
    context, follower = np.divmod(contexts[starts], radix)
    return context, follower, np.diff(starts, append=len(contexts))


def _whole(array: NDArray[Any]) -> NDArray[np.int32]:
    return np.ascontiguousarray(array, dtype=np.int32)
