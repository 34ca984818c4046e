"""Documents that are ZIP files of XML: .docx, .hwpx, .odt, .epub.

A paragraph of the document is one of the text, and so is each in a table's cell.
Left out: headers, footers, footnotes, comments, text that was deleted and is still recorded.
"""

import posixpath
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from semigpt.corpus.kinds.html_pages import html_paragraphs
from semigpt.corpus.kinds.source import decoded
from semigpt.corpus.kinds.zipped_xml import (
    SAVE_ANEW,
    Attributes,
    Elements,
    Package,
    local,
    parse_xml,
    repeated,
)
from semigpt.errors import CorpusError
from semigpt.language import _

__all__ = ["docx_paragraphs", "epub_paragraphs", "hwpx_paragraphs", "odt_paragraphs"]

MOST_SPACES = 100  # that one element stands for


def docx_paragraphs(path: Path, where: str) -> Iterator[str]:
    """The paragraphs of a .docx file's body."""
    with Package.open(path, where, _("Word document")) as package:
        name = "word/document.xml"
        if name not in package.names:
            raise CorpusError(
                _("{where}: no {name} in it, so it is no Word document").format(
                    where=where, name=name
                )
            )
        # In the properties of a paragraph `tab` is a stop, and `rt` is the reading above a word.
        hidden = {"Fallback", "pPr", "rPr", "rt"}
        signs = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
        yield from _xml_paragraphs(package, name, _Words(hidden, signs))


def hwpx_paragraphs(path: Path, where: str) -> Iterator[str]:
    """The paragraphs of an .hwpx file, section by section."""
    with Package.open(path, where, _("Hangul document")) as package:
        sections = {
            int(found[1]): name
            for name in package.names
            if (found := re.fullmatch(r"Contents/section([0-9]{1,6})\.xml", name))
        }
        if not sections:
            raise CorpusError(
                _("{where}: no Contents/section0.xml in it, so it is no .hwpx file").format(
                    where=where
                )
            )
        if b"encryption-data" in package.read("META-INF/manifest.xml", missing=b""):
            raise CorpusError(
                _("{where}: is encrypted: {save_anew}").format(where=where, save_anew=_(SAVE_ANEW))
            )
        hidden = {"header", "footer", "footNote", "endNote", "hiddenComment", "parameters"}
        signs = {"tab": "\t", "lineBreak": "\n", "nbSpace": " ", "fwSpace": " ", "hyphen": "-"}
        for number in sorted(sections):
            yield from _xml_paragraphs(package, sections[number], _Words(hidden, signs))


def odt_paragraphs(path: Path, where: str) -> Iterator[str]:
    """The paragraphs of an .odt file's body."""
    with Package.open(path, where, _("OpenDocument text")) as package:
        if "content.xml" not in package.names:
            raise CorpusError(
                _("{where}: no content.xml in it, so it is no OpenDocument text").format(
                    where=where
                )
            )
        if b"encryption-data" in package.read("META-INF/manifest.xml", missing=b""):
            raise CorpusError(
                _("{where}: is encrypted: {save_anew}").format(where=where, save_anew=_(SAVE_ANEW))
            )
        hidden = {"annotation", "note", "tracked-changes", "ruby-text"}
        words = _Words(hidden, {"tab": "\t", "line-break": "\n", "s": " "}, all_is_text=True)
        yield from _xml_paragraphs(package, "content.xml", words)


def epub_paragraphs(path: Path, where: str) -> Iterator[str]:
    """The paragraphs of an .epub file's chapters, in the order in which they are read."""
    with Package.open(path, where, "EPUB") as package:
        container = package.read("META-INF/container.xml", missing=b"")
        root = Elements.of(container, where, "META-INF/container.xml")
        books = [attributes.get("full-path", "") for attributes in root["rootfile"]]
        if not books or books[0] not in package.names:
            raise CorpusError(_("{where}: no book in it, so it is no EPUB").format(where=where))
        book = Elements.of(package.read(books[0]), where, books[0])
        items = {item.get("id", ""): item for item in book["item"]}
        rights = package.read("META-INF/encryption.xml", missing=b"<none/>")
        references = Elements.of(rights, where, "META-INF/encryption.xml")["CipherReference"]
        encrypted = {urllib.parse.unquote(item.get("URI", "")) for item in references}
        for entry in book["itemref"]:
            item = items.get(entry.get("idref", ""), {})
            if "html" not in item.get("media-type", "") or "nav" in item.get("properties", ""):
                continue
            folder = posixpath.dirname(books[0])
            href = urllib.parse.unquote(item.get("href", "").partition("#")[0])
            name = posixpath.normpath(posixpath.join(folder, href))
            if name not in package.names:
                raise CorpusError(
                    _("{where}: its chapter {href} is missing").format(where=where, href=href)
                )
            if name in encrypted:
                raise CorpusError(
                    _("{where}: is encrypted (DRM): only its shop's reader opens it").format(
                        where=where
                    )
                )
            yield from html_paragraphs(decoded(package.read(name), f"{where}, {href}"))


class _Words:
    """Collects paragraphs from the elements that word processors write: p (or h), and t inside it.

    A paragraph inside another (in a table, a text box) comes before what is left of the outer one.

    hidden:      elements of which nothing is read
    signs:       empty elements that stand for a character
    all_is_text: whether text stands in p itself; `c` of a sign is how often it is meant
    """

    def __init__(
        self, hidden: set[str], signs: dict[str, str], *, all_is_text: bool = False
    ) -> None:
        self.paragraphs: list[str] = []
        self._hidden_names = hidden
        self._signs = signs
        self._open: list[list[str]] = []
        self._hidden = 0
        self._texts = int(all_is_text)
        self._paragraph_names = ("p", "h") if all_is_text else ("p",)

    def start(self, name: str, attributes: Attributes) -> None:
        name = local(name)
        if self._hidden or name in self._hidden_names:
            self._hidden += 1
        elif name in self._paragraph_names:
            self._open.append([])
        elif name == "t":
            self._texts += 1
        elif name in self._signs and self._open:
            self._open[-1].append(self._signs[name] * min(repeated(attributes, "c"), MOST_SPACES))

    def end(self, name: str) -> None:
        name = local(name)
        if self._hidden:
            self._hidden -= 1
        elif name in self._paragraph_names and self._open:
            self.paragraphs.append("".join(self._open.pop()))
        elif name == "t":
            self._texts -= 1

    def data(self, text: str) -> None:
        if self._texts and not self._hidden and self._open:
            self._open[-1].append(text)


def _xml_paragraphs(package: Package, name: str, words: _Words) -> list[str]:
    parse_xml(package.read(name), package.where, name, words.start, words.end, words.data)
    return words.paragraphs
