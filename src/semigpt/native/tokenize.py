"""`tokenize.c` over NumPy arrays: byte-level BPE and Unigram over GPT-2's words, BPE over whole
characters, and what the trainers learn from and how.

The `tokenizers` library gives the same ids, BPE's some five times slower; it is the oracle, and the
way without a compiler.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semigpt.language import _
from semigpt.native.ahead import compiled
from semigpt.native.compiler import NativeUnavailableError, check_memory

__all__ = [
    "Encoder",
    "available",
    "bpe_encoder",
    "char_bpe_encoder",
    "count_words",
    "expected_counts",
    "learn_merges",
    "unigram_encoder",
]

Places = NDArray[np.int64]
Floats = NDArray[np.float64]
SOURCE = Path(__file__).with_name("tokenize.c")


@cache
def library(*defines: str) -> ctypes.CDLL:
    """tokenize.c. Raises NativeUnavailableError, saying why."""
    loaded = compiled(SOURCE, *defines)
    pointer, number, text, i = ctypes.c_void_p, ctypes.c_int64, ctypes.c_char_p, ctypes.c_int
    for name, arguments, result in (
        ("bpe_new", (number, pointer, pointer, pointer), pointer),
        ("unigram_new", (number, text, pointer, pointer, pointer), pointer),
        ("encode", (pointer, text, number, pointer), number),
        ("encoder_free", (pointer,), None),
        ("words_new", (pointer, i), pointer),
        ("words_add", (pointer, text, number), number),
        ("words_size", (pointer, pointer), number),
        ("words_get", (pointer,) * 4, None),
        ("words_free", (pointer,), None),
        ("merges", (pointer, pointer, number, pointer, *(number,) * 4, pointer), number),
        ("unigram_expect", (i, i, *(pointer,) * 7, ctypes.c_double, *(pointer,) * 4), None),
    ):
        function = getattr(loaded, f"semigpt_{name}")
        function.argtypes, function.restype = arguments, result
    for name in ("encode", "words_add", "merges"):
        getattr(loaded, f"semigpt_{name}").errcheck = check_memory
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

    def __init__(self, handle: int | None, code_points: NDArray[Any]) -> None:
        self._library = library()
        self._handle = handle
        self._code_points = code_points  # the C reads this table as long as it lives
        if not handle:
            raise MemoryError(_("no memory left for an encoder's tables"))

    def __call__(self, text: str) -> NDArray[np.uint32]:
        """The ids of a text: 1-D. Raises UnicodeEncodeError for one with lone surrogates."""
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
    return Encoder(new(len(merges), merges.ctypes.data, classes.ctypes.data, None), classes)


def char_bpe_encoder(
    merges: NDArray[np.int32], adjacent: NDArray[np.int32], characters: NDArray[np.int32]
) -> Encoder:
    """An encoder of BPE over whole characters, which merges across the whole text.

    Args:
        merges: As in `bpe_encoder`.
        adjacent: `[pairs, 2]`, the ids of every two characters that are side by side in some token.
        characters: `[0x110000]`, the id of every code point; -1 for one that is written in bytes,
            whose ids are 0 to 255.
    """
    rows = np.full((len(merges) + len(adjacent), 3), -1, np.int32)
    rows[: len(merges)], rows[len(merges) :, :2] = merges, adjacent
    new: Any = library().semigpt_bpe_new
    return Encoder(new(len(rows), rows.ctypes.data, None, characters.ctypes.data), characters)


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


def count_words(
    documents: Iterable[str], classes: NDArray[np.uint8], *, runs: bool
) -> dict[str, int]:
    """How often each word occurs: GPT-2's, or runs of one class. Classes as in `bpe_encoder`."""
    c = library()
    handle = c.semigpt_words_new(classes.ctypes.data, runs)
    if not handle:
        raise MemoryError(_("no memory left to count words"))
    try:
        for document in documents:
            utf8 = document.encode("utf-8", "surrogatepass")
            c.semigpt_words_add(handle, utf8, len(utf8))
        length = ctypes.c_int64()
        size = c.semigpt_words_size(handle, ctypes.byref(length))
        data, ends = np.empty(length.value, np.uint8), np.empty(size, np.int64)
        counts = np.empty(size, np.int64)
        c.semigpt_words_get(handle, data.ctypes.data, ends.ctypes.data, counts.ctypes.data)
    finally:
        c.semigpt_words_free(handle)
    text = data.tobytes().decode("utf-8", "surrogatepass")
    # Every byte of UTF-8 but those of the form 10xxxxxx begins a character.
    begun = np.cumsum((data & 0xC0) != 0x80)
    stops = begun[ends - 1].tolist()
    words = (text[begin:end] for begin, end in zip([0, *stops], stops, strict=False))
    return dict(zip(words, counts.tolist(), strict=True))


def learn_merges(
    symbols: NDArray[np.int32],
    weights: Places,
    sizes: Sequence[int],
    *,
    most: int,
    longest: int,
    min_count: int,
) -> Places:
    """`_merges` of semigpt.tokenizers.bpe_trainer, at most so many. `[merges, 3]`.

    Overwrites `symbols`. Raises MemoryError where there is no memory.
    """
    lengths = np.concatenate([np.array(sizes, np.int64), np.zeros(most, np.int64)])
    merges = np.empty((most, 3), np.int64)
    made = library().semigpt_merges(
        *(symbols.ctypes.data, weights.ctypes.data, len(symbols), lengths.ctypes.data),
        *(len(sizes), longest, min_count, most, merges.ctypes.data),
    )
    return merges[:made]


def expected_counts(
    n: Sequence[int],
    first: Places,
    pieces: Sequence[tuple[Places, Places, Sequence[int]]],
    p: Floats,
    weight: Floats,
    least: float,
) -> Floats:
    """How often each piece is expected: `_Lattice.fit` of semigpt.tokenizers.unigram_trainer.

    Args:
        pieces: Of each length `ends`, `ids` and `starts`.
        least: Forward probabilities count as at least this much.
    """
    arrays = [
        [np.ascontiguousarray(table, np.int64) for table in tables]
        for tables in zip(*pieces, strict=True)
    ]
    rows, lengths = len(n) - 1, len(pieces)
    expected = [np.empty(len(ends)) for ends, _, _ in pieces]
    forward, backward = np.zeros(int(first[-1])), np.zeros(int(first[-1]))
    count, sizes = np.zeros(len(p)), np.array([*n, 0], np.int64)

    def addresses(tables: Sequence[NDArray[Any]]) -> Any:
        return (ctypes.c_void_p * lengths)(*(table.ctypes.data for table in tables))

    library().semigpt_unigram_expect(
        *(rows, lengths, first.ctypes.data, sizes.ctypes.data, *map(addresses, arrays)),
        *(p.ctypes.data, weight.ctypes.data, least, addresses(expected)),
        *(forward.ctypes.data, backward.ctypes.data, count.ctypes.data),
    )
    return count
