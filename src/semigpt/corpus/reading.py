"""The documents of a source by split, and the state from which a reading is resumed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from semigpt.corpus.broken_text import EncodingRepairs
from semigpt.errors import CorpusError
from semigpt.language import _

__all__ = [
    "SPLITS",
    "SPLIT_NAMES",
    "UNREAD",
    "AmbiguousColumnError",
    "ColumnError",
    "Document",
    "Reading",
    "Span",
    "and_more",
    "choose_column",
    "printable",
    "shortened",
]

# A document and its true information in bits, None where it is unknown.
Document = tuple[str, float | None]

SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
NOTES_AT_MOST = 20
STATE = (
    "column",
    "notes",
    "tallies",
    "texts",
    "unsaid",
    "encodings",
    "columns",
    "file_index",
    "row",
    "file_fraction",
    "scan",
)

# The state of a reading of which nothing is read; a column may be None, but is never this one.
UNREAD: Mapping[str, Any] = {
    "column": "\0",
    "notes": [],
    "tallies": {},
    "texts": [],
    "unsaid": 0,
    "encodings": {},
    "columns": {},
    "file_index": 0,
    "row": 0,
    "file_fraction": 0.0,
    "scan": None,
}


class ColumnError(CorpusError):
    """A column that is not there, or cannot be chosen."""


class AmbiguousColumnError(ColumnError):
    """A column that the user has to choose among several."""


class Span(NamedTuple):
    """A part of a text file that is read by itself: whole lines (paragraphs, where these are the
    documents).

    start, stop: its bytes
    row:         how many lines come before it
    is_last:     whether the file ends with it
    """

    start: int
    stop: int
    row: int
    is_last: bool


@dataclass
class Reading:
    """A source that is read once, from its beginning or from where a `state()` was taken.

    splits:        "train", "validation" and "test" where the source has them, each a stream of
                   documents; a source without splits has one stream, under ""
    column:        the column that documents come from, None until the first file is open
    notes:         sentences for the user
    tallies:       what is said of files together: [how many, the first one's name] by what is said
    unsaid:        how many notes more there were than are kept
    texts:         digests of the running texts that are read whole
    encodings:     how many text files were in each encoding
    revision:      the commit at which a Hub dataset is read
    is_hub:        whether the source is on the Hub, where it can change
    repairs:       counts the repairs of files that are in no encoding; None refuses such files
    files:         of each split, where the source is made of files
    file_sizes:    their bytes
    cut_at:        of each, between what it may be read in spans: "line", "paragraph", "" where that
                   depends on its lines; None for a file that is read whole

    Readers keep the position in the stream that is being read:
    columns:       the column chosen for each format; files of one format share it
    file_index:    how many of the stream's files are read whole
    row:           rows read of the file at hand (of the stream, where there are no files)
    file_fraction: how much of the file at hand is read, 0 to 1
    running:       whether the file at hand is running text, of which what recurs is kept
    scan:          what `text.scan_text` found in the file at hand, as JSON numbers
    span:          what is read of the file at hand, None for all of it
    end:           at which file the stream ends, None for all of it

    Column, notes and encodings are complete once all streams are read.
    """

    splits: dict[str, Callable[[], Iterator[Document]]] = field(default_factory=dict)
    column: str | None = None
    notes: list[str] = field(default_factory=list)
    tallies: dict[str, list[Any]] = field(default_factory=dict)
    unsaid: int = 0
    texts: list[int] = field(default_factory=list)
    encodings: dict[str, int] = field(default_factory=dict)
    revision: str | None = None
    is_hub: bool = False
    repairs: EncodingRepairs | None = None
    files: dict[str, Sequence[Path]] = field(default_factory=dict)
    file_sizes: dict[str, list[int]] = field(default_factory=dict)
    cut_at: dict[str, list[str | None]] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    file_index: int = 0
    row: int = 0
    file_fraction: float = 0.0
    running: bool = False
    scan: list[int] | None = None
    span: Span | None = None
    end: int | None = None

    def add_split(self, name: str, documents: Callable[[str], Iterator[Document]]) -> None:
        """Make `documents(name)` the stream of a split.

        It has to begin at this reading's position. The stream read after it begins at its first
        document.
        """

        def stream() -> Iterator[Document]:
            yield from documents(name)
            self.go_to_file(0)

        self.splits[name] = stream

    def go_to_file(self, index: int) -> None:
        """Stand before the first row of the stream's file of this index."""
        self.file_index, self.row, self.file_fraction, self.scan = index, 0, 0.0, None
        self.running, self.span = False, None

    def of(self, stream: str) -> "Reading":
        """The reading that keeps the position in a stream."""
        return self

    def note(self, sentence: str) -> None:
        """Add a sentence for the user, once."""
        sentence = printable(sentence)
        if sentence in self.notes:
            return
        if len(self.notes) < NOTES_AT_MOST:
            self.notes.append(sentence)
        else:
            self.unsaid += 1

    def tally(self, what: str, name: str) -> None:
        """Say `what` of a file: ten thousand files in CP949 are one note."""
        self.tallies.setdefault(what, [0, printable(name)])[0] += 1

    def skip(self, name: str, error: CorpusError) -> None:
        """Say that a file is left out, or what is left of it, because it is broken."""
        self.note(f"#broken=skip: {error}")
        self.tally(_("broken, and left out but for what came before the break"), name)

    def sentences(self) -> list[str]:
        """All that there is to say to the user."""
        told = [
            f"{name}{and_more(count - 1)}: {what}" for what, (count, name) in self.tallies.items()
        ]
        more = (
            [_("{unsaid:,} more notes like these").format(unsaid=self.unsaid)]
            if self.unsaid
            else []
        )
        return [*self.notes, *more, *told]

    def repair_with(self, repairs: EncodingRepairs) -> None:
        """Repair, and count in `repairs`, what is in no encoding, rather than refuse it."""
        self.repairs = repairs

    def state(self) -> dict[str, Any]:
        """The position after the last document and all that was found so far, as JSON."""
        return {name: getattr(self, name) for name in STATE}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Take the position of a `state()` of the same source.

        The next stream to be read must be the one that was being read. Raises KeyError, and stays
        where it is, where `state` lacks something.
        """
        values = {name: state[name] for name in STATE}
        for name, value in values.items():
            setattr(self, name, value)

    def absorb(self, stream: str, state: Mapping[str, Any]) -> None:
        """Take over what another reading, by its `state()`, found in the next part of a stream.

        It began with `UNREAD`, and with the columns and texts of this one or some of them.
        """
        for note in state["notes"]:
            self.note(note)
        self.unsaid += state["unsaid"]
        for what, (count, name) in state["tallies"].items():
            self.tallies.setdefault(what, [0, name])[0] += count
        for encoding, count in state["encodings"].items():
            self.encodings[encoding] = self.encodings.get(encoding, 0) + count
        known = set(self.texts)
        self.texts += [digest for digest in state["texts"] if digest not in known]
        self.columns.update(state["columns"])
        if state["column"] != UNREAD["column"]:
            self.column = state["column"]

    def fraction(self, streams: Sequence[str], stream: str) -> float | None:
        """How much of the files of `streams` is read while `stream` is, 0 to 1.

        None where the sizes are unknown.
        """
        total = sum(sum(self.file_sizes.get(name, ())) for name in streams)
        if not total:
            return None
        before = sum(sum(self.file_sizes[name]) for name in streams[: streams.index(stream)])
        sizes = self.file_sizes[stream]
        current = 0.0
        if self.file_index < len(sizes):
            current = sizes[self.file_index] * self.file_fraction
        return (before + sum(sizes[: self.file_index]) + current) / total


def printable(name: str) -> str:
    """`name` with the bytes of a file name that are no UTF-8 written %B1, as in a URL."""
    if name.isascii() or not any("\udc80" <= character <= "\udcff" for character in name):
        return name
    return "".join(
        f"%{ord(character) - 0xDC00:02X}" if "\udc80" <= character <= "\udcff" else character
        for character in name
    )


def shortened(text: str) -> str:
    """`text`, or its first 200 characters."""
    return text if len(text) <= 200 else text[:199] + "…"


def and_more(count: int) -> str:
    """` and 2 more`, behind what is named of several; "" where there are no others."""
    return _(" and {count:,} more").format(count=count) if count > 0 else ""


def choose_column(where: str, columns: Mapping[str, bool], wanted: str | None) -> str:
    """The column of documents: `wanted`, else `document`, else `text`, else the only text column.

    where:   what an error calls the source
    columns: each column's name, and whether it holds strings

    Raises ColumnError where there is none, or more than one to choose from.
    """
    names = shortened(", ".join(columns)) or "none"
    if wanted is not None:
        if wanted not in columns:
            raise ColumnError(
                _("{where}: no column {wanted!r}: its columns are {names}").format(
                    where=where, wanted=wanted, names=names
                )
            )
        if not columns[wanted]:
            raise ColumnError(
                _(
                    "{where}: the column {wanted!r} does not hold text: name another with --column"
                ).format(where=where, wanted=wanted)
            )
        return wanted
    texts = [name for name, holds_text in columns.items() if holds_text]
    for name in ("document", "text"):
        if name in texts:
            return name
    if len(texts) == 1:
        return texts[0]
    if not texts:
        raise ColumnError(
            _("{where}: no column holds text: its columns are {names}").format(
                where=where, names=names
            )
        )
    raise AmbiguousColumnError(
        _("{where}: which column is the text? Say --column with one of {texts}").format(
            where=where, texts=shortened(", ".join(texts))
        )
    )
