"""The grammar of `--data SPEC`, and what identifies a source's text before it is read.

    news                             the bundled corpus, synthetic practice news
    news#articles=22194,seed=7       as long as the book's
    a.csv   corpus/*.txt   corpus/   files: .txt .jsonl .csv .tsv .parquet, each also .gz and .zst
    novel.txt#by=paragraph           what a document is in a .txt file: line, paragraph or document
    folder#config=NAME,split=train   a folder laid out as a Hugging Face dataset: a README.md that
                                     declares it, files named by split, or `save_to_disk` output
    hf:ORG/NAME#config=NAME,revision=REV,split=train,streaming=no
                                     any dataset on the Hub

A SPEC that exists as a path is that path, whatever signs it holds, with one exception: `news` is
the bundled corpus (`./news` is a file or folder of that name). Nothing is read while a SPEC is
parsed, and `datasets` is not imported.
"""

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from semigpt.corpus.files import file_identity, files_below, outside_runs
from semigpt.corpus.formats import file_format, formats_in_words
from semigpt.corpus.library import shortened
from semigpt.errors import CorpusError

__all__ = [
    "FileSource",
    "FolderSource",
    "HubSource",
    "NewsSource",
    "Source",
    "identity",
    "located",
    "parse_spec",
]


@dataclass(frozen=True)
class NewsSource:
    """The bundled corpus, drawn from `seed`: `articles` in train, None for its default."""

    articles: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class FileSource:
    """Files without splits of their own, in the order they are read."""

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

    Raises CorpusError where nothing is there, an option is unknown, or a file is of a kind that is
    not read here.
    """
    if not spec.strip():
        raise CorpusError("--data is empty: give `news`, a file, a folder or hf:ORG/NAME")
    try:
        body, options = _body_and_options(spec)
        if body == "news":
            return _news_source(spec, options)
        if body.startswith("hf:"):
            return _hub_source(spec, body.removeprefix("hf:"), options)
        return _path_source(spec, body, options)
    except OSError as error:  # a folder that may not be entered, a name that is too long
        raise CorpusError(
            f"{shortened(spec)}: cannot be opened ({error.strerror}): "
            "check the name and its folder's permissions"
        ) from None


def located(spec: str, home: Path | None) -> str:
    """A SPEC that was typed in the folder `home`, as it is written in the current one.

    It is left as it is where it names something here, or nothing there.
    """
    if home is None or spec == "news" or spec.startswith(("news#", "hf:")):
        return spec
    if Path(spec).expanduser().is_absolute() or _names_something(spec):
        return spec
    there = str(home / spec)
    return there if _names_something(there) else spec


def _names_something(spec: str) -> bool:
    try:
        parse_spec(spec)
    except CorpusError:
        return False
    return True


def identity(source: Source) -> dict[str, object]:
    """What distinguishes this source's text from another's without reading it: a JSON object.

    Files are identified by resolved path, size and time of change (nanoseconds), the bundled corpus
    by the fingerprint of its grammar, a Hub dataset by its name, configuration and revision.
    """
    match source:
        case NewsSource():
            from semigpt.corpus import news

            articles = news.DEFAULT_ARTICLES if source.articles is None else source.articles
            return {"news": news.fingerprint(), "articles": articles, "seed": source.seed}
        case FileSource():
            return {"files": [file_identity(path) for path in source.paths], "by": source.by}
        case FolderSource():
            return {
                "folder": str(source.path.resolve()),
                "files": [file_identity(path) for path in files_below(source.path)],
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


# Kinds of source


def _news_source(spec: str, options: Mapping[str, str]) -> NewsSource:
    _check_options(spec, options, ("articles", "seed"))
    articles = _whole_number(spec, options, "articles", minimum=1)
    return NewsSource(articles, seed=_whole_number(spec, options, "seed", minimum=0) or 0)


def _hub_source(spec: str, name: str, options: Mapping[str, str]) -> HubSource:
    _check_options(spec, options, ("config", "revision", "split", "streaming"))
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", name):
        raise CorpusError(f"{spec}: not a name on the Hub: write hf:ORG/NAME")
    streaming = options.get("streaming", "yes")
    if streaming not in ("yes", "no"):
        raise CorpusError(f"{spec}: streaming={streaming} is neither yes nor no")
    config, revision, split = (options.get(key) for key in ("config", "revision", "split"))
    return HubSource(name, config, revision, split, streaming=streaming == "yes")


def _path_source(spec: str, body: str, options: Mapping[str, str]) -> FileSource | FolderSource:
    path = Path(body).expanduser()
    if path.is_dir():
        _check_options(spec, options, ("by", "config", "split"))
        return FolderSource(path, _by(spec, options), options.get("config"), options.get("split"))
    _check_options(spec, options, ("by",))
    paths = _existing(body, path)
    for file in paths:
        if not file.is_file():
            raise CorpusError(f"{file}: not a regular file: give a file, a folder or a pattern")
        if file_format(file) is None:
            raise CorpusError(f"{file}: files of this kind are not read here: {formats_in_words()}")
    return FileSource(tuple(paths), _by(spec, options))


def _existing(body: str, path: Path) -> list[Path]:
    """The path itself, or the files that match where it is a pattern."""
    if path.exists():
        return [path]
    if not glob.has_magic(body):
        raise CorpusError(f"{body}: no such file or folder{_hub_hint(body)}")
    # Path.glob takes no absolute pattern.
    names = glob.glob(str(path), recursive=True)  # noqa: PTH207
    found = [Path(name) for name in names if Path(name).is_file()]
    fixed = next(p for p in path.parents if not glob.has_magic(str(p)))
    paths = sorted(outside_runs(found, fixed))
    if not paths:
        raise CorpusError(f"{body}: no file matches this pattern")
    return paths


def _hub_hint(body: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", body):
        return f" (a dataset on the Hub is written hf:{body})"
    return ""


# Options


def _body_and_options(spec: str) -> tuple[str, dict[str, str]]:
    if Path(spec).expanduser().exists():
        return spec, {}
    body, sign, tail = spec.rpartition("#")
    if not sign or (tail and "=" not in tail):
        return spec, {}
    return body, _options(spec, tail)


def _options(spec: str, text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for pair in filter(None, text.split(",")):
        key, sign, value = pair.partition("=")
        if not (key and sign and value):
            raise CorpusError(
                f"{spec}: {pair!r} is not an option: write key=value, separated by commas"
            )
        if key in options:
            raise CorpusError(f"{spec}: the option {key} is given twice")
        options[key] = value
    return options


def _check_options(spec: str, options: Mapping[str, str], known: Sequence[str]) -> None:
    unknown = [key for key in options if key not in known]
    if unknown:
        raise CorpusError(
            f"{spec}: no option {unknown[0]!r}: this kind of source knows {', '.join(known)}"
        )


def _whole_number(spec: str, options: Mapping[str, str], key: str, minimum: int) -> int | None:
    if key not in options:
        return None
    value = options[key].replace("_", "")
    if not value.isascii() or not value.isdigit() or len(value) > 18 or int(value) < minimum:
        raise CorpusError(
            f"{spec}: {key}={options[key]} is not a whole number of at least {minimum}"
        )
    return int(value)


def _by(spec: str, options: Mapping[str, str]) -> str | None:
    by = options.get("by")
    if by not in (None, "line", "paragraph", "document"):
        raise CorpusError(f"{spec}: by={by} is not one of line, paragraph, document")
    return by
