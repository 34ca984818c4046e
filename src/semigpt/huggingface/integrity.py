"""Digests of a model folder's files, kept in its weights; and the header of weights, read before
memory is taken.

`model.safetensors` carries, in the metadata that its format leaves free, its own SHA-256 and those
of the files it was saved with. Every loader of the ecosystem ignores them, and a folder without
them, from elsewhere, is taken as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semigpt.errors import CheckpointError
from semigpt.language import _
from semigpt.storage import open_regular, sha256_file
from semigpt.system import is_hollow

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["check_digests", "opened", "read_header", "read_tensors", "serialized", "with_digests"]

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
BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "U8": 8}


def serialized(
    weights: Mapping[str, Tensor], folder: Path, files: Mapping[str, bytes]
) -> list[bytes | memoryview]:
    """A safetensors file of float32 tensors on the CPU, with digests as `with_digests` gives them:
    its header and then the tensors as they lie in memory, so that a large model is not copied.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body: list[memoryview] = []
    begin = 0
    for name, tensor in sorted(weights.items()):
        places = [begin, begin := begin + tensor.nbytes]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": places}
        body.append(tensor.contiguous().flatten().numpy().data.cast("B"))
    return [_digested(header, body, folder, files), *body]


def with_digests(content: bytes, folder: Path, files: Mapping[str, bytes]) -> bytes:
    """The bytes of a safetensors file with the digests of itself and of the files saved with it in
    its metadata: `files`, which are about to be written to `folder`, and those that are there.

    Its own digest is that of the file with 64 zeros in the digest's place. The metadata is written
    in order: the library's own order changes from process to process, and the same model must give
    the same bytes.
    """
    size = _header_size(content[:8], len(content))
    body = memoryview(content)[8 + size :]
    return _digested(json.loads(content[8 : 8 + size]), [body], folder, files) + body


def _digested(
    header: dict[str, Any], body: Sequence[memoryview], folder: Path, files: Mapping[str, bytes]
) -> bytes:
    """The bytes before the tensors, with the digests in them."""

    def digest_of(name: str) -> str | None:
        if name in files:
            return hashlib.sha256(files[name]).hexdigest()
        return _digest(folder / name, None)

    metadata = {
        **dict(sorted(header.pop("__metadata__", {}).items())),
        **{name: known for name in SAVED_WITH if (known := digest_of(name)) is not None},
        "sha256": UNKNOWN,
    }
    text = json.dumps(
        {"__metadata__": metadata, **header}, separators=(",", ":"), ensure_ascii=False
    ).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    head = struct.pack("<Q", len(text)) + text
    digest = hashlib.sha256(head)
    for part in body:
        digest.update(part)
    return head.replace(UNKNOWN.encode(), digest.hexdigest().encode(), 1)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """A file of a model folder, as it is now: what replaces it meanwhile is another file.

    Raises CheckpointError for what cannot be read or is no regular file.
    """
    try:
        if is_hollow(path):
            raise CheckpointError(
                _("{path} is a file of holes, and holds nothing").format(path=path)
            )
        file = open_regular(path)
    except OSError as error:
        raise CheckpointError(
            _("{path} cannot be read: {strerror}").format(path=path, strerror=error.strerror)
        ) from None
    with file:
        yield file


def read_header(file: BufferedReader, path: Path) -> dict[str, Any]:
    """The header of a safetensors file: `dtype`, `shape` and `data_offsets` by tensor, and
    `__metadata__`.

    Nothing but the header is read, and it no longer than the file. CheckpointError, naming `path`,
    for a file that is none, or whose tensors have other sizes than their shapes.
    """
    try:
        length = file.seek(0, os.SEEK_END)
        file.seek(0)
        size = _header_size(file.read(8), length)
        header: dict[str, Any] = json.loads(file.read(size))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        for entry in tensors.values():
            if not isinstance(entry["dtype"], str):
                raise ValueError("a type that is no name")
            begin, end = entry["data_offsets"]
            if not all(type(n) is int and n >= 0 for n in (*entry["shape"], begin, end)):
                raise ValueError("a shape or a place that is no whole number")
            if end > length - 8 - size:
                raise ValueError("a tensor that lies past the end of the file")
            bits = BITS.get(entry["dtype"], 8)
            if math.prod(entry["shape"]) * bits > 8 * max(end - begin, 0):
                raise ValueError("a tensor that is shorter than its shape")
        if not isinstance(header.get("__metadata__", {}), dict):
            raise ValueError("metadata that is no table")
    except OSError as error:
        raise CheckpointError(
            _("{path} cannot be read: {strerror}").format(path=path, strerror=error.strerror)
        ) from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            _("{path} is not a whole safetensors file ({error}); save the model again").format(
                path=path, error=" ".join(str(error).split())
            )
        ) from None
    return header


def read_tensors(file: BufferedReader, path: Path) -> dict[str, Tensor]:
    """The tensors of an opened safetensors file. Raises OSError or SafetensorError."""
    from safetensors.torch import load_file

    # By the open file where the system names it, by its path elsewhere.
    link = Path(f"/proc/self/fd/{file.fileno()}")
    return load_file(link if link.exists() else path)


def check_digests(
    folder: Path, metadata: dict[str, Any], files: Mapping[str, BufferedReader]
) -> None:
    """Raise CheckpointError, naming the file, where one is not as it was when the weights were
    saved.

    `metadata` is the table of that name in the header of the folder's model.safetensors, which is
    among `files`, those that are open already.
    """
    if not metadata.keys() & {"sha256", *SAVED_WITH}:
        return  # saved by another program, which promises nothing
    weights, digest = files["model.safetensors"], str(metadata.get("sha256"))
    length = weights.seek(0, os.SEEK_END)
    weights.seek(0)
    head = weights.read(8)
    head += weights.read(_header_size(head, length))
    found = hashlib.sha256(head.replace(digest.encode(), UNKNOWN.encode(), 1))
    while piece := weights.read(1 << 20):
        found.update(piece)
    if found.hexdigest() != digest:
        raise CheckpointError(
            _("{folder} is not what was saved (its SHA-256 differs); save the model again").format(
                folder=folder / "model.safetensors"
            )
        )
    for name in SAVED_WITH:
        if name in metadata and _digest(folder / name, files.get(name)) != metadata[name]:
            raise CheckpointError(
                _(
                    "{folder} is not the one that the weights were saved with; bring it back, "
                    "or save the model again"
                ).format(folder=folder / name)
            )


def _digest(path: Path, file: BufferedReader | None) -> str | None:
    """The SHA-256 of a file, open already or not; None where it is not there."""
    if file is not None:
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()
    try:
        return sha256_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CheckpointError(
            _("{path} cannot be read: {strerror}").format(path=path, strerror=error.strerror)
        ) from None


def _header_size(first: bytes, length: int) -> int:
    """The header's length in bytes, from the file's first eight; ValueError where it cannot be."""
    if len(first) < 8:
        raise ValueError("shorter than its header")
    size: int = struct.unpack("<Q", first)[0]
    if size > min(length - 8, LARGEST_HEADER):
        raise ValueError(f"a header of {size:,} bytes in a file of {length:,}")
    return size
