"""Documents → token shards on disk → blocks of inputs and targets.

A split is one long stream of ids: each document's, then the end-of-text id. A block is
`context_length` ids of it, and its target the same ids one position later. The stream lies in
shards (`semigpt.shards`) of the smallest unsigned type that holds the vocabulary.

A batch is a pure function of (data, seed, step): nothing to save, nothing to drift, any number of
processes. Each process takes its rows of the one global batch, so splitting a batch over processes
or over gradient accumulation never changes which blocks are trained on.

`tokenize` writes the shards and tells its progress as events. A process that is stopped leaves a
resumable folder (`semigpt.storage`), and the next one ends in the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from semigpt import html
from semigpt.errors import CorpusError, SettingsError
from semigpt.language import _
from semigpt.pool import processes
from semigpt.shards import TOKENS_PER_SHARD, ShardWriter, open_shard
from semigpt.storage import (
    STOPPED,
    HeldElsewhereError,
    JournalClock,
    fsync,
    has_resumable,
    is_shortage,
    publish,
    read_journal,
    resumable_folder,
    run_to_end,
    write_journal,
)
from semigpt.system import allow_open_files, available_cores
from semigpt.token_parts import TokenizingProgress, TokenParts, is_large

if TYPE_CHECKING:
    import torch

    from semigpt.corpus.corpus import Corpus
    from semigpt.tokenizers.base import Tokenizer

__all__ = [
    "BlockOrder",
    "Dataset",
    "TokenStream",
    "TokenizingProgress",
    "as_block",
    "block_starts",
    "open_dataset",
    "prepare_dataset",
    "tokenize",
]

BlockOrder = Literal["epoch", "random"]
TOKENS_PER_EVENT = 1 << 20
OTHER_FILES = 256  # that are open beside the shards
FORMAT = 1


class TokenStream:
    """One split's ids: memory maps `shards`, each [tokens], laid end to end."""

    def __init__(self, shards: list[np.ndarray[Any, Any]], documents: int) -> None:
        self.shards = shards
        self.documents = documents
        self._ends = np.cumsum([len(shard) for shard in shards], dtype=np.int64)
        self._begins = self._ends - [len(shard) for shard in shards]

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.shards else 0

    def __repr__(self) -> str:
        return f"<TokenStream: {len(self):,} tokens, {self.documents:,} documents>"

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """The ids from `start` up to `stop` or the end; a copy where they span shards."""
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
        """The ids [B, length] from each start on, as int64; past the end the stream begins again.

        One vectorised gather: 15 µs for 12 blocks of 64, where a slice per block takes 143.
        """
        places = starts_B[:, None] + np.arange(length, dtype=np.int64)
        places %= len(self)
        if len(self.shards) == 1:
            return self.shards[0][places].astype(np.int64)
        out = np.empty(places.shape, dtype=np.int64)
        edges = places[:, [0, -1]]
        first, last = np.searchsorted(self._ends, edges, side="right").T
        inside = (first == last) & (edges[:, 1] - edges[:, 0] == length - 1)
        for shard in np.unique(first[inside]):
            rows = np.flatnonzero(inside & (first == shard))
            out[rows] = self._gather(int(shard), places[rows])
        across = places[~inside]  # few, so that each of their ids may be looked for
        found, shard_of = across.copy(), np.searchsorted(self._ends, across, side="right")
        for shard in np.unique(shard_of):
            here = shard_of == shard
            found[here] = self._gather(int(shard), across[here])
        out[~inside] = found
        return out

    def _gather(self, shard: int, places: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The ids at places of the stream that lie in a shard."""
        found: np.ndarray[Any, Any] = self.shards[shard][places - self._begins[shard]]
        return found


def _generator(*key: int) -> np.random.Generator:
    """A random generator that depends on the key alone (Philox, Salmon et al. 2011)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def _permute(index: np.ndarray[Any, Any], size: int, seed: int, epoch: int) -> np.ndarray[Any, Any]:
    """The pseudo-random permutation of `range(size)` of this seed and epoch, at `index`. [n] → [n]

    A four-round Feistel network on the next even power of two, iterated until the result is below
    `size` (cycle walking; Black and Rogaway 2002, "Ciphers with arbitrary finite domains"). Nothing
    of length `size` is stored.
    """
    half_bits = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half_bits) - 1)
    round_keys = _generator(seed, epoch, 0x5EED).integers(0, 1 << 63, size=4, dtype=np.uint64)
    shift = np.uint64(half_bits)

    def network(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        left, right = x >> shift, x & mask
        for key in round_keys:
            # The mixing of splitmix64 (Steele et al. 2014): two multiplications and shifts.
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
    """The starts of the step's global batch in a stream of `length` ids. → [batch_size], int64

    order "random": uniform over every start that leaves a full block and its last target, as the
                    book draws; a block may come twice
    order "epoch":  the stream is cut into blocks that do not overlap, and each comes once per
                    epoch, in an order of that epoch's own. From the second epoch on the cuts are
                    shifted (the stream is a ring), so that no token is always at the edge of its
                    block.

    Raises CorpusError for a stream shorter than one block and its last target.
    """
    if length < context_length + 1:
        raise CorpusError(
            _(
                "the text has {length} tokens, fewer than one block of context_length "
                "{context_length} and its last target; give it more text or a context_length of at "
                "most {most}"
            ).format(length=length, context_length=context_length, most=max(length - 1, 0))
        )
    if order == "random":
        return _generator(seed, step, 0xB10C).integers(0, length - context_length, size=batch_size)
    blocks = (length - 1) // context_length
    position = step * batch_size + np.arange(batch_size, dtype=np.int64)
    epochs, index = np.divmod(position, blocks)
    starts = np.empty(batch_size, dtype=np.int64)
    for epoch in map(int, np.unique(epochs)):
        here = epochs == epoch
        shift = int(_generator(seed, epoch, 0x0FF5).integers(0, context_length)) if epoch else 0
        order_of_epoch = _permute(index[here], blocks, seed, epoch)
        starts[here] = (order_of_epoch * context_length + shift) % length
    return starts


@dataclass(frozen=True, repr=False)
class Dataset:
    """A corpus as one tokenizer's ids: a stream per split, and the fingerprints of its sources."""

    streams: dict[str, TokenStream]
    vocab_size: int
    corpus_fingerprint: str
    tokenizer_fingerprint: str
    stamp: str = ""  # of the shards as they were verified: another one after any write to them

    def stream(self, split: str) -> TokenStream:
        """One split's ids. Raises CorpusError if there is no such split."""
        if split not in self.streams:
            raise CorpusError(
                _("no split {split!r} in this corpus; it has {streams}").format(
                    split=split, streams=", ".join(self.streams)
                )
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
        """This rank's rows of the step's batch: inputs and targets, each int64
        [batch_size / world_size, context_length].

        Raises CorpusError for a split that is not there or too short, SettingsError for a batch
        size that `world_size` does not divide.
        """
        if batch_size % world_size:
            raise SettingsError(
                _(
                    "a batch of {batch_size} blocks cannot be shared by "
                    "{world_size} processes evenly"
                ).format(batch_size=batch_size, world_size=world_size)
            )
        stream = self.stream(split)
        starts_B = block_starts(
            len(stream), context_length, batch_size, order=order, seed=seed, step=step
        )
        rows = batch_size // world_size
        starts_B = starts_B[rank * rows : (rank + 1) * rows]
        return as_block(stream.windows(starts_B, context_length + 1))

    def __repr__(self) -> str:
        splits = ", ".join(f"{split} {len(s):,} tokens" for split, s in self.streams.items())
        return f"<Dataset: {splits}; vocabulary of {self.vocab_size:,}>"

    def _repr_html_(self) -> str:
        rows = [
            (
                split,
                _("{tokens:,} tokens, {documents:,} documents").format(
                    tokens=len(stream), documents=stream.documents
                ),
            )
            for split, stream in self.streams.items()
        ]
        vocabulary = _("{tokens:,} tokens").format(tokens=self.vocab_size)
        return html.table(_("Dataset"), [*rows, (_("vocabulary"), vocabulary)])


def as_block(windows_BT: np.ndarray[Any, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows [B, T + 1] as inputs [B, T] and targets [B, T], the same shifted by one."""
    import torch

    tensor = torch.from_numpy(windows_BT)
    return tensor[:, :-1].contiguous(), tensor[:, 1:].contiguous()


# From text to shards


def prepare_dataset(corpus: Corpus, tokenizer: Tokenizer, workers: int | None = None) -> Dataset:
    """The corpus as token shards: `tokenize`, run to its end. Raises CorpusError as it does."""
    return run_to_end(tokenize(corpus, tokenizer, workers=workers))


def tokenize(
    corpus: Corpus,
    tokenizer: Tokenizer,
    *,
    tokens_per_shard: int = TOKENS_PER_SHARD,
    workers: int | None = None,
    verified: str = "",
) -> Generator[TokenizingProgress, None, Dataset]:
    """Write the corpus as token shards, or find those written before; `yield from` returns them.

    Yields an event every TOKENS_PER_EVENT tokens, or parts of a large corpus, and one at the end;
    none where the shards are there already. A generator that is closed, or has KeyboardInterrupt or
    SystemExit thrown into it, first records what it has written; the next one resumes there. The
    shards lie in the corpus's own folder and appear whole or not at all.

    workers:  processes that write the shards of a large corpus (see `token_parts`), and share in
              what another process writes of the same; None: one per core
    verified: the `stamp` of shards that another process has verified

    Raises CorpusError where they cannot be written, or were damaged since.
    """
    fingerprints = f"{FORMAT} {corpus.fingerprint} {tokenizer.fingerprint}"
    key = hashlib.sha256(fingerprints.encode()).hexdigest()[:16]
    folder = corpus.folder / f"tokens-{key}"
    workers = processes(workers)
    if not (folder / "manifest.json").exists():
        with _writing(folder.parent, key, corpus):
            try:
                yield from _write_dataset(folder, key, corpus, tokenizer, tokens_per_shard, workers)
            except HeldElsewhereError as held:
                yield from TokenParts(held.args[0], corpus, tokenizer).share(workers)
                return (yield from tokenize(corpus, tokenizer, workers=workers, verified=verified))
    return open_dataset(folder, verified)


@contextlib.contextmanager
def _writing(parent: Path, key: str, corpus: Corpus) -> Iterator[None]:
    """Say what went wrong, and what a stop has left."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if has_resumable(parent, key):
            stop.add_note(
                _(
                    "{spec}: the tokens written so far are kept; the same command resumes from "
                    "there"
                ).format(spec=corpus.spec)
            )
        raise
    except OSError as error:
        raise CorpusError(
            _(
                "cannot write the token shards in {parent}: {strerror}; "
                "free some disk or set SEMIGPT_CACHE"
            ).format(parent=parent, strerror=error.strerror)
        ) from None


def _write_dataset(
    folder: Path,
    key: str,
    corpus: Corpus,
    tokenizer: Tokenizer,
    tokens_per_shard: int,
    workers: int,
) -> Generator[TokenizingProgress, None, None]:
    """Write the shards and publish them. Raises HeldElsewhereError where they are of a large corpus
    and another process does.
    """
    stopped, in_parts = (*STOPPED, GeneratorExit), is_large(corpus)
    with resumable_folder(folder.parent, key, resumed_after=stopped, shared=in_parts) as temporary:
        if (folder / "manifest.json").exists():  # published by the process that held it
            return
        if in_parts:
            splits = yield from TokenParts(temporary, corpus, tokenizer).write(workers)
        else:
            corpus.verify()  # the shards are of the text that its fingerprint names
            splits = yield from _write_splits(temporary, corpus, tokenizer, tokens_per_shard)
        manifest = {
            "format": FORMAT,
            "vocab_size": tokenizer.vocab_size,
            "dtype": str(tokenizer.dtype),
            "corpus": corpus.fingerprint,
            "tokenizer": tokenizer.fingerprint,
            "splits": splits,
        }
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        fsync(temporary / "manifest.json")
        publish(temporary, folder)
    yield TokenizingProgress(sum(entry["tokens"] for entry in splits.values()), 1.0)


def _write_splits(
    folder: Path, corpus: Corpus, tokenizer: Tokenizer, tokens_per_shard: int
) -> Generator[TokenizingProgress, None, dict[str, Any]]:
    """Write each split's shards from where the journal says; returns the manifest's entries."""
    journal = read_journal(folder) or {}
    splits: dict[str, Any] = {}
    clock = JournalClock()
    total = sum(map(corpus.document_count, corpus.splits))
    for split in corpus.splits:
        done_tokens = sum(entry["tokens"] for entry in splits.values())
        done_documents = sum(entry["documents"] for entry in splits.values())
        writer = _resumed_writer(folder, split, tokenizer.dtype, tokens_per_shard, journal)
        with writer:
            last_event = writer.tokens
            for ids in tokenizer.encode_documents(corpus.documents(split, writer.documents)):
                writer.add(ids)
                if writer.tokens - last_event >= TOKENS_PER_EVENT:
                    last_event = writer.tokens
                    fraction = (done_documents + writer.documents) / total
                    try:
                        yield TokenizingProgress(done_tokens + writer.tokens, fraction)
                    except (*STOPPED, GeneratorExit):  # between two documents: nothing is lost
                        _journal(folder, splits, split, writer)
                        raise
                if clock.due():
                    _journal(folder, splits, split, writer)
                    clock.reset()
            splits[split] = writer.finish()
    return splits


def _resumed_writer(
    folder: Path, split: str, dtype: np.dtype[Any], tokens_per_shard: int, journal: dict[str, Any]
) -> ShardWriter:
    """A writer that resumes from the journal; from scratch where that or the files are damaged."""
    writer = ShardWriter(folder, split, dtype, tokens_per_shard=tokens_per_shard)
    if split in journal:
        try:
            writer.resume(journal[split])
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            # A journal that cannot be, or files that a power cut has shortened.
            return ShardWriter(folder, split, dtype, tokens_per_shard=tokens_per_shard)
    return writer


def _journal(folder: Path, splits: dict[str, Any], split: str, writer: ShardWriter) -> None:
    finished = {name: {**entry, "in_file": 0} for name, entry in splits.items()}
    write_journal(folder, {**finished, split: writer.journal()})


def open_dataset(folder: Path, verified: str = "") -> Dataset:
    """The shards that `tokenize` wrote in `folder`, as memory maps.

    verified: the `stamp` of a dataset: where it is this one's, no digest is compared

    Raises CorpusError, naming the file, for a damaged manifest or a shard that is not what was
    written.
    """
    manifest_path = folder / "manifest.json"
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        splits, dtype, stamp = manifest["splits"], manifest["dtype"], _stamp(folder, manifest)
        allow_open_files(OTHER_FILES + sum(len(entry["files"]) for entry in splits.values()))

        def opened(file: dict[str, Any]) -> np.ndarray[Any, Any]:
            return open_shard(folder, file, dtype, verified=stamp == verified)

        with ThreadPoolExecutor(available_cores()) as pool:
            shards = {split: pool.map(opened, entry["files"]) for split, entry in splits.items()}
            streams = {
                split: TokenStream(list(shards[split]), entry["documents"])
                for split, entry in splits.items()
            }
        fingerprints = manifest["corpus"], manifest["tokenizer"]
        return Dataset(streams, manifest["vocab_size"], *fingerprints, stamp)
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
        if is_shortage(error):
            raise CorpusError(
                _("{folder} cannot be read: {detail}").format(folder=folder, detail=detail)
            ) from None
        raise CorpusError(
            _("{manifest_path} is damaged ({detail}); delete {folder} and run again").format(
                manifest_path=manifest_path, detail=detail, folder=folder
            )
        ) from None


def _stamp(folder: Path, manifest: dict[str, Any]) -> str:
    """The stamp of a dataset: sizes and times of its shards, which machines see alike."""
    found: list[Any] = [manifest]
    for entry in manifest["splits"].values():
        for file in entry["files"]:
            with contextlib.suppress(OSError):
                status = (folder / file["name"]).stat()
                found.append((status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()
