"""Reading the data files: TOML tables whose errors name the file and the key."""

import tomllib
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeVar

from semigpt.errors import CorpusError

__all__ = ["Table", "listed", "read"]

T = TypeVar("T")

_TYPES: dict[type, str] = {
    bool: "true or false",
    dict: "a table",
    int: "a whole number",
    list: "a list",
    str: "text",
}


class Table:
    """A TOML table, and where it stands: its file, and its keys from the top of the file."""

    def __init__(self, values: Mapping[str, object], file: str, path: str = "") -> None:
        self.values = values
        self.file = file
        self.path = path

    def error(self, key: str, problem: str) -> CorpusError:
        """An error about a key of this table, to be raised."""
        path = ".".join(filter(None, (self.path, key)))
        return CorpusError(f"bundled news: {self.file}: {path}: {problem}")

    def allow(self, *keys: str) -> None:
        """Raise `CorpusError` for a key that is none of `keys`."""
        for key in self.values:
            if key not in keys:
                raise self.error(key, f"no such key here: choose from {', '.join(keys)}")

    def get(self, key: str, kind: type[T], default: T | None = None) -> T:
        """The value of a key. Raises `CorpusError` if it is of another type, or if it is missing
        and has no default.
        """
        if key not in self.values and default is not None:
            return default
        if key not in self.values:
            raise self.error(key, f"missing: it has to be {_TYPES[kind]}")
        value = self.values[key]
        if type(value) is not kind:  # true and false are of type int otherwise
            raise self.error(key, f"{value!r} has to be {_TYPES[kind]}")
        return value

    def table(self, key: str) -> "Table":
        """A table inside this one."""
        path = ".".join(filter(None, (self.path, key)))
        return Table(self.get(key, dict), self.file, path)

    def tables(self, key: str) -> "list[Table]":
        """The tables of an array. Their errors count them from 1."""
        entries = self.elements(key, dict)
        path = ".".join(filter(None, (self.path, key)))
        return [
            Table(entry, self.file, f"{path}[{place}]") for place, entry in enumerate(entries, 1)
        ]

    def elements(self, key: str, kind: type[T], default: list[T] | None = None) -> list[T]:
        """The elements of a list, which is not empty."""
        values = self.get(key, list, default)
        if not values:
            raise self.error(key, "the list is empty")
        for place, value in enumerate(values, 1):
            if type(value) is not kind:
                raise self.error(f"{key}[{place}]", f"{value!r} has to be {_TYPES[kind]}")
        return values

    def lines(self, key: str) -> list[str]:
        """The lines of a text, of which there is one at least, without the space around them."""
        lines = [line.strip() for line in self.get(key, str).strip().splitlines()]
        if not lines:
            raise self.error(key, "the text is empty")
        for number, line in enumerate(lines, 1):
            if not line:
                raise self.error(key, f"line {number} is empty")
        return lines

    def words(self, key: str, text: str | None = None) -> tuple[str, ...]:
        """The members of a list with commas: the value of a key, or `text` taken from it."""
        words = listed(self.get(key, str) if text is None else text)
        if not words:
            raise self.error(key, "the list is empty")
        if len(set(words)) < len(words):
            twice = next(word for place, word in enumerate(words) if word in words[:place])
            raise self.error(key, f"{twice} is in the list twice")
        return words


def listed(text: str) -> tuple[str, ...]:
    """The members of a list that is written with commas."""
    return tuple(word.strip() for word in text.replace("\n", " ").split(",") if word.strip())


def read(folder: Path | Traversable, file: str) -> Table:
    """Read a data file. Raises `CorpusError` if it is not there or is not TOML."""
    try:
        return Table(tomllib.loads((folder / file).read_text(encoding="utf-8")), file)
    except FileNotFoundError:
        raise CorpusError(f"bundled news: {file}: no such file: install semigpt again") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise CorpusError(f"bundled news: {file}: {error}") from None
