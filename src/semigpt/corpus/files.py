"""One file: its bytes, decompressed; its text, decoded, as a UTF-8 copy if a loader needs one."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from semigpt.corpus.library import library_errors
from semigpt.corpus.reading import Reading
from semigpt.corpus.run_marks import run_folders_of
from semigpt.corpus.text import ENCODINGS, UTF_8, TextScan, decode_chunks, scan_text
from semigpt.errors import CorpusError

__all__ = [
    "COMPRESSIONS",
    "TextFile",
    "decompressed_chunks",
    "file_identity",
    "files_below",
    "is_compressed",
    "open_text",
    "outside_runs",
    "runs_below",
]

COMPRESSIONS = (".gz", ".zst")


@dataclass(frozen=True)
class TextFile:
    """A text file that a loader of `datasets` can open.

    path:  as the user knows it
    plain: the same text in UTF-8, `path` itself where it is so already; it may still be compressed
    scan:  what one pass over it found
    size:  bytes of the UTF-8 text, decompressed
    """

    path: Path
    plain: Path
    scan: TextScan
    size: int


def files_below(folder: Path) -> list[Path]:
    """Every file in `folder` and below that is not hidden and not of a run folder, in the order of
    its path.
    """
    paths = [
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    return sorted(outside_runs(paths, folder))


def outside_runs(paths: list[Path], below: Path) -> list[Path]:
    """Those of `paths` that do not lie in a run folder below `below`."""
    runs = run_folders_of(paths, below)
    return [path for path in paths if runs.isdisjoint(path.parents)] if runs else paths


def runs_below(folder: Path) -> list[Path]:
    """The run folders below `folder` that are not hidden."""
    configs = [
        path
        for path in folder.rglob("config.toml")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return sorted(run_folders_of(configs, folder))


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


def open_text(path: Path, extension: str, scratch: Path, reading: Reading) -> TextFile | None:
    """Find the encoding of a text file and make a copy in `scratch` if a loader needs one.

    extension: what a copy's name ends in
    Notes and encodings are added to `reading`. None where the file holds no character.
    """
    scan = _scan(path, reading)
    if not scan.characters:
        return None
    encoding = scan.encoding.name
    if not reading.row:
        reading.encodings[encoding] = reading.encodings.get(encoding, 0) + 1
    if scan.encoding != UTF_8:
        reading.note(f"{path.name} is in {encoding} and was read so")
    # The loaders ignore an encoding they are told for a compressed file, keep the byte order mark,
    # and take "::" in a path for a chain of file systems.
    if scan.encoding == UTF_8 and "::" not in str(path.absolute()):
        return TextFile(path, path, scan, scan.bytes)
    copy = scratch / f"plain{extension}"
    with copy.open("wb") as out:
        for chunk in _decoded_chunks(path, scan):
            out.write(chunk.encode())
    return TextFile(path, copy, scan, copy.stat().st_size)


def _decoded_chunks(path: Path, scan: TextScan) -> Iterator[str]:
    with library_errors(path, "text"), _open_binary(path) as file:
        yield from decode_chunks(file, scan.encoding)


def _scan(path: Path, reading: Reading) -> TextScan:
    """What one pass over a text file finds, kept in `reading`: a resumed reading skips the pass."""
    if reading.scan is not None:
        encoding, characters, paragraphs, size = reading.scan
        return TextScan(ENCODINGS[encoding], characters, bool(paragraphs), size)
    with library_errors(path, "compressed text" if is_compressed(path) else "text"):
        if path.suffix.lower() == ".zst":
            _check_zst(path)
        scan = scan_text(lambda: _open_binary(path), str(path))
    place = ENCODINGS.index(scan.encoding)
    reading.scan = [place, scan.characters, int(scan.paragraphs), scan.bytes]
    return scan
