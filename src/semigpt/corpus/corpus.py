"""A corpus that is staged on disk: open it, read its documents, verify its files.

train.txt         the documents back to back, UTF-8 (lone surrogates as `surrogatepass` writes)
train.ends.npy    uint64, where each document ends in it, in bytes
…                 the same for validation and test
manifest.json     where the text came from, counts, digests
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from semigpt import html
from semigpt.errors import CorpusError
from semigpt.language import N_, _
from semigpt.npy import map_array
from semigpt.storage import fsync, is_shortage, sha256_file

__all__ = ["Corpus", "SplitMetadata", "open_corpus", "write_manifest"]

MANIFEST = "manifest.json"
CHANGED = N_("it has changed since it was written")


@dataclass(frozen=True)
class SplitMetadata:
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


@dataclass(frozen=True, repr=False)
class Corpus:
    """A staged corpus. Made by `prepare_corpus` and `open_corpus`.

    folder:           where it is staged
    spec:             the SPEC it was prepared from
    column:           the column its documents came from
    split_rule:       how it was split: "own", "document", "own + document" or "offset:0.9"
    fingerprint:      hexadecimal SHA-256 over the text and its documents' ends, equal exactly for
                      equal text
    character_counts: how often each character occurs in train, in the order of the code points
    findings:         sentences for the user: encodings, documents left out, how it was split
    metadata:         what the manifest holds about each split
    """

    folder: Path
    spec: str
    column: str | None
    split_rule: str
    fingerprint: str
    character_counts: dict[str, int]
    findings: list[str]
    metadata: dict[str, SplitMetadata]
    duplicates: int = 0
    empties: int = 0
    revision: str | None = None

    def __repr__(self) -> str:
        splits = ", ".join(f"{name} {self.characters(name):,} characters" for name in self.splits)
        return f"<Corpus {self.spec}: {splits}>"

    def _repr_html_(self) -> str:
        def row(split: str) -> tuple[str, str]:
            documents = f"{self.document_count(split):,} documents"
            return split, f"{self.characters(split):,} characters, {documents}"

        return html.table(f"Corpus {self.spec}", map(row, self.splits))

    @property
    def splits(self) -> tuple[str, ...]:
        """`("train", "validation", "test")`."""
        return tuple(self.metadata)

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
        """The true information of the split's text in bits; None where it is unknown."""
        return self._of(split).source_bits

    def document_ends(self, split: str) -> npt.NDArray[np.uint64]:
        """Where each document ends in `path(split)`, in bytes: a memory map, shape (documents,).

        Raises CorpusError, naming the file, where it is not what was written.
        """
        metadata = self._of(split)
        path = self.folder / metadata.ends
        try:
            ends = map_array(path, metadata.documents, np.dtype(np.uint64))
        except (OSError, ValueError) as error:
            if is_shortage(error):
                raise CorpusError(
                    _("{path}: it cannot be read: {error}").format(path=path, error=error)
                ) from None
            raise _damaged(path, _("it cannot be read: {error}").format(error=error)) from None
        if not len(ends) or ends[-1] != metadata.bytes:
            raise _damaged(path, _(CHANGED))
        return ends

    def documents(self, split: str, first: int = 0, every: int = 1) -> Iterator[str]:
        """The documents of a split in order, from number `first` on or one of so many, one in
        memory at a time.

        Raises CorpusError, naming the file, where it is not what was written.
        """
        length = self.bytes_of(split)
        ends = self.document_ends(split)
        numbers = np.arange(first, len(ends), every)
        with self.path(split).open("rb", buffering=1 << 20) as file:
            for block in range(0, len(numbers), 4096):
                own = numbers[block : block + 4096]
                starts = np.where(own > 0, ends[own - 1], np.uint64(0)).tolist()
                for start, end in zip(starts, ends[own].tolist(), strict=True):
                    if not start < end <= length:  # checked before memory is taken for it
                        raise _damaged(self.folder / self._of(split).ends, _(CHANGED))
                    if start != file.tell():
                        file.seek(start)
                    yield self._decode(split, file.read(end - start))

    def text(self, split: str) -> str:
        """The whole text of a split, in memory."""
        return self._decode(split, self.path(split).read_bytes())

    def verify(self) -> None:
        """Read every staged file and compare it with its digest.

        A gigabyte takes a second. Raises CorpusError, naming the first file that has changed.
        """
        for metadata in self.metadata.values():
            for name in metadata.sha256:
                self.verify_file(name)

    def verify_file(self, name: str) -> None:
        """`verify` one of the staged files."""
        path = self.folder / name
        digests = {known.sha256[name] for known in self.metadata.values() if name in known.sha256}
        try:
            whole = digests == {sha256_file(path)}
        except OSError as error:
            raise CorpusError(
                _("{path}: it cannot be read: {strerror}").format(
                    path=path, strerror=error.strerror
                )
            ) from None
        if not whole:
            raise _damaged(path, _(CHANGED))

    def _decode(self, split: str, encoded: bytes) -> str:
        try:
            return encoded.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise _damaged(self.path(split), _(CHANGED)) from None

    def _of(self, split: str) -> SplitMetadata:
        if split not in self.metadata:
            raise CorpusError(
                _("{spec}: no split {split!r}: its splits are {metadata}").format(
                    spec=self.spec, split=split, metadata=", ".join(self.metadata)
                )
            )
        return self.metadata[split]


