"""Learn the merges of byte-level BPE.

Byte-pair encoding (Sennrich, Haddow and Birch 2016, arXiv:1508.07909) over bytes (Radford and
others 2019): the two neighbouring symbols that occur together most often become one symbol, again
and again.

The merges are those of the `tokenizers` library's `BpeTrainer` for the same words, in the same
order; a test compares them. This trainer is here because it is two to four times as fast
(docs/choices.md).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["learn_merges"]

Places = NDArray[np.int64]
Candidate = tuple[int, int, Places]
"""Minus a pair's count, the pair, and its places. Both may be out of date: the count is too high,
and some places are gone."""

_NO_SYMBOL = -1
_ABSORBED = -2
_SHIFT = 32  # a pair of ids is one number, left << 32 | right, so that pairs sort by their ids


def learn_merges(
    words: Mapping[bytes, int], num_merges: int, *, min_count: int = 1
) -> list[tuple[int, int]]:
    """The merges of `words`, the most frequent pair first, each a pair of ids.

    Args:
        words: How often each word occurs. No merge crosses words.
        num_merges: Fewer come back where no pair is left that occurs `min_count` times.

    Ids 0 to 255 are the bytes, and merge i makes the id 256 + i. Of two pairs as frequent, the one
    of lower ids goes first.
    """
    # All words lie in one row, with a boundary before, between and after them. They are sorted,
    # since words that begin alike are reached together and share the processor's cache. A symbol
    # that spans several places keeps its id in the first, and its length in the first and the last:
    # either neighbour is one step away.
    row = sorted(words)
    sizes = np.array([len(word) for word in row], np.int64)
    counts = np.array([words[word] for word in row], np.int64)
    symbols = np.full(int(sizes.sum()) + len(sizes) + 1, _NO_SYMBOL, np.int32)
    inside = np.ones(len(symbols), np.bool_)
    inside[np.concatenate([[0], np.cumsum(sizes + 1)])] = False
    symbols[inside] = np.frombuffer(b"".join(row), np.uint8)
    lengths = np.ones(len(symbols), np.int32)
    weights = np.zeros(len(symbols), np.int64)
    weights[inside] = np.repeat(counts, sizes)

    # A pair (x, new) appears only where `new` has just been made, so its count never grows
    # afterwards: the first count is an upper bound, corrected when the pair comes to the head of
    # the queue. The queue holds each batch of pairs by its best one: of half a million pairs, only
    # the few that come near the head cost more than a place in an array.
    first = np.flatnonzero((symbols[:-1] >= 0) & (symbols[1:] >= 0))
    queue: list[tuple[*Candidate, Iterator[Candidate]]] = []
    _queue_batch(queue, _candidates(_pairs(symbols[first], symbols[first + 1]), first, weights))

    merges: list[tuple[int, int]] = []
    tokens = [bytes([byte]) for byte in range(256)]
    while queue and len(merges) < num_merges:
        negative_count, pair, left, batch = heapq.heappop(queue)
        _queue_batch(queue, batch)
        left_id, right_id = divmod(pair, 1 << _SHIFT)
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

        new_id = len(tokens)
        merges.append((left_id, right_id))
        tokens.append(tokens[left_id] + tokens[right_id])
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
    return merges


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
