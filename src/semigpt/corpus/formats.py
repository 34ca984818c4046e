"""What a document is in a file of each format. READERS alone decides which reader reads which file.

    .txt       a paragraph where a blank line stands between two lines (`by=paragraph`), else a line
               (`by=line`); `by=document` makes the whole file one. Line ends are read as "\\n".
    .jsonl     the column of one JSON object a line
    .csv .tsv  the column of one row under a header; all columns are text: "007" and "NA" stay
    .parquet   the column of one row

Each may be compressed: `news.JSONL.gz` is a .jsonl file. `reading.choose_column` chooses the
column; files of one format share it.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from semigpt.corpus.files import (
    COMPRESSIONS,
    TextFile,
    decompressed_chunks,
    is_compressed,
    open_text,
)
from semigpt.corpus.library import (
    ROWS_AT_ONCE,
    STRINGS,
    library_errors,
    load_file,
    one_line,
    text_columns,
    values,
    values_of_tables,
)
from semigpt.corpus.parquet import column_types, is_plain, tables
from semigpt.corpus.reading import Document
from semigpt.corpus.request import FileRequest, Reader
from semigpt.errors import CorpusError

__all__ = ["READERS", "file_documents", "file_format", "formats_in_words"]

TEXT_AT_ONCE = 1 << 20  # characters of a text file in memory, and the rest of the last line
ROWS_FOR_COLUMNS = 100  # a key may be missing in a row: so many rows say together what there is
UNIT_NOTES = {
    "line": "a .txt file without blank lines was read as one document a line (#by=document reads it"
    " whole)",
    "paragraph": "a .txt file with blank lines was read as one document a paragraph (#by=line takes"
    " lines)",
}


def file_format(path: Path) -> str | None:
    """The key of READERS that reads `path`; None for a file that is not read here."""
    name = path.name.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return next((extension for extension in READERS if name.endswith(extension)), None)


def formats_in_words() -> str:
    return f"{', '.join(READERS)}, each also {' or '.join(COMPRESSIONS)}"


def file_documents(request: FileRequest) -> Iterator[Document]:
    """The documents of a file, from `request.reading.row` on.

    Raises CorpusError where the file is broken or the column is not in it.
    """
    with library_errors(request.path, request.extension):
        if request.path.stat().st_size == 0:
            return
    reader = READERS[request.extension]
    request.reading.running = reader.running
    yield from reader.read(request)


def _as_text(
    read: Callable[[FileRequest, TextFile], Iterator[Document]], request: FileRequest
) -> Iterator[Document]:
    """A format that is text: decoded first, and then read by `read`."""
    file = open_text(request.path, request.extension, request.scratch, request.reading)
    if file is None:
        return
    yield from read(request, file)
    request.reading.column = request.reading.columns.get(request.extension)
    if file.plain != file.path:
        file.plain.unlink(missing_ok=True)


# .txt


def _txt_documents(request: FileRequest, file: TextFile) -> Iterator[Document]:
    reading = request.reading
    unit = request.options.by or ("paragraph" if file.scan.paragraphs else "line")
    if request.options.by is None:
        reading.note(UNIT_NOTES[unit])
    reading.columns[request.extension] = "text"
    with library_errors(request.path, "text"):
        stream = load_file("text", file.plain, sample_by=unit, chunksize=TEXT_AT_ONCE)
        for text in values(stream, "text", reading, size=file.size):
            # The loader leaves on a paragraph the line ends of the blank lines around it.
            yield (text.strip("\n") if unit == "paragraph" else text), None


# .jsonl


def _jsonl_documents(request: FileRequest, file: TextFile) -> Iterator[Document]:
    """The text loader brings the lines and the standard library decodes them.

    The library's JSON loader refuses lone surrogates, guesses types from the first ten megabytes
    and counts rows from the start of a block. This way all that JSON can write is read, and an
    error names its line.
    """
    path, reading = request.path, request.reading
    waiting: list[tuple[int, dict[str, Any]]] = []
    # In the middle of a file its column is known.
    column = reading.columns[request.extension] if reading.row else None
    number = reading.row

    def texts_waiting() -> Iterator[Document]:
        nonlocal column
        column = request.choose_column(_columns_of_rows(waiting))
        for reading.row, row in waiting:
            yield _json_text(path, reading.row, row, column), None

    with library_errors(path, "JSON lines"):
        lines = load_file("text", file.plain, sample_by="line", chunksize=TEXT_AT_ONCE)
        for line in values(lines, "text", reading, size=file.size):
            number += 1
            if not line.strip():
                continue
            row = _json_object(path, number, line)
            if column is not None:
                yield _json_text(path, number, row, column), None
                continue
            waiting.append((number, row))
            if len(waiting) == ROWS_FOR_COLUMNS:
                yield from texts_waiting()
        if column is None and waiting:
            yield from texts_waiting()


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
            f"{path}, line {number}: {_json_kind(row)}, not an object: write one object a line"
        )
    return row


def _json_kind(value: object) -> str:
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
            f"{path}, line {number}: the column {column!r} holds {_json_kind(value)}, not text"
        )
    return value


# .csv and .tsv


def _table_documents(request: FileRequest, file: TextFile, *, separator: str) -> Iterator[Document]:
    import datasets

    with library_errors(request.path, "a table"):
        rows = list(load_file("csv", file.plain, sep=separator, nrows=1))
        if not rows:
            return
        column = request.choose_column(dict.fromkeys(rows[0], True))
        stream = load_file(
            "csv",
            file.plain,
            sep=separator,
            # Left to guess, the loader makes 7 of "007" and nothing of "NA".
            features=datasets.Features(dict.fromkeys(rows[0], datasets.Value("string"))),
            keep_default_na=False,
            chunksize=ROWS_AT_ONCE,
        )
        for value in values(stream, column, request.reading, size=file.size):
            yield value or "", None


# .parquet


def _parquet_documents(request: FileRequest) -> Iterator[Document]:
    import pyarrow.parquet as pq

    path, reading = request.path, request.reading
    with contextlib.ExitStack() as stack:
        plain = path
        if is_compressed(path) or "::" in str(path.absolute()):
            # A Parquet file is read from its end, which a compressed stream cannot be.
            plain = request.scratch / "plain.parquet"
            stack.callback(plain.unlink, missing_ok=True)
            with plain.open("wb") as out:
                for chunk in decompressed_chunks(path, "Parquet"):
                    out.write(chunk)
        with library_errors(path, "Parquet"):
            rows = pq.read_metadata(plain).num_rows
            if is_plain(plain):
                kinds = column_types(plain).items()
                column = request.choose_column({name: kind in STRINGS for name, kind in kinds})
                batches = tables(plain, column, ROWS_AT_ONCE)
                found = values_of_tables(batches, column, reading, rows=rows)
            else:
                column = request.choose_column(text_columns(load_file("parquet", plain).features))
                stream = load_file("parquet", plain, columns=[column], batch_size=ROWS_AT_ONCE)
                found = values(stream, column, reading, rows=rows)
            for value in found:
                yield value or "", None
    reading.column = column


READERS: dict[str, Reader] = {
    ".txt": Reader(partial(_as_text, _txt_documents), running=True),
    ".jsonl": Reader(partial(_as_text, _jsonl_documents)),
    ".csv": Reader(partial(_as_text, partial(_table_documents, separator=","))),
    ".tsv": Reader(partial(_as_text, partial(_table_documents, separator="\t"))),
    ".parquet": Reader(_parquet_documents),
}
