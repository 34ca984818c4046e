"""The grammar of `--data SPEC`, and what identifies a source's text before it is read.

    news                             the bundled corpus, synthetic practice news
    news#articles=22194,seed=7       as long as the book's
    a.csv   corpus/*.txt   corpus/   files of the kinds that `formats.READERS` has, also compressed
    a.json#path=data.paragraphs.context
                                     where in a .json file its texts are
    novel.txt#by=paragraph           what a document is in a .txt file: line, paragraph or document
    a.csv#separator=semicolon,quoting=none,header=none,misfits=skip
                                     how a table is written, where the file does not tell (`tables`)
    folder#broken=skip               files that are broken are left out, and named
    folder#config=NAME,split=train   a folder: of files, or laid out as a Hugging Face dataset, with
                                     a README.md that declares it, or `save_to_disk` output;
                                     split=all takes every file as one text
    hf:ORG/NAME#config=NAME,revision=REV,split=train,streaming=no
                                     any dataset on the Hub
    -                                standard input, a text

Several SPECs are one corpus, in the order given: in one string they are on lines of their own.

A SPEC that exists as a path is that path, whatever signs it holds, with two exceptions: `news` is
the bundled corpus and `-` is standard input (`./news` is a file or folder of that name). A name is
found in either Unicode form, as macOS decomposes names; bytes that are no UTF-8 may be written %B1,
as they are in a config. Nothing but standard input is read while a SPEC is parsed, and `datasets`
is not imported.
"""

import glob
import os
import re
import shlex
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from semigpt.corpus.files import file_identity, files_below, is_run
from semigpt.corpus.formats import file_format, formats_in_words, nameless_texts
from semigpt.corpus.reading import printable, shortened
from semigpt.corpus.request import AS_FOUND, FileOptions, file_options
from semigpt.corpus.standard_input import text_received
from semigpt.errors import CorpusError
from semigpt.language import _

__all__ = [
    "FileSource",
    "FolderSource",
    "HubSource",
    "JoinedSource",
    "NewsSource",
    "Source",
    "TextSource",
    "identity",
    "located",
    "parse_spec",
]

# Raised where files give other documents than they gave before.
FILE_RULES = 1
FILE_OPTIONS = tuple(field.name for field in fields(FileOptions))


@dataclass(frozen=True)
class NewsSource:
    """The bundled corpus, drawn from `seed`: `articles` in train, None for its default."""

    articles: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class FileSource:
    """Files without splits of their own, in the order they are read.

    passed_over: what a pattern matches and nothing reads
    """

    paths: tuple[Path, ...]
    options: FileOptions = AS_FOUND
    passed_over: tuple[Path, ...] = ()


@dataclass(frozen=True)
class FolderSource:
    """A folder: of files, or laid out as a Hugging Face dataset, which only reading it tells."""

    path: Path
    options: FileOptions = AS_FOUND
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


@dataclass(frozen=True)
class TextSource:
    """A text in a file that is known by its SHA-256: what came from standard input."""

    path: Path
    sha256: str
    options: FileOptions = AS_FOUND


@dataclass(frozen=True)
class JoinedSource:
    """Several sources that are one corpus, in this order."""

    sources: tuple["Source", ...]


Source = NewsSource | FileSource | FolderSource | HubSource | TextSource | JoinedSource


def parse_spec(spec: str) -> Source:
    """The source that `spec` names.

    Raises CorpusError where nothing is there, an option is unknown, or a file is of a kind that is
    not read here.
    """
    if not spec.strip():
        raise CorpusError(_("--data is empty: give `news`, a file, a folder or hf:ORG/NAME"))
    specs = [line for line in spec.split("\n") if line.strip()]
    if len(specs) > 1 and not _exists(spec):
        return _joined([_parse_one(part) for part in specs])
    return _parse_one(spec)


def _joined(sources: Sequence[Source]) -> Source:
    """One source of several; files that are read in one way are one list of files."""
    different = tuple(dict.fromkeys(sources))
    if len(different) == 1:
        return different[0]
    files = [source for source in different if isinstance(source, FileSource)]
    if len(files) < len(different) or len({source.options for source in files}) > 1:
        return JoinedSource(different)
    paths, passed_over = (
        dict.fromkeys(path for source in files for path in getattr(source, name))
        for name in ("paths", "passed_over")
    )
    return FileSource(tuple(paths), files[0].options, tuple(passed_over))


def _parse_one(spec: str) -> Source:
    try:
        body, options = _body_and_options(spec)
        if body == "-":
            _check_options(spec, options, (*FILE_OPTIONS, "sha256"))
            path = text_received(options.pop("sha256", None))
            return TextSource(path, path.stem, file_options(spec, options))
        if body == "news":
            return _news_source(spec, options)
        if body.startswith("hf:"):
            return _hub_source(spec, body.removeprefix("hf:"), options)
        return _path_source(spec, body, options)
    except OSError as error:  # a folder that may not be entered, a name that is too long
        raise CorpusError(
            _(
                "{spec}: cannot be opened ({strerror}): check the name and its folder's permissions"
            ).format(spec=shortened(spec), strerror=error.strerror)
        ) from None


