"""The bytes of a file, decompressed: .gz, .zst, .xz and .bz2, and the short names of such archives.

A file unpacks to a limited multiple of its size; see `limits`. One that was cut short is an error
also where the library takes the cut for the end.
"""

import bz2
import gzip
import lzma
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from semigpt.corpus.byte_stream import stream_of
from semigpt.corpus.kinds.limits import Budget
from semigpt.corpus.library import library_errors
from semigpt.language import _

if TYPE_CHECKING:
    from _typeshed import SupportsRead

__all__ = [
    "COMPRESSIONS",
    "compression_of",
    "decompressed_chunks",
    "is_compressed",
    "open_binary",
]

COMPRESSIONS = (".gz", ".zst", ".xz", ".bz2")
ARCHIVES = {".tgz": ".gz", ".txz": ".xz", ".tbz2": ".bz2"}
CHUNK_BYTES = 1 << 20
XZ_MEMORY = 512 << 20  # `xz -9` needs 65 MiB to unpack


def compression_of(path: Path) -> str:
    """The ending of `path` that names how it is compressed, in lower case; "" for none."""
    ending = path.suffix.lower()
    return ending if ending in COMPRESSIONS or ending in ARCHIVES else ""


def is_compressed(path: Path) -> bool:
    return path.suffix.lower() in COMPRESSIONS


def open_binary(path: Path) -> BinaryIO:
    """The bytes of `path`, decompressed.

    Reading raises CorpusError where they are too many, and what the libraries raise for a file that
    is broken or cut short.
    """
    ending = compression_of(path)
    if not ending:
        return path.open("rb")
    chunks = _chunks(path, ARCHIVES.get(ending, ending))
    return stream_of(_counted(chunks, Budget(str(path), path.stat().st_size)))


def decompressed_chunks(path: Path, kind: str) -> Iterator[bytes]:
    """The bytes of `path`, decompressed, a megabyte at a time; errors call it compressed `kind`."""
    with library_errors(path, f"compressed {kind}"), open_binary(path) as file:
        yield from _read(file)


def _counted(chunks: Iterator[bytes], budget: Budget) -> Generator[bytes, None, None]:
    for chunk in chunks:
        budget.spend(len(chunk))
        yield chunk


def _chunks(path: Path, compression: str) -> Iterator[bytes]:
    match compression:
        case ".gz":
            with gzip.open(path, "rb") as file:
                yield from _read(file)
        case ".bz2":
            with bz2.open(path, "rb") as file:
                yield from _read(file)
        case ".zst":
            import zstandard

            _check_zst(path)
            with zstandard.open(path, "rb") as file:
                yield from _read(file)
        case _:
            yield from _xz_streams(path)


def _read(file: "SupportsRead[bytes]") -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def _xz_streams(path: Path) -> Iterator[bytes]:
    """The streams of an .xz file, of which each may be followed by another.

    Unlike `lzma.open` with a limit of memory.
    """
    decompressor: lzma.LZMADecompressor | None = None
    with path.open("rb") as file:
        packed = b""
        while True:
            if not packed and (decompressor is None or decompressor.needs_input):
                packed = file.read(CHUNK_BYTES)
                if not packed:
                    break
            if decompressor is None:
                packed = packed.lstrip(b"\0")  # between streams there may be padding
                if not packed:
                    continue
                decompressor = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
            if chunk := decompressor.decompress(packed, CHUNK_BYTES):
                yield chunk
            packed = b""
            if decompressor.eof:
                packed, decompressor = decompressor.unused_data, None
    if decompressor is not None:
        raise EOFError(_("the file was cut short: it ends inside a compressed stream"))


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
        raise EOFError(_("the file was cut short: it ends inside a zstd frame"))
