"""What is read without the `datasets` library, whose import takes a second.

That is Parquet whose columns are all plain values, alone or declared in the simplest form that a
folder's README.md has: one configuration, a list of splits, and files of the folder itself. All
else, and all that is broken, is left to the library.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from semigpt.corpus.parquet import is_plain
from semigpt.corpus.spec import FileSource, FolderSource, NewsSource, Source

__all__ = ["declared_splits", "reads_alone"]

CARD = "README.md"
FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)
PATTERN = re.compile(r"[\w.*-]+\.parquet")  # no folder, and no wild card but *


def reads_alone(source: Source) -> bool:
    """Whether every file of `source` is read without the library."""
    match source:
        case NewsSource():
            return True
        case FileSource():
            return all(is_plain(path) for path in source.paths)
        case FolderSource():
            return declared_splits(source) is not None
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
