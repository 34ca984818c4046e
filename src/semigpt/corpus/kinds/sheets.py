"""The cells of .xlsx and .ods workbooks, sheet by sheet, as text.

Cells are what the file keeps of them: a formula is its last result, a number and a date of .xlsx
the number, an error is empty. Of merged cells the first has the value. Rows that are repeated come
once. A cell is found by its column alone, so rows may have holes.
"""

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from semigpt.corpus.kinds.zipped_xml import (
    SAVE_ANEW,
    Attributes,
    Elements,
    Package,
    local,
    parse_xml,
    parsing,
    repeated,
)
from semigpt.errors import CorpusError
from semigpt.language import _

__all__ = ["Cells", "Sheet", "ods_sheets", "xlsx_sheets"]

COLUMNS = 1 << 14  # of a sheet of .xlsx and of .ods
# A few bytes of .ods can stand for so many cells, or spaces, and no more.
MOST_REPEATED = 100
ESCAPE = re.compile("_x([0-9A-Fa-f]{4})_")
REFERENCE = re.compile("([A-Z]{1,3})[0-9]+")

END = object()
# A row: the text of each cell that is not empty, by the number of its column from 0.
Cells = dict[int, str]


@dataclass(frozen=True)
class Sheet:
    """A sheet of a workbook. Its rows are read before the next sheet is asked for."""

    name: str
    hidden: bool
    rows: Iterator[Cells]


def xlsx_sheets(path: Path, where: str) -> Iterator[Sheet]:
    """The sheets of an .xlsx file. Raises CorpusError where it is broken or encrypted."""
    with Package.open(path, where, "workbook") as package:
        if "xl/workbook.xml" not in package.names:
            raise CorpusError(
                _("{where}: no xl/workbook.xml in it, so it is no .xlsx file").format(where=where)
            )
        book = Elements.of(package.read("xl/workbook.xml"), where, "xl/workbook.xml")
        part = "xl/_rels/workbook.xml.rels"
        related = Elements.of(package.read(part, missing=b"<none/>"), where, part)
        targets = {
            item.get("Id", ""): posixpath.normpath(
                posixpath.join("/xl", item.get("Target", ""))
            ).lstrip("/")
            for item in related["Relationship"]
        }
        strings = _shared_strings(package, where)
        for sheet in book["sheet"]:
            key = next((value for name, value in sheet.items() if name.endswith(" id")), "")
            name = targets.get(key, "")
            if name in package.names:
                hidden = sheet.get("state", "visible") != "visible"
                rows = _xlsx_rows(package, where, name, strings)
                yield Sheet(sheet.get("name", ""), hidden, rows)


def _shared_strings(package: Package, where: str) -> list[str]:
    part = "xl/sharedStrings.xml"
    collected = _Strings("si")
    xml = package.read(part, missing=b"<none/>")
    parse_xml(xml, where, part, collected.start, collected.end, collected.data)
    return collected.strings


class _Strings:
    """The text of each element of a name: what stands in `t`, but for readings above it."""

    def __init__(self, name: str) -> None:
        self.strings: list[str] = []
        self._name = name
        self._parts: list[str] = []
        self._hidden = 0
        self._texts = 0

    def start(self, name: str, _attributes: Attributes) -> None:
        name = local(name)
        if self._hidden or name == "rPh":
            self._hidden += 1
        elif name == self._name:
            self._parts.clear()
        self._texts += name == "t"

    def end(self, name: str) -> None:
        name = local(name)
        if name == self._name and not self._hidden:
            self.strings.append(_unescaped("".join(self._parts)))
        self._hidden -= bool(self._hidden)
        self._texts -= name == "t"

    def data(self, text: str) -> None:
        if self._texts and not self._hidden:
            self._parts.append(text)


def _unescaped(text: str) -> str:
    text = ESCAPE.sub(lambda found: chr(int(found[1], 16)), text) if "_x" in text else text
    return text.replace("\r\n", "\n").replace("\r", "\n")


class _XlsxRows:
    """Collects rows; those that are whole are taken from `done`."""

    def __init__(self, strings: list[str]) -> None:
        self.done: list[Cells] = []
        self._strings = strings
        self._row: Cells = {}
        self._place = -1
        self._kind = ""
        self._parts: list[str] = []
        self._depth = 0  # inside v, or t of an inline string
        self._hidden = 0

    def start(self, name: str, attributes: Attributes) -> None:
        name = local(name)
        if self._hidden or name in ("rPh", "f"):
            self._hidden += 1
        elif name == "row":
            self._row, self._place = {}, -1
        elif name == "c":
            self._place = _column(attributes.get("r", ""), self._place + 1)
            self._kind = attributes.get("t", "n")
            self._parts.clear()
        elif name in ("v", "t"):
            self._depth += 1

    def end(self, name: str) -> None:
        name = local(name)
        if self._hidden:
            self._hidden -= 1
        elif name in ("v", "t"):
            self._depth -= 1
        elif name == "c" and 0 <= self._place < COLUMNS:
            if text := self._text("".join(self._parts)):
                self._row[self._place] = text
        elif name == "row":
            self.done.append(self._row)

    def data(self, text: str) -> None:
        if self._depth and not self._hidden:
            self._parts.append(text)

    def _text(self, value: str) -> str:
        match self._kind:
            case "s":
                number = int(value) if re.fullmatch(r"\s*[0-9]{1,9}\s*", value) else -1
                return self._strings[number] if 0 <= number < len(self._strings) else ""
            case "e":
                return ""
            case "b":
                return {"0": "FALSE", "1": "TRUE"}.get(value.strip(), value)
            case _:
                return _unescaped(value)


