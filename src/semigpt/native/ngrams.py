"""`ngrams.c` as functions over NumPy arrays: count n-grams, and what the counts say of a batch.

The PyTorch code of `semigpt.ngrams` is the oracle, and the way on every other device. B sequences
of T tokens, V vocabulary. Arrays are read in place where they are contiguous. Ids outside the
vocabulary raise IndexError.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semigpt.language import _
from semigpt.native.ahead import compiled
from semigpt.native.compiler import NativeUnavailableError, check_memory

__all__ = [
    "LEVELS",
    "Tables",
    "available",
    "count",
    "counts_fit",
    "distribution",
    "longest_match",
    "lookup",
    "top_k",
    "totals",
]

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("ngrams.c")
LEVELS = 8  # the highest order, as in counts.h
PARTS = 16  # of the n-grams, which threads share
Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


class CountTables(NamedTuple):
    """The tables of `semigpt.ngrams.counts.Counts` that a text decides, each by level."""

    first_child: list[NDArray[np.int32]]
    oldest: list[NDArray[np.int32]]
    first_follower: list[NDArray[np.int32]]
    follower: list[NDArray[np.int32]]
    counts: list[NDArray[np.int32]]


class Tables(ctypes.Structure):
    """`Counts` of counts.h: the tables of `semigpt.ngrams.counts.Counts`, by address.

    Args:
        discounts: `[order + 1, 4]`.
        unigram: `[V]`, p of every token without a context.
        levels: By the field's name in counts.h, one table for each level from 0 on. Those that are
            missing at the end are NULL.
    """

    _fields_ = (
        ("order", ctypes.c_int32),
        ("vocab", ctypes.c_int32),
        ("discount", ctypes.c_float * (4 * (LEVELS + 1))),
        *(
            (name, ctypes.c_void_p * LEVELS)
            for name in ("first_child", "oldest", "first_follower", "follower", "count", "totals")
        ),
        ("unigram", ctypes.c_void_p),
    )

    def __init__(
        self,
        discounts: Floats,
        unigram: Floats,
        levels: Mapping[str, Sequence[NDArray[np.int32]]],
    ) -> None:
        super().__init__(order=len(discounts) - 1, vocab=len(unigram), unigram=_address(unigram))
        self.discount[: discounts.size] = discounts.ravel().tolist()
        for name, tables in levels.items():
            for level, table in enumerate(tables):
                getattr(self, name)[level] = _address(table)
        self._arrays = (unigram, levels)  # they must live as long as their addresses

    @property
    def pointer(self) -> Any:
        """For C that takes a `const Counts *`."""
        return ctypes.byref(self)


@cache
def library() -> ctypes.CDLL:
    """ngrams.c. Raises NativeUnavailableError, saying why."""
    loaded = compiled(SOURCE)
    p, i, n = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    for name, arguments, result in (
        ("distribution", (p, i, i, p, p, p, p), None),
        ("top_k", (p, i, i, p, p, i, p, p), i),
        ("longest_match", (i, i, p, i, p, p), i),
        ("lookup", (p, i, i, p, p, i, p, p), None),
        ("sort_ngrams", (n, p, i, i, p), i),
        ("ngram_sizes", (n, i, i, p, i, p, p), None),
        ("ngram_tree", (i, i, p, i, *(p,) * 7), None),
        ("shorter_ngrams", (n, i, *(p,) * 6), n),
        ("totals", (n, p, p, p), None),
    ):
        function = getattr(loaded, f"semigpt_{name}")
        function.argtypes, function.restype = arguments, result
        if result is not None:
            function.errcheck = check_memory
    return loaded


@cache
def available() -> bool:
    """Whether ngrams.c can be used. Where it cannot, one line says why, once."""
    try:
        library()
    except NativeUnavailableError as error:
        logger.warning(_("n-grams are looked up by PyTorch, several times slower: %s"), error)
        return False
    return True


def counts_fit(vocab_size: int, order: int) -> bool:
    """Whether `count` takes n-grams of this order: they are packed into 128 bits."""
    return order * _bits(vocab_size) <= 128


def _bits(vocab_size: int) -> int:
    return max((vocab_size - 1).bit_length(), 1)


def count(ids: NDArray[np.unsignedinteger[Any]], vocab_size: int, order: int) -> CountTables:
    """The n-grams of a text `[tokens]`, read as a circle: the tables of `Counts`, by level."""
    n, longest = len(ids), order - 1
    bits = _bits(vocab_size)
    around = np.empty(longest + n, np.int32)
    around[longest:] = ids
    around[:longest] = ids[np.arange(-longest, 0) % n]
    keys, c = np.empty((n, 2), np.uint64), library()
    begins, found = np.empty(PARTS + 1, np.int64), np.empty((PARTS, order + 1), np.int64)
    text = around.ctypes.data + longest * around.itemsize
    c.semigpt_sort_ngrams(n, text, bits, order, keys.ctypes.data)
    in_parts = PARTS, begins.ctypes.data, found.ctypes.data
    c.semigpt_ngram_sizes(n, bits, order, keys.ctypes.data, *in_parts)
    # A context of k tokens is new where fewer than k are those of the one before.
    nodes = np.cumsum(found.sum(axis=0)).tolist()
    sizes = [1, *nodes[:longest]]
    oldest = [np.empty(size if level else 0, np.int32) for level, size in enumerate(sizes)]
    first_child = [np.empty(size + 1, np.int32) for size in sizes[:longest]]
    first_follower = [np.empty(size + 1, np.int32) for size in sizes]
    follower, counts = [np.empty(nodes[longest], np.int32)], [np.empty(nodes[longest], np.int32)]
    for level, children in enumerate(first_child):
        children[-1] = sizes[level + 1]
    first_follower[longest][-1] = nodes[longest]
    c.semigpt_ngram_tree(
        *(bits, order, keys.ctypes.data, *in_parts, _addresses(oldest), _addresses(first_child)),
        *(first_follower[longest].ctypes.data, follower[0].ctypes.data, counts[0].ctypes.data),
    )
    del keys, around
    for level in reversed(range(longest)):
        here, often = np.empty_like(follower[0]), np.empty_like(follower[0])
        size = c.semigpt_shorter_ngrams(
            *(sizes[level], vocab_size, first_child[level].ctypes.data),
            *(first_follower[level + 1].ctypes.data, follower[0].ctypes.data),
            *(first_follower[level].ctypes.data, here.ctypes.data, often.ctypes.data),
        )
        follower.insert(0, here[:size].copy())
        counts.insert(0, often[:size].copy())
    return CountTables(first_child, oldest, first_follower, follower, counts)


def totals(first_follower: NDArray[np.int32], counts: NDArray[np.int32]) -> NDArray[np.int32]:
    """`Counts.totals` of one level `[contexts, 4]`, from `[contexts + 1]` and `[n-grams]`."""
    found = np.empty((len(first_follower) - 1, 4), np.int32)
    library().semigpt_totals(
        len(found), first_follower.ctypes.data, counts.ctypes.data, found.ctypes.data
    )
    return found


def distribution(
    tables: Tables, ids_BT: Ids, targets_BT: Ids | None = None, weights_BTK: Floats | None = None
) -> Floats:
    """p of every token after each position, `[B, T, V]`: `Counts.distribution`."""
    B, T = ids_BT.shape
    q_BTV = np.empty((B, T, tables.vocab), np.float32)
    ids, targets, weights = _ids(ids_BT, tables.vocab), _ids(targets_BT, tables.vocab), None
    if weights_BTK is not None:
        weights = np.ascontiguousarray(weights_BTK, np.float32)
    library().semigpt_distribution(
        *(tables.pointer, B * T, T, _address(ids), _address(targets), _address(weights)),
        _address(q_BTV),
    )
    return q_BTV


def top_k(tables: Tables, ids_BT: Ids, k: int, targets_BT: Ids | None = None) -> tuple[Ids, Floats]:
    """The k likeliest tokens after each position and their p, `[B, T, k]` both: `Counts.top_k`."""
    B, T = ids_BT.shape
    tokens_BTK, p_BTK = np.empty((B, T, k), np.int64), np.empty((B, T, k), np.float32)
    ids, targets = _ids(ids_BT, tables.vocab), _ids(targets_BT, tables.vocab)
    library().semigpt_top_k(
        *(tables.pointer, B * T, T, _address(ids), _address(targets), k),
        *(_address(tokens_BTK), _address(p_BTK)),
    )
    return tokens_BTK, p_BTK


def lookup(
    tables: Tables, ids_BT: Ids, targets_BT: Ids, *, leave_one_out: bool = False
) -> tuple[Floats, Floats]:
    """p of each target `[B, T, order]` and features `[B, T, 2 (order - 1)]`: `Counts.lookup`."""
    B, T = ids_BT.shape
    p_BTK = np.empty((B, T, tables.order), np.float32)
    features_BTF = np.empty((B, T, 2 * (tables.order - 1)), np.float32)
    ids, targets = _ids(ids_BT, tables.vocab), _ids(targets_BT, tables.vocab)
    library().semigpt_lookup(
        *(tables.pointer, B * T, T, _address(ids), _address(targets), leave_one_out),
        *(_address(p_BTK), _address(features_BTF)),
    )
    return p_BTK, features_BTF


def longest_match(ids_BT: Ids, longest: int) -> tuple[Ids, Ids]:
    """What followed the longest earlier match of the tokens that end at each position.

    The token, the latest of several, and the match's length up to `longest`, `[B, T]` both; 0 and 0
    without a match.
    """
    B, T = ids_BT.shape
    tokens_BT, lengths_BT = np.empty((B, T), np.int64), np.empty((B, T), np.int64)
    ids = _ids(ids_BT)
    library().semigpt_longest_match(
        B, T, _address(ids), longest, _address(tokens_BT), _address(lengths_BT)
    )
    return tokens_BT, lengths_BT


def _ids(array: Ids | None, vocab: int | None = None) -> Ids | None:
    if array is None:
        return None
    ids = np.ascontiguousarray(array, np.int64)
    if vocab is not None and ids.size and not 0 <= ids.min() <= ids.max() < vocab:
        raise IndexError(f"ids from {ids.min()} to {ids.max()} in a vocabulary of {vocab}")
    return ids


def _addresses(arrays: Sequence[NDArray[np.int32]]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))


def _address(array: NDArray[Any] | None) -> int | None:
    return None if array is None else array.ctypes.data
