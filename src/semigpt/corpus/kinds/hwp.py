"""Hangul's .hwp files, version 5.0, as the paragraphs of their body.

The file is a compound file (OLE), opened by olefile. Its streams BodyText/Section0, … are deflated
records: a header of four bytes (tag 10 bits, level 10, size 12), then so many bytes. The record
PARA_TEXT holds a paragraph in UTF-16; codes below 32 in it are controls, most of them eight units
long. A control that holds text of its own (a table, a footnote) has it in the records of a deeper
level behind its header; those of headers, footers and notes are left out.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from semigpt.corpus.kinds.extra import needs_extra
from semigpt.corpus.kinds.limits import PART_BYTES, Budget
from semigpt.errors import CorpusError
from semigpt.language import N_, _

__all__ = ["hwp_paragraphs", "record_paragraphs"]

SIGNATURE = b"HWP Document File"
COMPRESSED, PASSWORD, DISTRIBUTED, DRM = 1, 2, 4, 16
PARA_TEXT, CTRL_HEADER = 67, 71
LONG_RECORD = 0xFFF
# Headers, footers, footnotes, endnotes, hidden comments: their four letters are stored backwards.
HIDDEN_CONTROLS = {name[::-1] for name in (b"head", b"foot", b"fn  ", b"en  ", b"tcmt")}
# Controls of one unit, and what they stand for; all other codes below 32 take eight units.
SHORT_CONTROLS = {0: "", 10: "\n", 13: "", 24: "-", 25: "", 26: "", 27: "", 28: "", 29: "",
                  30: " ", 31: " "}  # fmt: skip
TAB = 9
SAVE_ANEW = N_("open it in 한글 and save it as .hwpx")


def hwp_paragraphs(path: Path, where: str) -> Iterator[str]:
    """The paragraphs of a file. Raises CorpusError where it is broken, encrypted or older."""
    with needs_extra(".hwp"):
        import olefile

    with path.open("rb") as file:
        head = file.read(32)
    if head.startswith(b"HWP Document File V"):
        raise CorpusError(
            _("{where}: is of Hangul 97 or older: {save_anew}").format(
                where=where, save_anew=_(SAVE_ANEW)
            )
        )
    if head.startswith(b"PK"):
        raise CorpusError(
            _("{where}: is an .hwpx file: let its name end in .hwpx").format(where=where)
        )
    if not olefile.isOleFile(str(path)):
        raise CorpusError(_("{where}: is no Hangul document, or was cut short").format(where=where))
    with olefile.OleFileIO(str(path)) as ole:
        if not ole.exists("FileHeader"):
            raise CorpusError(
                _("{where}: is no Hangul document (it has no FileHeader)").format(where=where)
            )
        header = ole.openstream("FileHeader").read(256)
        if not header.startswith(SIGNATURE) or len(header) < 40:
            raise CorpusError(
                _("{where}: is no Hangul document (its FileHeader is another's)").format(
                    where=where
                )
            )
        flags = int.from_bytes(header[36:40], "little")
        if flags & (PASSWORD | DRM):
            raise CorpusError(
                _("{where}: is encrypted: {save_anew} without a password").format(
                    where=where, save_anew=_(SAVE_ANEW)
                )
            )
        if flags & DISTRIBUTED:
            raise CorpusError(
                _(
                    "{where}: is a document for distribution (배포용), whose text is encrypted: "
                    "ask for the one it was made from"
                ).format(where=where)
            )
        budget = Budget(where, path.stat().st_size)
        for name in _sections(ole.listdir(streams=True)):
            content = ole.openstream(name).read()
            yield from record_paragraphs(
                _inflated(content, where, budget) if flags & COMPRESSED else content, where
            )


def _sections(names: list[list[str]]) -> list[list[str]]:
    found = {
        int(match[1]): name
        for name in names
        if (match := re.fullmatch(r"BodyText/Section([0-9]{1,6})", "/".join(name)))
    }
    return [found[number] for number in sorted(found)]


def _inflated(content: bytes, where: str, budget: Budget) -> bytes:
    try:
        text = zlib.decompressobj(-zlib.MAX_WBITS)
        inflated = text.decompress(content, PART_BYTES)
    except zlib.error as error:
        raise CorpusError(
            _("{where}: a section of it is broken ({error})").format(where=where, error=error)
        ) from None
    budget.spend(len(inflated))
    if not text.eof:
        raise CorpusError(
            _("{where}: a section of it was cut short, or is of more than {part_bytes} MiB").format(
                where=where, part_bytes=PART_BYTES >> 20
            )
        )
    return inflated


def record_paragraphs(content: bytes, where: str) -> Iterator[str]:
    """The paragraphs in the records of a section."""
    at = 0
    hidden_below: int | None = None
    while at + 4 <= len(content):
        (header,) = struct.unpack_from("<I", content, at)
        tag, level, size = header & 0x3FF, header >> 10 & 0x3FF, header >> 20
        at += 4
        if size == LONG_RECORD:
            if at + 4 > len(content):
                break
            (size,) = struct.unpack_from("<I", content, at)
            at += 4
        if at + size > len(content):
            raise CorpusError(
                _("{where}: a section of it is broken (a record is cut short)").format(where=where)
            )
        record = content[at : at + size]
        at += size
        if hidden_below is not None and level > hidden_below:
            continue
        hidden_below = None
        if tag == CTRL_HEADER and record[:4] in HIDDEN_CONTROLS:
            hidden_below = level
        elif tag == PARA_TEXT:
            yield _paragraph(record)


def _paragraph(record: bytes) -> str:
    """The text of a PARA_TEXT record, a half of a surrogate pair read as U+FFFD."""
    units = struct.unpack(f"<{len(record) // 2}H", record[: len(record) // 2 * 2])
    kept = bytearray()
    at = 0
    while at < len(units):
        unit = units[at]
        if unit >= 32:
            kept += unit.to_bytes(2, "little")
            at += 1
        elif unit in SHORT_CONTROLS:
            kept += SHORT_CONTROLS[unit].encode("utf-16-le")
            at += 1
        else:
            if unit == TAB:
                kept += "\t".encode("utf-16-le")
            at += 8
    return kept.decode("utf-16-le", "replace")
