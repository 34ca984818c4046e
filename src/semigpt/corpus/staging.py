"""The text of a `--data SPEC`, staged on disk once, so that all that follows streams from there.

    CACHE/corpora/NAME-KEY/
      train.txt         the documents back to back, UTF-8 (lone surrogates as `surrogatepass` writes them)
      train.ends.npy    uint64, where each document ends in it, in bytes
      …                 the same for validation and test
      manifest.json     where the text came from, counts, digests

CACHE is `$SEMIGPT_CACHE`, else `$XDG_CACHE_HOME/semigpt`, else `~/.cache/semigpt`. KEY is a hash of what was
asked for (`sources.identity`, column, split rule), so that opening a staged corpus again takes milliseconds
and imports nothing heavy: a file that changes is staged anew. What the Hub held is kept until `refresh=True`.

Splits. `auto` keeps the source's own. What it lacks is carved out of train by document, by a hash of the
text: 5 % for validation, 5 % for test. A corpus of so few documents that a split would stay empty is cut by
character. `offset:0.9` joins the documents of train (of everything, where there are no splits) and cuts at
nine tenths of the characters, as the book does; what is held out then is both validation and test.

Documents are normalised to NFC, and a byte order mark that one begins with is left out. Empty ones (nothing
but white space) are dropped, and so is one whose text was read before. Splits are read in the order test,
validation, train, so a text that stands in train and test stays in test alone: held-out splits are whole, and
nothing in them was trained on.

A staging that takes longer writes a journal every ten seconds, beside the text as far as it has come, and the next one
goes on from it (`semigpt.storage`): what was read is not read again, or skipped row by row inside a file. It ends in the
files, byte for byte, that it would have written without a stop. KEY keeps a text that has changed apart; a Hub dataset
is gone on with where it stands at the commit that was being read.

    journal/state.json       the place in the source, counts, how long each file was
    journal/digests          uint64, of every document kept, to know its like again
    journal/train.ends  …    uint64, what becomes `train.ends.npy`
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from semigpt.corpus.sources import (
    SPLITS,
    HubSource,
    Opened,
    Source,
    identity,
    open_source,
    parse_spec,
    quiet_datasets,
)
from semigpt.corpus.text import normalize
from semigpt.errors import CorpusError
from semigpt.storage import (
    JOURNAL,
    STOPPED,
    JournalClock,
    cache_folder,
    fsync,
    has_resumable,
    publish,
    read_journal,
    resumable_folder,
    sha256_file,
    write_journal,
)

__all__ = ["Corpus", "open_corpus", "prepare_corpus"]

STAGING_VERSION = (
    2  # part of the key: what this file writes, or which documents it keeps, has changed
)
READING_ORDER = ("test", "validation", "train")
HELD_OUT_SHARE = 0.05
FLUSH_CHARACTERS = 1 << 20
CHANGED = "it has changed since it was written"

COUNTERS = ("duplicates", "empties", "composed", "marked", "documents", "characters")
GOES_ON = "what was read of it is kept: the same command goes on from there"

Progress = Callable[[int, int], None]
Share = Callable[[float], None]


# --------------------------------------------------------------------------------------- a staged corpus


@dataclass(frozen=True)
class SplitFacts:
    """What the manifest holds about a split: its two files and what is in them.

    source_bits is the information of all its documents together, where the source knows it.
    """

    text: str
    ends: str
    documents: int
    characters: int
    bytes: int
    source_bits: float | None
    sha256: dict[str, str]


@dataclass(frozen=True)
class Corpus:
    """A staged corpus. Made by `prepare_corpus` and `open_corpus`.

    folder:           where it is staged
    spec:             the SPEC it was prepared from
    column:           the column its documents came from
    split_rule:       "own", "document", "own + document" or "offset:0.9": what was done
    fingerprint:      hexadecimal SHA-256 over the text and its documents' ends, equal exactly for equal text
    character_counts: how often each character occurs in train, in the order of the code points
    findings:         sentences for the user: encodings met, documents dropped, how it was split
    """

    folder: Path
    spec: str
    column: str | None
    split_rule: str
    fingerprint: str
    character_counts: dict[str, int] = field(repr=False)
    findings: list[str] = field(repr=False)
    facts: dict[str, SplitFacts] = field(repr=False)
    duplicates: int = 0
    empties: int = 0
    revision: str | None = None

    @property
    def splits(self) -> tuple[str, ...]:
        """`("train", "validation", "test")`."""
        return tuple(self.facts)

    def path(self, split: str) -> Path:
        """The UTF-8 file of the split's documents, back to back."""
        return self.folder / self._of(split).text

    def bytes_of(self, split: str) -> int:
        """The length of the split's text in UTF-8 bytes."""
        return self._of(split).bytes

    def characters(self, split: str) -> int:
        """The length of the split's text in code points."""
        return self._of(split).characters

    def document_count(self, split: str) -> int:
        return self._of(split).documents

    def source_bits(self, split: str) -> float | None:
        """The true information of the split's text in bits; None where nobody knows it."""
        return self._of(split).source_bits

    def document_ends(self, split: str) -> npt.NDArray[np.uint64]:
        """Where each document ends in `path(split)`, in bytes: a memory map of shape (documents,).

        Raises CorpusError, naming the file, when it is not what was written.
        """
        facts = self._of(split)
        path = self.folder / facts.ends
        try:
            ends = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise _damaged(path, f"it cannot be read: {error}") from None
        if ends.dtype != np.uint64 or ends.shape != (facts.documents,) or ends[-1] != facts.bytes:
            raise _damaged(path, CHANGED)
        return cast(npt.NDArray[np.uint64], ends)

    def documents(self, split: str, first: int = 0) -> Iterator[str]:
        """The documents of a split in order, from number `first` on, one in memory at a time."""
        length = self.bytes_of(split)
        ends = self.document_ends(split)
        start = int(ends[first - 1]) if first else 0
        with self.path(split).open("rb", buffering=1 << 20) as file:
            file.seek(start)
            for block in range(first, len(ends), 4096):
                for end in ends[block : block + 4096].tolist():
                    if not start < end <= length:  # checked before memory is taken for it
                        raise _damaged(self.folder / self._of(split).ends, CHANGED)
                    yield self._decode(split, file.read(end - start))
                    start = end

    def text(self, split: str) -> str:
        """The whole text of a split, in memory."""
        return self._decode(split, self.path(split).read_bytes())

    def _decode(self, split: str, encoded: bytes) -> str:
        try:
            return encoded.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise _damaged(self.path(split), CHANGED) from None

    def verify(self) -> None:
        """Read every staged file and compare it with its digest.

        Raises CorpusError, naming the first file that has changed. Opening a corpus checks the sizes alone.
        """
        for facts in self.facts.values():
            for name, digest in facts.sha256.items():
                if sha256_file(self.folder / name) != digest:
                    raise _damaged(self.folder / name, CHANGED)

    def _of(self, split: str) -> SplitFacts:
        if split not in self.facts:
            raise CorpusError(
                f"{self.spec}: no split {split!r}: its splits are {', '.join(self.facts)}"
            )
        return self.facts[split]


