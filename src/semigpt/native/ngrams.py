"""`ngrams.c` as functions over NumPy arrays: what n-gram counts say at each position of a batch.

The PyTorch code of `semigpt.ngrams` is the oracle, and the way on every other device. B sequences
of T tokens, V vocabulary. Ids must be inside the vocabulary; arrays are read in place where they
are contiguous.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semigpt.native.compiler import NativeUnavailableError, check_memory, compiled

__all__ = ["LEVELS", "Tables", "available", "distribution", "longest_match", "lookup", "top_k"]

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("ngrams.c")
LEVELS = 8  # the highest order, as in counts.h
Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


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
    p, i = ctypes.c_void_p, ctypes.c_int
    for name, arguments, result in (
        ("distribution", (p, i, i, p, p, p, p), None),
        ("top_k", (p, i, i, p, p, i, p, p), i),
        ("longest_match", (i, i, p, i, p, p), i),
        ("lookup", (p, i, i, p, p, i, p, p), None),
    ):
        function = getattr(loaded, f"semigpt_{name}")
        function.argtypes, function.restype = arguments, result
        if result is i:
            function.errcheck = check_memory
    return loaded


@cache
def available() -> bool:
    """Whether ngrams.c can be used. Where it cannot, one line says why, once."""
    try:
        library()
    except NativeUnavailableError as error:
        logger.warning("n-grams are looked up by PyTorch, several times slower: %s", error)
        return False
    return True


def distribution(
    tables: Tables, ids_BT: Ids, targets_BT: Ids | None = None, weights_BTK: Floats | None = None
) -> Floats:
    """p of every token after each position, `[B, T, V]`: `Counts.distribution`."""
    B, T = ids_BT.shape
    q_BTV = np.empty((B, T, tables.vocab), np.float32)
    ids, targets, weights = _ids(ids_BT), _ids(targets_BT), None
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
    ids, targets = _ids(ids_BT), _ids(targets_BT)
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
    ids, targets = _ids(ids_BT), _ids(targets_BT)
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


def _ids(array: Ids | None) -> Ids | None:
    return None if array is None else np.ascontiguousarray(array, np.int64)


def _address(array: NDArray[Any] | None) -> int | None:
    return None if array is None else array.ctypes.data
