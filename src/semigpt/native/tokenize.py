"""`tokenize.c` over NumPy arrays: byte-level BPE and Unigram over GPT-2's words.

The `tokenizers` library gives the same ids, BPE's some five times slower; it is the oracle, and the
way without a compiler.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semigpt.native.ahead import compiled
from semigpt.native.compiler import NativeUnavailableError, check_memory

__all__ = ["Encoder", "available", "bpe_encoder", "unigram_encoder"]

SOURCE = Path(__file__).with_name("tokenize.c")


@cache
def library(*defines: str) -> ctypes.CDLL:
    """tokenize.c. Raises NativeUnavailableError, saying why."""
    loaded = compiled(SOURCE, *defines)
    pointer, number, text = ctypes.c_void_p, ctypes.c_int64, ctypes.c_char_p
    for name, arguments, result in (
        ("bpe_new", (number, pointer, pointer), pointer),
        ("unigram_new", (number, text, pointer, pointer, pointer), pointer),
        ("encode", (pointer, text, number, pointer), number),
        ("encoder_free", (pointer,), None),
    ):
        function = getattr(loaded, f"semigpt_{name}")
        function.argtypes, function.restype = arguments, result
    loaded.semigpt_encode.errcheck = check_memory
    return loaded


@cache
def available() -> bool:
    """Whether tokenize.c can be used; tried once. Silent: the library is a good second."""
    try:
        library()
    except NativeUnavailableError:
        return False
    return True


class Encoder:
    """Text to ids, for one thread. Raises MemoryError where there is no memory."""

    def __init__(self, handle: int | None, classes: NDArray[np.uint8]) -> None:
        self._library = library()
        self._handle = handle
        self._classes = classes  # the C reads them as long as it lives
        if not handle:
            raise MemoryError("no memory left for an encoder's tables")

    def __call__(self, text: str) -> NDArray[np.uint32]:
        """The ids of a text without lone surrogates: 1-D."""
        utf8 = text.encode()
        ids = np.empty(len(utf8), np.uint32)
        count = self._library.semigpt_encode(self._handle, utf8, len(utf8), ids.ctypes.data)
        return ids[:count]

    def __del__(self) -> None:
        self._library.semigpt_encoder_free(self._handle)


def bpe_encoder(merges: NDArray[np.int32], classes: NDArray[np.uint8]) -> Encoder:
    """An encoder of BPE.

    Args:
        merges: `[merges, 3]`, each the ids of the left and right token and of what they make; the
            first is applied first.
        classes: `[0x110000]`, of every code point: 1 a letter, 2 a numeral, 3 white space, else 0.
    """
    merges = np.ascontiguousarray(merges, np.int32)
    new: Any = library().semigpt_bpe_new
    return Encoder(new(len(merges), merges.ctypes.data, classes.ctypes.data), classes)


def unigram_encoder(
    pieces: list[bytes], scores: NDArray[np.float64], classes: NDArray[np.uint8]
) -> Encoder:
    """An encoder of Unigram.

    Args:
        pieces: By id; the 256 single bytes come first.
        scores: `[pieces]`, their log-probabilities.
        classes: As in `bpe_encoder`.
    """
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    scores = np.ascontiguousarray(scores, np.float64)
    new: Any = library().semigpt_unigram_new
    arrays = ends.ctypes.data, scores.ctypes.data, classes.ctypes.data
    return Encoder(new(len(pieces), b"".join(pieces), *arrays), classes)
