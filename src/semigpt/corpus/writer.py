"""Write a corpus: normalise, leave out duplicates, keep a journal, and sum up in the manifest.

A document is normalised to NFC, without a byte order mark that it begins with. Empty documents
(nothing but white space) are left out, and so are those whose text was written before; but of
running text (`request.Reader`) all is kept.

The journal records how much is certain to be on the disk, beside the text:

    journal/state.json       the position in the source, counts, how long each file was
    journal/digests          uint64, of every document written, to recognise its duplicates
    journal/train.ends  …    uint64, what becomes `train.ends.npy`
"""

import contextlib
import hashlib
import json
import shutil
from array import array
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np

from semigpt.corpus.corpus import write_manifest
from semigpt.corpus.duplicates import Recurrence, Seen
from semigpt.corpus.reading import SPLITS, Reading
from semigpt.corpus.splits import (
    SplitPlan,
    SplitWriter,
    WrittenSplit,
    append_numbers,
    own_name,
    read_numbers,
)
from semigpt.corpus.text import normalize
from semigpt.language import _, ngettext
from semigpt.storage import JOURNAL, read_journal, write_journal

__all__ = ["STAGING_VERSION", "CorpusWriter", "PartWriter", "counted_documents"]

# Part of a corpus's key: raised where other documents, or other bytes, are written.
STAGING_VERSION = 2
COUNTERS = ("duplicates", "empties", "composed", "marked", "documents", "characters")
DIGESTS = JOURNAL.with_name("digests")
HELD_OUT = ("test", "validation")
RECURRENCES = tuple(Recurrence)
REMEMBERED = tuple(rule for rule in Recurrence if rule.is_remembered)
TELLING_CHARACTERS = 8  # "“그래?”" recurs in any two novels


