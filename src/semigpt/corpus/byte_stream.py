"""A stream of bytes that are made on the way: decompressed, repaired."""

import io
from collections.abc import Generator
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["stream_of"]

BUFFER_BYTES = 1 << 20


def stream_of(chunks: Generator[bytes, None, None]) -> BinaryIO:
    """A stream of the bytes of `chunks`; closing it closes the generator."""
    return cast(BinaryIO, io.BufferedReader(_Chunks(chunks), BUFFER_BYTES))


class _Chunks(io.RawIOBase):
    def __init__(self, chunks: Generator[bytes, None, None]) -> None:
        self._chunks = chunks
        self._waiting = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        while not self._waiting:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._waiting = memoryview(chunk)
        into = memoryview(buffer).cast("B")
        count = min(len(into), len(self._waiting))
        into[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count

    def close(self) -> None:
        self._chunks.close()
        super().close()
