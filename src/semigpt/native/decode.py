"""Decoding in C: `decode.c`, one step of a Qwen3-shaped GPT on a CPU without PyTorch's dispatch.

A token of the 4 x 128 model takes PyTorch some 120 operations of 2 to 3 µs each, more than its
arithmetic; here it is one call. `semigpt.generation.decoder` decides whether to make it. The oracle
is the same model in PyTorch (tests).

Shapes: B sequences, V vocabulary.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semigpt.errors import SettingsError
from semigpt.native.ahead import compiled
from semigpt.native.compiler import NativeUnavailableError
from semigpt.native.decode_weights import (
    LANES,
    MATRICES,
    NORMS,
    DecoderWeights,
    Matrix,
    aligned,
    round_up,
)

__all__ = [
    "NativeDecoder",
    "NativeState",
    "NativeUnavailableError",
    "library",
]

SOURCE = Path(__file__).with_name("decode.c")
DRAW_CHUNK = 256  # tokens summed at once by a draw, as in decode.c
ROWS = 64  # most rows of one call; a longer prompt is read in several
FORMATS = {np.dtype(np.float32): 0, np.dtype(np.uint16): 1, np.dtype(np.int8): 2}

Floats = NDArray[np.float32]


class _Matrix(ctypes.Structure):
    _fields_ = (
        ("weights", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("panels", ctypes.c_int32),
        ("inputs", ctypes.c_int32),
    )


_SIZES = ("layers", "width", "heads", "kv_heads", "head_width", "hidden", "vocab", "slots")


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, _Matrix) for name in MATRICES),
        *((name, ctypes.c_void_p) for name in NORMS),
    )


class _Model(ctypes.Structure):
    _fields_ = (
        ("format", ctypes.c_int32),
        *((name, ctypes.c_int32) for name in _SIZES),
        ("epsilon", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("frequencies", "embedding", "final_norm")),
        ("output", _Matrix),
        ("layer", ctypes.POINTER(_Layer)),
        ("scratch", ctypes.c_void_p),
    )


@cache
def library() -> ctypes.CDLL:
    """decode.c, compiled or from the cache folder. Raises NativeUnavailableError, saying why."""
    loaded = compiled(SOURCE)
    pointer, number = ctypes.c_void_p, ctypes.c_int
    loaded.semigpt_scratch.argtypes = (pointer, number, number)
    loaded.semigpt_scratch.restype = ctypes.c_int64
    loaded.semigpt_step.argtypes = (
        *(pointer, number, pointer, pointer, pointer, number),
        *(pointer, pointer, number, pointer, pointer, number),
    )
    loaded.semigpt_step.restype = number
    loaded.semigpt_draw.argtypes = (
        *(number, number, number, pointer, pointer, ctypes.c_float),
        *(pointer, pointer, pointer),
    )
    loaded.semigpt_draw.restype = number
    return loaded


class NativeDecoder:
    """Opens sequences that decode.c continues; a `Decoder` of `semigpt.generation.decoder`.

    Raises NativeUnavailableError without a compiler.
    """

    def __init__(self, weights: DecoderWeights, threads: int) -> None:
        self.library = library()
        self.weights, self.threads = weights, threads
        self.vocab_size, self.context_length = weights.vocab_size, weights.context_length
        self.slots = round_up(weights.context_length, LANES)
        self.logits_stride = round_up(weights.vocab_size, LANES)
        self._held: list[NDArray[Any]] = []  # C has pointers into these
        self._model = self._structure(weights)
        self.address = ctypes.addressof(self._model)
        self._scratch_rows = 0
        self.reserve(1)

    def _structure(self, weights: DecoderWeights) -> _Model:
        layers = (_Layer * len(weights.layers))()
        for target, layer in zip(layers, weights.layers, strict=True):
            for name in MATRICES:
                setattr(target, name, _matrix(getattr(layer, name)))
            for name in NORMS:
                setattr(target, name, self._hold(getattr(layer, name)))
        return _Model(
            format=FORMATS[weights.output.weights.dtype],
            layers=len(weights.layers),
            width=weights.width,
            heads=weights.num_heads,
            kv_heads=weights.num_kv_heads,
            head_width=weights.head_width,
            hidden=weights.hidden_width,
            vocab=weights.vocab_size,
            slots=weights.context_length,
            epsilon=weights.epsilon,
            frequencies=self._hold(weights.frequencies),
            embedding=self._hold(weights.embedding),
            final_norm=self._hold(weights.final_norm),
            output=_matrix(weights.output),
            layer=layers,
        )

    def _hold(self, array: Floats) -> int:
        self._held.append(np.ascontiguousarray(array, np.float32))
        return int(self._held[-1].ctypes.data)

    def reserve(self, rows: int) -> None:
        """Make the scratch buffer large enough for steps of so many rows."""
        if rows > self._scratch_rows:
            size = self.library.semigpt_scratch(self.address, rows, self.threads)
            self._scratch = aligned(np.zeros(size, np.float32))
            self._model.scratch = self._scratch.ctypes.data
            self._scratch_rows = rows

    def open(self, count: int, capacity: int = 0) -> NativeState:
        """`count` empty sequences, with caches for `capacity` if that is more."""
        return NativeState(self, count, max(count, capacity))


class NativeState:
    """The caches of B sequences and the logits after them; a `DecoderState`."""

    def __init__(self, decoder: NativeDecoder, count: int, capacity: int) -> None:
        self._decoder = decoder
        weights = decoder.weights
        heads = len(weights.layers) * weights.num_kv_heads
        value_width = round_up(weights.head_width, LANES)
        self._keys = _zeros(capacity, heads, decoder.slots * weights.head_width)
        self._values = _zeros(capacity, heads, decoder.context_length * value_width)
        self._caches = np.arange(count, dtype=np.int32)  # the index of each sequence's cache
        self._lengths = np.zeros(count, np.int64)
        self._allocate_buffers()

    def _allocate_buffers(self) -> None:
        """The arrays of a step, and their addresses, which NumPy takes a microsecond to give."""
        count, decoder = len(self._caches), self._decoder
        decoder.reserve(count)
        self._tokens = np.zeros(count, np.int64)
        self._every_row = np.arange(count, dtype=np.int32)
        self._logits = aligned(np.zeros((count, decoder.logits_stride), np.float32))
        self._view = self._logits[:, : decoder.vocab_size]
        self._uniforms = np.zeros(count)
        self._sums = np.zeros(decoder.vocab_size // DRAW_CHUNK + 1)
        self._drawn = np.zeros(count, np.int64)
        self._forbidden = np.zeros(count, np.uint64)
        self._step_arguments = (
            decoder.address,
            count,
            *(array.ctypes.data for array in (self._tokens, self._caches, self._lengths)),
            1,
            self._keys.ctypes.data,
            self._values.ctypes.data,
            count,
            self._every_row.ctypes.data,
            self._logits.ctypes.data,
            decoder.threads,
        )
        outputs = (self._uniforms, self._sums, self._drawn)
        self._draw_addresses = (
            *(array.ctypes.data for array in (self._logits, self._forbidden)),
            *(array.ctypes.data for array in outputs),
        )

    def feed(self, sequences: Sequence[Sequence[int]]) -> Floats:
        """Read more tokens of each sequence, and return the logits `[B, V]` after each.

        Raises SettingsError for an id outside the vocabulary.
        """
        context = self._decoder.context_length
        for row, tokens in enumerate(sequences):
            if self._lengths[row] == 0:
                tokens = tokens[-context:]
            place = 0
            while place < len(tokens):
                free = context - int(self._lengths[row])
                # Past the context each token sees another window: one at a time.
                part = tokens[place : place + (min(ROWS, free) if free > 1 else 1)]
                place += len(part)
                self._read(row, part, last=place == len(tokens))
        return self._view

    def _read(self, row: int, tokens: Sequence[int], last: bool) -> None:
        count, decoder = len(tokens), self._decoder
        decoder.reserve(max(count, len(self._caches)))
        ids = np.array(tokens, np.int64)
        caches = np.full(count, self._caches[row], np.int32)
        positions = np.arange(self._lengths[row], self._lengths[row] + count, dtype=np.int64)
        wanted = np.array([count - 1], np.int32)
        wrong = decoder.library.semigpt_step(
            decoder.address,
            count,
            *(array.ctypes.data for array in (ids, caches, positions)),
            int(count == 1),
            self._keys.ctypes.data,
            self._values.ctypes.data,
            int(last),
            wanted.ctypes.data,
            self._logits[row].ctypes.data,
            decoder.threads,
        )
        if wrong >= 0:
            raise self._outside(ids[wrong])
        self._lengths[row] += count

    def step(self, tokens: NDArray[np.int64]) -> Floats:
        """`feed` of one token each, without its bookkeeping."""
        self._tokens[:] = tokens
        wrong = self._decoder.library.semigpt_step(*self._step_arguments)
        if wrong >= 0:
            raise self._outside(self._tokens[wrong])
        self._lengths += 1
        return self._view

    def _outside(self, token: int) -> SettingsError:
        V = self._decoder.vocab_size
        return SettingsError(f"token {token} is outside the vocabulary of {V} tokens")

    def draw(
        self, forbidden: Sequence[int], temperature: float, uniforms: Sequence[float]
    ) -> NDArray[np.int64]:
        """Draw a token of each sequence from softmax(logits / temperature), `[B]`.

        The logits are overwritten.

        forbidden: of each sequence 0, or the address of V bytes, 1 where a token may not follow
        temperature: 0 takes the likeliest
        uniforms: a number in [0, 1) for each sequence

        Returns -1 where every token is forbidden. Raises FloatingPointError where an allowed logit
        is NaN or +inf.
        """
        self._forbidden[:] = forbidden
        self._uniforms[:] = uniforms
        decoder = self._decoder
        logits, rows, *outputs = self._draw_addresses
        wrong = decoder.library.semigpt_draw(
            *(len(self._drawn), decoder.vocab_size, decoder.logits_stride),
            *(logits, rows, temperature),
            *outputs,
        )
        if wrong >= 0:
            raise FloatingPointError(f"the logits of sequence {wrong} are not finite")
        return self._drawn

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these sequences, in this order; one named twice is copied."""
        caches: list[int] = []
        used = self._caches[list(rows)]
        free = [cache for cache in range(len(self._values)) if cache not in used]
        for row in rows:
            cache = int(self._caches[row])
            if cache in caches:
                copy = free.pop()
                self._keys[copy], self._values[copy] = self._keys[cache], self._values[cache]
                cache = copy
            caches.append(cache)
        self._caches, self._lengths = np.array(caches, np.int32), self._lengths[list(rows)]
        logits = self._logits[list(rows)]
        self._allocate_buffers()
        self._logits[:] = logits


def _matrix(matrix: Matrix) -> _Matrix:
    scales = 0 if matrix.scales is None else matrix.scales.ctypes.data
    return _Matrix(matrix.weights.ctypes.data, scales, matrix.panels, matrix.inputs)


def _zeros(*shape: int) -> Floats:
    """Zeros that begin at a multiple of 64 bytes. Pages cost nothing until they are used."""
    size = 4 * math.prod(shape)
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(np.float32).reshape(shape)
