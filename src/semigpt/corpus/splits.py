"""Into which split a document goes, and the two files that a split is written to.

`auto` keeps the source's own splits. What is missing is carved out of train by document, by a hash
of its text: 5 % for validation, 5 % for test. `offset:0.9` joins the documents of train (of all,
where there are no splits) and cuts at nine tenths of the characters, as the book does; the rest is
both validation and test. Several sources are split each by itself, and cut as one text.

Splits are read in the order test, validation, train, and a text that was read before is left out.
So held-out splits are whole, and nothing in them is trained on.
"""

import hashlib
import os
import re
from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from semigpt.corpus.corpus import SplitMetadata
from semigpt.corpus.reading import SPLITS
from semigpt.errors import CorpusError
from semigpt.language import _
from semigpt.storage import JOURNAL, fsync, sha256_file

__all__ = [
    "READING_ORDER",
    "SplitPlan",
    "SplitWriter",
    "WrittenSplit",
    "append_numbers",
    "count_characters",
    "cut_by_character",
    "own_name",
    "parse_split_rule",
    "plan_splits",
    "read_numbers",
]

READING_ORDER = ("test", "validation", "train")
HELD_OUT_FRACTION = 0.05
COUNTED_AT_ONCE = 1 << 20  # characters: each count clears a million bins
CHUNK_BYTES = 1 << 20
CODE_POINTS = 0x110000


# Which split


@dataclass(frozen=True)
class SplitPlan:
    """How a source becomes train, validation and test.

    rule:    "own", "document", "own + document" or "offset:0.9"
    offset:  the fraction of characters that are train, None where documents are not cut
    streams: the source's streams in the order they are read
    carved:  the splits that the source lacks and that are carved out of train
    notes:   sentences for the user
    """

    rule: str
    offset: float | None
    streams: tuple[str, ...]
    carved: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def written(self) -> tuple[str, ...]:
        """The splits that documents are written to."""
        return SPLITS if self.offset is None else ("train",)

    @property
    def is_own(self) -> bool:
        """Whether all splits are the source's own."""
        return self.rule == "own"

    def split_of(self, stream: str, digest: int) -> str:
        """The split of a document that `stream` gave: equal text always goes into the same one.

        digest: 64 bits, uniform over documents
        """
        if stream in self.written and stream != "train":
            return stream
        place = digest / 2**64
        if "test" in self.carved and place >= 1 - HELD_OUT_FRACTION:
            return "test"
        if (
            "validation" in self.carved
            and 1 - 2 * HELD_OUT_FRACTION <= place < 1 - HELD_OUT_FRACTION
        ):
            return "validation"
        return "train"


def parse_split_rule(split: str) -> float | None:
    """The fraction of characters that are train, or None for "auto".

    Raises CorpusError for any other rule.
    """
    if split == "auto":
        return None
    name, _colon, value = split.partition(":")
    if name == "offset" and re.fullmatch(r"0?\.\d{1,9}", value) and 0.0 < float(value) < 1.0:
        return float(value)
    raise CorpusError(
        _(
            "--split {split}: neither auto nor offset:F with a fraction F between 0 and 1, "
            "like offset:0.9"
        ).format(split=split)
    )


@dataclass(frozen=True)
class JoinedPlan(SplitPlan):
    """Several sources, each split by the plan of its own among `parts`; see `joined`."""

    parts: tuple[SplitPlan, ...] = ()

    def split_of(self, stream: str, digest: int) -> str:
        number, _, name = stream.partition(":")
        return self.parts[int(number)].split_of(name, digest)


def own_name(stream: str) -> str:
    """What a stream is called in its own source."""
    return stream.rpartition(":")[2]


def _plan_joined(streams: Collection[str], offset: float | None) -> JoinedPlan:
    names: dict[str, list[str]] = {}
    for stream in streams:
        number, _, name = stream.partition(":")
        names.setdefault(number, []).append(name)
    plans = {number: plan_splits(own, offset) for number, own in names.items()}
    ordered = sorted(
        (f"{number}:{name}" for number, plan in plans.items() for name in plan.streams),
        key=lambda stream: _reading_place(own_name(stream)) if offset is None else 0,
    )
    parts = tuple(plans.values())
    return JoinedPlan(
        rule=" and ".join(dict.fromkeys(plan.rule for plan in parts)),
        offset=offset,
        streams=tuple(ordered),
        carved=tuple(dict.fromkeys(split for plan in parts for split in plan.carved)),
        notes=tuple(dict.fromkeys(note for plan in parts for note in plan.notes)),
        parts=parts,
    )