def _column(reference: str, following: int) -> int:
    """The column of a cell `BC12`, from 0; `following` where it has no reference."""
    found = REFERENCE.fullmatch(reference)
    if found is None:
        return following
    number = 0
    for letter in found[1]:
        number = 26 * number + ord(letter) - ord("A") + 1
    return number - 1


def _xlsx_rows(package: Package, where: str, part: str, strings: list[str]) -> Iterator[Cells]:
    rows = _XlsxRows(strings)
    for _piece in parsing(package.read(part), where, part, rows.start, rows.end, rows.data):
        yield from rows.done
        rows.done.clear()


# .ods


def ods_sheets(path: Path, where: str) -> Iterator[Sheet]:
    """The sheets of an .ods file. Raises CorpusError where it is broken or encrypted."""
    with Package.open(path, where, _("OpenDocument sheet")) as package:
        if "content.xml" not in package.names:
            raise CorpusError(
                _("{where}: no content.xml in it, so it is no .ods file").format(where=where)
            )
        if b"encryption-data" in package.read("META-INF/manifest.xml", missing=b""):
            raise CorpusError(
                _("{where}: is encrypted: {save_anew}").format(where=where, save_anew=_(SAVE_ANEW))
            )
        found = _OdsRows()
        xml = package.read("content.xml")
        steps = parsing(xml, where, "content.xml", found.start, found.end, found.data)
        while found.await_sheet(steps):
            sheet = found.sheet
            rows = found.rows_of_sheet(steps)
            yield Sheet(sheet, False, rows)
            for _row in rows:
                pass


class _OdsRows:
    """Collects the rows of tables in order, each with the number and the name of its table."""

    HIDDEN = frozenset({"annotation", "note", "tracked-changes", "ruby-text", "shapes"})
    SIGNS: dict[str, str] = {"tab": "\t", "line-break": "\n", "s": " "}  # noqa: RUF012

    def __init__(self) -> None:
        self._done: list[tuple[int, str, Cells]] = []
        self._count = 0
        self._name = ""
        self._row: Cells = {}
        self._place = 0
        self._cell = 0  # columns that the cell takes; 0 outside of one
        self._paragraphs: list[list[str]] = []
        self._inside = 0  # of a paragraph
        self._hidden = 0

    @property
    def sheet(self) -> str:
        """The name of the table of the next row."""
        return self._done[0][1]

    def await_sheet(self, steps: Iterator[None]) -> bool:
        """Parse until there is a row; whether one came."""
        while not self._done:
            if next(steps, END) is END:
                return False
        return True

    def rows_of_sheet(self, steps: Iterator[None]) -> Iterator[Cells]:
        """The rows up to those of the next table."""
        number = self._done[0][0]
        while self.await_sheet(steps) and self._done[0][0] == number:
            waiting = [row for count, _, row in self._done if count == number]
            del self._done[: len(waiting)]
            yield from waiting

    def start(self, name: str, attributes: Attributes) -> None:
        name = local(name)
        if self._hidden or name in self.HIDDEN:
            self._hidden += 1
        elif name == "table":
            self._count += 1
            names = (value for key, value in attributes.items() if local(key) == "name")
            self._name = next(names, "")
        elif name == "table-row":
            self._row, self._place = {}, 0
        elif name in ("table-cell", "covered-table-cell"):
            self._cell = repeated(attributes, "number-columns-repeated")
            self._paragraphs.clear()
        elif name == "p" and self._cell:
            self._paragraphs.append([])
            self._inside += 1
        elif name in self.SIGNS and self._inside:
            self._paragraphs[-1].append(
                self.SIGNS[name] * min(repeated(attributes, "c"), MOST_REPEATED)
            )

    def end(self, name: str) -> None:
        name = local(name)
        if self._hidden:
            self._hidden -= 1
        elif name == "p" and self._inside:
            self._inside -= 1
        elif name in ("table-cell", "covered-table-cell"):
            text = "\n".join(map("".join, self._paragraphs))
            if text:
                count = min(self._cell, COLUMNS - self._place, MOST_REPEATED)
                self._row.update(dict.fromkeys(range(self._place, self._place + count), text))
            self._place += self._cell
            self._cell = 0
        elif name == "table-row":
            self._done.append((self._count, self._name, self._row))

    def data(self, text: str) -> None:
        if self._inside and not self._hidden:
            self._paragraphs[-1].append(text)
