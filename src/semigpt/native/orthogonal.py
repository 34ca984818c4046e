"""Newton-Schulz on stacks of matrices in float32, in C: `orthogonal.c`.

`semigpt.training.muon` calls it, and is with PyTorch's products its oracle and fallback.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from semigpt.native.ahead import compiled
from semigpt.native.compiler import NativeUnavailableError

__all__ = ["fits", "orthogonal"]

SOURCE = Path(__file__).with_name("orthogonal.c")
PANEL = 16

_p, _i, _f = ctypes.c_void_p, ctypes.c_int, ctypes.c_float


@cache
def library_or_none() -> ctypes.CDLL | None:
    """orthogonal.c; None without a compiler, of which the training step tells."""
    try:
        loaded = compiled(SOURCE)
    except NativeUnavailableError:
        return None
    loaded.semigpt_orthogonal.argtypes = (_i, _i, _i, _i, _f, _f, _f, _p, _p, _p)
    loaded.semigpt_orthogonal.restype = None
    workspace = loaded.semigpt_orthogonal_workspace
    workspace.argtypes, workspace.restype = (_i, _i), ctypes.c_int64
    loaded.semigpt_threads.argtypes, loaded.semigpt_threads.restype = (), _i
    return loaded


def fits(matrices_nRC: Tensor) -> bool:
    """Whether there is a compiler, and the C takes these: float32, a CPU, sizes that fill vectors.

    How many there are does not matter, so that the owners of some compute the bits of all.
    """
    rows, columns = matrices_nRC.shape[1:]
    return (
        matrices_nRC.device.type == "cpu"
        and matrices_nRC.dtype == torch.float32
        and rows % PANEL == columns % PANEL == 0
        and library_or_none() is not None
    )


def orthogonal(matrices_nRC: Tensor, steps: int, a: float, b: float, c: float) -> Tensor:
    """`steps` times X ← aX + (bA + cA²)X with A = XXᵀ, from X by its Frobenius norm; `fits` says
    yes to the matrices.
    """
    loaded = library_or_none()
    assert loaded is not None
    count, rows, columns = matrices_nRC.shape
    each = loaded.semigpt_orthogonal_workspace(rows, columns)
    workspace = torch.empty(loaded.semigpt_threads() * each)
    x, y = matrices_nRC.contiguous(), torch.empty(count, rows, columns)
    loaded.semigpt_orthogonal(
        *(count, rows, columns, steps, a, b, c, x.data_ptr(), workspace.data_ptr(), y.data_ptr())
    )
    return y