class CorpusWriter:
    """The documents written to `folder` so far.

    duplicates: documents left out because their text came before
    empties:    documents left out because they are white space
    composed:   documents that were not in NFC
    marked:     documents that began with a byte order mark
    documents, characters: written
    parts:      how many parts of the source were appended; None where it is read in one
    """

    def __init__(self, folder: Path, plan: SplitPlan, reading: Reading) -> None:
        self.folder, self.plan, self.reading = folder, plan, reading
        self.splits: dict[str, SplitWriter] = {}
        self.duplicates = self.empties = self.composed = self.marked = 0
        self.documents = self.characters = 0
        self.streams_left = plan.streams
        self.parts: int | None = None
        self._seen = Seen()
        # Of the documents since the last journal, 0 for one that is not remembered.
        self._digests = array("Q")

    @classmethod
    def open(
        cls, folder: Path, plan: SplitPlan, reading: Reading, parts: int | None = None
    ) -> Self:
        """Resume what a journal in `folder` records, or start from scratch where there is none.

        `streams_left` are the streams to read, the first of them from `reading`'s position.
        """
        writer = cls(folder, plan, reading)
        writer.parts = parts
        if state := read_journal(folder):
            # A journal of another plan, or of longer files than there are: from scratch.
            with contextlib.suppress(
                OSError, EOFError, ValueError, LookupError, TypeError, AttributeError
            ):
                writer._resume(state)
                return writer
        _clear(folder)
        (folder / JOURNAL.parent).mkdir()
        writer.splits = {name: SplitWriter(folder, name) for name in plan.written}
        return writer

    def add(self, raw: str, bits: float | None, stream: str) -> None:
        """Write a document that `stream` gave to its split, unless it is empty or a duplicate."""
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
        recurrence = self._recurrence(text, stream)
        if not self._is_kept(digest, recurrence):
            self.duplicates += 1
            return
        self.documents += 1
        self.characters += len(text)
        split = self.splits[self.plan.split_of(stream, digest)]
        split.add(text, encoded, bits)
        self._remember(split, digest, recurrence)

    def _is_kept(self, digest: int, recurrence: Recurrence) -> bool:
        return self._seen.admit(digest, recurrence)

    def _recurrence(self, text: str, stream: str) -> Recurrence:
        """What recurs in running text is a part of it, and kept. Where the source has splits of its
        own, a line or paragraph of train that a held-out split holds is left out all the same,
        unless it is too short to say anything.
        """
        if not self.reading.running:
            return Recurrence.LEFT_OUT
        if own_name(stream) in HELD_OUT:
            return Recurrence.KEPT
        if len(text) < TELLING_CHARACTERS:
            return Recurrence.NOT_ASKED
        return Recurrence.KEPT_UNLESS_HELD_OUT

    def _remember(self, split: SplitWriter, digest: int, recurrence: Recurrence) -> None:
        """Record the digest of a document that was written, for the journal."""
        self._digests.append(digest if recurrence.is_remembered else 0)

    def append(self, part: Path, found: Mapping[str, Any], stream: str) -> None:
        """Write what a `PartWriter` wrote of the next part of a stream, but for what came before.

        found: what its `finish` returned

        Raises OSError, ValueError and the like, and writes nothing, where the part is damaged.
        """
        counters = {name: int(found["counters"][name]) for name in COUNTERS}
        splits = {
            name: WrittenSplit.open(part, name, found["splits"][name]) for name in self.splits
        }
        for name, value in counters.items():
            setattr(self, name, getattr(self, name) + value)
        for name, split in splits.items():
            rules, kept = split.recurrence, np.ones(split.documents, bool)
            if not any(rules):
                kept = np.fromiter(map(self._seen.add, split.digests), bool, split.documents)
            elif len(self._seen) or not set(rules).isdisjoint(REMEMBERED):
                admitted = map(self._seen.admit, split.digests, map(RECURRENCES.__getitem__, rules))
                kept = np.fromiter(admitted, bool, split.documents)
            is_remembered = np.frombuffer(rules, np.uint8) <= REMEMBERED[-1]
            remembered = np.frombuffer(split.digests, np.uint64) * is_remembered
            self._digests.frombytes(remembered[kept].tobytes())
            left_out = split.documents - int(kept.sum())
            self.duplicates += left_out
            self.documents -= left_out
            self.characters -= self.splits[name].append(split, kept)
        self.reading.absorb(stream, found["source"])
        self.parts = (self.parts or 0) + 1

    def close(self) -> None:
        """Close the files; the journal stays."""
        for split in self.splits.values():
            split.file.close()

    @property
    def lacks_a_split(self) -> bool:
        """Whether too few documents were carved out of train, or left in it."""
        carved = bool(self.plan.carved)
        return carved and any(not split.ends for split in self.splits.values())

    def journal(self, stream: str | None) -> None:
        """Record how far `stream` is read, between two of its documents; None after the last."""
        append_numbers(self.folder / DIGESTS, self._digests)
        self._digests = array("Q")
        state = {
            "rule": self.plan.rule,
            "revision": self.reading.revision,
            "stream": stream,
            "parts": self.parts,
            "source": self.reading.state(),
            "counters": {name: getattr(self, name) for name in COUNTERS},
            "splits": {name: split.journal() for name, split in self.splits.items()},
        }
        write_journal(self.folder, state)

    def _resume(self, state: dict[str, Any]) -> None:
        """Take over what `journal` recorded.

        Raises ValueError, OSError and the like where the journal is of something else, or records
        more than there is.
        """
        if state["rule"] != self.plan.rule or state["revision"] != self.reading.revision:
            raise ValueError("it was read in another way, or at another revision")
        if (state["parts"] is None) != (self.parts is None):
            raise ValueError("it was read in parts, and is not now, or the other way round")
        if self.reading.is_hub and self.reading.revision is None:
            raise ValueError("nobody knows at which commit it was read")
        streams = self.plan.streams
        stream = state["stream"]
        left = () if stream is None else streams[streams.index(stream) :]
        counters = {name: int(state["counters"][name]) for name in COUNTERS}
        digests = read_numbers(self.folder / DIGESTS, counters["documents"])
        with contextlib.ExitStack() as failed:
            splits = {}
            for name in self.plan.written:
                splits[name] = SplitWriter.resume(self.folder, name, state["splits"][name])
                failed.callback(splits[name].file.close)
            self.reading.resume(state["source"])
            failed.pop_all()
        for digest in filter(None, digests):
            self._seen.add(digest)
        for name, value in counters.items():
            setattr(self, name, value)
        self.splits, self.streams_left, self.parts = splits, left, state["parts"]

    def write_manifest(self, spec: str, notes: list[str]) -> None:
        """Flush all files to the disk and write the manifest.

        notes: more sentences for the user
        """
        # Imported here: 40 ms of tables, which opening a staged corpus does not need.
        from semigpt.corpus.doctor.findings import counted_signs

        splits = {name: self.splits[name].metadata() for name in SPLITS if name in self.splits}
        if "test" not in splits:  # cut by character: what is held out is both
            splits["test"] = splits["validation"]
        digests = [
            [name, split.sha256[split.text], split.sha256[split.ends]]
            for name, split in splits.items()
        ]
        counts = self.splits["train"].counts
        codes = np.flatnonzero(counts)
        everywhere = sum((split.counts for split in self.splits.values()), np.zeros_like(counts))
        occurring = np.flatnonzero(everywhere)
        characters = map(chr, occurring.tolist())
        signs = counted_signs(dict(zip(characters, everywhere[occurring].tolist(), strict=True)))
        write_manifest(
            self.folder,
            {
                "version": STAGING_VERSION,
                "spec": spec,
                "column": self.reading.column,
                "revision": self.reading.revision,
                "split_rule": self.plan.rule,
                "duplicates": self.duplicates,
                "empties": self.empties,
                "composed": self.composed,
                "fingerprint": hashlib.sha256(json.dumps(digests).encode()).hexdigest(),
                "findings": [*self._findings(signs), *self.plan.notes, *notes],
                "splits": {name: asdict(split) for name, split in splits.items()},
                "character_counts": np.stack([codes, counts[codes]], axis=1).tolist(),
            },
        )

    def _findings(self, signs: list[str]) -> list[str]:
        found = self.reading.sentences()
        if self.marked:
            found.append(
                _("{marked} began with a byte order mark, now left out").format(
                    marked=counted_documents(self.marked)
                )
            )
        if self.composed:
            found.append(
                _("{composed} held decomposed characters (NFD), now composed (NFC)").format(
                    composed=counted_documents(self.composed)
                )
            )
        if self.duplicates:
            found.append(
                _("{duplicates} left out: the same text came before").format(
                    duplicates=counted_documents(self.duplicates)
                )
            )
        if self.empties:
            found.append(
                _("{empties} left out: empty").format(empties=counted_documents(self.empties))
            )
        if signs:
            found.append(
                _(
                    "{signs} left in: see `semigpt text check`, repair with `semigpt text clean`"
                ).format(signs=", ".join(signs))
            )
        return found


