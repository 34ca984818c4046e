"""Documents that are ZIP files of XML: .docx, .hwpx, .epub.

Parts are read in memory, each and all together up to a limit. XML is read by the standard library's
expat, event by event and without a tree; a document type that declares entities is refused, so
nothing expands. A paragraph of the document is one of the text, and so is each in a table's cell.
Left out: headers, footers, footnotes, comments, text that was deleted and is still recorded.
"""

import posixpath
import re
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.parsers import expat

from semigpt.corpus.kinds.html_pages import html_paragraphs
from semigpt.corpus.kinds.limits import MEMBERS, Budget, check_size
from semigpt.corpus.kinds.source import decoded
from semigpt.errors import CorpusError

__all__ = ["check_members", "docx_paragraphs", "epub_paragraphs", "hwpx_paragraphs"]

CHUNK_BYTES = 1 << 20
SAVE_ANEW = "open it in the program that made it and save it without a password"
Attributes = dict[str, str]


def docx_paragraphs(path: Path, where: str) -> Iterator[str]:
    """The paragraphs of a .docx file's body."""
    with _Package.open(path, where, "Word document") as package:
        name = "word/document.xml"
        if name not in package.names:
            raise CorpusError(f"{where}: no {name} in it, so it is no Word document")
        # In the properties of a paragraph `tab` is a stop, and `rt` is the reading above a word.
        hidden = {"Fallback", "pPr", "rPr", "rt"}
        signs = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
        yield from _xml_paragraphs(package, name, _Words(hidden, signs))


def hwpx_paragraphs(path: Path, where: str) -> Iterator[str]:
    """The paragraphs of an .hwpx file, section by section."""
    with _Package.open(path, where, "Hangul document") as package:
        sections = {
            int(found[1]): name
            for name in package.names
            if (found := re.fullmatch(r"Contents/section([0-9]{1,6})\.xml", name))
        }
        if not sections:
            raise CorpusError(f"{where}: no Contents/section0.xml in it, so it is no .hwpx file")
        if b"encryption-data" in package.read("META-INF/manifest.xml", missing=b""):
            raise CorpusError(f"{where}: is encrypted: {SAVE_ANEW}")
        hidden = {"header", "footer", "footNote", "endNote", "hiddenComment", "parameters"}
        signs = {"tab": "\t", "lineBreak": "\n", "nbSpace": " ", "fwSpace": " ", "hyphen": "-"}
        for number in sorted(sections):
            yield from _xml_paragraphs(package, sections[number], _Words(hidden, signs))


def epub_paragraphs(path: Path, where: str) -> Iterator[str]:
    """The paragraphs of an .epub file's chapters, in the order in which they are read."""
    with _Package.open(path, where, "EPUB") as package:
        container = package.read("META-INF/container.xml", missing=b"")
        root = _Elements.of(container, where, "META-INF/container.xml")
        books = [attributes.get("full-path", "") for attributes in root["rootfile"]]
        if not books or books[0] not in package.names:
            raise CorpusError(f"{where}: no book in it, so it is no EPUB")
        book = _Elements.of(package.read(books[0]), where, books[0])
        items = {item.get("id", ""): item for item in book["item"]}
        rights = package.read("META-INF/encryption.xml", missing=b"<none/>")
        references = _Elements.of(rights, where, "META-INF/encryption.xml")["CipherReference"]
        encrypted = {urllib.parse.unquote(item.get("URI", "")) for item in references}
        for entry in book["itemref"]:
            item = items.get(entry.get("idref", ""), {})
            if "html" not in item.get("media-type", "") or "nav" in item.get("properties", ""):
                continue
            folder = posixpath.dirname(books[0])
            href = urllib.parse.unquote(item.get("href", "").partition("#")[0])
            name = posixpath.normpath(posixpath.join(folder, href))
            if name not in package.names:
                raise CorpusError(f"{where}: its chapter {href} is missing")
            if name in encrypted:
                raise CorpusError(f"{where}: is encrypted (DRM): only its shop's reader opens it")
            yield from html_paragraphs(decoded(package.read(name), f"{where}, {href}"))


