"""Run folders that lie inside a folder of text: how they are known, so that they are passed over.

A run begun in its own data folder would otherwise be read as text by the next command.
"""

from __future__ import annotations

from pathlib import Path

from semigpt.errors import SettingsError
from semigpt.settings import read_toml

__all__ = ["is_run_folder", "run_folders_of"]

# Tables that the config.toml of every run has, and hardly any other program's.
MARK = {"data", "tokenizer", "model", "training"}


def is_run_folder(folder: Path) -> bool:
    """Whether `semigpt train` made this folder: its config.toml holds the tables of a recipe."""
    config = folder / "config.toml"
    if not config.is_file():
        return False
    try:
        return read_toml(config).keys() >= MARK
    except SettingsError:
        return False


def run_folders_of(paths: list[Path], below: Path) -> set[Path]:
    """The run folders, strictly below `below`, that hold any of these files."""
    folders = {
        parent
        for path in paths
        for parent in path.parents
        if below in parent.parents and parent != below
    }
    return {folder for folder in folders if is_run_folder(folder)}
