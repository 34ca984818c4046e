"""Find the encoding of a text file, decode it, and normalise text to NFC.

The encoding is found by decoding the whole file, because a guess from the first kilobyte is wrong
for a CP949 file that opens with an English licence:

    a byte order mark               the encoding it names: UTF-8, UTF-16 or UTF-32; refused where
                                    the rest is not valid
    valid UTF-8 to the last byte    UTF-8
    valid CP949 to the last byte    CP949, Microsoft's superset of EUC-KR
    none of these                   refused, naming the line and the byte where decoding stopped;
                                    `broken_text` is how the doctor repairs it

NFC is defined in Unicode Standard Annex 15. macOS stores 한 as ᄒ + ᅡ + ᆫ, three code points for
one syllable, and a model should not have to learn every word twice. NULs, control characters and
lone surrogates pass through.
"""

import codecs
import hashlib
import io
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from semigpt.corpus.broken_text import ISO_2022_KR, is_utf_16
from semigpt.errors import CorpusError
from semigpt.language import N_, _

__all__ = [
    "CHUNK_BYTES",
    "ENCODINGS",
    "HEAD_BYTES",
    "REPAIRED",
    "UTF_8",
    "DecodingError",
    "Encoding",
    "EncodingError",
    "TextScan",
    "may_be_utf_8",
    "normalize",
    "scan_stream",
    "scan_text",
]

CHUNK_BYTES = 1 << 20
HEAD_BYTES = 1 << 16


def normalize(text: str) -> str:
    """`text` in NFC: the same object where it is in NFC already, checked without a copy."""
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


@dataclass(frozen=True)
class Encoding:
    """An encoding that a text file was found to be in.

    name:  for the user: "UTF-8", "UTF-8 with a byte order mark", "UTF-16", "UTF-32", "CP949"
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
    Encoding(N_("UTF-8 with a byte order mark"), "utf-8", codecs.BOM_UTF8),
    Encoding("UTF-32", "utf-32-le", codecs.BOM_UTF32_LE),
    Encoding("UTF-32", "utf-32-be", codecs.BOM_UTF32_BE),
    Encoding("UTF-16", "utf-16-le", codecs.BOM_UTF16_LE),
    Encoding("UTF-16", "utf-16-be", codecs.BOM_UTF16_BE),
)
# What the doctor made UTF-8 of, while it reads.
REPAIRED = Encoding(N_("mixed or broken encodings, repaired"), "utf-8")
ENCODINGS = (UTF_8, CP949, *MARKED, REPAIRED)


@dataclass(frozen=True)
class TextScan:
    """What one pass over a text file finds.

    encoding:    the encoding in which all of it decodes
    characters:  how many, line ends counted as they stand in the file
    lines:       those that are not blank; a line of white space is blank
    paragraphs:  runs of them with no blank line between
    bytes:       how many, decompressed
    digest:      64 bits, a hash of the bytes behind the byte order mark
    line_ends:   how many
    opens:       whether its first line is not blank
    closes:      whether its last one is not
    """

    encoding: Encoding
    characters: int
    lines: int
    paragraphs: int
    bytes: int
    digest: int
    line_ends: int = 0
    opens: bool = False
    closes: bool = False


class EncodingError(CorpusError):
    """A text file that is in no encoding that is read. The doctor can repair it."""


class DecodingError(Exception):
    """Decoding stopped: `byte` counts from 0, `line` from 1, `reason` is the codec's own."""

    def __init__(self, byte: int, line: int, reason: str) -> None:
        super().__init__(reason)
        self.byte = byte
        self.line = line
        self.reason = reason


