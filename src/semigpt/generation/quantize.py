"""Weights in fewer bits: what each number type does to a matrix, whoever multiplies with it.

    float32    4 bytes a weight, as trained
    bfloat16   2 bytes: float32 without its last 16 bits, rounded to the nearest, ties to even
    int8       1.125 bytes: whole numbers from -127 to 127 times a scale for each 32 inputs of an output, the scale
               being the largest of the 32 over 127 (llama.cpp's q8_0, whose scale has 16 bits instead of 32)

Only matrices are rounded; norms stay as they are, and arithmetic is float32 on a CPU.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from semigpt.settings import check_choice

if TYPE_CHECKING:
    from semigpt.models.base import LanguageModel

__all__ = ["PRECISIONS", "Precision", "rounded"]

Precision = Literal["float32", "bfloat16", "int8"]
PRECISIONS = ("float32", "bfloat16", "int8")
INT8_BLOCK = 32


def bfloat16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper 16 bits of each number, rounded to the nearest, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def int8_blocks(values: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers of the same shape, and a scale for each 32 along the last axis, whose length 32 divides."""
    blocks = values.reshape(*values.shape[:-1], -1, INT8_BLOCK)
    scales = np.abs(blocks).max(axis=-1) / np.float32(127)
    wholes = np.rint(blocks / np.where(scales == 0, 1, scales)[..., None]).astype(np.int8)
    return wholes.reshape(values.shape), scales.astype(np.float32)


def rounded_rows(values: NDArray[np.float32], precision: Precision) -> NDArray[np.float32]:
    """A matrix `[outputs, inputs]` with its numbers rounded, still float32."""
    if precision == "float32":
        return values
    if precision == "bfloat16":
        return (bfloat16_bits(values).astype(np.uint32) << 16).view(np.float32)
    width = values.shape[-1]
    padded = np.pad(values, ((0, 0), (0, -width % INT8_BLOCK)))
    wholes, scales = int8_blocks(padded)
    return (wholes.astype(np.float32) * np.repeat(scales, INT8_BLOCK, axis=-1))[:, :width]


def rounded(model: LanguageModel, precision: Precision) -> LanguageModel:
    """The model with its matrices rounded to what `precision` can hold, kept in float32: what rounding costs, apart
    from what it saves. The model itself for float32, else a copy."""
    import torch

    check_choice("precision", precision, PRECISIONS)
    if precision == "float32":
        return model
    clone = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in clone.parameters():
            if parameter.dim() == 2:
                array: NDArray[Any] = parameter.detach().float().cpu().numpy()
                parameter.copy_(torch.from_numpy(rounded_rows(array, precision)))
    return clone
