"""Files and folders to splits: which files make which split, and what the library reads instead.

A folder is, in this order:
- what `save_to_disk` wrote, read by the library;
- a dataset whose README.md asks for a reader's options (a separator, a field) or for other kinds of
  file, read by the library as its author declared it;
- a dataset: its README.md declares which files make which split, or its files are named by split;
- files that are one text together.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from semigpt.corpus.files import file_identity, files_below, runs_below
from semigpt.corpus.formats import FileRequest, file_documents, file_format, formats_in_words
from semigpt.corpus.library import library_errors, open_datasets, open_splits
from semigpt.corpus.plain import declared_splits
from semigpt.corpus.reading import SPLIT_NAMES, SPLITS, Document, Reading
from semigpt.corpus.spec import FolderSource
from semigpt.errors import CorpusError

__all__ = ["open_files", "open_folder"]

CARDS = ("README.md", ".huggingface.yaml")
SAVED = ("dataset_dict.json", "dataset_info.json")
# Settings of the library's readers that change nothing about which documents are read.
HARMLESS = {"name", "version", "data_dir", "data_files", "description", "sep", "delimiter"}


def open_files(
    splits: Mapping[str, Sequence[Path]], by: str | None, column: str | None, scratch: Path
) -> Reading:
    """Files of our formats by split, "" for files without one, read in the order given.

    Raises CorpusError where a column is asked of text files, or a file cannot be read.
    """
    every = [path for paths in splits.values() for path in paths]
    if column not in (None, "text") and all(file_format(path) == ".txt" for path in every):
        raise CorpusError(
            f"{every[0]}: no column {column!r}: a .txt file has none, leave --column out"
        )
    reading = Reading()

    def documents(split: str) -> Iterator[Document]:
        for index, path in enumerate(splits[split]):
            if index < reading.file_index:  # read before this process began
                continue
            if index > reading.file_index:
                reading.go_to_file(index)
            extension = cast(str, file_format(path))
            yield from file_documents(FileRequest(path, extension, column, by, scratch, reading))

    for split, paths in splits.items():
        reading.add_split(split, documents)
        reading.file_sizes[split] = [file_identity(path)[1] for path in paths]
    return reading


def open_folder(source: FolderSource, column: str | None, scratch: Path) -> Reading:
    """A folder; see the module.

    Raises CorpusError where nothing in it is read, or a split or configuration is not there.
    """
    if any((source.path / name).is_file() for name in SAVED):
        return _open_saved(source, column)
    files = files_below(source.path)
    read = [path for path in files if file_format(path)]
    if not read and not any((source.path / name).is_file() for name in CARDS):
        raise CorpusError(
            f"{source.path}: no file in it is of a kind that is read here: {formats_in_words()}"
        )
    declared = declared_splits(source)
    # The library would take the files of a run for text.
    guessed = declared is None and (not runs_below(source.path) or _declares_files(source.path))
    builder = _builder(source) if guessed else None
    splits = _declared_splits(builder) if declared is None else declared
    if builder is not None and not _is_ours(builder, splits):
        with library_errors(source.path, "a dataset"):
            loaded = open_datasets(str(source.path), builder)
        return open_splits(str(source.path), dict(loaded), source.split, column)
    if source.split is not None:
        if source.split not in splits:
            names = ", ".join(splits) or "none"
            raise CorpusError(f"{source.path}: no split {source.split!r}: it has {names}")
        return open_files({"": splits[source.split]}, source.by, column, scratch)
    named = {SPLIT_NAMES.get(name, name): paths for name, paths in splits.items()}
    is_declared = len(named) > 1 or source.config is not None or _declares_files(source.path)
    if "train" in named and is_declared:
        used = {name: named[name] for name in SPLITS if name in named}
        taken = {path.resolve() for paths in used.values() for path in paths}
        left_out = [path for path in read if path.resolve() not in taken]
        why = "not of one of its splits"
    else:
        # No file is called train: they are one text, whatever else their names say.
        used = {"": read}
        left_out = [path for path in files if not file_format(path) and path.name != "README.md"]
        why = "not of a kind that is read here"
    reading = open_files(used, source.by, column, scratch)
    if left_out:
        more = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        reading.note(f"not read in {source.path}: {left_out[0].name}{more}, {why}")
    return reading


def _open_saved(source: FolderSource, column: str | None) -> Reading:
    import datasets

    if source.config is not None:
        raise CorpusError(
            f"{source.path}: saved by save_to_disk, without configurations: leave config= out"
        )
    with library_errors(source.path, "a saved dataset"):
        saved = datasets.load_from_disk(str(source.path))
    streams = dict(saved) if isinstance(saved, datasets.DatasetDict) else {"": saved}
    return open_splits(str(source.path), streams, source.split, column)


def _builder(source: FolderSource) -> Any:
    """The library's view of a folder: configuration, splits, files. None where it finds nothing."""
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    with library_errors(source.path, "a dataset"):
        try:
            return datasets.load_dataset_builder(str(source.path), name=source.config)
        except (FileNotFoundError, DatasetNotFoundError):
            if source.config is not None or _declares_files(source.path):
                raise
            return None


def _declared_splits(builder: Any) -> dict[str, list[Path]]:
    files = (builder.config.data_files or {}) if builder else {}
    return {str(name): [Path(file) for file in names] for name, names in files.items()}


def _declares_files(folder: Path) -> bool:
    """Whether its README.md, or `.huggingface.yaml`, says which files make which split."""
    for name in CARDS:
        with contextlib.suppress(OSError):
            card = (folder / name).read_text(encoding="utf-8", errors="replace")
            if re.search(r"^configs:", card, re.MULTILINE):
                return True
    return False


def _is_ours(builder: Any, splits: Mapping[str, Sequence[Path]]) -> bool:
    """Whether our readers read a folder's files, rather than the library as its README.md asks."""
    files = [path for paths in splits.values() for path in paths]
    ordinary = bool(files) and all(file_format(path) for path in files)
    return ordinary and not _has_reader_options(builder.config)


def _has_reader_options(config: Any) -> bool:
    if getattr(config, "sep", ",") not in (",", "\t"):
        return True
    if getattr(config, "delimiter", None) is not None:
        return True
    default = type(config)()
    names = (item.name for item in fields(config) if item.name not in HARMLESS)
    return any(getattr(config, name) != getattr(default, name) for name in names)