def scan_text(open_file: Callable[[], BinaryIO], name: str) -> TextScan:
    """Find the encoding of a text file by decoding all of it, a megabyte in memory at a time.

    open_file: opens it at its first byte, decompressed if need be; called again for each
               encoding that is tried
    name:      what an error calls the file

    Raises EncodingError, with line and byte, where no encoding fits.
    """
    with open_file() as file:
        head = file.read(HEAD_BYTES)
    marked = next((encoding for encoding in MARKED if head.startswith(encoding.mark)), None)
    if marked is None and (found := _foreign(head)):
        encoding_name, byte = found
        line = head.count(b"\n", 0, byte) + 1
        raise EncodingError(f"{name}, line {line:,}, byte {byte:,}: {encoding_name}")
    failures: list[tuple[Encoding, DecodingError]] = []
    for encoding in (marked,) if marked else (UTF_8, CP949):
        try:
            with open_file() as file:
                return scan_stream(file, encoding)
        except DecodingError as stopped:
            failures.append((encoding, stopped))
    # The encoding that got furthest is most likely the one the file is meant to be in.
    encoding, failure = max(failures, key=lambda pair: pair[1].byte)
    tried = "".join(
        _(", nor valid {name}").format(name=_(other.name))
        for other, _failure in failures
        if other != encoding
    )
    raise EncodingError(
        _("{name}, line {line:,}, byte {byte:,}: not valid {encoding} ({reason}){tried}").format(
            name=name,
            line=failure.line,
            byte=failure.byte,
            encoding=_(encoding.name),
            reason=failure.reason,
            tried=tried,
        )
    )


def may_be_utf_8(head: bytes) -> bool:
    """Whether nothing at a file's beginning, a mark among it, says that it is in another encoding
    or has bytes before its text.
    """
    return not any(head.startswith(other.mark) for other in MARKED) and not _foreign(head)


def _foreign(head: bytes) -> tuple[str, int] | None:
    """What text that may decode, but says another thing then, is in, and the byte that tells."""
    if (byte := head.find(ISO_2022_KR)) >= 0:
        return _("in ISO-2022-KR, which is not read"), byte
    if is_utf_16(head):
        return _("in UTF-16 without a byte order mark, which is not read"), 0
    return None


def scan_stream(file: BinaryIO, encoding: Encoding, *, brief: bool = False) -> TextScan:
    """What one pass over a file, at its first byte, finds if it is in `encoding`.

    brief: lines that are not blank are not counted, and there is no digest: twice as fast
    """
    decoder = codecs.getincrementaldecoder(encoding.codec)()
    file.read(len(encoding.mark))
    fed = len(encoding.mark)
    characters = 0
    line = 1
    digest = hashlib.blake2b(digest_size=8)
    shape = _LineCount()
    # "\r\n" and a lone "\r" are one line end, as in Python's text mode, which the loader reads in.
    line_ends = io.IncrementalNewlineDecoder(None, translate=True)
    while True:
        chunk = file.read(CHUNK_BYTES)
        pending = decoder.getstate()[0]
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            good = (pending + chunk)[: error.start].decode(encoding.codec, errors="ignore")
            reason = error.reason if chunk else _("the file ends inside a character")
            place = fed - len(pending) + error.start
            raise DecodingError(place, line + good.count("\n"), reason) from None
        fed += len(chunk)
        characters += len(text)
        line += text.count("\n")
        text = line_ends.decode(text, final=not chunk)
        if brief:
            shape.line_ends += text.count("\n")
        else:
            digest.update(chunk)
            shape.add(text)
        if not chunk:
            ended, closes = shape.line_ends, shape.closes
            shape.add("\n")
            number = int.from_bytes(digest.digest())
            return TextScan(
                *(encoding, characters, shape.lines, shape.paragraphs, fed, number),
                *(ended, shape.opens, closes),
            )


class _LineCount:
    """Lines that are not blank, and runs of them, of a text that comes in chunks."""

    def __init__(self) -> None:
        self.lines = self.paragraphs = self.line_ends = 0
        self.opens = False
        self._in_line = self._in_paragraph = False

    @property
    def closes(self) -> bool:
        """Whether the last line so far is not blank."""
        return self._in_line or self._in_paragraph

    def add(self, text: str) -> None:
        *ended, rest = text.split("\n")
        if ended and not self.line_ends:
            self.opens = self._in_line or bool(ended[0] and not ended[0].isspace())
        self.line_ends += len(ended)
        for part in ended:
            if self._in_line or (part and not part.isspace()):
                self.lines += 1
                self.paragraphs += not self._in_paragraph
                self._in_line, self._in_paragraph = False, True
            else:
                self._in_paragraph = False
        self._in_line = self._in_line or bool(rest and not rest.isspace())
