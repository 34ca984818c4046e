"""All that is asked of the `datasets` library: quiet calls, one-line errors, rows in batches.

The library is imported inside functions: a staged corpus opens without it.
"""

import contextlib
import gc
import glob
import logging
import sys
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from semigpt.corpus.kinds.conversations import (
    Template,
    conversation_columns,
    conversation_template,
)
from semigpt.corpus.reading import SPLIT_NAMES, SPLITS, Document, Reading, choose_column, shortened
from semigpt.errors import CorpusError
from semigpt.language import _

__all__ = [
    "ROWS_AT_ONCE",
    "library_errors",
    "load_file",
    "one_line",
    "open_datasets",
    "open_splits",
    "quiet_datasets",
    "quietly",
    "text_columns",
    "values",
    "values_of_tables",
]

ROWS_AT_ONCE = 256  # rows in memory: documents of a megabyte each take a quarter of a gigabyte
LIBRARY_READERS = {"text", "json", "csv", "parquet", "arrow"}
STRINGS = ("string", "large_string", "string_view")

Step = TypeVar("Step")
Result = TypeVar("Result")


# Quiet calls


@contextlib.contextmanager
def quiet_datasets() -> Iterator[None]:
    """Inside, `datasets` draws no bars, logs nothing, reports no use and does not import torch.

    Afterwards it is as before. What it would have logged is in the errors raised here, in one line.
    """
    import datasets

    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub", "fsspec")]
    levels = [logger.level for logger in loggers]
    config = datasets.config
    # IterableDataset imports torch (219 MB) for DataLoader workers, of which there are none;
    # load_dataset reports its use to a server, 3 s a call where there is no network.
    kept = config.TORCH_AVAILABLE, config.HF_UPDATE_DOWNLOAD_COUNTS
    bars_were_on = not datasets.are_progress_bars_disabled()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    config.TORCH_AVAILABLE = config.TORCH_AVAILABLE and "torch" in sys.modules
    config.HF_UPDATE_DOWNLOAD_COUNTS = False
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        config.TORCH_AVAILABLE, config.HF_UPDATE_DOWNLOAD_COUNTS = kept
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars_were_on:
            datasets.enable_progress_bars()


def quietly(steps: Generator[Step, None, Result]) -> Generator[Step, None, Result]:
    """Run each step of a generator inside `quiet_datasets()`; its caller's own work is outside.

    What is thrown in, GeneratorExit too, reaches `steps` where it waits.
    """
    thrown: BaseException | None = None
    while True:
        with quiet_datasets():
            try:
                step = next(steps) if thrown is None else steps.throw(thrown)
            except StopIteration as done:
                result: Result = done.value
                return result
            finally:
                thrown = None  # or it and this frame would keep each other, and open files, alive
        try:
            yield step
        except BaseException as error:
            thrown = error


# Errors in one line


@contextlib.contextmanager
def library_errors(where: Path | str, kind: str) -> Iterator[None]:
    """Turn whatever a library raises about a broken file into one line that names the file.

    Around a generator's `yield` it sees what the generator raises and nothing of what its caller
    does: a full disk, met when a document is written, is not the fault of the file that was read.
    """
    refusal = None
    try:
        yield
    except CorpusError:
        raise
    except Exception as error:
        # The libraries (pandas, pyarrow, zstandard, zlib, huggingface_hub) share no base class.
        refusal = _refusal(where, kind, error)
    # Raised here, it does not keep the library's frames, and the files they hold open, alive.
    if refusal is not None:
        raise refusal


def _refusal(where: Path | str, kind: str, error: BaseException) -> CorpusError:
    # `datasets` wraps what went wrong in "An error occurred while generating the dataset".
    while type(error).__name__ == "DatasetGenerationError" and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, PermissionError):
        return CorpusError(
            _("{where}: no permission to read it: allow it with chmod u+r").format(where=where)
        )
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return CorpusError(_("{where}: it is no longer there").format(where=where))
    return CorpusError(
        _("{where}: cannot be read as {kind} ({error})").format(
            where=where, kind=kind.removeprefix("."), error=one_line(error)
        )
    )


def one_line(error: BaseException) -> str:
    """What an error says, in one line of at most 200 characters."""
    return shortened(" ".join(str(error).split()) or type(error).__name__)


# Rows


def load_file(loader: str, path: Path, **options: Any) -> Any:
    """A stream over one file. One call a file lets an error say which file it was."""
    import datasets

    return datasets.load_dataset(
        loader,
        data_files={"train": [glob.escape(str(path.absolute()))]},
        split="train",
        streaming=True,
        **options,
    )


def values(
    stream: Any,
    column: str | None,
    reading: Reading,
    *,
    size: int | None = None,
    rows: int | None = None,
) -> Generator[Any, None, None]:
    """The values of one column of a stream or a dataset, from row `reading.row` on.

    See `values_of_tables`.
    """
    tables = stream.with_format("arrow").iter(batch_size=ROWS_AT_ONCE)
    return values_of_tables(tables, column, reading, size=size, rows=rows)


