"""Weights in fewer bits: how each precision rounds a matrix, or a whole PyTorch model.

    float32    4 bytes per weight, as trained
    bfloat16   2 bytes: the upper 16 bits of float32, rounded to nearest, ties to even
    int8       1.125 bytes: integers from -127 to 127, and a float32 scale for each 32 inputs of an
               output: the largest magnitude over 127 (q8_0 of llama.cpp, whose scale has 16 bits)

Only matrices are rounded; norms stay float32, and so does arithmetic on a CPU.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from semigpt.settings import check_choice

if TYPE_CHECKING:
    from semigpt.models.base import LanguageModel

__all__ = ["PRECISIONS", "Precision", "quantize", "rounded", "rounded_rows"]

Precision = Literal["float32", "bfloat16", "int8"]
PRECISIONS = ("float32", "bfloat16", "int8")
INT8_BLOCK = 32


def quantize(
    values: NDArray[np.float32], precision: Precision
) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """A matrix `[outputs, inputs]` in its stored form, and the scales where there are any.

    float32: itself. bfloat16: its upper 16 bits as uint16. int8: integers `[outputs, inputs]` and
    scales `[outputs, inputs / 32]`, with the inputs padded to a multiple of 32.
    """
    if precision == "float32":
        return values, None
    if precision == "bfloat16":
        return _bfloat16_bits(values), None
    padded = np.pad(values, ((0, 0), (0, -values.shape[1] % INT8_BLOCK)))
    return _int8_blocks(padded)


def _bfloat16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper 16 bits of each value, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _int8_blocks(values: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Integers `[outputs, inputs]` and scales `[outputs, inputs / 32]`; 32 divides the inputs."""
    blocks = values.reshape(len(values), -1, INT8_BLOCK)
    scales = np.abs(blocks).max(axis=-1) / np.float32(127)
    integers = np.rint(blocks / np.where(scales == 0, 1, scales)[..., None]).astype(np.int8)
    return integers.reshape(values.shape), scales.astype(np.float32)


def rounded_rows(values: NDArray[np.float32], precision: Precision) -> NDArray[np.float32]:
    """A matrix `[outputs, inputs]` rounded to what `precision` can hold, still float32."""
    stored, scales = quantize(values, precision)
    if precision == "float32":
        return values
    if scales is None:
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return (stored.astype(np.float32) * np.repeat(scales, INT8_BLOCK, axis=-1))[
        :, : values.shape[1]
    ]


def rounded(model: LanguageModel, precision: Precision) -> LanguageModel:
    """The model with its matrices rounded, but kept in float32.

    The model itself for float32, else a copy. Raises SettingsError for an unknown precision.
    """
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