def open_corpus(folder: Path) -> Corpus:
    """The corpus staged in `folder`.

    Files that were written to since the manifest are compared with their digests. Raises
    CorpusError, naming the file, where one is missing, cut off or changed.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        if manifest.pop("manifest_sha256") != _digest(manifest):
            raise ValueError("its digest does not match")
        corpus = Corpus(
            folder=folder,
            spec=manifest["spec"],
            column=manifest["column"],
            split_rule=manifest["split_rule"],
            fingerprint=manifest["fingerprint"],
            character_counts={chr(code): count for code, count in manifest["character_counts"]},
            findings=manifest["findings"],
            metadata={name: SplitMetadata(**value) for name, value in manifest["splits"].items()},
            duplicates=manifest["duplicates"],
            empties=manifest["empties"],
            revision=manifest["revision"],
        )
    except FileNotFoundError as error:
        raise _damaged(
            path, _("it cannot be read: {strerror}").format(strerror=error.strerror)
        ) from None
    except OSError as error:
        raise CorpusError(
            _("{path}: it cannot be read: {strerror}").format(path=path, strerror=error.strerror)
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"{_(CHANGED)}: {type(error).__name__}") from None
    newest = 0
    for split in corpus.metadata.values():
        # NumPy pads the header of a .npy file of one dimension to 128 bytes.
        expected = {split.text: split.bytes, split.ends: 128 + 8 * split.documents}
        for name, size in expected.items():
            try:
                status = (folder / name).stat()
            except FileNotFoundError:
                raise _damaged(folder / name, _("it is missing")) from None
            except OSError as error:
                raise CorpusError(
                    _("{folder}: it cannot be read: {strerror}").format(
                        folder=folder / name, strerror=error.strerror
                    )
                ) from None
            if status.st_size != size:
                raise _damaged(
                    folder / name,
                    _("{st_size:,} bytes instead of {size:,}").format(
                        st_size=status.st_size, size=size
                    ),
                )
            newest = max(newest, status.st_mtime_ns, status.st_ctime_ns)
    written = path.stat()
    if newest > max(written.st_mtime_ns, written.st_ctime_ns):
        corpus.verify()  # copied, touched or changed
        with contextlib.suppress(OSError):
            os.utime(path)  # and not again
    return corpus


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write a corpus's manifest with its own digest, and flush it to the disk."""
    path = folder / MANIFEST
    signed = {**manifest, "manifest_sha256": _digest(manifest)}
    path.write_text(json.dumps(signed), encoding="ascii")
    fsync(path)


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _damaged(path: Path, what: str) -> CorpusError:
    return CorpusError(
        _("{path}: {what}: delete {parent} and the corpus is prepared again").format(
            path=path, what=what, parent=path.parent
        )
    )