def _reading_place(name: str) -> int:
    return READING_ORDER.index(name or "train")


def plan_splits(streams: Collection[str], offset: float | None) -> SplitPlan:
    """The plan for a source with these streams; "" is the stream of a source without splits."""
    if any(":" in stream for stream in streams):
        return _plan_joined(streams, offset)
    own = tuple(split for split in READING_ORDER if split in streams)
    if offset is not None:
        notes = (_("cut by character: only the train split was read, its other splits were not"),)
        read = ("train",) if "train" in own else tuple(streams)
        return SplitPlan(f"offset:{offset:g}", offset, read, (), notes if len(streams) > 1 else ())
    if len(own) == len(SPLITS):
        return SplitPlan("own", None, own, (), ())
    carved = tuple(split for split in ("validation", "test") if split not in own)
    percent = "5 %" if len(carved) == 1 else "5 % each"
    note = _("{carved}: {percent} of the documents, chosen by a hash of their text").format(
        carved=" and ".join(carved), percent=percent
    )
    rule = "own + document" if len(carved) == 1 else "document"
    return SplitPlan(rule, None, own or ("",), carved, (note,))


# A split's files


class SplitWriter:
    """A split being written: its text, and where each of its documents ends.

    ends:       of each document, in bytes
    bits:       the information of all its documents, None where one's is unknown
    counts:     how often each code point occurs, shape (0x110000,)
    """

    def __init__(self, folder: Path, name: str, mode: str = "wb") -> None:
        self.folder, self.name = folder, name
        self.path = folder / f"{name}.txt"
        self.file = self.path.open(mode)
        self.ends = array("Q")
        self.bytes = self.characters = 0
        self.bits: float | None = 0.0
        self.counts = np.zeros(CODE_POINTS, np.int64)
        self._uncounted: list[str] = []
        self._uncounted_characters = 0
        self._journalled = 0  # how many of `ends` are on the disk
        # Of the text, where all of it was appended by this process.
        self._sha256: Any = None

    @classmethod
    def resume(cls, folder: Path, name: str, state: dict[str, Any]) -> Self:
        """The writer whose `journal()` gave `state`; what was written after it is cut off.

        Raises ValueError, EOFError, OSError or LookupError where the files are shorter than
        `state` says, or it is not one.
        """
        ends = read_numbers(folder / JOURNAL.with_name(f"{name}.ends"), state["documents"])
        path = folder / f"{name}.txt"
        if path.stat().st_size < state["bytes"] or (ends[-1] if ends else 0) != state["bytes"]:
            raise ValueError("shorter than its journal says")
        counts = np.zeros(CODE_POINTS, np.int64)
        codes, numbers = np.array(state["counts"], np.int64).reshape(-1, 2).T
        counts[codes] = numbers
        os.truncate(path, state["bytes"])
        writer = cls(folder, name, "ab")
        writer.ends, writer.counts = ends, counts
        writer.bytes, writer.characters = state["bytes"], state["characters"]
        writer.bits, writer._journalled = state["bits"], len(ends)
        return writer

    def add(self, text: str, encoded: bytes, bits: float | None) -> None:
        """Write a document; `encoded` is its `text` in UTF-8."""
        self.file.write(encoded)
        self.bytes += len(encoded)
        self.ends.append(self.bytes)
        self.characters += len(text)
        self.bits = None if bits is None or self.bits is None else self.bits + bits
        self._uncounted.append(text)
        self._uncounted_characters += len(text)
        if self._uncounted_characters >= COUNTED_AT_ONCE:
            self._count()

    def append(self, part: "WrittenSplit", kept: npt.NDArray[np.bool_]) -> int:
        """Write the documents of a part that are kept; the characters of the others, in all."""
        if not part.documents:
            return 0
        if not self.bytes:
            self._sha256 = hashlib.sha256()
        left_out = part.text_of(~kept)
        codes, numbers = part.counts
        self.counts[codes] += numbers
        for start in range(0, len(left_out), COUNTED_AT_ONCE):
            self.counts -= count_characters(left_out[start : start + COUNTED_AT_ONCE])
        self.characters += part.characters - len(left_out)
        for chunk in part.chunks_of(kept):
            self.file.write(chunk)
            if self._sha256 is not None:
                self._sha256.update(chunk)
        ends = np.cumsum(part.lengths[kept], dtype=np.uint64) + np.uint64(self.bytes)
        self.ends.frombytes(ends.tobytes())
        self.bytes = int(ends[-1]) if len(ends) else self.bytes
        if len(ends):
            self.bits = None  # a file says nothing of it
        return len(left_out)

    def journal(self) -> dict[str, Any]:
        """Flush what there is to the disk, and return how much that is, as JSON."""
        self.file.flush()
        os.fsync(self.file.fileno())
        path = self.folder / JOURNAL.with_name(f"{self.name}.ends")
        append_numbers(path, self.ends[self._journalled :])
        self._journalled = len(self.ends)
        return self.state()

    def state(self) -> dict[str, Any]:
        """What was written so far, as JSON."""
        self._count()
        codes = np.flatnonzero(self.counts)
        return {
            "documents": len(self.ends),
            "bytes": self.bytes,
            "characters": self.characters,
            "bits": self.bits,
            "counts": np.stack([codes, self.counts[codes]], axis=1).tolist(),
        }

    def finish(self) -> None:
        """Close the text and write the ends."""
        self._count()
        self.file.close()
        np.save(self.folder / f"{self.name}.ends.npy", np.frombuffer(self.ends, np.uint64))

    def metadata(self) -> SplitMetadata:
        """What the manifest says of the finished files, which are flushed to the disk."""
        names = f"{self.name}.txt", f"{self.name}.ends.npy"
        digests = {}
        for name in names:
            fsync(self.folder / name)
            is_hashed = name == names[0] and self._sha256 is not None
            path = self.folder / name
            digests[name] = self._sha256.hexdigest() if is_hashed else sha256_file(path)
        return SplitMetadata(
            *names, len(self.ends), self.characters, self.bytes, self.bits, digests
        )

    def _count(self) -> None:
        text = "".join(self._uncounted)
        for start in range(0, len(text), COUNTED_AT_ONCE):
            self.counts += count_characters(text[start : start + COUNTED_AT_ONCE])
        self._uncounted.clear()
        self._uncounted_characters = 0


