"""The rows of a workbook's sheets as a table, of which a column is the text (`columns`).

The first visible sheet in which a column can be the text is read, and with it those whose columns
have the same names; the others are named in a note. `#sheet=` takes one, by name or number.
"""

from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path

from semigpt.corpus.columns import ABOVE, name_columns, rows_above, text_of_row
from semigpt.corpus.kinds.sheets import Cells, Sheet
from semigpt.corpus.kinds.source import plain_file
from semigpt.corpus.reading import AmbiguousColumnError, ColumnError, shortened
from semigpt.corpus.request import FileRequest, Reader, from_start
from semigpt.errors import CorpusError
from semigpt.language import _

__all__ = ["workbook"]

HEAD_ROWS = 100
RowText = Callable[[list[str]], str | None]


def workbook(sheets: Callable[[Path, str], Iterator[Sheet]]) -> Reader:
    """A reader of workbooks whose sheets `sheets` gives."""

    def texts(request: FileRequest) -> Iterator[str]:
        with plain_file(request) as path:
            yield from _Workbook(request).texts(sheets(path, str(request.path)))

    return Reader(from_start(texts, "a workbook"))


class _Workbook:
    """A workbook while it is read.

    names:    of the columns, once a sheet with a text is found
    refusal:  why the first sheet without one has none
    """

    def __init__(self, request: FileRequest) -> None:
        self.request = request
        self.names: tuple[str, ...] | None = None
        self.text_of: RowText | None = None
        self.refusal: ColumnError | None = None
        self.read: list[str] = []
        self.left: list[str] = []

    def texts(self, sheets: Iterator[Sheet]) -> Iterator[str]:
        request, wanted = self.request, self.request.options.sheet
        for number, sheet in enumerate(sheets, 1):
            if sheet.hidden if wanted is None else wanted not in (sheet.name, str(number)):
                self.left.append(sheet.name)
                continue
            yield from self._texts_of(sheet)
        if wanted is not None and not self.read and self.refusal is None:
            raise CorpusError(
                _("{path}: no sheet {wanted!r} with rows: its sheets are {value}").format(
                    path=request.path,
                    wanted=wanted,
                    value=shortened(", ".join(self.left)) or "none",
                )
            )
        if not self.read:
            if self.refusal is not None:
                raise self.refusal
            return
        if self.left and wanted is None:
            request.reading.note(
                _(
                    "{name}: of its sheets, {read} read, and not {left} (#sheet=NAME takes one)"
                ).format(
                    name=request.path.name,
                    read=shortened(", ".join(self.read)),
                    left=shortened(", ".join(self.left)),
                )
            )

    def _texts_of(self, sheet: Sheet) -> Iterator[str]:
        rows = filter(None, sheet.rows)
        head = list(islice(rows, HEAD_ROWS))
        if not head:
            return
        table = _table(head, self.names)
        above = rows_above(table)
        header = self._header(table[above:]) if len(table) > above + 1 else None
        if header is None:
            self.left.append(sheet.name)
            return
        self.read.append(sheet.name)
        if above:
            self.request.tell(_(ABOVE))
        assert self.names is not None
        assert self.text_of is not None
        for number, cells in enumerate(chain(head[above + header :], rows), above + header + 1):
            text = self.text_of([cells.get(place, "") for place in range(len(self.names))])
            if text is None:
                raise CorpusError(
                    _(
                        "{path}, sheet {name}, row {number:,}: not a conversation "
                        "like the first one"
                    ).format(path=self.request.path, name=sheet.name, number=number)
                )
            yield text

    def _header(self, table: list[list[str]]) -> int | None:
        """How many rows of a sheet name its columns; None where it is not read."""
        request = self.request
        names, header, note = name_columns(request, table)
        if self.names is not None:
            return header if header and names == self.names else None
        try:
            self.text_of = text_of_row(
                request, names, table[header:], _("#sheet=NAME takes another sheet")
            )
        except AmbiguousColumnError:
            raise
        except ColumnError as error:
            self.refusal = self.refusal or error
            return None
        self.names = names
        if note:
            request.tell(note)
        return header


def _table(head: list[Cells], names: tuple[str, ...] | None) -> list[list[str]]:
    width = len(names) if names else 1 + max(place for row in head for place in row)
    return [[cells.get(place, "") for place in range(width)] for cells in head]
