"""Files: those below a folder; the bytes of one, decompressed; its text, decoded."""

import contextlib
import gzip
import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from semigpt.corpus.library import library_errors
from semigpt.corpus.reading import Reading
from semigpt.corpus.text import ENCODINGS, UTF_8, TextScan, scan_text
from semigpt.errors import CorpusError

__all__ = [
    "COMPRESSIONS",
    "Below",
    "decompressed_chunks",
    "file_identity",
    "files_below",
    "is_compressed",
    "is_run",
    "open_text",
    "scan_file",
]

COMPRESSIONS = (".gz", ".zst")


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


def files_below(folder: Path) -> Below:
    """Walk a folder; what a link leads to comes last, and is walked only if nothing else led there.

    Raises CorpusError where a folder cannot be opened.
    """
    found = Below()
    walked: set[tuple[int, int]] = set()  # folders and files, by device and inode
    links: list[Path] = []
    waiting = [folder]
    while waiting or links:
        place = waiting.pop() if waiting else links.pop(0)
        status = _status(place)
        if status is None:
            found.passed_over.append((place, "a link to nothing"))
        elif not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
            found.passed_over.append((place, "not a regular file"))
        elif (status.st_dev, status.st_ino) not in walked:
            walked.add((status.st_dev, status.st_ino))
            if stat.S_ISREG(status.st_mode):
                found.files.append(place)
            elif place != folder and is_run(place):
                found.passed_over.append((place, "a run of semigpt"))
            else:
                _enter(place, waiting, links, found)
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
        f"{path}: cannot be opened ({error.strerror}): check its permissions, or move it away"
    )


def _enter(folder: Path, waiting: list[Path], links: list[Path], found: Below) -> None:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise _closed(folder, error) from None
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
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
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None
    return str(path.resolve()), status.st_size, status.st_mtime_ns


def is_compressed(path: Path) -> bool:
    return path.suffix.lower() in COMPRESSIONS


def _open_binary(path: Path) -> BinaryIO:
    """The bytes of `path`, decompressed."""
    match path.suffix.lower():
        case ".gz":
            return cast(BinaryIO, gzip.open(path, "rb"))
        case ".zst":
            import zstandard

            return cast(BinaryIO, zstandard.open(path, "rb"))
        case _:
            return path.open("rb")


def _check_zst(path: Path) -> None:
    """Raise EOFError where `path` was cut short, which zstandard's reader takes for its end.

    Four kilobytes at a time, because zstd can make a hundred megabytes of as many.
    """
    import zstandard

    frame = None
    with path.open("rb") as file:
        while chunk := file.read(4096):
            while chunk:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                frame.decompress(chunk)
                chunk, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    if frame is not None:
        raise EOFError("the file was cut short: it ends inside a zstd frame")


def decompressed_chunks(path: Path, kind: str) -> Iterator[bytes]:
    """The bytes of `path`, decompressed, a megabyte at a time; errors call it compressed `kind`."""
    with library_errors(path, f"compressed {kind}"):
        if path.suffix.lower() == ".zst":
            _check_zst(path)
        with _open_binary(path) as file:
            while chunk := file.read(1 << 20):
                yield chunk


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
            reading.tally(f"in {encoding}, and read so", path.name)
    return scan


@contextlib.contextmanager
def open_text(path: Path, scan: TextScan) -> Iterator[TextIO]:
    """The text of a file behind its byte order mark, decompressed, its line ends read as "\\n"."""
    with _open_binary(path) as file:
        file.read(len(scan.encoding.mark))
        with io.TextIOWrapper(file, encoding=scan.encoding.codec) as text:
            yield text


def _scan(path: Path, reading: Reading) -> TextScan:
    if reading.scan is not None:
        place, *numbers = reading.scan
        return TextScan(ENCODINGS[place], *numbers)
    with library_errors(path, "compressed text" if is_compressed(path) else "text"):
        if path.suffix.lower() == ".zst":
            _check_zst(path)
        scan = scan_text(lambda: _open_binary(path), str(path))
    place = ENCODINGS.index(scan.encoding)
    numbers = [scan.characters, scan.lines, scan.paragraphs, scan.bytes, scan.digest]
    reading.scan = [place, *numbers]
    return scan
