"""Files: those below a folder; the bytes of one, decompressed; its text, decoded."""

import contextlib
import io
import os
import stat
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TextIO

from semigpt.corpus.broken_text import EncodingRepairs, RepairedFile
from semigpt.corpus.byte_stream import stream_of
from semigpt.corpus.compression import is_compressed, open_binary
from semigpt.corpus.library import library_errors
from semigpt.corpus.reading import Reading, Span
from semigpt.corpus.text import (
    CHUNK_BYTES,
    ENCODINGS,
    REPAIRED,
    UTF_8,
    EncodingError,
    TextScan,
    scan_stream,
    scan_text,
)
from semigpt.errors import CorpusError
from semigpt.language import _

__all__ = [
    "Below",
    "as_numbers",
    "file_identity",
    "files_below",
    "is_run",
    "open_span",
    "open_text",
    "scan_file",
]


@dataclass
class Below:
    """What is in a folder and below it.

    files:       regular files that are not hidden, in the order of their paths; what a link leads
                 to is among them, once
    passed_over: everything else, as (path, what it is)
    """

    files: list[Path] = field(default_factory=list)
    passed_over: list[tuple[Path, str]] = field(default_factory=list)


def is_run(folder: Path) -> bool:
    """Whether semigpt trained a model there: a run that lies in a data folder is no text of it."""
    return (folder / "config.toml").is_file() and any(
        (folder / name).exists() for name in ("metrics.jsonl", "metadata.json", "checkpoints")
    )


def files_below(folder: Path, *, skip_closed: bool = False) -> Below:
    """Walk a folder; what a link leads to comes last, and is walked only if nothing else led there.

    Raises CorpusError where a folder cannot be opened, unless it is to be passed over.
    """
    found = Below()
    walked: set[tuple[int, int]] = set()  # folders and files, by device and inode
    links: list[Path] = []
    waiting = [folder]
    while waiting or links:
        place = waiting.pop() if waiting else links.pop(0)
        status = _status(place)
        if status is None:
            found.passed_over.append((place, _("a link to nothing")))
        elif not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
            found.passed_over.append((place, _("not a regular file")))
        elif (status.st_dev, status.st_ino) not in walked:
            walked.add((status.st_dev, status.st_ino))
            if stat.S_ISREG(status.st_mode):
                found.files.append(place)
            elif place != folder and is_run(place):
                found.passed_over.append((place, _("a run of semigpt")))
            else:
                _enter(place, waiting, links, found, skip_closed)
        elif not place.is_symlink():  # a second name of one file
            found.files.append(place)
    found.files.sort()
    found.passed_over.sort()
    return found


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:  # a link to itself, too
        if path.is_symlink():
            return None
        raise _closed(path, error) from None


def _closed(path: Path, error: OSError) -> CorpusError:
    return CorpusError(
        _("{path}: cannot be opened ({strerror}): check its permissions, or move it away").format(
            path=path, strerror=error.strerror
        )
    )


def _enter(
    folder: Path, waiting: list[Path], links: list[Path], found: Below, skip_closed: bool
) -> None:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        if skip_closed:
            found.passed_over.append((folder, _("a folder that cannot be opened")))
            return
        raise _closed(folder, error) from None
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith((".", "~$")):  # "~$a.docx" is written while a.docx is open
            found.passed_over.append((path, "hidden"))
        elif entry.is_symlink():
            links.append(path)
        else:
            waiting.append(path)


def file_identity(path: Path) -> tuple[str, int, int]:
    """A file's resolved path, size in bytes and time of change in nanoseconds.

    Raises CorpusError where it cannot be read.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise CorpusError(
            _("{path}: cannot be read ({strerror})").format(path=path, strerror=error.strerror)
        ) from None
    return str(path.resolve()), status.st_size, status.st_mtime_ns


def scan_file(path: Path, reading: Reading) -> TextScan | None:
    """Find the encoding of a text file in one pass over it; None where it holds no character.

    Encodings are counted in `reading`, and what was found is kept there: a resumed reading skips
    the pass.
    """
    scan = _scan(path, reading)
    if not scan.characters:
        return None
    encoding = scan.encoding.name
    if not reading.row:
        reading.encodings[encoding] = reading.encodings.get(encoding, 0) + 1
        if scan.encoding != UTF_8:
            reading.tally(_("in {encoding}, and read so").format(encoding=_(encoding)), path.name)
    return scan


@contextlib.contextmanager
def open_text(path: Path, scan: TextScan, span: Span | None = None) -> Iterator[TextIO]:
    """The text of a file behind its byte order mark, decompressed, its line ends read as "\\n"; of
    a span of it alone, where it has no mark.
    """
    if span is not None:
        with (
            open_span(path, span.start, span.stop) as part,
            io.TextIOWrapper(part, encoding=scan.encoding.codec) as text,
        ):
            yield text
        return
    with open_binary(path) as plain, contextlib.ExitStack() as stack:
        file = plain
        if scan.encoding == REPAIRED:
            file = stack.enter_context(RepairedFile(plain).stream())
        file.read(len(scan.encoding.mark))
        with io.TextIOWrapper(file, encoding=scan.encoding.codec) as text:
            yield text


@contextlib.contextmanager
def open_span(path: Path, start: int, stop: int) -> Iterator[BinaryIO]:
    """The bytes of a file from `start` up to `stop`."""

    def chunks(file: BinaryIO, left: int) -> Generator[bytes, None, None]:
        file.seek(start)
        while left > 0 and (chunk := file.read(min(left, CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk

    with path.open("rb", buffering=0) as file, stream_of(chunks(file, stop - start)) as span:
        yield span


def _scan(path: Path, reading: Reading) -> TextScan:
    if reading.scan is not None:
        place, characters, lines, paragraphs, size, digest = reading.scan
        return TextScan(ENCODINGS[place], characters, lines, paragraphs, size, digest)
    with library_errors(path, _("compressed text") if is_compressed(path) else "text"):
        try:
            scan = scan_text(lambda: open_binary(path), str(path))
        except EncodingError:
            if reading.repairs is None:
                raise
            scan = _repaired_scan(path, reading.repairs)
    reading.scan = as_numbers(scan)
    return scan


def as_numbers(scan: TextScan) -> list[int]:
    """What a reading's state keeps of a scan."""
    numbers = [scan.characters, scan.lines, scan.paragraphs, scan.bytes, scan.digest]
    return [ENCODINGS.index(scan.encoding), *numbers]


def _repaired_scan(path: Path, repairs: EncodingRepairs) -> TextScan:
    """What a pass over the repaired text of a file finds; what was repaired is counted."""
    with open_binary(path) as file:
        repaired = RepairedFile(file)
        with repaired.stream() as stream:
            scan = scan_stream(stream, REPAIRED)
    repairs.add(path.name, repaired)
    return scan
