"""JSON lines: one object a line, a document in one of its columns, or a conversation.

The standard library decodes each line, so all that JSON can write is read, lone surrogates too, and
an error names its line.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from semigpt.corpus.files import open_text, scan_file
from semigpt.corpus.json_paths import paths_in_words, values_at
from semigpt.corpus.kinds.conversations import conversation_template
from semigpt.corpus.library import library_errors, one_line
from semigpt.corpus.reading import ColumnError, Document, Span
from semigpt.corpus.request import FileRequest, from_start
from semigpt.corpus.text import TextScan
from semigpt.errors import CorpusError
from semigpt.language import _

__all__ = ["ROWS_FOR_COLUMNS", "columns_of_rows", "json_lines_documents"]

# Not strict: control characters inside strings are taken as they stand, NULs among them.
DECODER = json.JSONDecoder(strict=False)
ROWS_FOR_COLUMNS = 100  # a key may be missing in a row: so many rows say together what there is


def json_lines_documents(request: FileRequest) -> Iterator[Document]:
    """The documents of a .jsonl file; `reading.row` counts its lines."""
    path, reading = request.path, request.reading
    if request.options.path is not None:
        yield from from_start(_texts_at_path, "JSON lines")(request)
        return
    scan = scan_file(path, reading)
    if scan is None:
        return
    if reading.span is not None:
        yield from _span_documents(request, scan, reading.span)
        reading.column = reading.columns.get(request.extension)
        return
    waiting: list[tuple[int, dict[str, Any]]] = []
    text_of: Callable[[int, dict[str, Any]], str] | None = None
    first, characters = reading.row, 0

    def documents() -> Iterator[Document]:
        nonlocal text_of
        # The first rows tell what makes text of a row, also where a reading is resumed behind them.
        text_of = text_of or _text_of(request, [row for _, row in waiting])
        for number, row in waiting:
            if number > first:
                reading.row = number
                yield text_of(number, row), None
        waiting.clear()

    with library_errors(path, "JSON lines"), open_text(path, scan) as lines:
        for number, line in enumerate(lines, 1):
            characters += len(line)
            if line.isspace() or (text_of is not None and number <= first):
                continue
            try:
                row = _json_object(path, number, line.removesuffix("\n"))
            except CorpusError:
                if request.options.broken is not None and waiting:
                    yield from documents()
                raise
            waiting.append((number, row))
            reading.file_fraction = min(characters / scan.characters, 1.0)
            if text_of is not None or len(waiting) == ROWS_FOR_COLUMNS:
                yield from documents()
        if waiting:
            yield from documents()
    reading.column = reading.columns.get(request.extension)


def _span_documents(request: FileRequest, scan: TextScan, span: Span) -> Iterator[Document]:
    """The documents of a part of a file, whose first rows tell what makes text of a row."""
    path, reading = request.path, request.reading
    with library_errors(path, "JSON lines"):
        with open_text(path, scan) as lines:
            head = list(islice(_rows(path, lines, 0), ROWS_FOR_COLUMNS))
        text_of = _text_of(request, [row for _, row in head]) if head else None
        with open_text(path, scan, span) as lines:
            for number, row in _rows(path, lines, span.row):
                assert text_of is not None, "it has a row"
                reading.row = number
                yield text_of(number, row), None


def _rows(path: Path, lines: Iterable[str], before: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row and the number of its line; `before` lines come before the first."""
    for number, line in enumerate(lines, before + 1):
        if not line.isspace():
            yield number, _json_object(path, number, line.removesuffix("\n"))


def _texts_at_path(request: FileRequest) -> Iterator[str]:
    """The texts at `#path=` of each line."""
    scan, place = scan_file(request.path, request.reading), request.options.path
    if scan is None or place is None:
        return
    keys, empty = place.split("."), True
    request.reading.column = place
    with open_text(request.path, scan) as lines:
        for number, row in _rows(request.path, lines, 0):
            for value in values_at(row, keys):
                if not isinstance(value, str | None):
                    raise CorpusError(
                        _("{path}, line {number}: {value} at path={place}, not text: {row}").format(
                            path=request.path,
                            number=number,
                            value=_json_kind(value),
                            place=place,
                            row=paths_in_words(row),
                        )
                    )
                empty = False
                yield value or ""
    if empty:
        raise CorpusError(
            _("{path}: nothing at path={place} in any line").format(path=request.path, place=place)
        )


def _text_of(
    request: FileRequest, rows: Sequence[dict[str, Any]]
) -> Callable[[int, dict[str, Any]], str]:
    """What gives the text of a row and its line: a column's, or a conversation's."""
    path, reading = request.path, request.reading
    columns = columns_of_rows(rows)
    template = None if request.has_column(columns) else conversation_template(rows)
    if template is None:
        if request.column is None and not any(columns.values()):
            raise ColumnError(
                _("{path}: no column holds text: {rows}").format(
                    path=path, rows=paths_in_words(list(rows))
                )
            )
        column = request.choose_column(columns)
        return lambda number, row: _json_text(request, number, row, column)
    note, conversation = template
    if not reading.row:
        reading.tally(note, path.name)

    def text_of(number: int, row: dict[str, Any]) -> str:
        text = conversation(row)
        if text is None:
            raise CorpusError(
                _("{path}, line {number}: not a conversation like the first row's").format(
                    path=path, number=number
                )
            )
        return text

    return text_of


def _json_object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = DECODER.decode(line)
    except json.JSONDecodeError as error:
        raise CorpusError(
            _(
                "{path}, line {number}: not JSON ({msg}, character {colno}): "
                "write one object a line"
            ).format(path=path, number=number, msg=error.msg, colno=error.colno)
        ) from None
    except (ValueError, RecursionError) as error:
        raise CorpusError(
            _("{path}, line {number}: not JSON that can be read ({error})").format(
                path=path, number=number, error=one_line(error)
            )
        ) from None
    if not isinstance(row, dict):
        raise CorpusError(
            _("{path}, line {number}: {row}, not an object: write one object a line{value}").format(
                path=path,
                number=number,
                row=_json_kind(row),
                value=_(", or let its name end in .json") if isinstance(row, list) else "",
            )
        )
    return row


def _json_kind(value: object) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "a number"
    names = {list: "a list", str: "a string", dict: _("an object"), bool: _("true or false")}
    return names.get(type(value), "null")


def columns_of_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    """Each key of the first rows, and whether one of them holds a string or null there."""
    columns: dict[str, bool] = {}
    for row in rows[:ROWS_FOR_COLUMNS]:
        for name, value in row.items():
            columns[name] = columns.get(name, False) or isinstance(value, str | None)
    return columns


def _json_text(request: FileRequest, number: int, row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        if column not in row:
            where = f"{request.path.name}, line {number:,}"
            request.reading.tally(
                _("no {column!r} in this row, so no text").format(column=column), where
            )
        return ""
    if not isinstance(value, str):
        raise CorpusError(
            _("{path}, line {number}: the column {column!r} holds {value}, not text").format(
                path=request.path, number=number, column=column, value=_json_kind(value)
            )
        )
    return value
