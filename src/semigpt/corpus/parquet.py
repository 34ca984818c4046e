"""Parquet of plain values, read without the `datasets` library, whose import takes a second."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["column_types", "is_plain", "tables"]

READ_AT_ONCE = 1 << 20  # bytes
NESTED = ("list", "large_list", "fixed_size_list", "struct", "map", "dictionary", "extension")


def is_plain(path: Path) -> bool:
    """Whether a file is Parquet that is whole and has no nested column."""
    if path.suffix != ".parquet" or "::" in str(path.absolute()):
        return False
    import pyarrow
    import pyarrow.parquet

    try:
        types = pyarrow.parquet.read_schema(path).types
    except (OSError, pyarrow.ArrowException):
        return False
    return not any(str(kind).startswith(NESTED) for kind in types)


def column_types(path: Path) -> dict[str, str]:
    """Arrow's name for the type of each column of a file."""
    import pyarrow.parquet

    schema = pyarrow.parquet.read_schema(path)
    return dict(zip(schema.names, map(str, schema.types), strict=True))


def tables(path: Path, columns: list[str], rows: int) -> Iterator[Any]:
    """Some columns of a file, so many rows at a time, as Arrow's batches.

    Pages are read as they are needed: a row group of 78 MB takes 27 MB of memory, and 100 if it is
    read ahead.
    """
    import pyarrow.parquet

    buffered = {"buffer_size": READ_AT_ONCE, "pre_buffer": False}
    with pyarrow.parquet.ParquetFile(path, **buffered) as file:
        yield from file.iter_batches(rows, columns=columns, use_threads=False)