def located(spec: str, home: Path | None) -> str:
    """A SPEC that was typed in the folder `home`, as it is written in the current one.

    It is left as it is where it names something here, or nothing there.
    """
    if "\n" in spec:
        return "\n".join(located(part, home) for part in spec.split("\n"))
    if home is None or spec == "news" or spec.startswith(("news#", "hf:", "-")):
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
        case JoinedSource():
            return {"sources": [identity(part) for part in source.sources]}
        case TextSource():
            return {
                "sha256": source.sha256,
                "options": source.options.given(),
                "rules": FILE_RULES,
            }
        case FileSource():
            return {
                "files": [file_identity(path) for path in source.paths],
                "options": source.options.given(),
                "rules": FILE_RULES,
            }
        case FolderSource():
            below = files_below(source.path, skip_closed=source.options.broken == "skip")
            return {
                "folder": str(source.path.resolve()),
                "files": [file_identity(path) for path in below.files],
                "options": source.options.given(),
                "rules": FILE_RULES,
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
        raise CorpusError(_("{spec}: not a name on the Hub: write hf:ORG/NAME").format(spec=spec))
    streaming = options.get("streaming", "yes")
    if streaming not in ("yes", "no"):
        raise CorpusError(
            _("{spec}: streaming={streaming} is neither yes nor no").format(
                spec=spec, streaming=streaming
            )
        )
    config, revision, split = (options.get(key) for key in ("config", "revision", "split"))
    return HubSource(name, config, revision, split, streaming=streaming == "yes")


def _path_source(spec: str, body: str, options: dict[str, str]) -> FileSource | FolderSource:
    path = _found(body)
    if path is not None and path.is_dir():
        _check_options(spec, options, (*FILE_OPTIONS, "config", "split"))
        config, split = options.pop("config", None), options.pop("split", None)
        return FolderSource(path, file_options(spec, options), config, split)
    _check_options(spec, options, FILE_OPTIONS)
    chosen = file_options(spec, options)
    if path is None:
        return _matching(body, chosen)
    if not path.is_file():
        raise CorpusError(
            _(
                "{body}: not a regular file: give a file, a folder or a "
                "pattern, or pipe it into `-`"
            ).format(body=body)
        )
    if file_format(path) is None and not nameless_texts([path]):
        raise _other_kind(path)
    return FileSource((path,), chosen)


def _other_kind(path: Path) -> CorpusError:
    return CorpusError(
        _(
            "{path}: files of this kind are not read here: if it is plain "
            "text, pipe it in (--data - "
            "< {quote}); read are {formats_in_words}"
        ).format(path=path, quote=shlex.quote(str(path)), formats_in_words=formats_in_words())
    )


def _matching(body: str, options: FileOptions) -> FileSource:
    """The files that match a pattern."""
    if not glob.has_magic(body):
        raise CorpusError(
            _("{body}: no such file or folder{hint}").format(
                body=printable(body), hint=_hub_hint(body)
            )
        )
    names: list[str] = []
    for form in ("NFC", "NFD"):
        pattern = str(Path(unicodedata.normalize(form, body)).expanduser())
        # Path.glob takes no absolute pattern.
        names += glob.glob(pattern, recursive=True)  # noqa: PTH207
    files = sorted({Path(name) for name in names if Path(name).is_file()})
    if not files:
        raise CorpusError(_("{body}: no file matches this pattern").format(body=body))
    folders = {parent for path in files for parent in path.parents}
    runs = {parent for parent in folders if is_run(parent) and not _is_named(parent, body)}
    outside = [path for path in files if runs.isdisjoint(path.parents)]
    paths = dict.fromkeys(list(filter(file_format, outside)) or nameless_texts(outside))
    if not paths:
        raise _other_kind(files[0])
    return FileSource(tuple(paths), options, tuple(path for path in files if path not in paths))


def _is_named(folder: Path, pattern: str) -> bool:
    """Whether a pattern names a folder, not only matches it."""
    named = Path(pattern).expanduser().parents
    return any(parent == folder and not glob.has_magic(str(parent)) for parent in named)


# Paths


def _exists(name: str) -> bool:
    try:
        return _found(name) is not None
    except (OSError, ValueError):
        return False


def _found(name: str) -> Path | None:
    """The path that `name` means: as it is written, with bytes for %B1, or in another Unicode form.

    None where there is none.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    bytes_for = re.sub(rb"%([89A-F][0-9A-F])", _byte, os.fsencode(path))
    if (decoded := Path(os.fsdecode(bytes_for))).exists():
        return decoded
    if path.name.isascii() and str(path).isascii():
        return None
    found = Path(path.anchor)
    for part in path.parts[bool(path.anchor) :]:
        following = found / part
        if not following.exists():
            wanted = unicodedata.normalize("NFC", part)
            beside = sorted(found.iterdir()) if found.is_dir() else []
            same = [path for path in beside if unicodedata.normalize("NFC", path.name) == wanted]
            if not same:
                return None
            following = same[0]
        found = following
    return found


def _byte(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1], 16)])


def _hub_hint(body: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", body):
        return _(" (a dataset on the Hub is written hf:{body})").format(body=body)
    return ""


# Options


def _body_and_options(spec: str) -> tuple[str, dict[str, str]]:
    if spec != "-" and _exists(spec):
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
                _("{spec}: {pair!r} is not an option: write key=value, separated by commas").format(
                    spec=spec, pair=pair
                )
            )
        if key in options:
            raise CorpusError(
                _("{spec}: the option {key} is given twice").format(spec=spec, key=key)
            )
        options[key] = value
    return options


def _check_options(spec: str, options: Mapping[str, str], known: Sequence[str]) -> None:
    unknown = [key for key in options if key not in known]
    if unknown:
        raise CorpusError(
            _("{spec}: no option {unknown!r}: this kind of source knows {known}").format(
                spec=spec, unknown=unknown[0], known=", ".join(known)
            )
        )


def _whole_number(spec: str, options: Mapping[str, str], key: str, minimum: int) -> int | None:
    if key not in options:
        return None
    value = options[key].replace("_", "")
    if not value.isascii() or not value.isdigit() or len(value) > 18 or int(value) < minimum:
        raise CorpusError(
            _("{spec}: {key}={option} is not a whole number of at least {minimum}").format(
                spec=spec, key=key, option=options[key], minimum=minimum
            )
        )
    return int(value)