class PartWriter(CorpusWriter):
    """A part of a corpus in a folder of its own, which `CorpusWriter.append` takes over: the text,
    and for each split

        train.numbers       uint64, the end of each document, then the digest of each
        train.recurrence    uint8, a Recurrence for each

    Nothing is flushed to the disk, since a part that is too short is read again.
    """

    def __init__(self, folder: Path, plan: SplitPlan, reading: Reading) -> None:
        super().__init__(folder, plan, reading)
        self.splits = {name: SplitWriter(folder, name) for name in plan.written}
        self._of_split = {name: (array("Q"), bytearray()) for name in plan.written}

    def _is_kept(self, digest: int, recurrence: Recurrence) -> bool:
        return True  # `append` decides

    def _remember(self, split: SplitWriter, digest: int, recurrence: Recurrence) -> None:
        digests, rules = self._of_split[split.name]
        digests.append(digest)
        rules.append(recurrence)

    def finish(self, source: Reading) -> dict[str, Any]:
        """Write the files; what `append` has to know of them, as JSON.

        source: which keeps the position in the stream that was read
        """
        for name, (digests, rules) in self._of_split.items():
            with (self.folder / f"{name}.numbers").open("wb") as file:
                self.splits[name].ends.tofile(file)
                digests.tofile(file)
            (self.folder / f"{name}.recurrence").write_bytes(rules)
        return {
            "source": source.state(),
            "counters": {name: getattr(self, name) for name in COUNTERS},
            "splits": {name: split.state() for name, split in self.splits.items()},
        }


def _clear(folder: Path) -> None:
    """Remove what was written of a corpus, its journal first."""
    shutil.rmtree(folder / JOURNAL.parent, ignore_errors=True)
    for left in folder.glob("*.*"):
        left.unlink()


def counted_documents(number: int) -> str:
    """`1 document`, `2 documents`."""
    return ngettext("{number:,} document", "{number:,} documents", number).format(number=number)