def open_corpus(folder: Path) -> Corpus:
    """The corpus staged in `folder`.

    Raises CorpusError, naming the file, when one is missing or cut off, or the manifest has been changed.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_bytes())
        digest = manifest.pop("manifest_sha256")
        if digest != _manifest_digest(manifest):
            raise ValueError("its digest does not match")
        facts = {split: SplitFacts(**value) for split, value in manifest["splits"].items()}
        corpus = Corpus(
            folder=folder,
            spec=manifest["spec"],
            column=manifest["column"],
            split_rule=manifest["split_rule"],
            fingerprint=manifest["fingerprint"],
            character_counts={chr(code): count for code, count in manifest["character_counts"]},
            findings=manifest["findings"],
            facts=facts,
            duplicates=manifest["duplicates"],
            empties=manifest["empties"],
            revision=manifest["revision"],
        )
    except OSError as error:
        raise _damaged(path, f"it cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"{CHANGED}: {type(error).__name__}") from None
    for split in facts.values():
        expected = {split.text: split.bytes, split.ends: _ends_file_bytes(split.documents)}
        for name, size in expected.items():
            try:
                found = (folder / name).stat().st_size
            except OSError:
                raise _damaged(folder / name, "it is missing") from None
            if found != size:
                raise _damaged(folder / name, f"{found:,} bytes instead of {size:,}")
    return corpus


def _damaged(path: Path, what: str) -> CorpusError:
    return CorpusError(f"{path}: {what}: delete {path.parent} and the corpus is prepared again")


def _ends_file_bytes(documents: int) -> int:
    # NumPy pads the header of a .npy file of one dimension to 128 bytes.
    return 128 + 8 * documents


def _manifest_digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


# ----------------------------------------------------------------------------------------- preparing one


def prepare_corpus(
    spec: str,
    *,
    column: str | None = None,
    split: str = "auto",
    cache: Path | None = None,
    refresh: bool = False,
    progress: Progress | None = None,
    share: Share | None = None,
) -> Corpus:
    """The text of `spec`, staged: opened when it was staged before, else read, normalised, split and written.

    column:   where the documents are; see `sources`
    split:    "auto" or "offset:F" with 0 < F < 1
    refresh:  stage it anew even so, for a Hub dataset that may have moved on
    progress: called now and then with the documents and characters kept so far
    share:    called beside it with how much of the source's files is read, 0 to 1, where that is known

    The corpus appears whole or not at all: it is written to a temporary folder beside, flushed to the disk
    and renamed. Two processes that prepare the same one do not meet; the second finds the first one's and
    drops its own. What a process had written that was stopped, in any way, the next one goes on with; a
    KeyboardInterrupt says in a note that there is something, and so does the error of a Hub that is gone. Any
    other error leaves nothing: a full disk has its room back.

    Memory: what `datasets` holds (a few hundred rows), a megabyte of text, and for each document 8 bytes for
    its end and 12 to 36 for its digest.

    Raises CorpusError, in one line, for all that is wrong with the SPEC, its text or the cache folder.
    """
    cut = _parse_split_rule(split)
    source = parse_spec(spec)
    request = {
        "version": STAGING_VERSION,
        "source": identity(source),
        "column": column,
        "split": split,
    }
    key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]
    corpora = (cache or cache_folder()) / "corpora"
    folder = corpora / f"{_slug(spec)}-{key}"
    if folder.is_dir() and not refresh:
        return open_corpus(folder)
    resumed_after = (*STOPPED, CorpusError) if isinstance(source, HubSource) else STOPPED
    try:
        with resumable_folder(
            corpora, key, from_scratch=refresh, resumed_after=resumed_after
        ) as temporary:
            _stage(source, spec, column, cut, temporary, progress, share)
            publish(temporary, folder, replace=refresh)
    except KeyboardInterrupt as stop:
        if has_resumable(corpora, key):
            stop.add_note(f"{spec}: {GOES_ON}")
        raise
    except CorpusError as error:
        if isinstance(source, HubSource) and has_resumable(corpora, key):
            raise CorpusError(f"{error} ({GOES_ON})") from None
        raise
    except OSError as error:
        raise CorpusError(
            f"{corpora}: the corpus cannot be staged there ({error.strerror or error}): free some room, or "
            "name another folder in SEMIGPT_CACHE"
        ) from None
    return open_corpus(folder)


def _parse_split_rule(split: str) -> float | None:
    """The share of characters that are train, or None for "auto"."""
    if split == "auto":
        return None
    name, _, value = split.partition(":")
    if name == "offset" and re.fullmatch(r"0?\.\d{1,9}", value) and 0.0 < float(value) < 1.0:
        return float(value)
    raise CorpusError(
        f"--split {split}: neither auto nor offset:F with a share F between 0 and 1, like offset:0.9"
    )


def _slug(spec: str) -> str:
    """A hint for people who look into the cache; the key beside it is what counts."""
    return (
        re.sub(r"[^\w.-]+", "-", spec.removeprefix("hf:").rpartition("#")[0] or spec).strip("-.")[
            -40:
        ]
        or "corpus"
    )


# ------------------------------------------------------------------------------------------------ staging


def _stage(
    source: Source,
    spec: str,
    column: str | None,
    cut: float | None,
    folder: Path,
    progress: Progress | None,
    share: Share | None,
) -> None:
    """Write the files of a corpus into `folder`, the manifest last; what is there already is gone on with."""
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    with quiet_datasets():
        staged = _read(open_source(source, column, scratch), spec, cut, folder, progress, share)
        if (
            cut is None
            and not staged.own_splits_suffice
            and any(not part.ends for part in staged.parts.values())
        ):
            note = (
                f"{_count(staged.documents, 'document')} cannot be split by document: the text is cut by "
                "character, the first nine tenths are train and the rest is both validation and test"
            )
            _clear(folder)
            staged = _read(open_source(source, column, scratch), spec, 0.9, folder, progress, share)
            staged.notes.append(note)
    shutil.rmtree(scratch)
    staged.write_manifest(folder, spec)


def _clear(folder: Path) -> None:
    """Take away what was written of the text, the journal first."""
    shutil.rmtree(folder / JOURNAL.parent, ignore_errors=True)
    for left in folder.glob("*.*"):
        left.unlink()


@dataclass
class _Part:
    """One split being written."""

    folder: Path
    name: str
    ends: "array[int]" = field(default_factory=lambda: array("Q"))
    characters: int = 0
    bits: float | None = 0.0
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0x110000, np.int64))
    waiting: list[str] = field(default_factory=list)
    waiting_characters: int = 0

    def __post_init__(self) -> None:
        self.file = (self.folder / f"{self.name}.txt").open("wb")
        self.bytes = 0
        self._journalled = 0  # how many of `ends` are on the disk

    @classmethod
    def going_on(cls, folder: Path, name: str, state: dict[str, Any]) -> "_Part":
        """The part that `journal` wrote down, its file yet to be opened. Raises ValueError, EOFError or OSError where
        the files are not that long."""
        ends = _read_numbers(folder / JOURNAL.with_name(f"{name}.ends"), state["documents"])
        path = folder / f"{name}.txt"
        if path.stat().st_size < state["bytes"] or (ends[-1] if ends else 0) != state["bytes"]:
            raise ValueError("shorter than its journal says")
        os.truncate(path, state["bytes"])
        part = cls.__new__(cls)
        part.folder, part.name, part.ends = folder, name, ends
        part.characters, part.bits, part.bytes = state["characters"], state["bits"], state["bytes"]
        part.counts = np.zeros(0x110000, np.int64)
        if state["counts"]:
            codes, counts = np.array(state["counts"], np.int64).T
            part.counts[codes] = counts
        part.waiting, part.waiting_characters = [], 0
        part._journalled = len(ends)
        return part

    def journal(self) -> dict[str, Any]:
        """Flush what there is to the disk, and say how much that is."""
        self.count()
        self.file.flush()
        os.fsync(self.file.fileno())
        _append_numbers(
            self.folder / JOURNAL.with_name(f"{self.name}.ends"), self.ends[self._journalled :]
        )
        self._journalled = len(self.ends)
        codes = np.flatnonzero(self.counts)
        return {
            "documents": len(self.ends),
            "bytes": self.bytes,
            "characters": self.characters,
            "bits": self.bits,
            "counts": np.stack([codes, self.counts[codes]], axis=1).tolist(),
        }

    def add(self, text: str, encoded: bytes, bits: float | None) -> None:
        self.file.write(encoded)
        self.bytes += len(encoded)
        self.ends.append(self.bytes)
        self.characters += len(text)
        self.bits = None if bits is None or self.bits is None else self.bits + bits
        self.waiting.append(text)
        self.waiting_characters += len(text)
        if self.waiting_characters >= FLUSH_CHARACTERS:
            self.count()

    def count(self) -> None:
        """Count the characters that wait, a million at once: one bincount has a million bins to clear."""
        text = "".join(self.waiting)
        for start in range(0, len(text), FLUSH_CHARACTERS):
            self.counts += count_characters(text[start : start + FLUSH_CHARACTERS])
        self.waiting.clear()
        self.waiting_characters = 0

    def finish(self) -> None:
        self.count()
        self.file.close()
        np.save(self.folder / f"{self.name}.ends.npy", np.frombuffer(self.ends, np.uint64))

    def facts(self) -> SplitFacts:
        names = f"{self.name}.txt", f"{self.name}.ends.npy"
        digests = {}
        for name in names:
            fsync(self.folder / name)
            digests[name] = sha256_file(self.folder / name)
        return SplitFacts(*names, len(self.ends), self.characters, self.bytes, self.bits, digests)


def _append_numbers(path: Path, numbers: "array[int]") -> None:
    with path.open("ab") as file:
        numbers.tofile(file)
        file.flush()
        os.fsync(file.fileno())


def _read_numbers(path: Path, count: int) -> "array[int]":
    """The first `count` numbers of a file, which loses what follows. Raises EOFError or OSError for a shorter one."""
    numbers = array("Q")
    with path.open("rb") as file:
        numbers.fromfile(file, count)
    os.truncate(path, 8 * count)
    return numbers


def count_characters(text: str) -> npt.NDArray[np.int64]:
    """How often each code point occurs: shape (0x110000,)."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return np.bincount(codes, minlength=0x110000)


