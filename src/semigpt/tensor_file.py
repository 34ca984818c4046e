"""A safetensors file that several processes write, each its own part of the numbers.

Its bytes are those that `safetensors.torch.save_file` would write of the whole tensors.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Parts", "WriteFile", "begin_file", "fill_in", "write_tensors"]

# Writes a checkpoint's file, of the whole tensors or of parts.
WriteFile: TypeAlias = Callable[[Any, Path], None]

FLOAT_BYTES = 4  # weights and moments are float32


class Parts(NamedTuple):
    """Of tensors with these shapes, what one process holds: (name, first element, elements)."""

    shapes: Mapping[str, Sequence[int]]
    held: Sequence[tuple[str, int, Tensor]]


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a file of whole tensors. Raises OSError or SafetensorError."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def begin_file(path: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    """Make the file with its header, and room for the numbers. Raises OSError."""
    header, end = _header(shapes)
    with path.open("wb") as file:
        file.write(header)
    os.truncate(path, len(header) + end)


def fill_in(path: Path, parts: Parts) -> None:
    """Write what one process holds into its place, down to the disk. Raises OSError."""
    header, _ = _header(parts.shapes)
    places = json.loads(header[8:])
    with path.open("r+b") as file:
        for name, first, held in parts.held:
            file.seek(len(header) + places[name]["data_offsets"][0] + FLOAT_BYTES * first)
            file.write(held.detach().cpu().contiguous().numpy().data)
        file.flush()
        os.fsync(file.fileno())


def _header(shapes: Mapping[str, Sequence[int]]) -> tuple[bytes, int]:
    """The length and header that the file begins with, and the bytes that follow it."""
    table, end = {}, 0
    for name, shape in sorted(shapes.items()):
        begin, end = end, end + FLOAT_BYTES * math.prod(shape)
        table[name] = {"dtype": "F32", "shape": [*shape], "data_offsets": [begin, end]}
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, end
