"""Digests of a model folder's files, kept in its weights; and the header of weights, read before
memory is taken.

`model.safetensors` carries, in the metadata that its format leaves free, its own SHA-256 and those
of the files it was saved with. Every loader of the ecosystem ignores them, and a folder without
them, from elsewhere, is taken as it is.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from semigpt.errors import CheckpointError
from semigpt.storage import sha256_file

__all__ = ["check_digests", "read_header", "with_digests"]

# README.md is left out: it is there to be written in.
SAVED_WITH = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "counts.safetensors",
)
UNKNOWN = "0" * 64  # the place of the file's own digest, while it is being computed
LARGEST_HEADER = 100_000_000  # bytes; safetensors itself reads none larger
ALIGNMENT = 8


def with_digests(content: bytes, folder: Path) -> bytes:
    """The bytes of a safetensors file with the digests of itself and of the files saved with it in
    `folder` in its metadata.

    Its own digest is that of the file with 64 zeros in the digest's place. The metadata is written
    in order: the library's own order changes from process to process, and the same model must give
    the same bytes.
    """
    size = _header_size(content[:8], len(content))
    header: dict[str, Any] = json.loads(content[8 : 8 + size])
    metadata = {
        **dict(sorted(header.pop("__metadata__", {}).items())),
        **{name: sha256_file(folder / name) for name in SAVED_WITH if (folder / name).is_file()},
        "sha256": UNKNOWN,
    }
    text = json.dumps(
        {"__metadata__": metadata, **header}, separators=(",", ":"), ensure_ascii=False
    ).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    head, body = struct.pack("<Q", len(text)) + text, memoryview(content)[8 + size :]
    digest = hashlib.sha256(head)
    digest.update(body)
    return head.replace(UNKNOWN.encode(), digest.hexdigest().encode(), 1) + body


def read_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: `dtype`, `shape` and `data_offsets` by tensor, and
    `__metadata__`.

    Nothing but the header is read, and it no longer than the file. CheckpointError for a file that
    is none.
    """
    try:
        length = path.stat().st_size
        with path.open("rb") as file:
            size = _header_size(file.read(8), length)
            header = json.loads(file.read(size))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        for entry in tensors.values():
            if not isinstance(entry["dtype"], str):
                raise ValueError("a type that is no name")
            if not all(
                isinstance(n, int) and n >= 0 for n in (*entry["shape"], *entry["data_offsets"])
            ):
                raise ValueError("a shape or a place that is no whole number")
            if max(entry["data_offsets"]) > length - 8 - size:
                raise ValueError("a tensor that lies past the end of the file")
        if not isinstance(header.get("__metadata__", {}), dict):
            raise ValueError("metadata that is no table")
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({' '.join(str(error).split())}); save the "
            "model again"
        ) from None
    return header  # type: ignore[no-any-return]


def check_digests(folder: Path, metadata: dict[str, Any]) -> None:
    """Raise CheckpointError, naming the file, where one is not as it was when the weights were
    saved.

    `metadata` is the table of that name in the header of the folder's model.safetensors.
    """
    if not metadata.keys() & {"sha256", *SAVED_WITH}:
        return  # saved by another program, which promises nothing
    weights = folder / "model.safetensors"
    digest = str(metadata.get("sha256"))
    with weights.open("rb") as file:
        head = file.read(8)
        head += file.read(_header_size(head, weights.stat().st_size))
        found = hashlib.sha256(head.replace(digest.encode(), UNKNOWN.encode(), 1))
        while piece := file.read(1 << 20):
            found.update(piece)
    if found.hexdigest() != digest:
        raise CheckpointError(
            f"{weights} is not what was saved (its SHA-256 differs); save the model again"
        )
    for name in SAVED_WITH:
        if name in metadata and not (
            (folder / name).is_file() and sha256_file(folder / name) == metadata[name]
        ):
            raise CheckpointError(
                f"{folder / name} is not the one that the weights were saved with; bring it back, "
                "or save the model again"
            )


def _header_size(first: bytes, length: int) -> int:
    """The header's length in bytes, from the file's first eight; ValueError where it cannot be."""
    if len(first) < 8:
        raise ValueError("shorter than its header")
    size: int = struct.unpack("<Q", first)[0]
    if size > min(length - 8, LARGEST_HEADER):
        raise ValueError(f"a header of {size:,} bytes in a file of {length:,}")
    return size