def values_of_tables(
    tables: Iterable[Any],
    column: str | None,
    reading: Reading,
    *,
    size: int | None = None,
    rows: int | None = None,
) -> Generator[Any, None, None]:
    """The values of one column of Arrow's tables, from row `reading.row` on; None: rows as dicts.

    A few hundred rows are in memory at a time. Rows that are skipped are parsed, but their values
    are not made. All of the stream is `size` bytes of text, or `rows` rows.
    """
    first, row, text = reading.row, 0, 0
    for table in tables:
        begins, row = row, row + len(table)
        if size:
            # Arrow's offsets are 4 bytes a value, where the file has a comma or a line end.
            text += table.nbytes - 3 * table.num_columns * len(table)
            reading.file_fraction = min(text / size, 1.0)
        elif rows:
            reading.file_fraction = row / rows
        if row > first:
            wanted = table if column is None else table.column(column)
            batch = wanted.slice(max(first - begins, 0)).to_pylist()
            for reading.row, value in enumerate(batch, max(first, begins) + 1):
                yield value


def text_columns(features: Mapping[str, Any]) -> dict[str, bool]:
    """Each column's name, and whether it holds strings."""
    return {name: getattr(value, "dtype", None) in STRINGS for name, value in features.items()}


# Datasets that the library opened


def open_datasets(
    where: str, builder: Any, split: str | None = None, *, streaming: bool = True
) -> Any:
    """What `load_dataset` does, once it is known that only files of text and tables are opened.

    The library reads many more kinds; some hold whatever torch can unpickle, and none is text.
    Raises CorpusError for those.
    """
    home = "datasets.packaged_modules."
    readers = {
        base.__module__.split(".")[-1]
        for base in type(builder).__mro__
        if base.__module__.startswith(home)
    }
    if not readers & LIBRARY_READERS:
        raise CorpusError(
            _(
                "{where}: it holds {readers} files: of the kinds that datasets "
                "reads, these are text: {library_readers}"
            ).format(
                where=where,
                readers=" ".join(sorted(readers)),
                library_readers=", ".join(sorted(LIBRARY_READERS)),
            )
        )
    if streaming:
        return builder.as_streaming_dataset(split=split)
    builder.download_and_prepare()
    return builder.as_dataset(split=split)


def open_splits(
    where: str,
    streams: Mapping[str, Any],
    split: str | None,
    column: str | None,
    revision: str | None = None,
) -> Reading:
    """Datasets that the library opened, by the name of their split; "" for one without.

    Raises CorpusError where `split` or the column is not there, or no split is called train.
    """
    reading = Reading(revision=revision)
    streams = _named_splits(where, streams, split, reading)
    with library_errors(where, "a dataset"):
        first = next(iter(streams.values()))
        if first.features is None:  # JSON or CSV: known once the first rows are read
            columns = _columns_of_first_row(first)
        else:
            columns = text_columns(first.features)
    chosen: str | None = None
    parts, text_of = _conversation(where, first, columns, reading) if column is None else ([], None)
    if text_of is None:
        chosen = reading.column = choose_column(where, columns, column)

    def documents(name: str) -> Iterator[Document]:
        with library_errors(where, "a dataset"):
            stream = streams[name].select_columns([chosen] if chosen else parts)
            for value in values(stream, chosen, reading):
                text = value if text_of is None else text_of(value)
                if text is None and text_of is not None:
                    raise CorpusError(
                        _(
                            "{where}: row {row:,} of {value} is not a conversation "
                            "like the first one"
                        ).format(where=where, row=reading.row, value=name or "it")
                    )
                if not isinstance(text, str | None):
                    raise CorpusError(
                        _("{where}: the column {chosen!r} does not hold text").format(
                            where=where, chosen=chosen
                        )
                    )
                yield text or "", None

    for name in streams:
        reading.add_split(name, documents)
    return reading


def _conversation(
    where: str, stream: Any, columns: Iterable[str], reading: Reading
) -> tuple[list[str], Template | None]:
    """The columns of a stream that make conversations, and what makes text of a row of these."""
    parts = conversation_columns(columns)
    if not parts:
        return [], None
    with library_errors(where, "a dataset"):
        rows = values(stream.select_columns(parts), None, Reading())
        with contextlib.closing(rows):
            found = conversation_template(list(islice(rows, ROWS_AT_ONCE)))
    if found is None:
        return [], None
    reading.tally(found[0], where)
    return parts, found[1]


def _named_splits(
    where: str, streams: Mapping[str, Any], split: str | None, reading: Reading
) -> Mapping[str, Any]:
    """The streams to read, under our names: train, validation and test, or "" for one alone."""
    if split is not None and "" not in streams:
        if split not in streams:
            raise CorpusError(
                _("{where}: no split {split!r}: its splits are {streams}").format(
                    where=where, split=split, streams=", ".join(streams)
                )
            )
        return {"": streams[split]}
    if len(streams) == 1 and "train" not in streams:
        return {"": next(iter(streams.values()))}
    named = {SPLIT_NAMES.get(name, name): stream for name, stream in streams.items()}
    if "train" not in named:
        raise CorpusError(
            _("{where}: no split is called train: take one of {streams} with #split=NAME").format(
                where=where, streams=", ".join(streams)
            )
        )
    others = [name for name in named if name not in SPLITS]
    if others:
        reading.note(
            _("not read: the split {others} (#split=NAME takes one)").format(
                others=", ".join(others)
            )
        )
    return {name: named[name] for name in SPLITS if name in named}


def _columns_of_first_row(stream: Any) -> dict[str, bool]:
    """The columns of a stream that is not read on; {} where it has no rows.

    The library leaves a CSV file that is half read open, in a cycle of references: collected now,
    or Python would warn of it later.
    """
    row: dict[str, Any] = next(iter(stream), {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return {name: value is None or isinstance(value, str) for name, value in row.items()}
