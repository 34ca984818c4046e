"""JSON lines: one object a line, a document in one of its columns.

The standard library decodes each line, so all that JSON can write is read, lone surrogates too, and
an error names its line.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from semigpt.corpus.files import open_text, scan_file
from semigpt.corpus.library import library_errors, one_line
from semigpt.corpus.reading import Document
from semigpt.corpus.request import FileRequest
from semigpt.errors import CorpusError

__all__ = ["json_kind", "json_lines_documents"]

ROWS_FOR_COLUMNS = 100  # a key may be missing in a row: so many rows say together what there is


def json_lines_documents(request: FileRequest) -> Iterator[Document]:
    """The documents of a .jsonl file; `reading.row` counts its lines."""
    path, reading = request.path, request.reading
    scan = scan_file(path, reading)
    if scan is None:
        return
    waiting: list[tuple[int, dict[str, Any]]] = []
    # In the middle of a file its column is known.
    column = reading.columns[request.extension] if reading.row else None
    first, characters = reading.row, 0
    with library_errors(path, "JSON lines"), open_text(path, scan) as lines:
        for number, line in enumerate(lines, 1):
            characters += len(line)
            if number <= first or line.isspace():
                continue
            row = _json_object(path, number, line.removesuffix("\n"))
            reading.file_fraction = min(characters / scan.characters, 1.0)
            if column is None:
                waiting.append((number, row))
                if len(waiting) < ROWS_FOR_COLUMNS:
                    continue
                column = request.choose_column(_columns_of_rows(waiting))
                for reading.row, row in waiting:
                    yield _json_text(path, reading.row, row, column), None
                continue
            reading.row = number
            yield _json_text(path, number, row, column), None
        if column is None and waiting:
            column = request.choose_column(_columns_of_rows(waiting))
            for reading.row, row in waiting:
                yield _json_text(path, reading.row, row, column), None
    reading.column = reading.columns.get(request.extension)


def _json_object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        # strict=False takes control characters inside strings as they stand, NULs among them.
        row = json.loads(line, strict=False)
    except json.JSONDecodeError as error:
        raise CorpusError(
            f"{path}, line {number}: not JSON ({error.msg}, character {error.colno}): "
            "write one object a line"
        ) from None
    except (ValueError, RecursionError) as error:
        raise CorpusError(
            f"{path}, line {number}: not JSON that can be read ({one_line(error)})"
        ) from None
    if not isinstance(row, dict):
        raise CorpusError(
            f"{path}, line {number}: {json_kind(row)}, not an object: write one object a line"
        )
    return row


def json_kind(value: object) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "a number"
    names = {list: "a list", str: "a string", dict: "an object", bool: "true or false"}
    return names.get(type(value), "null")


def _columns_of_rows(rows: Sequence[tuple[int, dict[str, Any]]]) -> dict[str, bool]:
    columns: dict[str, bool] = {}
    for _, row in rows:
        for name, value in row.items():
            columns[name] = columns.get(name, False) or value is None or isinstance(value, str)
    return columns


def _json_text(path: Path, number: int, row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise CorpusError(
            f"{path}, line {number}: the column {column!r} holds {json_kind(value)}, not text"
        )
    return value
