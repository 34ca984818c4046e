"""Running text: what a document is in a .txt file.

    by=line        a line that is not blank
    by=paragraph   the lines between two blank ones; a line of white space is blank
    by=document    the whole file

Left to the file, a document is a paragraph where a blank line comes after every twelve lines or
fewer, on average, and else a line: one stray blank line among 4,000 reviews makes no two paragraphs
of them. All that a file holds is kept, also what recurs in it, because a novel's dialogue does.
Line ends are read as "\\n".
"""

from collections.abc import Iterator
from typing import TextIO

from semigpt.corpus.files import open_text, scan_file
from semigpt.corpus.library import library_errors
from semigpt.corpus.reading import Document
from semigpt.corpus.request import FileRequest
from semigpt.corpus.text import TextScan
from semigpt.language import N_, _

__all__ = ["running_documents", "unit_of"]

LINES_PER_PARAGRAPH = 12
UNIT_NOTES = {
    "line": N_(
        "few or no blank lines, so read as one document a line; all are kept, also those that "
        "recur (#by=paragraph or #by=document takes others)"
    ),
    "paragraph": N_(
        "blank lines between paragraphs, so read as one document a paragraph; all are kept, also "
        "those that recur (#by=line or #by=document takes others)"
    ),
}


def unit_of(scan: TextScan) -> str:
    """What a document is in a text, where nobody said: "line" or "paragraph"."""
    many = scan.lines <= LINES_PER_PARAGRAPH * scan.paragraphs
    return "paragraph" if scan.paragraphs > 1 and many else "line"


def running_documents(request: FileRequest) -> Iterator[Document]:
    """The documents of a .txt file. A text that a file before it held is passed over, and said."""
    path, reading = request.path, request.reading
    scan = scan_file(path, reading)
    if scan is None or not scan.lines:
        return
    if scan.digest in reading.texts:
        if not reading.row:
            reading.tally(_("not read, because a file before it holds the same text"), path.name)
        return
    unit = request.options.by or unit_of(scan)
    if request.options.by is None and not reading.row:
        reading.tally(_(UNIT_NOTES[unit]), path.name)
    reading.column = reading.columns[request.extension] = "text"
    span = reading.span
    first, characters = 0 if span else reading.row, 0
    with library_errors(path, "text"), open_text(path, scan, span) as file:
        for number, text in enumerate(_units(file, unit), 1):
            characters += len(text) + 1
            if number > first:
                reading.row = number
                reading.file_fraction = min(characters / scan.characters, 1.0)
                yield text, None
    if span is None or span.is_last:
        reading.texts.append(scan.digest)


def _units(file: TextIO, unit: str) -> Iterator[str]:
    if unit == "document":
        yield file.read()
        return
    paragraph: list[str] = []
    for ended in file:
        line = ended.removesuffix("\n")
        if unit == "paragraph" and line and not line.isspace():
            paragraph.append(line)
            continue
        if paragraph:
            yield "\n".join(paragraph)
            paragraph = []
        if unit == "line" and line and not line.isspace():
            yield line
    if paragraph:
        yield "\n".join(paragraph)
