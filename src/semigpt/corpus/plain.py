"""What is read without the `datasets` library, whose import takes a second.

That is all but Parquet with nested columns, what `save_to_disk` wrote, the Hub, and what a folder's
README.md declares in more than the simplest form: one configuration, a list of splits, and Parquet
files of the folder itself.
"""

from __future__ import annotations

import contextlib
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from semigpt.corpus.files import files_below
from semigpt.corpus.formats import file_format
from semigpt.corpus.parquet import is_plain
from semigpt.corpus.spec import (
    FileSource,
    FolderSource,
    JoinedSource,
    NewsSource,
    Source,
    TextSource,
)

__all__ = ["CARDS", "SAVED", "declared_splits", "declares_files", "reads_alone"]

CARD = "README.md"
CARDS = (CARD, ".huggingface.yaml")
SAVED = ("dataset_dict.json", "dataset_info.json")
FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)
PATTERN = re.compile(r"[\w.*-]+\.parquet")  # no folder, and no wild card but *


def reads_alone(source: Source) -> bool:
    """Whether every file of `source` is read without the library."""
    match source:
        case NewsSource() | TextSource():
            return True
        case JoinedSource():
            return all(map(reads_alone, source.sources))
        case FileSource():
            return all(map(_reads_alone, source.paths))
        case FolderSource():
            if any((source.path / name).is_file() for name in SAVED):
                return False
            if declares_files(source.path):
                return declared_splits(source) is not None
            files = files_below(source.path, skip_closed=True).files
            return all(_reads_alone(path) for path in files if file_format(path))
    return False


def _reads_alone(path: Path) -> bool:
    return file_format(path) != ".parquet" or is_plain(path)


def declares_files(folder: Path) -> bool:
    """Whether its README.md, or `.huggingface.yaml`, says which files make which split."""
    for name in CARDS:
        with contextlib.suppress(OSError):
            card = (folder / name).read_text(encoding="utf-8", errors="replace")
            if re.search(r"^configs:", card, re.MULTILINE):
                return True
    return False


def declared_splits(source: FolderSource) -> dict[str, list[Path]] | None:
    """The files of each split that a folder's README.md declares; None for all but the simplest."""
    if (source.path / ".huggingface.yaml").exists():
        return None
    try:
        card = FRONT_MATTER.match((source.path / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    config = _only_config(card[1]) if card else None
    if config is None or source.config not in (None, config["config_name"]):
        return None
    splits = {}
    for entry in config["data_files"]:
        files = _matching(source.path, entry["path"])
        if not files or not all(map(is_plain, files)):
            return None
        splits[entry["split"]] = files
    return splits if len(splits) == len(config["data_files"]) else None


def _only_config(text: str) -> dict[str, Any] | None:
    import yaml

    try:
        configs = yaml.safe_load(text)["configs"]
    except (yaml.YAMLError, LookupError, TypeError):
        return None
    match configs:
        case [{"config_name": str(), "data_files": [_, *_] as entries} as config]:
            if len(config) == 2 and all(map(_is_simple, entries)):
                return dict(config)
    return None


def _is_simple(entry: Any) -> bool:
    match entry:
        case {"split": str(split), "path": str(path)}:
            simple = re.fullmatch(r"\w+", split) and PATTERN.fullmatch(path) and "**" not in path
            return len(entry) == 2 and bool(simple)
    return False


def _matching(folder: Path, pattern: str) -> list[Path]:
    found = (path for path in folder.iterdir() if fnmatchcase(path.name, pattern))
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))
