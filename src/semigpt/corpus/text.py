"""What a text is before anything else looks at it: decoded, and composed.

A text file is in one of a few encodings. Which one is found by decoding all of it, because a guess from the
first kilobyte is wrong exactly where it hurts (a CP949 file that opens with an English licence):

    a byte order mark                 the encoding it names: UTF-8, UTF-16 or UTF-32, then refused if it lies
    valid UTF-8 to the last byte      UTF-8
    valid CP949 to the last byte      CP949, Microsoft's superset of EUC-KR
    none of these                     refused, naming the file, the line and the byte where decoding stopped

Text is normalised to NFC (Unicode Standard Annex 15): macOS stores 한 as ᄒ + ᅡ + ᆫ, three code points for one
syllable, and a model should not have to learn every word twice. NULs, control characters and lone surrogates
pass through.
"""

import codecs
import io
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from semigpt.errors import CorpusError

__all__ = ["Encoding", "TextScan", "decoded", "normalize", "scan_text"]

CHUNK_BYTES = 1 << 20
BLANK_LINE = re.compile(r"\n\n[^\n]")


def normalize(text: str) -> str:
    """`text` in NFC; the same object when it is in NFC already, which is checked without building a copy."""
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


@dataclass(frozen=True)
class Encoding:
    """An encoding a text file was found to be in.

    name:  what a reader calls it: "UTF-8", "UTF-8 with a byte order mark", "UTF-16", "UTF-32", "CP949"
    codec: Python's name of it, without the byte order mark
    mark:  the byte order mark to skip, b"" without one
    """

    name: str
    codec: str
    mark: bytes = b""


UTF_8 = Encoding("UTF-8", "utf-8")
CP949 = Encoding("CP949", "cp949")

# UTF-32's mark begins with UTF-16's, so the longer one is tried first.
MARKED = (
    Encoding("UTF-8 with a byte order mark", "utf-8", codecs.BOM_UTF8),
    Encoding("UTF-32", "utf-32-le", codecs.BOM_UTF32_LE),
    Encoding("UTF-32", "utf-32-be", codecs.BOM_UTF32_BE),
    Encoding("UTF-16", "utf-16-le", codecs.BOM_UTF16_LE),
    Encoding("UTF-16", "utf-16-be", codecs.BOM_UTF16_BE),
)


ENCODINGS = (UTF_8, CP949, *MARKED)


@dataclass(frozen=True)
class TextScan:
    """What one pass over a text file tells.

    encoding:    the encoding all of it decodes in
    characters:  how many, line ends counted as they stand in the file
    paragraphs:  whether a blank line stands between two lines that are not blank
    bytes:       how many, decompressed
    """

    encoding: Encoding
    characters: int
    paragraphs: bool
    bytes: int


class _DecodingError(Exception):
    """Decoding stopped: `byte` counts from 0, `line` from 1, `reason` is the codec's own."""

    def __init__(self, byte: int, line: int, reason: str) -> None:
        super().__init__(reason)
        self.byte = byte
        self.line = line
        self.reason = reason


def decoded(file: BinaryIO, encoding: Encoding) -> Iterator[str]:
    """The text of `file`, opened at its first byte, a megabyte at a time, the byte order mark left out.

    Raises UnicodeDecodeError where it is not valid; `scan_text` tells in words where that is.
    """
    decoder = codecs.getincrementaldecoder(encoding.codec)()
    file.read(len(encoding.mark))
    while chunk := file.read(CHUNK_BYTES):
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


def scan_text(open_file: Callable[[], BinaryIO], name: str) -> TextScan:
    """Find the encoding of a text file by decoding all of it, a megabyte in memory at a time.

    `open_file` opens it at its first byte, decompressed if need be; it is called again for each encoding
    that has to be tried. `name` is what an error calls the file.

    Raises CorpusError, with line and byte, when no encoding fits.
    """
    with open_file() as file:
        head = file.read(4)
    marked = next((encoding for encoding in MARKED if head.startswith(encoding.mark)), None)
    failures: list[tuple[Encoding, _DecodingError]] = []
    for encoding in (marked,) if marked else (UTF_8, CP949):
        try:
            with open_file() as file:
                return _scan(file, encoding)
        except _DecodingError as stopped:
            failures.append((encoding, stopped))
    # The encoding that got furthest is most likely the one the file is meant to be in.
    encoding, failure = max(failures, key=lambda pair: pair[1].byte)
    others = (
        "" if marked else ", nor in any other encoding known here (UTF-16 with its mark, CP949)"
    )
    raise CorpusError(
        f"{name}: not valid {encoding.name} at line {failure.line}, byte {failure.byte} ({failure.reason})"
        f"{others}: save it as UTF-8"
    )


def _scan(file: BinaryIO, encoding: Encoding) -> TextScan:
    decoder = codecs.getincrementaldecoder(encoding.codec)()
    file.read(len(encoding.mark))
    fed = len(encoding.mark)
    characters = 0
    line = 1
    paragraphs = False
    # "\r\n" and a lone "\r" are one line end here, as in Python's text mode, which the loader reads with.
    line_ends = io.IncrementalNewlineDecoder(None, translate=True)
    tail = ""  # the last two characters before this chunk, leading line ends left out
    while True:
        chunk = file.read(CHUNK_BYTES)
        pending = decoder.getstate()[0]
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            good = (pending + chunk)[: error.start].decode(encoding.codec, errors="ignore")
            reason = error.reason if chunk else "the file ends inside a character"
            raise _DecodingError(
                fed - len(pending) + error.start, line + good.count("\n"), reason
            ) from None
        fed += len(chunk)
        characters += len(text)
        line += text.count("\n")
        if not paragraphs:
            lines = line_ends.decode(text, final=not chunk)
            lines = tail + lines if tail else lines.lstrip("\n")
            paragraphs = BLANK_LINE.search(lines) is not None
            tail = lines[-2:]
        if not chunk:
            return TextScan(encoding, characters, paragraphs, fed)
