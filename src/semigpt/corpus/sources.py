"""Where text comes from: `--data SPEC` to documents, read by the `datasets` library.

    news                             the bundled corpus, `corpus.news`
    news#articles=22194,seed=7       as long as the book's
    a.csv   corpus/*.txt   corpus/   files: .txt .jsonl .csv .tsv .parquet, each also .gz and .zst
    novel.txt#by=paragraph           what a document is in a .txt file: line, paragraph or document
    folder#config=NAME,split=train   a folder laid out as a Hugging Face dataset: a README.md that declares
    it,
                                     files named by split, or `save_to_disk` output
    hf:ORG/NAME#config=NAME,revision=REV,split=train,streaming=no
                                     any dataset on the Hub

A SPEC that exists as a path is that path, whatever signs it holds, with one exception: `news` is the bundled
corpus (`./news` is a file or folder of that name). Nothing is read while a SPEC is parsed, and `datasets` is
not imported.

A document is
    .txt       a paragraph where a blank line stands between two lines (`by=paragraph`), else a line
               (`by=line`); `by=document` makes the whole file one. Line ends are read as "\\n".
    .jsonl     the column of one JSON object a line
    .csv .tsv  the column of one row under a header; all columns are text: "007" and "NA" stay what they are
    .parquet   the column of one row
The column is `--column`, else `document`, else `text`, else the only one that holds strings; files of one
kind share it.
"""

import contextlib
import gc
import glob
import gzip
import json
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO, cast

from semigpt.corpus.text import ENCODINGS, UTF_8, TextScan, decoded, scan_text
from semigpt.errors import CorpusError

__all__ = [
    "Document",
    "FileSource",
    "FolderSource",
    "HubSource",
    "NewsSource",
    "Opened",
    "Source",
    "identity",
    "open_source",
    "parse_spec",
    "quiet_datasets",
]

# A document and its true information in bits, None where nobody knows it.
Document = tuple[str, float | None]

FORMATS = (".txt", ".jsonl", ".csv", ".tsv", ".parquet")
COMPRESSIONS = (".gz", ".zst")
SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {"train": "train", "validation": "validation", "test": "test"} | dict.fromkeys(
    ("valid", "val", "dev"), "validation"
)
TEXT_AT_ONCE = 1 << 20  # characters of a text file in memory together, and the rest of the line they end in
ROWS_AT_ONCE = 256  # rows in memory together: documents of a megabyte each stay a quarter of a gigabyte
LIBRARY_READERS = {"text", "json", "csv", "parquet", "arrow"}
HUB_SECONDS = 10.0  # how long the Hub may take to answer before it counts as not reachable


# ------------------------------------------------------------------------------------------------ the grammar


@dataclass(frozen=True)
class NewsSource:
    """The bundled corpus, drawn from `seed`: `articles` in train, None for the default."""

    articles: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class FileSource:
    """Files with no splits of their own, in the order they are read."""

    paths: tuple[Path, ...]
    by: str | None = None


@dataclass(frozen=True)
class FolderSource:
    """A folder: of files, or laid out as a Hugging Face dataset, which only reading it tells."""

    path: Path
    by: str | None = None
    config: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class HubSource:
    """A dataset on the Hugging Face Hub."""

    name: str
    config: str | None = None
    revision: str | None = None
    split: str | None = None
    streaming: bool = True


Source = NewsSource | FileSource | FolderSource | HubSource


def parse_spec(spec: str) -> Source:
    """The source that `spec` names.

    Raises CorpusError when nothing is there, an option is unknown, or a file is of a kind not read here.
    """
    if not spec.strip():
        raise CorpusError("--data is empty: give `news`, a file, a folder or hf:ORG/NAME")
    try:
        return _parse_spec(spec)
    except OSError as error:  # a folder that may not be entered, a name that is too long
        raise CorpusError(f"{_shortened(spec)}: cannot be looked at ({error.strerror})") from None


