"""Documents → token shards on disk → blocks of inputs and targets.

A split is one long stream of ids: each document's, then the end-of-text id. A block is `context_length` ids of it,
and its target the same ids one place later. The stream lies in `.npy` shards, opened as memory maps, of the smallest
unsigned type that holds the vocabulary.

A batch is a pure function of (data, seed, step): nothing to save, nothing to drift, any number of processes. Each
process takes its rows of the one global batch, so splitting a batch over processes or over gradient accumulation
never changes which blocks are learnt from.

Shards are written as the ids come, a few megabytes in memory, and appear whole or not at all. Where a process that wrote
them was stopped, the next one goes on (`semigpt.storage`), and ends in the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from semigpt.errors import CorpusError, SettingsError
from semigpt.storage import (
    JournalClock,
    fsync,
    has_resumable,
    publish,
    read_journal,
    resumable_folder,
    sha256_file,
    write_journal,
)

if TYPE_CHECKING:
    import torch

    from semigpt.corpus.corpus import Corpus
    from semigpt.tokenizers.base import Tokenizer

__all__ = [
    "BlockOrder",
    "Dataset",
    "TokenStream",
    "block_starts",
    "prepare_dataset",
    "write_stream",
]

BlockOrder = Literal["epoch", "random"]
TOKENS_PER_SHARD = 1 << 27
TOKENS_AT_ONCE = 1 << 20  # in memory before they are written
FORMAT = 1


class TokenStream:
    """One split's ids, as memory maps laid end to end."""

    def __init__(self, shards: list[np.ndarray[Any, Any]], documents: int) -> None:
        self.shards = shards
        self.documents = documents
        self._ends = np.cumsum([len(shard) for shard in shards], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.shards else 0

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """The ids from `start` up to `stop`, copied into memory where they span shards."""
        stop = min(stop, len(self))
        first = int(np.searchsorted(self._ends, start, side="right"))
        parts, begin = [], int(self._ends[first - 1]) if first else 0
        while start < stop:
            part = self.shards[first][start - begin : stop - begin]
            parts.append(part)
            start, begin, first = start + len(part), int(self._ends[first]), first + 1
        if not parts:
            return np.zeros(0, dtype=self.shards[0].dtype if self.shards else np.uint16)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def windows(self, starts_B: np.ndarray[Any, Any], length: int) -> np.ndarray[Any, Any]:
        """`[B, length]` ids from each start on, as int64; past the end the stream begins again.

        One vectorised gather: 15 µs for 12 blocks of 64 where one slice a block, stacked, takes 143.
        """
        places = starts_B[:, None] + np.arange(length, dtype=np.int64)
        places %= len(self)
        if len(self.shards) == 1:
            return self.shards[0][places].astype(np.int64)
        out = np.empty(places.shape, dtype=np.int64)
        shard_of = np.searchsorted(self._ends, places, side="right")
        for shard in np.unique(shard_of):
            here = shard_of == shard
            begin = self._ends[shard - 1] if shard else 0
            out[here] = self.shards[shard][places[here] - begin]
        return out


def _keys(*parts: int) -> np.random.Generator:
    """A generator that is a pure function of whole numbers (Philox, Salmon and others 2011, counter-based)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(parts)))


def _permuted(
    index: np.ndarray[Any, Any], size: int, seed: int, epoch: int
) -> np.ndarray[Any, Any]:
    """Where a pseudo-random permutation of `range(size)`, its own for each (seed, epoch), sends each index.

    A four-round Feistel network on the next even power of two, walked until it lands inside (Black and Rogaway 2002,
    "Ciphers with arbitrary finite domains", cycle walking): computed place by place, never stored.
    """
    half_bits = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half_bits) - 1)
    round_keys = _keys(seed, epoch, 0x5EED).integers(0, 1 << 63, size=4, dtype=np.uint64)
    shift = np.uint64(half_bits)

    def network(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        left, right = x >> shift, x & mask
        for key in round_keys:
            # The mixing of splitmix64 (Steele and others 2014): two multiplications and shifts.
            mixed = (right ^ key) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(31))) & mask)
        return (left << shift) | right

    out = network(index.astype(np.uint64))
    while (outside := out >= size).any():
        out[outside] = network(out[outside])
    return out.astype(np.int64)


def block_starts(
    length: int, context_length: int, batch_size: int, *, order: BlockOrder, seed: int, step: int
) -> np.ndarray[Any, Any]:
    """Where each block `[batch_size]` of the step's global batch begins, in a stream of `length` ids.

    `random`: uniform over every start that leaves a full block and its last target, as the book draws; a block may
    come twice. `epoch`: the stream is cut into blocks that do not overlap, each seen once an epoch in an order of
    that epoch's own; from the second epoch on the cuts lie elsewhere (the stream is a ring), so that no place is
    always at the edge of its block.
    """
    if length < context_length + 1:
        raise CorpusError(
            f"the text has {length} tokens, fewer than one block of context_length {context_length} and its last "
            f"target; give it more text or a context_length of at most {max(length - 1, 0)}"
        )
    if order == "random":
        return _keys(seed, step, 0xB10C).integers(0, length - context_length, size=batch_size)
    blocks = (length - 1) // context_length
    place = step * batch_size + np.arange(batch_size, dtype=np.int64)
    epochs, index = np.divmod(place, blocks)
    starts = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        shift = int(_keys(seed, int(epoch), 0x0FF5).integers(0, context_length)) if epoch else 0
        starts[here] = (
            _permuted(index[here], blocks, seed, int(epoch)) * context_length + shift
        ) % length
    return starts


@dataclass(frozen=True)
class Dataset:
    """A corpus as one tokenizer's ids: a stream a split, and what they were made of."""

    streams: dict[str, TokenStream]
    vocab_size: int
    corpus_fingerprint: str
    tokenizer_fingerprint: str

    def stream(self, split: str) -> TokenStream:
        """One split's ids; CorpusError if there is no such split."""
        if split not in self.streams:
            raise CorpusError(
                f"no split {split!r} in this corpus; it has {', '.join(self.streams)}"
            )
        return self.streams[split]

    def batch(
        self,
        split: str,
        context_length: int,
        batch_size: int,
        *,
        seed: int = 0,
        step: int = 0,
        order: BlockOrder = "epoch",
        rank: int = 0,
        world_size: int = 1,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets, int64 `[batch_size / world_size, context_length]`: this rank's rows of the step's batch."""
        if batch_size % world_size:
            raise SettingsError(
                f"a batch of {batch_size} blocks cannot be shared by {world_size} processes evenly"
            )
        stream = self.stream(split)
        starts_B = block_starts(
            len(stream), context_length, batch_size, order=order, seed=seed, step=step
        )
        rows = batch_size // world_size
        return as_block(
            stream.windows(starts_B[rank * rows : (rank + 1) * rows], context_length + 1)
        )


def as_block(windows: np.ndarray[Any, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows `[B, T + 1]` as inputs `[B, T]` and targets `[B, T]`, the same shifted by one."""
    import torch

    tensor = torch.from_numpy(windows)
    return tensor[:, :-1].contiguous(), tensor[:, 1:].contiguous()


class _ShardWriter:
    """One split's ids on their way into `SPLIT-00000.npy` …; each is flushed to the disk when it is full."""

    def __init__(self, folder: Path, split: str, dtype: np.dtype[Any], shard: int) -> None:
        self._folder, self._split, self._dtype, self._shard = folder, split, dtype, shard
        self._files: list[dict[str, Any]] = []
        self.tokens = self.documents = 0
        self._file: IO[bytes] | None = None
        self._in_file = 0
        self._waiting: list[np.ndarray[Any, Any]] = []
        self._waiting_tokens = 0

    def go_on(self, state: dict[str, Any]) -> None:
        """Take up what `journal` said. Raises OSError, ValueError or LookupError where the files are not that long."""
        for file in state["files"]:
            if (self._folder / file["name"]).stat().st_size != self._place(file["tokens"]):
                raise ValueError("a shard has another length than its journal says")
        tokens, documents, in_file = (
            int(state[name]) for name in ("tokens", "documents", "in_file")
        )
        self._files = list(state["files"])
        if in_file:
            path, length = self._path(), self._place(in_file)
            if path.stat().st_size < length:
                raise ValueError("a shard is shorter than its journal says")
            os.truncate(path, length)
            self._file = path.open("r+b")
            self._file.seek(length)
        self.tokens, self.documents, self._in_file = tokens, documents, in_file

    def add(self, ids: np.ndarray[Any, Any]) -> None:
        """The ids of one document."""
        self._waiting.append(ids)
        self._waiting_tokens += len(ids)
        self.documents += 1
        self.tokens += len(ids)
        if self._waiting_tokens >= TOKENS_AT_ONCE:
            self._write()

    def journal(self) -> dict[str, Any]:
        """Flush what there is to the disk, and say how much that is."""
        self._write()
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
        return {
            "files": self._files,
            "tokens": self.tokens,
            "documents": self.documents,
            "in_file": self._in_file,
        }

    def finish(self) -> dict[str, Any]:
        """End the last shard; the split's entry in the manifest."""
        self._write()
        if not self._files and self._file is None:
            self._open()
        if self._file is not None:
            self._end()
        return {"tokens": self.tokens, "documents": self.documents, "files": self._files}

    def close(self) -> None:
        """Let go of the file at hand."""
        if self._file is not None:
            self._file.close()

    def _path(self) -> Path:
        return self._folder / f"{self._split}-{len(self._files):05d}.npy"

    def _place(self, tokens: int) -> int:
        # NumPy pads the header of a .npy file of one dimension to 128 bytes, whatever its length.
        return 128 + tokens * self._dtype.itemsize

    def _header(self, tokens: int) -> None:
        assert self._file is not None
        self._file.seek(0)
        descr = np.lib.format.dtype_to_descr(self._dtype)
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": descr, "fortran_order": False, "shape": (tokens,)}
        )
        assert self._file.tell() == self._place(0)

    def _open(self) -> None:
        self._file, self._in_file = self._path().open("wb"), 0
        self._header(self._shard)

    def _write(self) -> None:
        if not self._waiting_tokens:
            self._waiting.clear()
            return
        ids = np.concatenate(self._waiting).astype(self._dtype, copy=False)
        self._waiting.clear()
        self._waiting_tokens = 0
        while len(ids):
            if self._file is None:
                self._open()
            assert self._file is not None
            piece = ids[: self._shard - self._in_file]
            self._file.write(piece.data)
            self._in_file += len(piece)
            ids = ids[len(piece) :]
            if self._in_file == self._shard:
                self._end()

    def _end(self) -> None:
        assert self._file is not None
        path = self._path()
        self._header(self._in_file)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        self._files.append(
            {"name": path.name, "tokens": self._in_file, "sha256": sha256_file(path)}
        )
        self._in_file = 0


def write_stream(
    folder: Path,
    split: str,
    documents: Iterable[np.ndarray[Any, Any]],
    dtype: np.dtype[Any],
    *,
    shard: int = TOKENS_PER_SHARD,
) -> dict[str, Any]:
    """Write encoded documents as `SPLIT-00000.npy` …, each flushed to disk; their entry in the manifest."""
    writer = _ShardWriter(folder, split, dtype, shard)
    try:
        for ids in documents:
            writer.add(ids)
        return writer.finish()
    finally:
        writer.close()


def prepare_dataset(
    corpus: Corpus,
    tokenizer: Tokenizer,
    *,
    progress: Callable[[int], None] | None = None,
    share: Callable[[float], None] | None = None,
    shard: int = TOKENS_PER_SHARD,
) -> Dataset:
    """The corpus as token shards, written once and found again by the two fingerprints.

    `progress` is called with the number of tokens made so far, `share` with the part of the documents that they are.
    The shards lie in a folder of the corpus's own cache, built beside its place and renamed into it: complete or not
    there. What a process had written that was stopped, the next one goes on with.
    """
    key = hashlib.sha256(
        f"{FORMAT} {corpus.fingerprint} {tokenizer.fingerprint}".encode()
    ).hexdigest()[:16]
    folder = corpus.folder / f"tokens-{key}"
    if not (folder / "manifest.json").exists():
        _write_dataset(folder, key, corpus, tokenizer, progress, share, shard)
    return open_dataset(folder)


def _write_dataset(
    folder: Path,
    key: str,
    corpus: Corpus,
    tokenizer: Tokenizer,
    progress: Callable[[int], None] | None,
    share: Callable[[float], None] | None,
    shard: int,
) -> None:
    try:
        with resumable_folder(folder.parent, key) as temporary:
            manifest = {
                "format": FORMAT,
                "vocab_size": tokenizer.vocab_size,
                "dtype": str(_dtype(tokenizer)),
                "corpus": corpus.fingerprint,
                "tokenizer": tokenizer.fingerprint,
                "splits": _write_splits(temporary, corpus, tokenizer, progress, share, shard),
            }
            (temporary / "manifest.json").write_text(
                json.dumps(manifest, indent=1), encoding="utf-8"
            )
            fsync(temporary / "manifest.json")
            publish(temporary, folder)
    except KeyboardInterrupt as stop:
        if has_resumable(folder.parent, key):
            stop.add_note(
                f"{corpus.spec}: the tokens written so far are kept: the same command goes on from there"
            )
        raise
    except OSError as error:
        raise CorpusError(
            f"cannot write the token shards in {folder.parent}: {error.strerror}; free some disk or set SEMIGPT_CACHE"
        ) from None


def _dtype(tokenizer: Tokenizer) -> np.dtype[Any]:
    return np.min_scalar_type(tokenizer.vocab_size - 1)


def _write_splits(
    folder: Path,
    corpus: Corpus,
    tokenizer: Tokenizer,
    progress: Callable[[int], None] | None,
    share: Callable[[float], None] | None,
    shard: int,
) -> dict[str, Any]:
    """Each split's shards in `folder`, from where its journal says; their entries in the manifest."""
    state = read_journal(folder) or {}
    splits: dict[str, Any] = {}
    clock = JournalClock()
    total = sum(map(corpus.document_count, corpus.splits))
    for split in corpus.splits:
        writer = _ShardWriter(folder, split, _dtype(tokenizer), shard)
        try:
            if split in state:
                writer.go_on(state[split])
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            # A journal that cannot be, or files that a power cut has shortened: the split is written anew.
            writer = _ShardWriter(folder, split, _dtype(tokenizer), shard)
        try:
            done = sum(entry["documents"] for entry in splits.values())
            told = writer.tokens
            for ids in tokenizer.encode_documents(corpus.documents(split, writer.documents)):
                writer.add(ids)
                stopped = None
                if writer.tokens - told >= TOKENS_AT_ONCE:
                    told = writer.tokens
                    try:
                        if progress is not None:
                            progress(sum(entry["tokens"] for entry in splits.values()) + told)
                        if share is not None:
                            share((done + writer.documents) / total)
                    except KeyboardInterrupt as stop:  # between two documents: nothing is lost
                        stopped = stop
                if stopped or clock.due():
                    write_journal(folder, {**_journals(splits), split: writer.journal()})
                    clock.reset()
                if stopped:
                    raise stopped
            splits[split] = writer.finish()
        finally:
            writer.close()
    if share is not None:
        share(1.0)
    return splits


def _journals(splits: dict[str, Any]) -> dict[str, Any]:
    return {split: {**entry, "in_file": 0} for split, entry in splits.items()}


def open_dataset(folder: Path) -> Dataset:
    """Memory maps of shards written by `prepare_dataset`.

    A shard whose size, type or length is not the manifest's is refused by name with CorpusError.
    """
    manifest_path = folder / "manifest.json"
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        streams = {}
        for split, entry in manifest["splits"].items():
            shards = [_open_shard(folder, file, manifest["dtype"]) for file in entry["files"]]
            streams[split] = TokenStream(shards, entry["documents"])
        return Dataset(streams, manifest["vocab_size"], manifest["corpus"], manifest["tokenizer"])
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        detail = " ".join(str(error).split())
        raise CorpusError(
            f"{manifest_path} is damaged ({detail}); delete {folder} and run again"
        ) from None


def _open_shard(folder: Path, file: dict[str, Any], dtype: str) -> np.ndarray[Any, Any]:
    path = folder / file["name"]
    remedy = f"delete {folder} and run again, it is made anew"
    # Read whole, not through the map: 44 MB take 30 ms, and nothing changed or cut off is ever learnt from.
    if not path.is_file() or sha256_file(path) != file["sha256"]:
        raise CorpusError(f"the token shard {path} is not what was written; {remedy}")
    if not file["tokens"]:
        return np.zeros(
            0, np.dtype(dtype)
        )  # nothing to map; a header is not believed what memory it asks for
    try:
        ids: np.ndarray[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OverflowError) as error:
        raise CorpusError(f"the token shard {path} cannot be read: {error}; {remedy}") from None
    if ids.dtype != np.dtype(dtype) or ids.shape != (file["tokens"],):
        raise CorpusError(
            f"the token shard {path} holds {ids.dtype} {ids.shape}, not {dtype} ({file['tokens']},); {remedy}"
        )
    return ids
