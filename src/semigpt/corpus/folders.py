"""Files and folders to splits: which files make which split, and what the library reads instead.

A folder is, in this order:
- what `save_to_disk` wrote, read by the library;
- a dataset whose README.md asks for a reader's options (a separator, a field) or for other kinds of
  file, read by the library as its author declared it;
- a dataset whose README.md declares which files make which split;
- files whose names tell splits (`split_names`);
- files that are one text together.
Which reader reads a file is decided by its ending alone, whatever lies beside it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from semigpt.corpus.compression import is_compressed
from semigpt.corpus.files import Below, file_identity, files_below, is_run
from semigpt.corpus.formats import (
    PLAIN_TEXT,
    file_documents,
    file_format,
    formats_in_words,
    is_running,
    nameless_texts,
)
from semigpt.corpus.library import library_errors, open_datasets, open_splits
from semigpt.corpus.plain import CARDS, SAVED, declared_splits, declares_files
from semigpt.corpus.reading import SPLIT_NAMES, SPLITS, ColumnError, Document, Reading, and_more
from semigpt.corpus.request import FileOptions, FileRequest
from semigpt.corpus.spec import FolderSource
from semigpt.corpus.split_names import splits_by_name
from semigpt.errors import CorpusError
from semigpt.language import _

__all__ = ["folder_passed_over", "open_files", "open_folder"]

JSON_LINES = (".jsonl", ".ndjson")
# Settings of the library's readers that change nothing about which documents are read.
HARMLESS = {"name", "version", "data_dir", "data_files", "description", "sep", "delimiter"}


def open_files(
    splits: Mapping[str, Sequence[Path]], options: FileOptions, column: str | None, scratch: Path
) -> Reading:
    """Files of our formats by split, "" for files without one, read in the order given.

    Raises CorpusError where a column is asked of running text, or a file cannot be read, unless
    the options skip such files: then what came before the broken part of one is kept.
    """
    every = [path for paths in splits.values() for path in paths]
    if column not in (None, "text") and all(map(is_running, every)):
        raise CorpusError(
            _(
                "{every}: no column {column!r}: a file of its kind has none, leave --column out"
            ).format(every=every[0], column=column)
        )
    reading = Reading()

    def documents(split: str) -> Iterator[Document]:
        for index, path in enumerate(splits[split]):
            if index < reading.file_index:  # read before this process began
                continue
            if index == reading.end:
                return
            if index > reading.file_index:
                reading.go_to_file(index)
            extension = file_format(path)
            if extension is None:
                reading.tally(_("it has no ending, so it is read as a .txt"), path.name)
            request = FileRequest(path, extension or PLAIN_TEXT, column, options, scratch, reading)
            before = file_identity(path)
            try:
                yield from file_documents(request)
                if file_identity(path) != before:
                    raise CorpusError(
                        _(
                            "{path}: it changed while it was read: give the same "
                            "command again once "
                            "it is whole"
                        ).format(path=path)
                    )
            except CorpusError as error:
                if options.broken is None:
                    raise _with_way_out(error, len(every)) from None
                reading.skip(path.name, error)

    for split, paths in splits.items():
        reading.add_split(split, documents)
        reading.files[split] = paths
        reading.file_sizes[split] = [file_identity(path)[1] for path in paths]
        reading.cut_at[split] = [_cut_at(path, options) for path in paths]
    return reading


def _cut_at(path: Path, options: FileOptions) -> str | None:
    """See `Reading.cut_at`: text and JSON lines that are not compressed are read in spans."""
    whole = options.path is not None or options.by == "document" or options.broken is not None
    if whole or is_compressed(path):
        return None
    extension = file_format(path)
    if extension == PLAIN_TEXT:
        return options.by or ""
    return "line" if extension in JSON_LINES else None


def _with_way_out(error: CorpusError, files: int) -> CorpusError:
    """The error of one file, with what to do where there are others."""
    if files == 1 or isinstance(error, ColumnError):
        return error
    return type(error)(
        _("{error} (#broken=skip leaves such files out, and names them)").format(error=error)
    )


def open_folder(source: FolderSource, column: str | None, scratch: Path) -> Reading:
    """A folder; see the module. What is not read in it is said.

    Raises CorpusError where nothing in it is read, or a split or configuration is not there.
    """
    if any((source.path / name).is_file() for name in SAVED):
        return _open_saved(source, column)
    if is_run(source.path):
        raise CorpusError(
            _("{path}: a run of semigpt, not a text: name the text it read").format(
                path=source.path
            )
        )
    below = files_below(source.path, skip_closed=source.options.broken == "skip")
    read = _readable(source.path, below) or nameless_texts(below.files)
    declared: Mapping[str, Sequence[Path]] | None = None
    if declares_files(source.path):
        declared = declared_splits(source)
        builder = _builder(source) if declared is None else None
        if declared is None:
            declared = _declared_splits(builder)
        _check_inside(source.path, declared)
        if builder is not None and not _is_ours(builder, declared):
            where = str(source.path)
            with library_errors(source.path, "a dataset"):
                loaded = open_datasets(where, builder)
            return open_splits(where, dict(loaded), source.split, column)
    elif source.config is not None:
        raise CorpusError(
            _("{path}: no configuration {config!r}: its README.md declares none").format(
                path=source.path, config=source.config
            )
        )
    if not read:
        raise CorpusError(
            _(
                "{path}: no file in it is of a kind that is read here: {formats_in_words}{others}"
            ).format(
                path=source.path,
                formats_in_words=formats_in_words(),
                others=_in_words(
                    source.path, _other_kinds(source.path, below, ()) | _passed_over(below)
                ),
            )
        )
    used = _used_splits(source, read, declared)
    reading = open_files(used, source.options, column, scratch)
    taken = {path.resolve() for paths in used.values() for path in paths}
    left_out = [path for path in read if path.resolve() not in taken]
    if left_out and source.split is None:
        more = and_more(len(left_out) - 1)
        reading.note(
            _(
                "not read in {path}: {first}{more}, which names "
                "no split that the others have (#split=all reads all as one text)"
            ).format(path=source.path, first=left_out[0].relative_to(source.path), more=more)
        )
    if others := _other_kinds(source.path, below, taken):
        reading.note(
            _("not read in {path}{others}").format(
                path=source.path, others=_in_words(source.path, others)
            )
        )
    return reading


def folder_passed_over(source: FolderSource) -> str:
    """A note on what is never read in a folder, "" for none: hidden files, links to nothing, runs.

    It changes nothing about the text, and so is said anew each time a staged text is used.
    """
    if any((source.path / name).is_file() for name in SAVED):
        return ""
    below = files_below(source.path, skip_closed=source.options.broken == "skip")
    told = _in_words(source.path, _passed_over(below))
    return told and _("not read in {path}{told}").format(path=source.path, told=told)


def _readable(folder: Path, below: Below) -> list[Path]:
    """The files of our kinds. A README.md is one of a folder's texts only beside others in .md."""
    found = [path for path in below.files if file_format(path)]
    if declares_files(folder) or sum(file_format(path) == ".md" for path in found) == 1:
        return [path for path in found if path != folder / "README.md"]
    return found


