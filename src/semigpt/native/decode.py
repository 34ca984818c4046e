"""The `gpt` rung on a CPU without PyTorch's dispatch: `decode.c`, compiled on first use by the system's compiler.

A token of the 4 x 128 model takes PyTorch some 120 operations of 2 to 3 µs, more than its arithmetic. The C file does
the whole step in one call. The plain path is its oracle (tests) and its fallback: without a compiler, or with a model
it does not know, generation goes on in PyTorch and says so once.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semigpt.generation.quantize import (
    INT8_BLOCK,
    Precision,
    bfloat16_bits,
    int8_blocks,
    rounded_rows,
)
from semigpt.models.base import LanguageModel
from semigpt.models.gpt import GPT
from semigpt.native.compiler import NativeUnavailableError, compiled

__all__ = ["NativeDecoder", "NativeUnavailableError", "can_run_natively", "library"]

SOURCE = Path(__file__).with_name("decode.c")
LANES = 16  # outputs of a panel, as in decode.c
ROWS = 64  # rows of one call at most: a longer prompt is read in pieces
FORMATS = {"float32": 0, "bfloat16": 1, "int8": 2}


class _Matrix(ctypes.Structure):
    _fields_ = (
        ("weights", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("panels", ctypes.c_int32),
        ("inputs", ctypes.c_int32),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, _Matrix) for name in ("qkv", "o", "gate_up", "down")),
        *((name, ctypes.c_void_p) for name in ("input_norm", "post_norm", "q_norm", "k_norm")),
    )


class _Model(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_int32)
            for name in (
                "format",
                "layers",
                "width",
                "heads",
                "kv_heads",
                "head_width",
                "hidden",
                "vocab",
                "slots",
            )
        ),
        ("epsilon", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("frequencies", "embedding", "final_norm")),
        ("output", _Matrix),
        ("layer", ctypes.POINTER(_Layer)),
        ("scratch", ctypes.c_void_p),
    )


@cache
def library() -> ctypes.CDLL:
    """decode.c, compiled or found in the cache folder. Raises NativeUnavailableError, saying why."""
    loaded = compiled(SOURCE)
    pointer, number = ctypes.c_void_p, ctypes.c_int
    loaded.semigpt_scratch.argtypes = (pointer, number, number)
    loaded.semigpt_scratch.restype = ctypes.c_int64
    loaded.semigpt_step.argtypes = (
        *(pointer, number, pointer, pointer, pointer, number),
        *(pointer, pointer, number, pointer, pointer, number),
    )
    loaded.semigpt_step.restype = None
    loaded.semigpt_draw.argtypes = (
        number,
        number,
        number,
        pointer,
        pointer,
        ctypes.c_float,
        pointer,
        pointer,
    )
    loaded.semigpt_draw.restype = None
    return loaded


def can_run_natively(model: LanguageModel) -> bool:
    """Whether decode.c knows this model: the `gpt` rung itself, on a CPU."""
    return type(model) is GPT and model.device.type == "cpu"


class NativeDecoder:
    """The texts of one call of the engine, decoded by decode.c; see `semigpt.generation.decoder.Decoder`.

    The weights are packed once, for all the caches that `open` makes.
    """

    def __init__(
        self, model: GPT, precision: Precision = "float32", threads: int | None = None
    ) -> None:
        self._library = library()
        self._kept: list[Any] = []  # arrays that C holds pointers into
        settings = model.settings
        self.vocab_size = settings.vocab_size
        self.slots = -(-settings.context_length // LANES) * LANES
        self._settings, self._precision = settings, precision
        layers = (_Layer * settings.num_layers)()
        blocks: Any = model.model.layers
        for layer, block in zip(layers, blocks, strict=True):
            attention, mlp = block.self_attn, block.mlp
            layer.qkv = self._pack(
                attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight
            )
            layer.o = self._pack(attention.o_proj.weight)
            layer.gate_up = self._pack(mlp.gate_proj.weight, mlp.up_proj.weight, interleave=True)
            layer.down = self._pack(mlp.down_proj.weight)
            layer.input_norm = self._hold(block.input_layernorm.weight)
            layer.post_norm = self._hold(block.post_attention_layernorm.weight)
            layer.q_norm = self._hold(attention.q_norm.weight)
            layer.k_norm = self._hold(attention.k_norm.weight)
        exponents = (
            torch.arange(0, settings.head_width, 2, dtype=torch.float32) / settings.head_width
        )
        rows = model.model.embed_tokens.weight.detach().float().numpy()
        embedding = torch.from_numpy(rounded_rows(rows, precision))
        self._model = _Model(
            format=FORMATS[precision],
            layers=settings.num_layers,
            width=settings.width,
            heads=settings.num_heads,
            kv_heads=settings.kv_heads,
            head_width=settings.head_width,
            hidden=settings.feedforward_width,
            vocab=settings.vocab_size,
            slots=settings.context_length,
            epsilon=settings.norm_epsilon,
            frequencies=self._hold(settings.rope_theta**-exponents),
            embedding=self._hold(embedding),
            final_norm=self._hold(model.model.norm.weight),
            output=self._pack(model.lm_head.weight[: settings.vocab_size]),
            layer=layers,
        )
        # Threads wait for each other five times a layer: below 4 MB each they gain a tenth on an idle machine, and on a
        # busy one, where they are seldom all on a core at once, a step takes ten times as long.
        size = sum(array.nbytes for array in self._kept)
        self._threads = threads or max(1, min(torch.get_num_threads(), size >> 22))
        self._stride = -(-settings.vocab_size // LANES) * LANES
        self._address = ctypes.addressof(self._model)
        self._scratch_rows = 0
        self._reserve(1)

    def _hold(self, tensor: Tensor) -> int:
        array = _aligned(tensor.detach().float().contiguous().numpy())
        self._kept.append(array)
        return int(array.ctypes.data)

    def _pack(self, *weights: Tensor, interleave: bool = False) -> _Matrix:
        """Matrices `[outputs, inputs]`, one below the other, in the panels that decode.c describes."""
        padded = []
        for weight in weights:
            array = weight.detach().float().numpy()
            rows, inputs = (
                -array.shape[0] % LANES if interleave else 0,
                -array.shape[1] % INT8_BLOCK,
            )
            padded.append(np.pad(array, ((0, rows), (0, inputs))) if rows or inputs else array)
        whole: NDArray[Any] = np.concatenate(padded) if len(padded) > 1 else padded[0]
        if whole.shape[0] % LANES:
            whole = np.pad(whole, ((0, -whole.shape[0] % LANES), (0, 0)))
        inputs = whole.shape[1]
        whole = whole.reshape(-1, LANES, inputs)
        if interleave:
            whole = whole.reshape(2, -1, LANES, inputs).swapaxes(0, 1).reshape(-1, LANES, inputs)
        panels = whole.shape[0]
        scales = 0
        packed: NDArray[Any]
        match self._precision:
            case "float32":
                packed = whole.transpose(0, 2, 1)
            case "bfloat16":
                packed = bfloat16_bits(whole).reshape(panels, LANES, -1, 2).transpose(0, 2, 1, 3)
            case "int8":
                whole_int8, scale = int8_blocks(whole)
                packed = whole_int8.reshape(panels, LANES, -1, 4).transpose(0, 2, 1, 3)
                self._kept.append(_aligned(scale.transpose(0, 2, 1)))
                scales = self._kept[-1].ctypes.data
        self._kept.append(_aligned(packed))
        return _Matrix(self._kept[-1].ctypes.data, scales, panels, inputs)

    def _reserve(self, rows: int) -> None:
        if rows > self._scratch_rows:
            size = self._library.semigpt_scratch(self._address, rows, self._threads)
            self._scratch = _aligned(np.zeros(size, np.float32))
            self._model.scratch = self._scratch.ctypes.data
            self._scratch_rows = rows

    def open(self, count: int, room: int = 0) -> NativeTexts:
        """Empty caches for `count` texts, or as many as there is to be room for."""
        return NativeTexts(self, count, max(count, room))


class NativeTexts:
    """What decode.c remembers of some texts, and the logits after them."""

    def __init__(self, decoder: NativeDecoder, count: int, room: int) -> None:
        settings = decoder._settings
        self._decoder = decoder
        self._settings = settings
        heads, capacity = settings.num_layers * settings.kv_heads, decoder.slots
        wide = -(-settings.head_width // LANES) * LANES
        self._keys = _zeros(room, heads, capacity * settings.head_width)
        self._values = _zeros(room, heads, settings.context_length * wide)
        self._slots = np.arange(count, dtype=np.int32)  # whose cache each row uses
        self._lengths = np.zeros(count, np.int64)
        self._fix_buffers()

    def _fix_buffers(self) -> None:
        """The arrays one step writes and reads, and their addresses: asking NumPy for them costs a microsecond each."""
        count = len(self._slots)
        self._decoder._reserve(count)
        self._tokens = np.zeros(count, np.int32)
        self._every = np.arange(count, dtype=np.int32)
        self._logits = _aligned(np.zeros((count, self._decoder._stride), np.float32))
        self._view = self._logits[:, : self._decoder.vocab_size]
        self._uniforms = np.zeros(count)
        self._drawn = np.zeros(count, np.int64)
        self._forbidden = np.zeros(count, np.uint64)
        self._step_arguments = (
            self._decoder._address,
            count,
            *(array.ctypes.data for array in (self._tokens, self._slots, self._lengths)),
            1,
            self._keys.ctypes.data,
            self._values.ctypes.data,
            count,
            self._every.ctypes.data,
            self._logits.ctypes.data,
            self._decoder._threads,
        )
        self._draw_buffers = tuple(
            array.ctypes.data
            for array in (self._logits, self._forbidden, self._uniforms, self._drawn)
        )

    def feed(self, texts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Read more tokens of each text, of some perhaps none, and return the logits `[B, V]` after the last of each."""
        for row, tokens in enumerate(texts):
            if self._lengths[row] == 0:
                tokens = tokens[-self._settings.context_length :]
            place = 0
            while place < len(tokens):
                room = self._settings.context_length - int(self._lengths[row])
                # Where the window slides each token sees another window: one at a time.
                piece = tokens[place : place + (min(ROWS, room) if room > 1 else 1)]
                place += len(piece)
                self._read(row, piece, last=place == len(tokens))
        return self._view

    def _read(self, row: int, tokens: Sequence[int], last: bool) -> None:
        count, decoder = len(tokens), self._decoder
        decoder._reserve(max(count, len(self._slots)))
        ids = np.array(tokens, np.int32)
        texts = np.full(count, self._slots[row], np.int32)
        positions = np.arange(self._lengths[row], self._lengths[row] + count, dtype=np.int64)
        wanted = np.array([count - 1], np.int32)
        decoder._library.semigpt_step(
            decoder._address,
            count,
            *(array.ctypes.data for array in (ids, texts, positions)),
            int(count == 1),
            self._keys.ctypes.data,
            self._values.ctypes.data,
            int(last),
            wanted.ctypes.data,
            self._logits[row].ctypes.data,
            decoder._threads,
        )
        self._lengths[row] += count

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """One more token of each text: `feed` without its bookkeeping."""
        self._tokens[:] = tokens
        self._decoder._library.semigpt_step(*self._step_arguments)
        self._lengths += 1
        return self._view

    def draw(
        self, forbidden: Sequence[int], temperature: float, uniforms: Sequence[float]
    ) -> NDArray[np.int64]:
        """One token a text from the last logits, which are written over: softmax(logits / temperature), without what
        `forbidden` (the address of a row of V bytes, or 0) forbids; -1 where that is everything."""
        self._forbidden[:] = forbidden
        self._uniforms[:] = uniforms
        logits, rows, numbers, drawn = self._draw_buffers
        self._decoder._library.semigpt_draw(
            len(self._drawn),
            self._decoder.vocab_size,
            self._decoder._stride,
            logits,
            rows,
            temperature,
            numbers,
            drawn,
        )
        return self._drawn

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these texts, in this order; one named twice is continued in two ways."""
        slots: list[int] = []
        free = [slot for slot in range(len(self._values)) if slot not in self._slots[list(rows)]]
        for row in rows:
            slot = int(self._slots[row])
            if slot in slots:
                copy = free.pop()
                self._keys[copy], self._values[copy] = self._keys[slot], self._values[slot]
                slot = copy
            slots.append(slot)
        self._slots, self._lengths = np.array(slots, np.int32), self._lengths[list(rows)]
        logits = self._logits[list(rows)]
        self._fix_buffers()
        self._logits[:] = logits


def _aligned(array: NDArray[Any]) -> NDArray[Any]:
    """A copy that begins at a multiple of 64 bytes, so that no vector straddles two cache lines."""
    room = np.empty(array.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _zeros(*shape: int) -> NDArray[np.float32]:
    """Zeros that begin at a multiple of 64 bytes. The system clears each page when it is first used, and what a text
    does not come to costs nothing."""
    size = 4 * math.prod(shape)
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size].view(np.float32).reshape(shape)
