"""Learn the merges of BPE, over bytes or whole characters.

Byte-pair encoding (Sennrich, Haddow and Birch 2016, arXiv:1508.07909): the two neighbouring symbols
that occur together most often become one symbol, again and again.

The merges are those of the `tokenizers` library's `BpeTrainer` for the same words, in the same
order; a test compares them. This trainer is here because it is faster (docs/choices.md), and knows
characters and a longest length.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semigpt.native import tokenize as native

__all__ = ["BYTES", "Merge", "learn_merges", "symbol_counts"]

BYTES = {chr(byte): 1 for byte in range(256)}
"""The alphabet of byte-level BPE, whose words are bytes read as Latin-1."""

Merge = tuple[int, int, int]
"""The ids of two symbols that become one, and how often they occurred together."""

Places = NDArray[np.int64]
Candidate = tuple[int, int, Places]
"""Minus a pair's count, the pair, and its places. Both may be out of date: the count is too high,
and some places are gone."""

_NO_SYMBOL = -1
_ABSORBED = -2
_SHIFT = 32  # a pair of ids is one number, left << 32 | right, so that pairs sort by their ids
_CODE_POINTS = 0x110000


def learn_merges(
    words: Mapping[str, int],
    alphabet: Mapping[str, int],
    *,
    most: int,
    longest: int = sys.maxsize,
    min_count: int = 1,
) -> list[Merge]:
    """The merges of `words`, at most `most`, the most frequent pair first.

    Args:
        words: How often each word occurs. No merge crosses words.
        alphabet: The characters that are symbols, by id, each with its length. No merge has a
            character that is not among them.
        longest: What no merge may be longer than, in the lengths of `alphabet`.
        min_count: Merging stops where no pair is left that occurs so often.

    Merge i makes the id `len(alphabet) + i`. Of two pairs as frequent, the one of lower ids goes
    first. Counts never rise from one merge to the next.
    """
    symbols, weights = _lay_out(words, alphabet)
    sizes = list(alphabet.values())
    if native.available():
        found = native.learn_merges(
            symbols, weights, sizes, most=most, longest=longest, min_count=min_count
        )
        return [(left, right, count) for left, right, count in found.tolist()]
    return list(islice(_merges(symbols, weights, sizes, longest, min_count), most))


def _merges(
    symbols: NDArray[np.int32],
    weights: NDArray[np.int64],
    sizes: list[int],
    longest: int,
    min_count: int,
) -> Iterator[Merge]:
    """`learn_merges` of what `_lay_out` gives, without end and without a compiler."""
    lengths = np.ones(len(symbols), np.int32)

    # A pair (x, new) appears only where `new` has just been made, so its count never grows
    # afterwards: the first count is an upper bound, corrected when the pair comes to the head of
    # the queue. The queue holds each batch of pairs by its best one: of half a million pairs, only
    # the few that come near the head cost more than a place in an array.
    first = np.flatnonzero((symbols[:-1] >= 0) & (symbols[1:] >= 0))
    queue: list[tuple[*Candidate, Iterator[Candidate]]] = []
    _queue_batch(queue, _candidates(_pairs(symbols[first], symbols[first + 1]), first, weights))

    while queue:
        negative_count, pair, left, batch = heapq.heappop(queue)
        _queue_batch(queue, batch)
        left_id, right_id = divmod(pair, 1 << _SHIFT)
        size = sizes[left_id] + sizes[right_id]
        if size > longest:
            continue
        left = left[symbols[left] == left_id]
        right = left + lengths[left]
        still_there = symbols[right] == right_id
        left, right = left[still_there], right[still_there]
        count = int(weights[left].sum())
        if count < min_count:
            continue
        if count < -negative_count:
            heapq.heappush(queue, (-count, pair, left, iter(())))
            continue

        yield left_id, right_id, count
        new_id = len(sizes)
        sizes.append(size)
        if left_id == right_id:
            left, right = _without_overlaps(left, right)
        behind = right + lengths[right]
        symbols[left] = new_id
        symbols[right] = _ABSORBED
        lengths[left] = lengths[behind - 1] = behind - left

        before = left - lengths[left - 1]
        has_before = symbols[before] >= 0
        # Where two merged places touch, their pair is counted at the second, as the one before it.
        has_behind = (symbols[behind] >= 0) & (symbols[behind] != new_id)
        before, left, behind = before[has_before], left[has_behind], behind[has_behind]
        pairs = np.concatenate([_pairs(symbols[before], new_id), _pairs(new_id, symbols[behind])])
        _queue_batch(queue, _candidates(pairs, np.concatenate([before, left]), weights))


def symbol_counts(words: Mapping[str, int]) -> dict[str, int]:
    """How often each character occurs in `words`, which occur so often themselves."""
    weights = np.repeat(list(words.values()), [len(word) for word in words])
    counts = np.bincount(_code_points("".join(words)), weights, _CODE_POINTS)
    return {chr(point): int(counts[point]) for point in np.flatnonzero(counts)}


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _lay_out(
    words: Mapping[str, int], alphabet: Mapping[str, int]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """All words in one row, with a boundary before, between and after them: ids, and how often each
    word occurs.

    They are sorted, since words that begin alike are reached together and share the processor's
    cache. A symbol that spans several places will keep its id in the first, and its length in the
    first and the last: either neighbour is one step away.
    """
    row = sorted(words)
    sizes = np.array([len(word) for word in row], np.int64)
    counts = np.array([words[word] for word in row], np.int64)
    inside = np.ones(int(sizes.sum()) + len(sizes) + 1, np.bool_)
    inside[np.concatenate([[0], np.cumsum(sizes + 1)])] = False
    ids = np.full(_CODE_POINTS, _NO_SYMBOL, np.int32)
    ids[[ord(character) for character in alphabet]] = np.arange(len(alphabet))
    symbols = np.full(len(inside), _NO_SYMBOL, np.int32)
    symbols[inside] = ids[_code_points("".join(row))]
    weights = np.zeros(len(inside), np.int64)
    weights[inside] = np.repeat(counts, sizes)
    return symbols, weights


def _pairs(left: NDArray[Any] | int, right: NDArray[Any] | int) -> NDArray[np.int64]:
    return (np.asarray(left, np.int64) << _SHIFT) | right


def _queue_batch(
    queue: list[tuple[*Candidate, Iterator[Candidate]]], batch: Iterator[Candidate]
) -> None:
    """Queue the next candidate of a batch, with the rest of the batch."""
    for candidate in batch:
        heapq.heappush(queue, (*candidate, batch))
        return


def _candidates(
    pairs: NDArray[np.int64], places: Places, weights: NDArray[np.int64]
) -> Iterator[Candidate]:
    """The distinct pairs of `pairs`, which lie at `places`: the most frequent first, then lower
    ids."""
    if not len(pairs):
        return
    order = np.argsort(pairs)
    pairs, places = pairs[order], places[order]
    starts = np.concatenate([[0], np.flatnonzero(pairs[1:] != pairs[:-1]) + 1])
    ends = np.append(starts[1:], len(pairs))
    counts = np.add.reduceat(weights[places], starts)
    for i in np.argsort(-counts, kind="stable"):
        yield -int(counts[i]), int(pairs[starts[i]]), places[starts[i] : ends[i]]


def _without_overlaps(left: Places, right: Places) -> tuple[Places, Places]:
    """Of the places of a pair of equal ids, those that are merged from the left: `aaaa` at 0 and
    2."""
    order = np.argsort(left)
    left, right = left[order], right[order]
    index = np.arange(len(left))
    overlaps = np.concatenate([[False], right[:-1] == left[1:]])
    run_start = np.maximum.accumulate(np.where(overlaps, 0, index))
    kept = (index - run_start) % 2 == 0
    return left[kept], right[kept]
