"""What every command prints, and how it is stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from semigpt.system import handled

__all__ = [
    "EXIT_BAD_INPUT",
    "RUNS",
    "note",
    "one_line",
    "reading",
    "stopping",
    "terminating",
    "write",
    "write_json",
]

EXIT_BAD_INPUT = 2
RUNS = Path("runs")


def one_line(message: str) -> int:
    """An error, in one line on standard error; its exit code."""
    print(f"semigpt: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_BAD_INPUT


def note(line: str) -> None:
    """A line on standard error about how it goes."""
    print("\r\x1b[K" * sys.stderr.isatty() + line, file=sys.stderr)


def write(text: str) -> None:
    """Text to standard output at once, lone surrogates too."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogatepass"))
    sys.stdout.buffer.flush()


def write_json(value: Any) -> None:
    write(json.dumps(value, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def reading() -> Iterator[Callable[[int, int], None]]:
    """A function that shows how much text has been read: one line that changes, on a terminal
    alone.
    """

    def tell(documents: int, characters: int) -> None:
        if sys.stderr.isatty():
            line = f"reading: {documents:,} documents, {characters:,} characters"
            print(f"\r{line}", end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def stopping() -> Iterator[list[int | None]]:
    """The first SIGINT or SIGTERM is put in the list, to be heeded between two steps; a second one
    ends at once.
    """
    seen: list[int | None] = [None]

    def take(number: int, frame: object) -> None:
        if seen[0] is not None:
            os._exit(128 + number)
        seen[0] = number
        print("\nstopping after this step and saving; once more to stop at once", file=sys.stderr)

    with handled(take):
        yield seen


@contextlib.contextmanager
def terminating() -> Iterator[None]:
    """SIGTERM unwinds like any exception, so that what was begun is removed."""
    with handled(lambda number, frame: sys.exit(128 + number), signal.SIGTERM):
        yield
