"""Token shards: one split's ids in `SPLIT-00000.npy`, `SPLIT-00001.npy` …, written as they come.

A shard is a plain `.npy` array of one dimension, opened as a memory map and checked against its
digest. A writer that was stopped continues from its journal and ends in the same bytes.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from semigpt.errors import CorpusError
from semigpt.language import _
from semigpt.npy import array_bytes, array_header, map_array
from semigpt.storage import sha256_file

__all__ = ["TOKENS_PER_SHARD", "ShardWriter", "open_shard"]

TOKENS_PER_SHARD = 1 << 27
BUFFERED_TOKENS = 1 << 20  # held in memory before they are written


class ShardWriter:
    """Writes one split's ids into shards of `tokens_per_shard`, each flushed to the disk when it is
    full.

    A context manager: leaving it closes the file at hand. `tokens` and `documents` count what was
    added.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        dtype: np.dtype[Any],
        *,
        tokens_per_shard: int = TOKENS_PER_SHARD,
    ) -> None:
        self._folder, self._split, self._dtype = folder, split, dtype
        self._tokens_per_shard = tokens_per_shard
        self._files: list[dict[str, Any]] = []
        self.tokens = self.documents = 0
        self._file: IO[bytes] | None = None
        self._tokens_in_file = 0
        self._buffer: list[np.ndarray[Any, Any]] = []
        self._buffered_tokens = 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, ids: np.ndarray[Any, Any]) -> None:
        """Add the ids [tokens] of one document."""
        self._buffer.append(ids)
        self._buffered_tokens += len(ids)
        self.documents += 1
        self.tokens += len(ids)
        if self._buffered_tokens >= BUFFERED_TOKENS:
            self._write()

    def journal(self) -> dict[str, Any]:
        """Flush everything added so far to the disk; the state that `resume` takes."""
        self._write()
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
        return {
            "files": self._files,
            "tokens": self.tokens,
            "documents": self.documents,
            "in_file": self._tokens_in_file,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a `journal`; only on a new writer.

        Raises OSError, ValueError, LookupError or TypeError where it is no journal, or the files
        are shorter than it says.
        """
        for file in state["files"]:
            length = array_bytes(file["tokens"], self._dtype)
            if (self._folder / file["name"]).stat().st_size != length:
                raise ValueError("a shard has another length than its journal says")
        tokens, documents, tokens_in_file = (
            int(state[name]) for name in ("tokens", "documents", "in_file")
        )
        self._files = list(state["files"])
        if tokens_in_file:
            path, length = self._path(), array_bytes(tokens_in_file, self._dtype)
            if path.stat().st_size < length:
                raise ValueError("a shard is shorter than its journal says")
            os.truncate(path, length)
            self._file = path.open("r+b")
            self._file.seek(length)
        self.tokens, self.documents, self._tokens_in_file = tokens, documents, tokens_in_file

    def finish(self) -> dict[str, Any]:
        """Complete the last shard; the split's entry in the manifest. An empty split gets one empty
        shard.
        """
        self._write()
        if not self._files and self._file is None:
            self._open()
        if self._file is not None:
            self._complete()
        return {"tokens": self.tokens, "documents": self.documents, "files": self._files}

    def _path(self) -> Path:
        return self._folder / f"{self._split}-{len(self._files):05d}.npy"

    def _write_header(self, tokens: int) -> None:
        assert self._file is not None
        self._file.seek(0)
        self._file.write(array_header(tokens, self._dtype))

    def _open(self) -> None:
        self._file, self._tokens_in_file = self._path().open("wb"), 0
        self._write_header(self._tokens_per_shard)

    def _write(self) -> None:
        """Move the buffer into files."""
        if not self._buffered_tokens:
            self._buffer.clear()
            return
        ids = np.concatenate(self._buffer).astype(self._dtype, copy=False)
        self._buffer.clear()
        self._buffered_tokens = 0
        while len(ids):
            if self._file is None:
                self._open()
            assert self._file is not None
            part = ids[: self._tokens_per_shard - self._tokens_in_file]
            self._file.write(part.data)
            self._tokens_in_file += len(part)
            ids = ids[len(part) :]
            if self._tokens_in_file == self._tokens_per_shard:
                self._complete()

    def _complete(self) -> None:
        """Give the shard at hand its true length, flush and close it."""
        assert self._file is not None
        path = self._path()
        self._write_header(self._tokens_in_file)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        self._files.append(
            {"name": path.name, "tokens": self._tokens_in_file, "sha256": sha256_file(path)}
        )
        self._tokens_in_file = 0


def open_shard(
    folder: Path, file: dict[str, Any], dtype: str, *, verified: bool = False
) -> np.ndarray[Any, Any]:
    """The memory map [tokens] of a shard, by its entry in the manifest (`name`, `tokens`,
    `sha256`).

    verified: its digest need not be compared

    Raises CorpusError, naming the shard, where it is not what was written.
    """
    path = folder / file["name"]
    remedy = _("delete {folder} and run the same command again: it is written anew").format(
        folder=folder
    )
    # The whole file is read, so that no changed or truncated shard is trained on: 44 MB take 30 ms.
    if not path.is_file() or not (verified or sha256_file(path) == file["sha256"]):
        raise CorpusError(
            _("the token shard {path} is not what was written; {remedy}").format(
                path=path, remedy=remedy
            )
        )
    try:
        return map_array(path, file["tokens"], np.dtype(dtype))
    except ValueError as error:
        raise CorpusError(
            _("the token shard {path} cannot be read: {error}; {remedy}").format(
                path=path, error=error, remedy=remedy
            )
        ) from None