@dataclass(frozen=True)
class WrittenSplit:
    """What one `SplitWriter` wrote, to be appended to another one.

    lengths:    of its documents, in bytes
    digests:    of their texts, in 64 bits
    recurrence: what is done with each where its text came before: a `duplicates.Recurrence`
    characters: in all
    counts:     the code points that occur, and how often each does: shape (2, n)
    """

    path: Path
    lengths: npt.NDArray[np.uint64]
    digests: "array[int]"
    recurrence: bytes
    characters: int
    counts: npt.NDArray[np.int64]

    @classmethod
    def open(cls, folder: Path, name: str, state: dict[str, Any]) -> Self:
        """The split whose `state()` this is, with the numbers of its documents.

        Raises ValueError, EOFError, OSError or LookupError where files are shorter than it says.
        """
        path, documents = folder / f"{name}.txt", state["documents"]
        numbers = array("Q")
        with (folder / f"{name}.numbers").open("rb") as file:
            numbers.fromfile(file, 2 * documents)
        recurrence = (folder / f"{name}.recurrence").read_bytes()
        lengths = np.array(numbers[:documents], np.uint64)
        lengths[1:] -= lengths[:-1].copy()
        if path.stat().st_size != state["bytes"] or len(recurrence) != documents:
            raise ValueError("shorter than its state says")
        counts = np.array(state["counts"], np.int64).reshape(-1, 2).T
        return cls(path, lengths, numbers[documents:], recurrence, state["characters"], counts)

    @property
    def documents(self) -> int:
        return len(self.lengths)

    def chunks_of(self, kept: npt.NDArray[np.bool_]) -> Iterator[bytes]:
        """The text of some documents, in UTF-8, a run of neighbours at a time."""
        ends = np.cumsum(self.lengths, dtype=np.uint64)
        edges = np.flatnonzero(np.diff(kept, prepend=False, append=False)).reshape(-1, 2)
        with self.path.open("rb") as file:
            for first, stop in edges.tolist():
                place, end = int(ends[first] - self.lengths[first]), int(ends[stop - 1])
                file.seek(place)
                while place < end and (chunk := file.read(min(end - place, CHUNK_BYTES))):
                    place += len(chunk)
                    yield chunk

    def text_of(self, documents: npt.NDArray[np.bool_]) -> str:
        return b"".join(self.chunks_of(documents)).decode("utf-8", "surrogatepass")


