"""What a document is in a file of each format. READERS alone decides which reader reads which file.

    .txt       a paragraph or a line; see `running`
    .jsonl     the column of one JSON object a line
    .csv .tsv  the column of one row; see `tables`
    .parquet   the column of one row

Each may be compressed: `news.JSONL.gz` is a .jsonl file. `reading.choose_column` chooses the
column; files of one format share it.
"""

from collections.abc import Iterator
from pathlib import Path

from semigpt.corpus.compression import COMPRESSIONS
from semigpt.corpus.json_lines import json_lines_documents
from semigpt.corpus.kinds.readers import kinds
from semigpt.corpus.kinds.source import plain_file
from semigpt.corpus.library import (
    ROWS_AT_ONCE,
    STRINGS,
    library_errors,
    load_file,
    text_columns,
    values,
    values_of_tables,
)
from semigpt.corpus.parquet import column_types, is_plain, tables
from semigpt.corpus.reading import Document
from semigpt.corpus.request import FileRequest, Reader
from semigpt.corpus.running import running_documents
from semigpt.corpus.tables import table_documents

__all__ = ["READERS", "file_documents", "file_format", "formats_in_words", "is_running"]


def file_format(path: Path) -> str | None:
    """The key of READERS that reads `path`; None for a file that is not read here."""
    name = path.name.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return next((extension for extension in READERS if name.endswith(extension)), None)


def is_running(path: Path) -> bool:
    """Whether a file is running text, which has no columns."""
    extension = file_format(path)
    return extension is not None and READERS[extension].running


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


# .parquet


def _parquet_documents(request: FileRequest) -> Iterator[Document]:
    import pyarrow.parquet as pq

    path, reading = request.path, request.reading
    # The library takes "::" in a name for an address.
    is_address = "::" in str(path.absolute())
    with plain_file(request, copy_if=is_address) as plain, library_errors(path, "Parquet"):
        rows = pq.read_metadata(plain).num_rows
        if is_plain(plain):
            types = column_types(plain).items()
            column = request.choose_column({name: kind in STRINGS for name, kind in types})
            batches = tables(plain, column, ROWS_AT_ONCE)
            found = values_of_tables(batches, column, reading, rows=rows)
        else:
            column = request.choose_column(text_columns(load_file("parquet", plain).features))
            stream = load_file("parquet", plain, columns=[column], batch_size=ROWS_AT_ONCE)
            found = values(stream, column, reading, rows=rows)
        for value in found:
            yield value or "", None
    reading.column = column


def _reader_of(path: Path) -> tuple[str, Reader] | None:
    extension = file_format(path)
    return (extension, READERS[extension]) if extension else None


READERS: dict[str, Reader] = {
    ".txt": Reader(running_documents, running=True),
    ".jsonl": Reader(json_lines_documents),
    ".csv": Reader(table_documents),
    ".tsv": Reader(table_documents),
    ".parquet": Reader(_parquet_documents),
    **kinds(_reader_of),
}