class Seen:
    """A set of 64-bit digests in 12 to 24 bytes each, 36 while it grows; Python's own takes 70 and more.

    Open addressing with linear probing (Knuth, The Art of Computer Programming 3, section 6.4) over one array.
    Two different ones of n documents share a digest with a probability of n² / 2⁶⁵: at ten million documents,
    3 in a million.
    """

    def __init__(self) -> None:
        self._slots = array("Q", [0]) * 1024
        self._mask = len(self._slots) - 1
        self._used = 0

    def add(self, digest: int) -> bool:
        """Put `digest` in; whether it was not there yet."""
        digest = digest or 1  # 0 marks a free slot
        slots, mask = self._slots, self._mask
        place = digest & mask
        while found := slots[place]:
            if found == digest:
                return False
            place = (place + 1) & mask
        slots[place] = digest
        self._used += 1
        if 3 * self._used > 2 * mask:
            self._grow()
        return True

    def _grow(self) -> None:
        old = self._slots
        self._slots = slots = array("Q", [0]) * (2 * len(old))
        self._mask = mask = len(slots) - 1
        for digest in old:
            if digest:
                place = digest & mask
                while slots[place]:
                    place = (place + 1) & mask
                slots[place] = digest


@dataclass
class _Staged:
    """What was written, and what has to be said about it."""

    parts: dict[str, _Part]
    opened: Opened
    rule: str
    own_splits_suffice: bool
    notes: list[str]
    duplicates: int = 0
    empties: int = 0
    composed: int = 0
    marked: int = 0
    documents: int = 0
    characters: int = 0
    seen: Seen = field(default_factory=Seen)
    digests: "array[int]" = field(
        default_factory=lambda: array("Q")
    )  # of what was kept since the last journal

    def take(self, raw: str, bits: float | None, split: str | list[str]) -> None:
        """Write a document to its split, or to one of `train` and those that are carved out of it."""
        if raw.startswith("\ufeff"):
            self.marked += 1
            raw, bits = raw.lstrip("\ufeff"), None
        if not raw or raw.isspace():
            self.empties += 1
            return
        text = normalize(raw)
        if text is not raw:
            self.composed += 1
            bits = None
        encoded = text.encode("utf-8", "surrogatepass")
        digest = int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest())
        if not self.seen.add(digest):
            self.duplicates += 1
            return
        self.digests.append(digest)
        self.documents += 1
        self.characters += len(text)
        self.parts[split if isinstance(split, str) else _carve(digest, split)].add(
            text, encoded, bits
        )

    def journal(self, folder: Path, stream: str) -> None:
        """Write down how far `stream` is read, between two of its documents."""
        _append_numbers(folder / JOURNAL.with_name("digests"), self.digests)
        self.digests = array("Q")
        write_journal(
            folder,
            {
                "rule": self.rule,
                "revision": self.opened.revision,
                "stream": stream,
                "source": self.opened.state(),
                "counters": {name: getattr(self, name) for name in COUNTERS},
                "parts": {name: part.journal() for name, part in self.parts.items()},
            },
        )

    def go_on(
        self, folder: Path, names: Iterable[str], streams: list[str], state: dict[str, Any]
    ) -> list[str]:
        """Take up what `journal` wrote down; the streams that are left to read, the first one in part.

        Raises ValueError, OSError and the like where the journal is of something else, or says more than there is.
        """
        if state["rule"] != self.rule or state["revision"] != self.opened.revision:
            raise ValueError("it was read in another way, or at another revision")
        if self.opened.is_hub and self.opened.revision is None:
            raise ValueError("nobody knows at which commit it was read")
        left = streams[streams.index(state["stream"]) :]
        counters = {name: int(state["counters"][name]) for name in COUNTERS}
        parts = {name: _Part.going_on(folder, name, state["parts"][name]) for name in names}
        seen = Seen()
        for digest in _read_numbers(folder / JOURNAL.with_name("digests"), counters["documents"]):
            seen.add(digest)
        self.opened.go_on(state["source"])
        for name, value in counters.items():
            setattr(self, name, value)
        self.parts, self.seen = parts, seen
        for part in parts.values():
            part.file = (folder / f"{part.name}.txt").open("ab")
        return left

    def write_manifest(self, folder: Path, spec: str) -> None:
        # 40 ms of tables, which opening a corpus that is staged does not need.
        from semigpt.corpus.doctor.findings import counted_signs

        facts = {split: self.parts[split].facts() for split in SPLITS if split in self.parts}
        if "test" not in facts:  # cut by character: what is held out is both
            facts["test"] = facts["validation"]
        digests = [
            [split, fact.sha256[fact.text], fact.sha256[fact.ends]] for split, fact in facts.items()
        ]
        counts = self.parts["train"].counts
        codes = np.flatnonzero(counts)
        everything = sum((part.counts for part in self.parts.values()), np.zeros_like(counts))
        met = np.flatnonzero(everything)
        signs = counted_signs(
            dict(zip(map(chr, met.tolist()), everything[met].tolist(), strict=True))
        )
        manifest: dict[str, Any] = {
            "version": STAGING_VERSION,
            "spec": spec,
            "column": self.opened.column,
            "revision": self.opened.revision,
            "split_rule": self.rule,
            "duplicates": self.duplicates,
            "empties": self.empties,
            "composed": self.composed,
            "fingerprint": hashlib.sha256(json.dumps(digests).encode()).hexdigest(),
            "findings": self.findings(signs),
            "splits": {split: asdict(fact) for split, fact in facts.items()},
            "character_counts": np.stack([codes, counts[codes]], axis=1).tolist(),
        }
        manifest["manifest_sha256"] = _manifest_digest(manifest)
        path = folder / "manifest.json"
        path.write_text(json.dumps(manifest), encoding="ascii")
        fsync(path)

    def findings(self, signs: list[str]) -> list[str]:
        found = list(self.opened.notes)
        if self.marked:
            found.append(
                f"{_count(self.marked, 'document')} began with a byte order mark, now left out"
            )
        if self.composed:
            found.append(
                f"{_count(self.composed, 'document')} held decomposed characters (NFD), now composed (NFC)"
            )
        if self.duplicates:
            found.append(
                f"{_count(self.duplicates, 'document')} left out: the same text came before"
            )
        if self.empties:
            found.append(f"{_count(self.empties, 'document')} left out: empty")
        if signs:
            found.append(
                f"{', '.join(signs)} left in: see `semigpt text check`, repair with `semigpt text clean`"
            )
        return found + self.notes


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _read(
    opened: Opened,
    spec: str,
    cut: float | None,
    folder: Path,
    progress: Progress | None,
    share: Share | None,
) -> _Staged:
    """Read every document once and write it to its split."""
    own = [split for split in READING_ORDER if split in opened.splits]
    missing = [split for split in SPLITS if split not in own]
    notes: list[str] = []
    if cut is not None:
        streams = ["train"] if "train" in own else list(opened.splits)
        rule = f"offset:{cut:g}"
        if len(opened.splits) > 1:
            notes.append(
                "cut by character: only the train split was read, its other splits were not"
            )
    else:
        streams = own or [""]
        rule = "own" if not missing else "document" if len(missing) >= 2 else "own + document"
        if missing:
            carved_share = "5 %" if len(missing) == 1 else "5 % each"
            carved = " and ".join(split for split in ("validation", "test") if split in missing)
            notes.append(
                f"{carved}: {carved_share} of the documents, chosen by a hash of their text"
            )
    staged = _Staged({}, opened, rule, not missing and cut is None, notes)
    names = SPLITS if cut is None else ("train",)
    left = _begin(staged, folder, names, streams)

    def tell() -> None:
        if progress is not None:
            progress(staged.documents, staged.characters)
        if share is not None and (read := opened.share(streams, stream)) is not None:
            share(read)

    clock = JournalClock()
    told = staged.characters
    try:
        for stream in left:
            split = (
                "train"
                if cut is not None
                else stream
                if stream in ("test", "validation")
                else missing
            )
            for raw, bits in opened.splits[stream]():
                staged.take(raw, bits, split)
                if clock.due():
                    staged.journal(folder, stream)
                    clock.reset()
                if staged.characters - told >= FLUSH_CHARACTERS:
                    told = staged.characters
                    try:
                        tell()
                    except (
                        KeyboardInterrupt
                    ):  # asked to stop where nothing is half done: nothing is lost
                        staged.journal(folder, stream)
                        raise
    finally:
        for part in staged.parts.values():
            part.file.close()
    if not staged.documents:
        raise CorpusError(f"{spec}: no text in it: every document is empty, or there is none")
    if progress is not None:
        progress(staged.documents, staged.characters)
    if share is not None and opened.sizes:
        share(1.0)
    for part in staged.parts.values():
        part.finish()
    if cut is not None:
        staged.parts["validation"] = _cut_off(staged.parts["train"], cut, spec)
    elif staged.own_splits_suffice:
        for name, part in staged.parts.items():
            if not part.ends:
                raise CorpusError(
                    f"{spec}: no text in its {name} split: cut train instead, with --split offset:0.9"
                )
    return staged


