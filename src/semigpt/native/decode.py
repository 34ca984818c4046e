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
from semigpt.language import _
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
    "NOTHING",
    "NOT_FINITE",
    "ROWS",
    "NativeDecoder",
    "NativePool",
    "NativeUnavailableError",
    "library",
]

SOURCE = Path(__file__).with_name("decode.c")
DRAW_CHUNK = 256  # tokens summed at once by a draw, as in draw.h
ROWS = 64  # most rows of one call; a longer prompt is read in several
NOTHING, NOT_FINITE = -1, -2  # instead of a token, as in draw.h
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


class _Cuts(ctypes.Structure):
    _fields_ = (
        ("temperature", ctypes.c_float),
        ("top_k", ctypes.c_int32),
        ("top_p", ctypes.c_double),
        ("min_p", ctypes.c_double),
    )


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
    loaded.semigpt_draw.argtypes = (number, number, pointer, number, *(pointer,) * 7)
    loaded.semigpt_draw.restype = None
    return loaded


class NativeDecoder:
    """Makes pools whose sequences decode.c continues; a `Decoder` of `semigpt.generation.decoder`.

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

    def pool(self, slots: int) -> NativePool:
        """Room for so many sequences."""
        return NativePool(self, slots)


class NativePool:
    """The caches of up to `slots` sequences; a `Pool` of `semigpt.generation.decoder`.

    All arrays are made here, so a step allocates nothing; memory is used as slots are.
    """

    def __init__(self, decoder: NativeDecoder, slots: int) -> None:
        self._decoder = decoder
        weights, rows, V = decoder.weights, slots + ROWS, decoder.vocab_size
        heads = len(weights.layers) * weights.num_kv_heads
        value_width = round_up(weights.head_width, LANES)
        self._keys = _zeros(slots, heads, decoder.slots * weights.head_width)
        self._values = _zeros(slots, heads, decoder.context_length * value_width)
        self._caches = (int(self._keys.ctypes.data), int(self._values.ctypes.data))
        self._lengths = [0] * slots
        self._free = list(range(slots - 1, -1, -1))
        decoder.reserve(rows)
        self._tokens, *tokens = _buffer(ctypes.c_int64, rows)
        self._slots, *sequences = _buffer(ctypes.c_int32, rows)
        self._positions, *positions = _buffer(ctypes.c_int64, rows)
        self._wanted, self._wanted_address = _buffer(ctypes.c_int32, rows)
        self._rows = (*tokens, *sequences, *positions)
        self._logits = aligned(np.zeros((rows, decoder.logits_stride), np.float32))
        self._logits_address = int(self._logits.ctypes.data)
        self._read_last = self._logits[:0, :V]  # what `read` returned
        self._forbidden, *forbidden = _buffer(ctypes.c_uint64, slots)
        self._cuts, *cuts = _buffer(_Cuts, slots)
        self._cuts_now: list[tuple[float, int, float, float]] = []
        self._uniforms, *uniforms = _buffer(ctypes.c_double, slots)
        self._drawn, *drawn = _buffer(ctypes.c_int64, slots)
        self._work = [
            aligned(np.zeros(size, kind))
            for size, kind in (
                (decoder.logits_stride, np.float32),
                (V // DRAW_CHUNK + 1, np.float64),
                (V, np.uint64),
            )
        ]
        work = (int(array.ctypes.data) for array in self._work)
        self._draws = (*forbidden, *cuts, *uniforms, *work, *drawn)

    @property
    def free_slots(self) -> int:
        """How many slots nobody has."""
        return len(self._free)

    def take(self) -> int:
        """An empty sequence's slot. Raises IndexError where none is free."""
        slot = self._free.pop()
        self._lengths[slot] = 0
        return slot

    def free(self, slot: int) -> None:
        """Give a slot back."""
        self._free.append(slot)

    def fork(self, slot: int) -> int:
        """A new slot with a copy of a sequence. Raises IndexError where none is free."""
        copy = self.take()
        self._keys[copy], self._values[copy] = self._keys[slot], self._values[slot]
        self._lengths[copy] = self._lengths[slot]
        return copy

    def snapshot(self, slot: int) -> tuple[Floats, Floats, int]:
        """A copy of a sequence, for `restore`."""
        return self._keys[slot].copy(), self._values[slot].copy(), self._lengths[slot]

    def restore(self, slot: int, snapshot: tuple[Floats, Floats, int]) -> None:
        """Make a slot's sequence that of the snapshot."""
        self._keys[slot], self._values[slot], self._lengths[slot] = snapshot

    def can_rewind(self, slot: int, ahead: int) -> bool:
        """Whether tokens can be taken back after `ahead` more: nothing is overwritten by then."""
        return self._lengths[slot] + ahead <= self._decoder.context_length

    def rewind(self, slot: int, count: int) -> None:
        """Take back the last `count` tokens (see `can_rewind`).

        What lies behind the end of a cache is written over before it is read.
        """
        self._lengths[slot] -= count

    def most_tokens(self, slot: int) -> int:
        """How many tokens one `read` may give a sequence.

        Past the context each token sees another window, so it is read alone.
        """
        return max(1, min(ROWS, self._decoder.context_length - self._lengths[slot]))

    def read(
        self,
        slots: Sequence[int],
        tokens: Sequence[int],
        parts: Sequence[tuple[int, Sequence[int], int]] = (),
    ) -> Floats:
        """As `Pool.read`, whose parts together have at most 64 tokens here."""
        decoder, lengths, alone = self._decoder, self._lengths, len(slots)
        positions = [lengths[slot] for slot in slots]
        for slot in slots:
            lengths[slot] += 1
        ids, rows = list(tokens), list(range(alone))
        if parts:
            slots = list(slots)
            for slot, part, wanted in parts:
                length = lengths[slot]
                lengths[slot] += len(part)
                ids += part
                slots += [slot] * len(part)
                positions += range(length, length + len(part))
                rows += range(len(ids) - wanted, len(ids))
        count = len(ids)
        self._tokens[:count], self._slots[:count] = ids, slots
        self._positions[:count], self._wanted[: len(rows)] = positions, rows
        wrong = decoder.library.semigpt_step(
            decoder.address,
            count,
            *self._rows,
            count == alone + len(parts),
            *self._caches,
            len(rows),
            self._wanted_address,
            self._logits_address,
            decoder.threads,
        )
        if wrong >= 0:
            for slot in slots:
                lengths[slot] -= 1
            raise SettingsError(
                _("token {id} is outside the vocabulary of {vocab_size} tokens").format(
                    id=ids[wrong], vocab_size=decoder.vocab_size
                )
            )
        if len(rows) != len(self._read_last):
            self._read_last = self._logits[: len(rows), : decoder.vocab_size]
        return self._read_last

    def draw(
        self,
        logits: Floats,
        forbidden: Sequence[int],
        cuts: Sequence[tuple[float, int, float, float]],
        uniforms: Sequence[float],
    ) -> list[int]:
        """Draw a token from each row of logits, `[B, V]`, at most a row a slot.

        forbidden: of each row 0, or the address of V bytes, 1 where a token may not follow
        cuts: of each row temperature, top_k, top_p and min_p, which do nothing at 1, 0, 1 and 0; a
            temperature of 0 takes the likeliest
        uniforms: a number in [0, 1) for each

        Returns NOTHING where every token is forbidden, NOT_FINITE where an allowed logit is NaN or
        +inf.
        """
        decoder, count = self._decoder, len(logits)
        if logits is self._read_last:
            address, stride = self._logits_address, decoder.logits_stride
        else:  # which takes NumPy three microseconds
            address, stride = logits.ctypes.data, logits.strides[0] // logits.itemsize
        if cuts != self._cuts_now:
            self._cuts[:count], self._cuts_now = cuts, list(cuts)
        self._forbidden[:count], self._uniforms[:count] = forbidden, uniforms
        decoder.library.semigpt_draw(
            *(count, decoder.vocab_size, address, stride),
            *self._draws,
        )
        drawn: list[int] = self._drawn[:count]
        return drawn


def _buffer(kind: Any, count: int) -> tuple[Any, int]:
    """An array, and its address. ctypes takes a list in a third of NumPy's time."""
    array = (kind * count)()
    return array, ctypes.addressof(array)


def _matrix(matrix: Matrix) -> _Matrix:
    scales = 0 if matrix.scales is None else matrix.scales.ctypes.data
    return _Matrix(matrix.weights.ctypes.data, scales, matrix.panels, matrix.inputs)


def _zeros(*shape: int) -> Floats:
    """Zeros that begin at a multiple of 64 bytes. Pages cost nothing until they are used."""
    size = 4 * math.prod(shape)
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(np.float32).reshape(shape)
