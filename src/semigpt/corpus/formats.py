"""What a document is in a file of each format. READERS alone decides which reader reads which file.

    .txt       a paragraph or a line; see `running`
    .jsonl     the column of one JSON object a line; .ndjson is another name of it
    .csv .tsv  the column of one row; see `tables`
    .parquet   the column of one row

Each may be compressed: `news.JSONL.gz` is a .jsonl file. `reading.choose_column` chooses the
column; files of one format share it. A file whose name has no ending is read as a .txt where it is
asked for by its name, or nothing beside it is read.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from semigpt.corpus.compression import COMPRESSIONS, is_compressed, open_binary
from semigpt.corpus.json_lines import ROWS_FOR_COLUMNS, json_lines_documents
from semigpt.corpus.kinds.conversations import (
    Template,
    conversation_columns,
    conversation_template,
)
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
from semigpt.errors import CorpusError
from semigpt.language import _

__all__ = [
    "PLAIN_TEXT",
    "READERS",
    "file_documents",
    "file_format",
    "formats_in_words",
    "is_running",
    "nameless_texts",
]

PLAIN_TEXT = ".txt"
# `a.log` has an ending; `소설 1.5화` has none.
ENDING = re.compile(r"\.[A-Za-z0-9_~-]{1,12}")
HEAD_BYTES = 4096


def file_format(path: Path) -> str | None:
    """The key of READERS that reads `path`; None for a file that is not read here."""
    name = path.name.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return next((extension for extension in READERS if name.endswith(extension)), None)


def nameless_texts(paths: Iterable[Path]) -> list[Path]:
    """Those of some files that are read as .txt: their names have no ending but that of a
    compression, and no byte of their beginnings is binary.
    """
    return [path for path in paths if _has_no_ending(path) and _begins_as_text(path)]


def _has_no_ending(path: Path) -> bool:
    name = Path(path.stem) if is_compressed(path) else path
    return not ENDING.fullmatch(name.suffix)


def _begins_as_text(path: Path) -> bool:
    try:
        with library_errors(path, "text"), open_binary(path) as file:
            head = file.read(HEAD_BYTES)
    except CorpusError:
        return True  # its reader says what is wrong
    return b"\0" not in head or head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def is_running(path: Path) -> bool:
    """Whether a file is running text, which has no columns."""
    return READERS[file_format(path) or PLAIN_TEXT].running


def formats_in_words() -> str:
    return _("{readers}, each also {compressions}").format(
        readers=", ".join(READERS), compressions=" or ".join(COMPRESSIONS)
    )


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
        if conversation := _conversation(request, plain):
            columns, text_of = conversation
            batches = tables(plain, columns, ROWS_AT_ONCE)
            for row in values_of_tables(batches, None, reading, rows=rows):
                text = text_of(row)
                if text is None:
                    raise CorpusError(
                        _("{path}, row {row:,}: not a conversation like the first one").format(
                            path=path, row=reading.row
                        )
                    )
                yield text, None
            return
        if is_plain(plain):
            types = column_types(plain).items()
            column = request.choose_column({name: kind in STRINGS for name, kind in types})
            batches = tables(plain, [column], ROWS_AT_ONCE)
            found = values_of_tables(batches, column, reading, rows=rows)
        else:
            column = request.choose_column(text_columns(load_file("parquet", plain).features))
            stream = load_file("parquet", plain, columns=[column], batch_size=ROWS_AT_ONCE)
            found = values(stream, column, reading, rows=rows)
        for value in found:
            yield value or "", None
    reading.column = column


def _conversation(request: FileRequest, plain: Path) -> tuple[list[str], Template] | None:
    """The columns of a file that make conversations, and what makes text of a row of these."""
    names = column_types(plain)
    columns = [] if request.has_column(names) else conversation_columns(names)
    batch = next(tables(plain, columns, ROWS_FOR_COLUMNS), None) if columns else None
    found = conversation_template(batch.to_pylist()) if batch is not None else None
    if found is None:
        return None
    note, text_of = found
    if not request.reading.row:
        request.reading.tally(note, request.path.name)
    return columns, text_of


def _reader_of(path: Path) -> tuple[str, Reader] | None:
    extension = file_format(path)
    return (extension, READERS[extension]) if extension else None


READERS: dict[str, Reader] = {
    PLAIN_TEXT: Reader(running_documents, running=True),
    ".jsonl": Reader(json_lines_documents),
    ".ndjson": Reader(json_lines_documents),
    ".csv": Reader(table_documents),
    ".tsv": Reader(table_documents),
    ".parquet": Reader(_parquet_documents),
    **kinds(_reader_of),
}