def check_members(archive: zipfile.ZipFile, where: str) -> None:
    """Raise CorpusError for an archive of too many members, or one that is encrypted."""
    members = archive.infolist()
    if len(members) > MEMBERS:
        raise CorpusError(
            f"{where}: holds more than {MEMBERS:,} files: unpack it and give the folder"
        )
    for member in members:
        if member.flag_bits & 1:
            raise CorpusError(
                f"{where}: is encrypted: unpack it with its password and give what was in it"
            )


class _Package:
    """A ZIP file whose parts are read by name, within a budget."""

    def __init__(self, archive: zipfile.ZipFile, where: str, budget: Budget) -> None:
        self.names = frozenset(archive.namelist())
        self._archive = archive
        self._where = where
        self._budget = budget

    @staticmethod
    @contextmanager
    def open(path: Path, where: str, kind: str) -> "Iterator[_Package]":
        with path.open("rb") as file:
            head = file.read(8)
        if head.startswith(b"\xd0\xcf\x11\xe0"):  # what Office and 한글 encrypt, they wrap in OLE
            raise CorpusError(f"{where}: is encrypted, or of an older format: {SAVE_ANEW}")
        if not zipfile.is_zipfile(path):
            raise CorpusError(f"{where}: is no {kind}, or was cut short (it is not a ZIP file)")
        with zipfile.ZipFile(path) as archive:
            check_members(archive, where)
            yield _Package(archive, where, Budget(where, path.stat().st_size))

    def read(self, name: str, missing: bytes | None = None) -> bytes:
        """A part's bytes; `missing` where there is no such part."""
        if name not in self.names and missing is not None:
            return missing
        parts = []
        size = 0
        with self._archive.open(name) as file:
            while chunk := file.read(CHUNK_BYTES):
                size += len(chunk)
                self._budget.spend(len(chunk))
                check_size(f"{self._where}, {name}", size, "save the document in parts")
                parts.append(chunk)
        return b"".join(parts)


class _Elements(dict[str, list[Attributes]]):
    """The attributes of every element by its local name."""

    def __missing__(self, name: str) -> list[Attributes]:
        return []

    @classmethod
    def of(cls, xml: bytes, where: str, part: str) -> "_Elements":
        elements = cls()

        def start(name: str, attributes: Attributes) -> None:
            elements.setdefault(_local(name), []).append(attributes)

        _parse(xml, where, part, start)
        return elements


class _Words:
    """Collects paragraphs from the elements that word processors write: p, and t inside it.

    A paragraph inside another (in a table, a text box) comes before what is left of the outer one.

    hidden: elements of which nothing is read
    signs:  empty elements that stand for a character
    """

    def __init__(self, hidden: set[str], signs: dict[str, str]) -> None:
        self.paragraphs: list[str] = []
        self._hidden_names = hidden
        self._signs = signs
        self._open: list[list[str]] = []
        self._hidden = 0
        self._texts = 0

    def start(self, name: str, _attributes: Attributes) -> None:
        name = _local(name)
        if self._hidden or name in self._hidden_names:
            self._hidden += 1
        elif name == "p":
            self._open.append([])
        elif name == "t":
            self._texts += 1
        elif name in self._signs and self._open:
            self._open[-1].append(self._signs[name])

    def end(self, name: str) -> None:
        name = _local(name)
        if self._hidden:
            self._hidden -= 1
        elif name == "p" and self._open:
            self.paragraphs.append("".join(self._open.pop()))
        elif name == "t":
            self._texts -= 1

    def data(self, text: str) -> None:
        if self._texts and not self._hidden and self._open:
            self._open[-1].append(text)


def _xml_paragraphs(package: _Package, name: str, words: _Words) -> list[str]:
    _parse(package.read(name), package._where, name, words.start, words.end, words.data)
    return words.paragraphs


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _parse(
    xml: bytes,
    where: str,
    part: str,
    start: Callable[[str, Attributes], None],
    end: Callable[[str], None] | None = None,
    data: Callable[[str], None] | None = None,
) -> None:
    """Call back for each element. Raises CorpusError for broken XML and for declared entities."""

    def refuse(*_declaration: object) -> None:
        raise CorpusError(f"{where}, {part}: declares entities of its own, which are not expanded")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = data
    try:
        parser.Parse(xml, True)
    except expat.ExpatError as error:
        raise CorpusError(f"{where}, {part}: not XML that can be read ({error})") from None