def cut_by_character(train: SplitWriter, fraction: float, spec: str) -> SplitWriter:
    """Move all but the first `int(fraction * characters)` characters of a finished `train` to
    validation, which is returned finished.

    A document that is cut becomes two, and the information of both sides is unknown. Raises
    CorpusError where one side would be empty.
    """
    keep = int(fraction * train.characters)
    if not 0 < keep < train.characters:
        raise CorpusError(
            _(
                "{spec}: too short to be cut at {fraction:g} (length {characters:,}): "
                "give it more text"
            ).format(spec=spec, fraction=fraction, characters=train.characters)
        )
    place = _byte_of_character(train.path, keep)
    held_out = SplitWriter(train.folder, "validation")
    ends = np.frombuffer(train.ends, np.uint64)
    first_after = int(np.searchsorted(ends, place, side="right"))
    between_documents = first_after > 0 and int(ends[first_after - 1]) == place
    held_out.ends = array("Q", (ends[first_after:] - np.uint64(place)).tobytes())
    kept_ends = array("Q", ends[:first_after].tobytes())
    if not between_documents:
        kept_ends.append(place)
    with train.path.open("r+b") as file:
        file.seek(place)
        while chunk := file.read(CHUNK_BYTES):
            # A chunk may end inside a character: the rest of it is at most three bytes more.
            while (byte := file.read(1)) and byte[0] & 0xC0 == 0x80:
                chunk += byte
            if byte:
                file.seek(-1, os.SEEK_CUR)
            held_out.file.write(chunk)
            held_out.counts += count_characters(chunk.decode("utf-8", "surrogatepass"))
        file.truncate(place)
    held_out.bytes = train.bytes - place
    held_out.characters = train.characters - keep
    held_out.bits = train.bits = None
    train.ends, train.bytes, train.characters = kept_ends, place, keep
    train.counts -= held_out.counts
    train._sha256 = None  # of what it was
    train.finish()
    held_out.finish()
    return held_out


def _byte_of_character(path: Path, character: int) -> int:
    """At which byte the character with this index begins."""
    place = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            # Every byte of UTF-8 but those of the form 10xxxxxx begins a character.
            begins = np.flatnonzero((np.frombuffer(chunk, np.uint8) & 0xC0) != 0x80)
            if character < len(begins):
                return place + int(begins[character])
            character -= len(begins)
            place += len(chunk)
    return place


# Numbers


def count_characters(text: str) -> npt.NDArray[np.int64]:
    """How often each code point occurs: shape (0x110000,)."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return np.bincount(codes, minlength=CODE_POINTS)


def append_numbers(path: Path, numbers: "array[int]") -> None:
    """Append 64-bit numbers to a file and flush it to the disk."""
    with path.open("ab") as file:
        numbers.tofile(file)
        file.flush()
        os.fsync(file.fileno())


def read_numbers(path: Path, count: int) -> "array[int]":
    """The first `count` 64-bit numbers of a file, which loses what follows them.

    Raises EOFError or OSError for a shorter file.
    """
    numbers = array("Q")
    with path.open("rb") as file:
        numbers.fromfile(file, count)
    os.truncate(path, 8 * count)
    return numbers