def _parse_spec(spec: str) -> Source:
    body, options = spec, dict[str, str]()
    if not Path(spec).expanduser().exists():
        head, sign, tail = spec.rpartition("#")
        if sign and (not tail or "=" in tail):
            body, options = head, _options(spec, tail)
    if body == "news":
        _check_options(spec, options, ("articles", "seed"))
        articles = _whole_number(spec, options, "articles", minimum=1)
        return NewsSource(articles, seed=_whole_number(spec, options, "seed", minimum=0) or 0)
    if body.startswith("hf:"):
        return _hub_source(spec, body.removeprefix("hf:"), options)
    path = Path(body).expanduser()
    if path.is_dir():
        _check_options(spec, options, ("by", "config", "split"))
        return FolderSource(path, _by(spec, options), options.get("config"), options.get("split"))
    _check_options(spec, options, ("by",))
    if path.exists():
        paths = [path]
    elif glob.has_magic(body):
        names = glob.glob(str(path), recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)
        paths = sorted(Path(name) for name in names if Path(name).is_file())
        if not paths:
            raise CorpusError(f"{body}: no file matches this pattern")
    else:
        raise CorpusError(f"{body}: no such file or folder{_did_you_mean(body)}")
    for file in paths:
        if not file.is_file():
            raise CorpusError(f"{file}: not a regular file: give a file, a folder or a pattern")
        if file_format(file) is None:
            raise CorpusError(f"{file}: files of this kind are not read here: {_formats_in_words()}")
    return FileSource(tuple(paths), _by(spec, options))