def _begin(staged: _Staged, folder: Path, names: Iterable[str], streams: list[str]) -> list[str]:
    """Open the files of `staged`, where its journal says if there is one; the streams that are to be read."""
    if state := read_journal(folder):
        # A journal of another reading, or of files that are shorter than it says: all is read anew.
        with contextlib.suppress(
            OSError, EOFError, ValueError, LookupError, TypeError, AttributeError
        ):
            return staged.go_on(folder, names, streams, state)
    _clear(folder)
    (folder / JOURNAL.parent).mkdir()
    staged.parts = {name: _Part(folder, name) for name in names}
    return streams


def _carve(digest: int, missing: list[str]) -> str:
    """The split of a document that came as train: the same text always falls into the same one."""
    place = digest / 2**64
    if "test" in missing and place >= 1 - HELD_OUT_SHARE:
        return "test"
    if "validation" in missing and 1 - 2 * HELD_OUT_SHARE <= place < 1 - HELD_OUT_SHARE:
        return "validation"
    return "train"


def _cut_off(train: _Part, share: float, spec: str) -> _Part:
    """Move all but the first `int(share * characters)` characters of `train` to a new part, and return it.

    A document that the cut falls into becomes two, and then neither side's information is known.
    """
    keep = int(share * train.characters)
    if not 0 < keep < train.characters:
        raise CorpusError(
            f"{spec}: {_count(train.characters, 'character')} cannot be cut at {share:g}"
        )
    place = _byte_of_character(train.folder / "train.txt", keep)
    held_out = _Part(train.folder, "validation")
    ends = np.frombuffer(train.ends, np.uint64)
    first_after = int(np.searchsorted(ends, place, side="right"))
    on_a_border = first_after > 0 and int(ends[first_after - 1]) == place
    held_out.ends = array("Q", (ends[first_after:] - np.uint64(place)).tobytes())
    kept_ends = array("Q", ends[:first_after].tobytes())
    if not on_a_border:
        kept_ends.append(place)
    with (train.folder / "train.txt").open("r+b") as file:
        file.seek(place)
        while chunk := file.read(1 << 20):
            # A megabyte may end inside a character: the rest of it is at most three bytes more.
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
    held_out.finish()
    train.ends, train.bytes, train.characters = kept_ends, place, keep
    train.counts -= held_out.counts
    np.save(train.folder / "train.ends.npy", np.frombuffer(train.ends, np.uint64))
    return held_out


def _byte_of_character(path: Path, character: int) -> int:
    """At which byte the character with this index begins."""
    place = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            # Every byte of UTF-8 but those of the form 10xxxxxx begins a character.
            begins = np.flatnonzero((np.frombuffer(chunk, np.uint8) & 0xC0) != 0x80)
            if character < len(begins):
                return place + int(begins[character])
            character -= len(begins)
            place += len(chunk)
    return place
