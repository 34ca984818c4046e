"""Arrays of one dimension in `.npy` files: their header, and the file as a memory map.

Only the header that NumPy writes for the expected array is accepted, byte for byte. It is compared,
not parsed: NumPy parses a header as Python, which in Python 3.11 fails now and then while another
thread does so too (SystemError, CPython issue 106905).
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from semigpt.language import _

__all__ = ["HEADER_BYTES", "array_bytes", "array_header", "map_array"]

# NumPy pads the header of an array of one dimension to this length, whatever the array's.
HEADER_BYTES = 128


def array_header(length: int, dtype: np.dtype[Any]) -> bytes:
    """The header of an array [length] of a dtype, `HEADER_BYTES` long."""
    header = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(
        header, {"descr": descr, "fortran_order": False, "shape": (length,)}
    )
    assert header.tell() == HEADER_BYTES
    return header.getvalue()


def array_bytes(length: int, dtype: np.dtype[Any]) -> int:
    """The length of the file of an array [length]."""
    return HEADER_BYTES + length * dtype.itemsize


def map_array(path: Path, length: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The memory map [length] of a file that holds exactly such an array; an empty one is made.

    Raises OSError for a file that cannot be opened and ValueError, its message without the path,
    for one that holds anything else.
    """
    header = array_header(length, dtype)
    with path.open("rb") as file:
        found = file.read(HEADER_BYTES), os.fstat(file.fileno()).st_size
        if found != (header, array_bytes(length, dtype)):
            raise ValueError(
                _("it is not an array of {length} numbers of type {dtype}").format(
                    length=length, dtype=dtype
                )
            )
        if not length:
            return np.zeros(0, dtype)
        return np.memmap(file, dtype, "r", HEADER_BYTES, (length,))