def _options(spec: str, text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for pair in filter(None, text.split(",")):
        key, sign, value = pair.partition("=")
        if not (key and sign and value):
            raise CorpusError(f"{spec}: {pair!r} is not an option: write key=value, separated by commas")
        if key in options:
            raise CorpusError(f"{spec}: the option {key} is given twice")
        options[key] = value
    return options


def _check_options(spec: str, options: Mapping[str, str], known: Sequence[str]) -> None:
    unknown = [key for key in options if key not in known]
    if unknown:
        raise CorpusError(f"{spec}: no option {unknown[0]!r}: this kind of source knows {', '.join(known)}")


def _whole_number(spec: str, options: Mapping[str, str], key: str, minimum: int) -> int | None:
    if key not in options:
        return None
    value = options[key].replace("_", "")
    if not value.isascii() or not value.isdigit() or len(value) > 18 or int(value) < minimum:
        raise CorpusError(f"{spec}: {key}={options[key]} is not a whole number of at least {minimum}")
    return int(value)


def _by(spec: str, options: Mapping[str, str]) -> str | None:
    by = options.get("by")
    if by not in (None, "line", "paragraph", "document"):
        raise CorpusError(f"{spec}: by={by} is not one of line, paragraph, document")
    return by


def _hub_source(spec: str, name: str, options: Mapping[str, str]) -> HubSource:
    _check_options(spec, options, ("config", "revision", "split", "streaming"))
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", name):
        raise CorpusError(f"{spec}: not a name on the Hub: write hf:ORG/NAME")
    streaming = options.get("streaming", "yes")
    if streaming not in ("yes", "no"):
        raise CorpusError(f"{spec}: streaming={streaming} is neither yes nor no")
    config, revision, split = (options.get(key) for key in ("config", "revision", "split"))
    return HubSource(name, config, revision, split, streaming=streaming == "yes")


def _did_you_mean(body: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", body):
        return f" (a dataset on the Hub is written hf:{body})"
    return ""


def file_format(path: Path) -> str | None:
    """One of FORMATS, or None for a file of another kind. `news.JSONL.gz` is ".jsonl"."""
    name = path.name.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return next((extension for extension in FORMATS if name.endswith(extension)), None)


def _formats_in_words() -> str:
    return f"{', '.join(FORMATS)}, each also {' or '.join(COMPRESSIONS)}"


def _files_below(folder: Path) -> list[Path]:
    """Every file in `folder` and below that is not hidden, in the order of its path."""
    return sorted(
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts) and path.is_file()
    )


def identity(source: Source) -> dict[str, object]:
    """What tells this source's text from another's without reading it: a JSON object.

    Files are told by resolved path, size and time of change (nanoseconds), the bundled corpus by the
    fingerprint of its grammar, a Hub dataset by its name, configuration and revision.
    """
    match source:
        case NewsSource():
            from semigpt.corpus import news

            articles = news.DEFAULT_ARTICLES if source.articles is None else source.articles
            return {"news": news.fingerprint(), "articles": articles, "seed": source.seed}
        case FileSource():
            return {"files": [_stat(path) for path in source.paths], "by": source.by}
        case FolderSource():
            return {
                "folder": str(source.path.resolve()),
                "files": [_stat(path) for path in _files_below(source.path)],
                "by": source.by,
                "config": source.config,
                "split": source.split,
            }
        case HubSource():
            return {
                "hub": source.name,
                "config": source.config,
                "revision": source.revision,
                "split": source.split,
            }


def _stat(path: Path) -> list[str | int]:
    try:
        status = path.stat()
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


# ---------------------------------------------------------------------------------------------------- opening


@dataclass
class Opened:
    """A source ready to be read, once, from its beginning or from where a `state` was taken.

    splits:    "train", "validation" and "test" where the source has them, each a stream of documents; a source
               without splits has one stream, under ""
    column:    the column its documents come from, None until the first file tells
    notes:     sentences for the user
    revision:  the commit a Hub dataset is read at
    encodings: how many text files were in which encoding
    is_hub:    whether it comes from the Hub, where it may move on
    Column, notes and encodings are complete once the streams are read.

    file, row, part: where the stream at hand stands: so many of its files were read whole, so many rows of the next
                     one (of the whole stream, where it has no files), which are this part of it
    """

    splits: dict[str, Callable[[], Iterator[Document]]]
    column: str | None = None
    notes: list[str] = field(default_factory=list)
    revision: str | None = None
    encodings: dict[str, int] = field(default_factory=dict)
    is_hub: bool = False
    file: int = 0
    row: int = 0
    part: float = 0.0
    chosen: dict[str, str] = field(default_factory=dict)  # the column of the files of one kind
    scanned: list[int] | None = None  # the text file at hand: see `_scan`
    sizes: dict[str, list[int]] = field(default_factory=dict)  # of a split's files, in bytes

    def state(self) -> dict[str, Any]:
        """All that reading has found out, and where it stands, after the document that came last: a JSON object."""
        return {name: getattr(self, name) for name in READING_STATE}

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Stand where `state` was taken, of the same source. The next stream to be read is the one that was at hand."""
        for name in READING_STATE:
            setattr(self, name, state[name])

    def share(self, streams: Sequence[str], stream: str) -> float | None:
        """How much of the files of `streams`, of which `stream` is at hand, is read; None where nobody knows."""
        total = sum(sum(self.sizes.get(name, ())) for name in streams)
        if not total:
            return None
        before = sum(sum(self.sizes[name]) for name in streams[: streams.index(stream)])
        sizes = self.sizes[stream]
        at_hand = sizes[self.file] * self.part if self.file < len(sizes) else 0
        return (before + sum(sizes[: self.file]) + at_hand) / total


READING_STATE = ("column", "notes", "encodings", "file", "row", "part", "chosen", "scanned")


def open_source(source: Source, column: str | None, scratch: Path) -> Opened:
    """Open `source`, taking documents from `column`.

    To be called, and its streams read, inside `quiet_datasets()`. `scratch` is a folder for what has to be
    unpacked or decoded before it can be read; it must outlive the streams.

    Raises CorpusError, and so do the streams: a column that is not there, a file that is broken, named with
    the line or byte where that is known, a dataset that cannot be reached. An OSError of a full disk is left
    as it is.
    """
    match source:
        case NewsSource():
            return _open_news(source, column)
        case FileSource():
            return _open_files({"": source.paths}, source.by, column, scratch)
        case FolderSource():
            return _open_folder(source, column, scratch)
        case HubSource():
            return _open_hub(source, column)


@contextlib.contextmanager
def quiet_datasets() -> Iterator[None]:
    """Inside, `datasets` draws no bars, logs nothing, reports nothing home and leaves torch alone.

    Afterwards it is as before. What it would have logged is in the errors raised here, in one line.
    """
    import datasets

    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub", "fsspec")]
    levels = [logger.level for logger in loggers]
    config = datasets.config
    # IterableDataset imports torch (1.3 s, 219 MB) to share one number with DataLoader workers, of which
    # there are none; load_dataset reports its use to a server, which can take 3 s a call where there is no
    # network.
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


def _choose_column(where: str, columns: Mapping[str, bool], wanted: str | None) -> str:
    """`columns` says of every column whether it holds strings."""
    if wanted is not None:
        if wanted not in columns:
            raise CorpusError(f"{where}: no column {wanted!r}: its columns are {', '.join(columns)}")
        if not columns[wanted]:
            raise CorpusError(f"{where}: the column {wanted!r} does not hold text")
        return wanted
    strings = [name for name, is_string in columns.items() if is_string]
    for name in ("document", "text"):
        if name in strings:
            return name
    if len(strings) == 1:
        return strings[0]
    if not strings:
        raise CorpusError(f"{where}: no column holds text: its columns are {', '.join(columns) or 'none'}")
    raise CorpusError(f"{where}: which column is the text? Say --column with one of {', '.join(strings)}")


# ----------------------------------------------------------------------------------------- the bundled corpus


def _open_news(source: NewsSource, column: str | None) -> Opened:
    from semigpt.corpus import news

    articles = news.DEFAULT_ARTICLES if source.articles is None else source.articles
    chosen = _choose_column("news", dict.fromkeys(news.COLUMNS, True), column)
    opened = Opened({}, chosen)

    def documents(split: str) -> Iterator[Document]:
        for article in news.rows(split, articles=articles, seed=source.seed, first=opened.row):
            opened.row += 1
            # The grammar knows the probability of a document; its other columns are not alone in theirs.
            yield getattr(article, chosen), article.information if chosen == "document" else None

    opened.splits = {split: _stream(opened, documents, split) for split in SPLITS if split in news.SPLITS}
    return opened


def _stream(
    opened: Opened, documents: Callable[[str], Iterator[Document]], split: str
) -> Callable[[], Iterator[Document]]:
    """`documents(split)`, which begins where `opened` stands; the stream after it begins at its beginning."""

    def stream() -> Iterator[Document]:
        yield from documents(split)
        opened.file, opened.row, opened.part, opened.scanned = 0, 0, 0.0, None

    return stream


# ------------------------------------------------------------------------------------------------------ files


def _open_files(
    splits: Mapping[str, Sequence[Path]], by: str | None, column: str | None, scratch: Path
) -> Opened:
    every = [path for paths in splits.values() for path in paths]
    if column not in (None, "text") and all(file_format(path) == ".txt" for path in every):
        raise CorpusError(f"{every[0]}: no column {column!r}: a .txt file has none, leave --column out")
    opened = Opened({}, notes=[])

    def documents(split: str) -> Iterator[Document]:
        for number, path in enumerate(splits[split]):
            if number < opened.file:  # read before this process began
                continue
            if number > opened.file:
                opened.file, opened.row, opened.part, opened.scanned = number, 0, 0.0, None
            yield from _file_documents(path, by, column, scratch, opened)

    opened.splits = {split: _stream(opened, documents, split) for split in splits}
    opened.sizes = {split: [int(_stat(path)[1]) for path in paths] for split, paths in splits.items()}
    return opened


def _file_documents(
    path: Path, by: str | None, column: str | None, scratch: Path, opened: Opened
) -> Iterator[Document]:
    kind = cast(str, file_format(path))
    with _refused(path, kind):
        if path.stat().st_size == 0:
            return
    if kind == ".parquet":
        yield from _parquet_documents(path, column, opened, scratch)
        opened.column = opened.chosen.get(kind)
        return
    scan = _scan(path, opened)
    if not scan.characters:
        return
    if not opened.row:
        opened.encodings[scan.encoding.name] = opened.encodings.get(scan.encoding.name, 0) + 1
    if scan.encoding != UTF_8:
        _note(opened, f"{path.name} is in {scan.encoding.name} and was read so")
    plain = _plain_utf8(path, scan, scratch)
    size = scan.bytes if plain == path else plain.stat().st_size
    match kind:
        case ".txt":
            unit = by or ("paragraph" if scan.paragraphs else "line")
            if by is None:
                _note(opened, UNIT_NOTES[unit])
            opened.chosen[kind] = "text"
            yield from _txt_documents(path, plain, unit, opened, size)
        case ".jsonl":
            yield from _jsonl_documents(path, plain, column, opened, size)
        case _:
            yield from _csv_documents(path, plain, column, opened, kind, size)
    opened.column = opened.chosen.get(kind)
    if plain != path:
        plain.unlink(missing_ok=True)


UNIT_NOTES = {
    "line": "a .txt file without blank lines was read as one document a line (#by=document reads it whole)",
    "paragraph": "a .txt file with blank lines was read as one document a paragraph (#by=line takes lines)",
}
NOTES_AT_MOST = 20


def _note(opened: Opened, note: str) -> None:
    """Ten thousand files in CP949 are not ten thousand notes."""
    if note not in opened.notes and len(opened.notes) < NOTES_AT_MOST:
        opened.notes.append(note)


def _open_binary(path: Path) -> BinaryIO:
    """The bytes of `path`, decompressed."""
    match path.suffix.lower():
        case ".gz":
            return cast(BinaryIO, gzip.open(path, "rb"))
        case ".zst":
            import zstandard

            return cast(BinaryIO, zstandard.open(path, "rb"))
        case _:
            return path.open("rb")


def _check_zst(path: Path) -> None:
    """Raise EOFError when `path` was cut short, which zstandard's reader takes for its end.

    Four kilobytes at a time, because zstd can make a hundred megabytes of as many, and not much more.
    """
    import zstandard

    frame = None
    with path.open("rb") as file:
        while chunk := file.read(4096):
            while chunk:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                frame.decompress(chunk)
                chunk, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    if frame is not None:
        raise EOFError("the file was cut short: it ends inside a zstd frame")


def _scan(path: Path, opened: Opened) -> TextScan:
    """What one pass over a text file tells, kept in `opened.scanned`: the pass takes a tenth of the time of staging."""
    if opened.scanned is not None:
        encoding, characters, paragraphs, size = opened.scanned
        return TextScan(ENCODINGS[encoding], characters, bool(paragraphs), size)
    with _refused(path, "compressed text" if path.suffix.lower() in COMPRESSIONS else "text"):
        if path.suffix.lower() == ".zst":
            _check_zst(path)
        scan = scan_text(lambda: _open_binary(path), str(path))
    opened.scanned = [ENCODINGS.index(scan.encoding), scan.characters, int(scan.paragraphs), scan.bytes]
    return scan


def _plain_utf8(path: Path, scan: TextScan, scratch: Path) -> Path:
    """`path` itself, or a copy in `scratch` that the loaders can open.

    They cannot tell an encoding, ignore one they are told for a compressed file, keep the byte order mark,
    and take "::" in a path for a chain of file systems.
    """
    if scan.encoding == UTF_8 and "::" not in str(path.absolute()):
        return path
    copy = scratch / f"plain{file_format(path)}"
    with copy.open("wb") as out:
        for piece in _decoded_file(path, scan):
            out.write(piece.encode())
    return copy


def _decoded_file(path: Path, scan: TextScan) -> Iterator[str]:
    with _refused(path, "text"), _open_binary(path) as file:
        yield from decoded(file, scan.encoding)


def _load(loader: str, path: Path, **options: Any) -> Any:
    """A stream over one file. One call a file costs 1.5 ms, and then an error can say which file it was."""
    import datasets

    return datasets.load_dataset(
        loader,
        data_files={"train": [glob.escape(str(path.absolute()))]},
        split="train",
        streaming=True,
        **options,
    )


def _values(
    stream: Any, column: str, opened: Opened, *, size: int | None = None, rows: int | None = None
) -> Iterator[Any]:
    """The values of one column of a stream or a dataset, a few hundred rows in memory at a time, from `opened.row` on.

    What is skipped is parsed, but no value of it is made. All of the stream is `size` bytes of text or `rows` rows.
    """
    first, row, text = opened.row, 0, 0
    for table in stream.with_format("arrow").iter(batch_size=ROWS_AT_ONCE):
        begins, row = row, row + len(table)
        if size:
            # Arrow's offsets are 4 bytes a value; in the file a comma or a line end stands behind each.
            text += table.nbytes - 3 * table.num_columns * len(table)
            opened.part = min(text / size, 1.0)
        elif rows:
            opened.part = row / rows
        if row > first:
            values = table.column(column).slice(max(first - begins, 0)).to_pylist()
            for opened.row, value in enumerate(values, max(first, begins) + 1):
                yield value


def _txt_documents(path: Path, plain: Path, unit: str, opened: Opened, size: int) -> Iterator[Document]:
    with _refused(path, "text"):
        stream = _load("text", plain, sample_by=unit, chunksize=TEXT_AT_ONCE)
        for text in _values(stream, "text", opened, size=size):
            # The loader leaves on a paragraph the line ends of the blank lines around it.
            yield (text.strip("\n") if unit == "paragraph" else text), None


def _jsonl_documents(
    path: Path, plain: Path, wanted: str | None, opened: Opened, size: int
) -> Iterator[Document]:
    """The text loader brings the lines and the standard library decodes them.

    The library's JSON loader refuses lone surrogates, guesses types from the first ten megabytes and counts
    rows from the start of a block. This way all that JSON can write is read, and an error names its line.
    """
    waiting: list[tuple[int, dict[str, Any]]] = []
    # In the middle of a file its column is known.
    column = opened.chosen[".jsonl"] if opened.row else None
    number = opened.row

    def texts_waiting() -> Iterator[Document]:
        nonlocal column
        column = _column_of_rows(path, waiting, opened.chosen.get(".jsonl", wanted))
        opened.chosen[".jsonl"] = column
        for opened.row, row in waiting:
            yield _json_text(path, opened.row, row, column), None

    with _refused(path, "JSON lines"):
        lines = _load("text", plain, sample_by="line", chunksize=TEXT_AT_ONCE)
        for line in _values(lines, "text", opened, size=size):
            number += 1
            if not line.strip():
                continue
            row = _json_object(path, number, line)
            if column is not None:
                yield _json_text(path, number, row, column), None
                continue
            # A key may be left out of a row: what the columns are is said by the first hundred rows together.
            waiting.append((number, row))
            if len(waiting) == 100:
                yield from texts_waiting()
        if column is None and waiting:
            yield from texts_waiting()


def _json_object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        # strict=False takes control characters inside strings as they stand, NULs among them.
        row = json.loads(line, strict=False)
    except json.JSONDecodeError as error:
        raise CorpusError(
            f"{path}, line {number}: not JSON ({error.msg}, character {error.colno}): write one object a line"
        ) from None
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{path}, line {number}: not JSON that can be read ({_one_line(error)})") from None
    if not isinstance(row, dict):
        raise CorpusError(f"{path}, line {number}: {_json_kind(row)}, not an object: write one object a line")
    return row


def _json_kind(value: object) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "a number"
    return {list: "a list", str: "a string", dict: "an object", bool: "true or false"}.get(
        type(value), "null"
    )


def _column_of_rows(path: Path, rows: Sequence[tuple[int, dict[str, Any]]], wanted: str | None) -> str:
    columns: dict[str, bool] = {}
    for _, row in rows:
        for name, value in row.items():
            columns[name] = columns.get(name, False) or value is None or isinstance(value, str)
    return _choose_column(str(path), columns, wanted)


def _json_text(path: Path, number: int, row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise CorpusError(f"{path}, line {number}: the column {column!r} holds {_json_kind(value)}, not text")
    return value


def _csv_documents(
    path: Path, plain: Path, wanted: str | None, opened: Opened, kind: str, size: int
) -> Iterator[Document]:
    import datasets

    separator = "\t" if kind == ".tsv" else ","

    with _refused(path, "a table"):
        rows = list(_load("csv", plain, sep=separator, nrows=1))
        if not rows:
            return
        # Every column is declared text: left to guess, the loader makes 7 of "007" and nothing of "NA".
        features = datasets.Features(dict.fromkeys(rows[0], datasets.Value("string")))
        column = _choose_column(str(path), dict.fromkeys(rows[0], True), opened.chosen.get(kind, wanted))
        opened.chosen[kind] = column
        stream = _load(
            "csv", plain, sep=separator, features=features, keep_default_na=False, chunksize=ROWS_AT_ONCE
        )
        for value in _values(stream, column, opened, size=size):
            yield value or "", None


def _parquet_documents(path: Path, wanted: str | None, opened: Opened, scratch: Path) -> Iterator[Document]:
    import pyarrow.parquet as pq

    with contextlib.ExitStack() as stack:
        plain = path
        if path.suffix.lower() in COMPRESSIONS or "::" in str(path.absolute()):
            # A Parquet file is read from its end, which a compressed stream cannot be.
            plain = scratch / "plain.parquet"
            stack.callback(plain.unlink, missing_ok=True)
            with plain.open("wb") as out:
                for piece in _unpacked(path):
                    out.write(piece)
        with _refused(path, "Parquet"):
            features = _load("parquet", plain).features
            column = _choose_column(
                str(path), _string_columns(features), opened.chosen.get(".parquet", wanted)
            )
            opened.chosen[".parquet"] = column
            stream = _load("parquet", plain, columns=[column], batch_size=ROWS_AT_ONCE)
            for value in _values(stream, column, opened, rows=pq.read_metadata(plain).num_rows):
                yield value or "", None


def _unpacked(path: Path) -> Iterator[bytes]:
    with _refused(path, "compressed Parquet"):
        if path.suffix.lower() == ".zst":
            _check_zst(path)
        with _open_binary(path) as file:
            while piece := file.read(1 << 20):
                yield piece


def _string_columns(features: Mapping[str, Any]) -> dict[str, bool]:
    kinds = ("string", "large_string", "string_view")
    return {name: getattr(feature, "dtype", None) in kinds for name, feature in features.items()}


# ---------------------------------------------------------------------------------------------------- folders


def _open_folder(source: FolderSource, column: str | None, scratch: Path) -> Opened:
    where = str(source.path)
    if (source.path / "dataset_dict.json").is_file() or (source.path / "dataset_info.json").is_file():
        import datasets

        if source.config is not None:
            raise CorpusError(f"{where}: saved by save_to_disk, without configurations: leave config= out")
        with _refused(source.path, "a saved dataset"):
            saved = datasets.load_from_disk(where)
        streams = dict(saved) if isinstance(saved, datasets.DatasetDict) else {"": saved}
        return _open_streams(where, streams, source.split, column)

    files = _files_below(source.path)
    read = [path for path in files if file_format(path)]
    declared = [source.path / name for name in ("README.md", ".huggingface.yaml")]
    if not read and not any(path.is_file() for path in declared):
        raise CorpusError(f"{where}: no file in it is of a kind that is read here: {_formats_in_words()}")
    builder = _folder_builder(source)
    splits: dict[str, list[Path]] = {}
    for name, names in (builder.config.data_files or {}).items() if builder else ():
        splits[str(name)] = [Path(file) for file in names]
    of_splits = [path for paths in splits.values() for path in paths]
    ordinary = bool(of_splits) and all(file_format(path) for path in of_splits)
    if builder is not None and (not ordinary or _has_reader_options(builder.config)):
        # The README asks for something of its own (a separator, a field, another kind of file): the library
        # reads it as its author declared it.
        with _refused(source.path, "a dataset"):
            loaded = _read_by_library(where, builder, None, streaming=True)
        return _open_streams(where, dict(loaded), source.split, column)
    if source.split is not None:
        if source.split not in splits:
            raise CorpusError(f"{where}: no split {source.split!r}: it has {', '.join(splits) or 'none'}")
        return _open_files({"": splits[source.split]}, source.by, column, scratch)
    named = {SPLIT_NAMES.get(name, name): paths for name, paths in splits.items()}
    declared_or_named = len(named) > 1 or source.config is not None or _declares_files(source.path)
    is_dataset = "train" in named and declared_or_named
    if not is_dataset:
        # No file is called train: they are one text, whatever else their names say.
        opened = _open_files({"": read}, source.by, column, scratch)
        passed_over = [path for path in files if not file_format(path) and path.name != "README.md"]
    else:
        used = {name: named[name] for name in SPLITS if name in named}
        opened = _open_files(used, source.by, column, scratch)
        taken = {path.resolve() for paths in used.values() for path in paths}
        passed_over = [path for path in read if path.resolve() not in taken]
    if passed_over:
        more = f" and {len(passed_over) - 1} more" if len(passed_over) > 1 else ""
        why = "not of one of its splits" if is_dataset else "not of a kind that is read here"
        _note(opened, f"not read in {where}: {passed_over[0].name}{more}, {why}")
    return opened


def _folder_builder(source: FolderSource) -> Any:
    """What the library makes of a folder: its configuration, splits, files; None where it finds nothing."""
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    with _refused(source.path, "a dataset"):
        try:
            return datasets.load_dataset_builder(str(source.path), name=source.config)
        except (FileNotFoundError, DatasetNotFoundError):
            if source.config is not None or _declares_files(source.path):
                raise
            return None


def _declares_files(folder: Path) -> bool:
    """Whether its README.md, or `.huggingface.yaml`, says which files make which split."""
    for name in ("README.md", ".huggingface.yaml"):
        with contextlib.suppress(OSError):
            card = (folder / name).read_text(encoding="utf-8", errors="replace")
            if re.search(r"^configs:", card, re.MULTILINE):
                return True
    return False


def _has_reader_options(config: Any) -> bool:
    usual = {"name", "version", "data_dir", "data_files", "description", "sep", "delimiter"}
    default = type(config)()
    if getattr(config, "sep", ",") not in (",", "\t") or getattr(config, "delimiter", None) is not None:
        return True
    names = (item.name for item in fields(config) if item.name not in usual)
    return any(getattr(config, name) != getattr(default, name) for name in names)


# --------------------------------------------------------------------------------------- datasets and the Hub


def _open_streams(
    where: str, streams: Mapping[str, Any], split: str | None, column: str | None, revision: str | None = None
) -> Opened:
    """Datasets that the library opened, by the name of their split; "" for one without."""
    notes: list[str] = []
    if split is not None and "" not in streams:
        if split not in streams:
            raise CorpusError(f"{where}: no split {split!r}: its splits are {', '.join(streams)}")
        streams = {"": streams[split]}
    if len(streams) == 1 and "train" not in streams:
        streams = {"": next(iter(streams.values()))}
    if "" not in streams:
        named = {SPLIT_NAMES.get(name, name): stream for name, stream in streams.items()}
        if "train" not in named:
            names = ", ".join(streams)
            raise CorpusError(f"{where}: no split is called train: take one of {names} with #split=NAME")
        others = [name for name in named if name not in SPLITS]
        if others:
            notes.append(f"not read: the split {', '.join(others)} (#split=NAME takes one)")
        streams = {name: named[name] for name in SPLITS if name in named}
    with _refused(where, "a dataset"):
        first = next(iter(streams.values()))
        features = first.features
        if features is None:  # a stream of JSON or CSV knows its columns once its first rows are read
            columns = {
                name: value is None or isinstance(value, str) for name, value in _first_row(first).items()
            }
        else:
            columns = _string_columns(features)
    chosen = _choose_column(where, columns, column)

    def documents(name: str) -> Iterator[Document]:
        with _refused(where, "a dataset"):
            for value in _values(streams[name].select_columns([chosen]), chosen, opened):
                if value is not None and not isinstance(value, str):
                    raise CorpusError(f"{where}: the column {chosen!r} does not hold text")
                yield value or "", None

    opened = Opened({}, chosen, notes, revision)
    opened.splits = {name: _stream(opened, documents, name) for name in streams}
    return opened


def _first_row(stream: Any) -> dict[str, Any]:
    """The first row of a stream that is not read on; {} where there is none.

    The library does not close a CSV file that is left half read, and pandas keeps it in a cycle of references: it would
    stay open until the collector comes by, and Python would warn of it there.
    """
    row: dict[str, Any] = next(iter(stream), {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return row


def _read_by_library(where: str, builder: Any, split: str | None, *, streaming: bool) -> Any:
    """What `load_dataset` does, once it is known that only files of text and tables will be opened.

    The library reads many more kinds; some hold whatever torch can unpack, and none of those is text.
    """
    home = "datasets.packaged_modules."
    readers = {
        base.__module__.split(".")[-1] for base in type(builder).__mro__ if base.__module__.startswith(home)
    }
    if not readers & LIBRARY_READERS:
        kinds = ", ".join(sorted(LIBRARY_READERS))
        raise CorpusError(
            f"{where}: it holds {' '.join(sorted(readers))} files: of datasets, {kinds} are read here"
        )
    if streaming:
        return builder.as_streaming_dataset(split=split)
    builder.download_and_prepare()
    return builder.as_dataset(split=split)


def _open_hub(source: HubSource, column: str | None) -> Opened:
    import datasets

    where = f"hf:{source.name}"
    revision = _commit(source)
    with _refused(where, "a dataset"):
        builder = datasets.load_dataset_builder(source.name, name=source.config, revision=revision)
        loaded = _read_by_library(where, builder, source.split, streaming=source.streaming)
    streams = {"": loaded} if source.split is not None else dict(loaded)
    opened = _open_streams(where, streams, None, column, revision)
    opened.is_hub = True
    return opened


def _commit(source: HubSource) -> str | None:
    """The commit that the dataset's revision stands at.

    One request without retries, which also tells soon whether there is a Hub at all.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    where = f"hf:{source.name}"
    try:
        info = HfApi().dataset_info(source.name, revision=source.revision, timeout=HUB_SECONDS)
    except OfflineModeIsEnabled:
        if not source.streaming:
            return source.revision  # what was downloaded before can still be loaded
        raise CorpusError(
            f"{where}: HF_HUB_OFFLINE is set, so the Hub is not asked: unset it, or name files with --data"
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403, 404):
            at = f" at revision {source.revision}" if source.revision else ""
            raise CorpusError(
                f"{where}: not on {constants.ENDPOINT}{at}, or it is closed to you: check the name, "
                "or log in with `hf auth login`"
            ) from None
        raise CorpusError(f"{where}: {constants.ENDPOINT} answered {status}: try again later") from None
    except Exception as error:  # the HTTP client's own errors; which client it is differs by version
        raise CorpusError(
            f"{where}: no connection to {constants.ENDPOINT} ({_one_line(error)}): check the network, or "
            "name `news` or files of your own with --data"
        ) from None
    script = f"{source.name.split('/')[-1]}.py"
    if any(file.rfilename == script for file in info.siblings or ()):
        raise CorpusError(
            f"{where}: it is a program ({script}), not data: programs from the Hub are never run"
        )
    return info.sha


# --------------------------------------------------------------------------------------------------- refusing


@contextlib.contextmanager
def _refused(where: Path | str, kind: str) -> Iterator[None]:
    """Whatever a library raises about a broken file becomes one line that names it.

    Around a generator's `yield` it sees what the generator raises and nothing of what its caller does: a disk
    that is full when a document is written is not the fault of the file it came from.
    """
    refusal = None
    try:
        yield
    except CorpusError:
        raise
    except Exception as error:
        # The libraries below (pandas, pyarrow, zstandard, zlib, huggingface_hub) share no base class.
        refusal = _refusal(where, kind, error)
    # Raised out here, the error does not keep the library's frames, and the files they hold open, alive.
    if refusal is not None:
        raise refusal


def _refusal(where: Path | str, kind: str, error: BaseException) -> CorpusError:
    # `datasets` wraps what went wrong in "An error occurred while generating the dataset".
    while type(error).__name__ == "DatasetGenerationError" and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, PermissionError):
        return CorpusError(f"{where}: no permission to read it")
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return CorpusError(f"{where}: it is not there any more")
    return CorpusError(f"{where}: cannot be read as {kind.removeprefix('.')} ({_one_line(error)})")


def _one_line(error: BaseException) -> str:
    return _shortened(" ".join(str(error).split()) or type(error).__name__)


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else text[:199] + "…"
