"""What every command prints, and how it is stopped.

A terminal never gets a control character of a text: it shows a picture in its place. Elsewhere
what a program may read (the text that a model writes, JSON, a folder's name) is exact, text in
UTF-8 whatever the locale; what a person reads is in the encoding of the stream, with `?` for what
that lacks.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TextIO, cast

from semigpt.controls import pictured
from semigpt.language import _
from semigpt.system import CLOSED_PIPE, HANGUP, ending_signals, handled

__all__ = [
    "EXIT_BAD_INPUT",
    "RUNS",
    "broken_pipe",
    "in_notebook",
    "is_live",
    "note",
    "one_line",
    "reading",
    "standard_input",
    "standard_streams",
    "stopping",
    "terminating",
    "write",
    "write_exact",
    "write_json",
    "write_path",
    "write_styled",
]

EXIT_BAD_INPUT = 2
RUNS = Path("runs")


def in_notebook() -> bool:
    """Whether a cell of a Jupyter notebook takes what is written.

    It looks like a terminal, and keeps every frame of what is drawn over on one.
    """
    return "JPY_PARENT_PID" in os.environ


def is_live(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal, on which lines can be drawn over and a person can answer."""
    return stream is not None and stream.isatty() and not in_notebook()


# Standard error


def one_line(message: str) -> int:
    """An error, in one line on standard error; its exit code."""
    print(f"semigpt: {pictured(' '.join(message.split()))}", file=sys.stderr)
    return EXIT_BAD_INPUT


def note(line: str) -> None:
    """A line on standard error about how it goes."""
    print("\r\x1b[K" * is_live(sys.stderr) + pictured(line), file=sys.stderr)


@contextlib.contextmanager
def reading() -> Iterator[Callable[[int, int], None]]:
    """A function that shows how much text has been read: one line that changes, on a terminal
    alone.
    """

    def tell(documents: int, characters: int) -> None:
        if is_live(sys.stderr):
            line = _("reading: {documents:,} documents, {characters:,} characters").format(
                documents=documents, characters=characters
            )
            print(f"\r{line}", end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        if is_live(sys.stderr):
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


# Standard output


def write(text: str) -> None:
    """Text for a person, at once."""
    write_styled(pictured(text) if sys.stdout.isatty() else text)


def write_styled(text: str) -> None:
    """Text for a person that holds no controls but the colours of a terminal."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def write_exact(text: str) -> None:
    """Text for a program, at once, lone surrogates too; on a terminal as `write`."""
    _write_bytes(text.encode("utf-8", "surrogatepass"), text)


def write_path(path: Path) -> None:
    """A line with a path for a program: the bytes of its name, whether or not they are UTF-8."""
    _write_bytes(os.fsencode(path) + b"\n", f"{path}\n")


def write_json(value: Any) -> None:
    """A line of JSON. Its strings hold nothing that a terminal acts on or UTF-8 cannot hold."""
    line = json.dumps(value, ensure_ascii=False)
    escaped = re.sub(r"[\x7f-\x9f\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", line)
    write_exact(f"{escaped}\n")


def _write_bytes(data: bytes, text: str) -> None:
    """`data` to standard output; `text` where that takes text alone, as a notebook's does."""
    buffer = getattr(sys.stdout, "buffer", None)
    if sys.stdout.isatty():
        write(text)
    elif buffer is None:
        write_styled(text)
    else:
        sys.stdout.flush()
        buffer.write(data)
        buffer.flush()


# The streams


def standard_input() -> IO[bytes]:
    """The bytes of standard input: none where it is closed."""
    if sys.stdin is None:
        return io.BytesIO()
    buffer: IO[bytes] | None = getattr(sys.stdin, "buffer", None)
    return io.BytesIO(sys.stdin.read().encode()) if buffer is None else buffer


class _Log:
    """Standard error that costs a command its log, not its work, where it cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.reader_gone = False
        self.when_gone: Callable[[], None] = lambda: None
        """Called where whoever read the log has gone."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, do: Callable[[], object]) -> None:
        try:
            do()
        except OSError as error:
            discard(self._stream)
            if isinstance(error, BrokenPipeError):
                self.reader_gone = True
                self.when_gone()


def broken_pipe() -> int:
    """The exit code where whoever read standard output has gone."""
    discard(sys.stdout)
    log = sys.stderr
    return 128 + CLOSED_PIPE if isinstance(log, _Log) and log.reader_gone else 0


def discard(stream: TextIO) -> None:
    """Point a stream nowhere, or Python complains of it once more at exit."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with contextlib.suppress(OSError):
            os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Inside, both output streams are there and take every character.

    One that is closed leads nowhere, and no file that is opened takes its number. Standard error
    fails in silence.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free number
    with contextlib.ExitStack() as restored:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            restored.callback(setattr, sys, name, stream)
            if stream is None:
                nowhere = restored.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
                setattr(sys, name, nowhere)
        if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
            restored.callback(_set_errors, sys.stdout, "strict")
            _set_errors(sys.stdout, "replace")
        if not isinstance(sys.stderr, _Log):
            sys.stderr = cast(TextIO, _Log(sys.stderr))
        yield


def _set_errors(stream: io.TextIOWrapper, errors: str) -> None:
    with contextlib.suppress(OSError):  # what it still holds cannot be written
        stream.reconfigure(errors=errors)


# Stopping


@contextlib.contextmanager
def stopping() -> Iterator[list[int | None]]:
    """The first SIGINT, SIGTERM or SIGHUP, or SIGPIPE where whoever read standard error has gone,
    is put in the list, to be heeded between two steps; a second SIGINT or SIGTERM ends at once.
    """
    seen: list[int | None] = [None]
    asked = False
    heeded = _("stopping after this step and saving; once more to stop at once")

    def take(number: int, frame: object = None) -> None:
        nonlocal asked
        if number not in (HANGUP, CLOSED_PIPE):  # a terminal that goes sends more than one
            if asked:
                os._exit(128 + number)
            asked = True
        if seen[0] is None:
            seen[0] = number
            with contextlib.suppress(RuntimeError):  # it came while a line was being written
                print(f"\n{heeded}", file=sys.stderr)

    log = sys.stderr
    with handled(take, signal.SIGINT, *ending_signals()):
        if isinstance(log, _Log):
            log.when_gone = lambda: take(CLOSED_PIPE)
        try:
            yield seen
        finally:
            if isinstance(log, _Log):
                log.when_gone = lambda: None


@contextlib.contextmanager
def terminating() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind like any exception, so that what was begun is removed."""
    with handled(lambda number, frame: sys.exit(128 + number), *ending_signals()):
        yield