def _used_splits(
    source: FolderSource, read: list[Path], declared: Mapping[str, Sequence[Path]] | None
) -> Mapping[str, Sequence[Path]]:
    """The files to read by split, "" for all of a text without splits."""
    if source.split == "all":
        return {"": read}
    splits = splits_by_name(source.path, read) if declared is None else declared
    if source.split is not None:
        if source.split not in splits:
            names = ", ".join(splits) or "none"
            raise CorpusError(
                _("{path}: no split {split!r}: it has {names} (all takes every file)").format(
                    path=source.path, split=source.split, names=names
                )
            )
        return {"": splits[source.split]}
    named = {SPLIT_NAMES.get(name, name): paths for name, paths in splits.items()}
    if "train" in named:
        return {name: named[name] for name in SPLITS if name in named}
    return {"": [path for paths in splits.values() for path in paths] or read}


def _other_kinds(folder: Path, below: Below, taken: Collection[Path]) -> dict[str, list[Path]]:
    """The files that are not read because of their kind, by kind."""
    kinds: dict[str, list[Path]] = {}
    has_card = declares_files(folder)
    for path in below.files:
        is_card = has_card and path.parent == folder and path.name in CARDS
        if path.resolve() not in taken and not (file_format(path) or is_card):
            kinds.setdefault(path.suffix.lower() or _("without an ending"), []).append(path)
    return kinds


def _passed_over(below: Below) -> dict[str, list[Path]]:
    kinds: dict[str, list[Path]] = {}
    for path, kind in below.passed_over:
        kinds.setdefault(kind, []).append(path)
    return kinds


def _in_words(folder: Path, kinds: Mapping[str, Sequence[Path]]) -> str:
    """Files by kind and number: ": 3 .png (1.png, …)"."""
    told = [
        _("{count:,} {kind} ({first}{more})").format(
            count=len(paths),
            kind=kind,
            first=paths[0].relative_to(folder),
            more=", …" if len(paths) > 1 else "",
        )
        for kind, paths in kinds.items()
    ]
    return f": {', '.join(told)}" if told else ""


def _open_saved(source: FolderSource, column: str | None) -> Reading:
    import datasets

    if source.config is not None:
        raise CorpusError(
            _("{path}: saved by save_to_disk, without configurations: leave config= out").format(
                path=source.path
            )
        )
    with library_errors(source.path, _("a saved dataset")):
        saved = datasets.load_from_disk(str(source.path.resolve()))
    streams = dict(saved) if isinstance(saved, datasets.DatasetDict) else {"": saved}
    return open_splits(str(source.path), streams, source.split, column)


def _builder(source: FolderSource) -> Any:
    """The library's view of a folder that declares its files: configuration, splits, files."""
    import datasets

    with library_errors(source.path, "a dataset"):
        return datasets.load_dataset_builder(str(source.path.resolve()), name=source.config)


def _declared_splits(builder: Any) -> dict[str, list[Path]]:
    files = builder.config.data_files or {}
    return {str(name): [Path(file) for file in names] for name, names in files.items()}


def _check_inside(folder: Path, splits: Mapping[str, Sequence[Path]]) -> None:
    """Raise CorpusError where a card, which a stranger may have written, names files elsewhere.

    The Hub's cache keeps a folder's files as links into `blobs` two folders above it.
    """
    folder = folder.resolve()
    homes = (folder, folder.parent.parent / "blobs")
    for path in (path for paths in splits.values() for path in paths):
        if "://" in str(path) or not any(path.resolve().is_relative_to(home) for home in homes):
            raise CorpusError(
                _(
                    "{folder}: its card names a file outside it, {path}: name that file in --data "
                    "yourself, where you trust the card"
                ).format(folder=folder, path=path)
            )


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
