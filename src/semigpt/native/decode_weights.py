"""Weights as decode.c reads them: matrices in panels of 16 outputs (see there), and the shape.

Everything here takes plain arrays; `semigpt.generation.decoder` makes them from a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DecoderWeights",
    "LayerWeights",
    "Matrix",
    "aligned",
    "interleave",
    "pack",
    "round_up",
]

LANES = 16  # outputs of a panel
INPUT_BLOCK = 32  # inputs are padded to a multiple
INPUTS_PER_LANE = {np.dtype(np.float32): 1, np.dtype(np.uint16): 2, np.dtype(np.int8): 4}
MATRICES = ("qkv", "o", "gate_up", "down")
NORMS = ("input_norm", "post_norm", "q_norm", "k_norm")

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Matrix:
    """A matrix in the panels that decode.c describes, made by `pack`."""

    weights: NDArray[Any]
    scales: Floats | None
    panels: int
    inputs: int


def pack(weights: NDArray[Any], scales: Floats | None = None) -> Matrix:
    """Lay out a matrix `[outputs, inputs]` as decode.c reads it, padded with zeros.

    weights: float32; the upper 16 bits of bfloat16 as uint16; or int8
    scales: of int8 weights, `[outputs, inputs / 32]`
    """
    if scales is not None:
        scales = aligned(_panels(scales, 1).transpose(0, 2, 1))
    together = INPUTS_PER_LANE[weights.dtype]  # inputs in one 32-bit lane
    panels = _panels(weights, INPUT_BLOCK)
    count, _, inputs = panels.shape
    lanes = panels.reshape(count, LANES, -1, together).transpose(0, 2, 1, 3)
    return Matrix(aligned(lanes), scales, count, inputs)


def _panels(matrix: NDArray[Any], multiple: int) -> NDArray[Any]:
    """`[outputs / 16, 16, columns]`, padded to whole panels and a multiple of columns."""
    rows, columns = -matrix.shape[0] % LANES, -matrix.shape[1] % multiple
    if rows or columns:
        matrix = np.pad(matrix, ((0, rows), (0, columns)))
    return matrix.reshape(-1, LANES, matrix.shape[1])


def interleave(gate: Floats, up: Floats) -> Floats:
    """A panel of gate, a panel of up, and so on: `[2 x outputs rounded up to 16, inputs]`."""
    return np.stack((_panels(gate, 1), _panels(up, 1)), axis=1).reshape(-1, gate.shape[1])


@dataclass(frozen=True)
class LayerWeights:
    """One layer.

    qkv: queries, keys and values, one below the other
    gate_up: as `interleave` gives them
    """

    qkv: Matrix
    o: Matrix
    gate_up: Matrix
    down: Matrix
    input_norm: Floats
    post_norm: Floats
    q_norm: Floats
    k_norm: Floats


@dataclass(frozen=True)
class DecoderWeights:
    """A model as decode.c reads it. All matrices have one format.

    frequencies: of the rotary positions, in radians per position, `[head_width / 2]`
    embedding: `[vocab_size, width]`
    """

    width: int
    num_heads: int
    num_kv_heads: int
    head_width: int
    hidden_width: int
    vocab_size: int
    context_length: int
    epsilon: float
    frequencies: Floats
    embedding: Floats
    final_norm: Floats
    output: Matrix
    layers: Sequence[LayerWeights]

    @property
    def nbytes(self) -> int:
        """Bytes of everything that a step may read."""
        return sum(array.nbytes for array in self._arrays())

    def _arrays(self) -> Iterator[NDArray[Any]]:
        yield from (self.frequencies, self.embedding, self.final_norm)
        matrices = [self.output]
        for layer in self.layers:
            matrices += [getattr(layer, name) for name in MATRICES]
            yield from (getattr(layer, name) for name in NORMS)
        for matrix in matrices:
            yield matrix.weights
            if matrix.scales is not None:
                yield matrix.scales


def round_up(count: int, multiple: int) -> int:
    """The smallest multiple that is not less than `count`."""
    return -(-count // multiple) * multiple


def aligned(array: NDArray[Any]) -> NDArray[Any]:
    """A copy that begins at a multiple of 64 bytes, so that no vector straddles two cache lines."""
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
