"""What a reader of files is asked, and what it is: the seam at which a kind of file is added.

A reader is a function from a `FileRequest` to the file's documents. `formats.READERS` holds one for
each ending that a file's name may have:

    ".srt": Reader(from_start(subtitles), running=True)

`from_start` makes a reader of a function that yields the file's texts from the first one on.
"""

import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from semigpt.corpus.library import library_errors
from semigpt.corpus.reading import Document, Reading, choose_column
from semigpt.errors import CorpusError
from semigpt.language import _

__all__ = [
    "AS_FOUND",
    "FileOptions",
    "FileRequest",
    "ReadDocuments",
    "Reader",
    "file_options",
    "from_start",
]

SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";", "bar": "|", "none": "\x1f"}
CHOICES = {
    "by": ("line", "paragraph", "document"),
    "quoting": ("standard", "backslash", "none"),
    "header": ("first", "none"),
    "misfits": ("skip",),
    "broken": ("skip",),
}


@dataclass(frozen=True)
class FileOptions:
    """What a SPEC says about how its files are read; None leaves it to the file.

    by:        what a document is in running text: line, paragraph or document
    quoting:   of a table: standard (a quote is doubled inside quotes), backslash (`\\"`), none
    separator: of a table, one character; none where a row is one field
    header:    of a table: first (the first row names the columns), none (they are 1, 2, …)
    misfits:   of a table: skip leaves rows out whose fields are not as many as the header's
    path:      of a .json file: the keys at which its documents are, with dots between
    sheet:     of a workbook: the name or number of the one to read
    broken:    skip leaves out files that cannot be read, and names them
    """

    by: str | None = None
    quoting: str | None = None
    separator: str | None = None
    header: str | None = None
    misfits: str | None = None
    path: str | None = None
    sheet: str | None = None
    broken: str | None = None

    def given(self) -> dict[str, str]:
        """Those that a SPEC gave, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


AS_FOUND = FileOptions()
TEXT_NAMES = frozenset(
    """
    text texts document documents content contents body sentence sentences review reviews comment
    comments article articles passage context
    본문 내용 문장 텍스트 글 기사 리뷰 댓글 문서 원문
    """.split()  # noqa: SIM905
)


def file_options(spec: str, options: Mapping[str, str]) -> FileOptions:
    """The options of `spec`, checked. Raises CorpusError for a value that cannot be."""
    values = dict(options)
    for name, choices in CHOICES.items():
        if values.get(name, choices[0]) not in choices:
            raise CorpusError(
                _("{spec}: {name}={value} is not one of {choices}").format(
                    spec=spec, name=name, value=values[name], choices=", ".join(choices)
                )
            )
    if "separator" in values:
        separator = SEPARATORS.get(values["separator"], values["separator"])
        if not re.fullmatch(r'[^\w"\r\n]', separator):
            raise CorpusError(
                _(
                    "{spec}: separator={separator} is neither a sign, such as ;, nor one of "
                    "{separators}"
                ).format(spec=spec, separator=values["separator"], separators=", ".join(SEPARATORS))
            )
        values["separator"] = separator
    return FileOptions(**values)


@dataclass(frozen=True)
class FileRequest:
    """A file to read documents from.

    extension: its format, a key of READERS
    column:    the column asked for, None for a choice
    options:   what the SPEC says about the reading
    scratch:   a folder for unpacked or decoded copies
    reading:   keeps the position, and what was found; `reading.note` tells the user something
    """

    path: Path
    extension: str
    column: str | None
    options: FileOptions
    scratch: Path
    reading: Reading

    def tell(self, what: str) -> None:
        """Say something of the file, once, that may be true of others too."""
        if not self.reading.row:
            self.reading.tally(what, self.path.name)

    def has_column(self, names: Container[str]) -> bool:
        """Whether a column was asked for, or an earlier file's is among these names."""
        return self.column is not None or self.reading.columns.get(self.extension) in names

    def choose_column(self, columns: Mapping[str, bool]) -> str:
        """The column of this format's files: an earlier file's, else the one asked for.

        A file that lacks an earlier one's may have one of its own whose name says that it holds
        text, which is said. (Another is none: a table of labels may lie beside the texts.)
        """
        wanted = self.reading.columns.get(self.extension, self.column)
        usual = (name for name in columns if name.strip().casefold() in TEXT_NAMES)
        own = [name for name in usual if columns[name]]
        if wanted is not None and not self.has_column(columns) and len(own) == 1:
            self.tell(
                _("no column {wanted!r} as in files before it, so {own!r} was read").format(
                    wanted=wanted, own=own[0]
                )
            )
            return own[0]
        found = choose_column(str(self.path), columns, wanted)
        self.reading.columns[self.extension] = found
        return found


ReadDocuments = Callable[[FileRequest], Iterator[Document]]


@dataclass(frozen=True)
class Reader:
    """How files of one ending are read.

    read:    the documents of a file, from number `request.reading.row` on. It sets `reading.row` to
             the number of each document, counted from 1, before it yields it, and may keep
             `reading.file_fraction`. Raises CorpusError, in one line, where the file is broken
    running: whether a file is running text, cut into documents only for training: what recurs in it
             (the dialogue of a novel, a chorus) is kept
    """

    read: ReadDocuments
    running: bool = False


def from_start(texts: Callable[[FileRequest], Iterator[str]], kind: str) -> ReadDocuments:
    """A reader that yields what `texts` does, and begins anew where a reading is resumed.

    kind: what an error calls the file: "cannot be read as KIND"
    """

    def read(request: FileRequest) -> Iterator[Document]:
        reading = request.reading
        first = reading.row
        with library_errors(request.path, kind):
            for number, text in enumerate(texts(request), 1):
                if number > first:
                    reading.row = number
                    yield text, None

    return read
