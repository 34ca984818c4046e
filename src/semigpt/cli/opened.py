"""`semigpt train --open`: the page of the run that is training, and a browser at it.

The server is a process of its own, so that a run ends in the same bits with it. It is started
before the run has a folder, waits to be told of it, and ends where its standard input closes:
with the command that started it, however that ends.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from semigpt.cli.output import note, one_line, terminating
from semigpt.errors import SemigptError, SettingsError
from semigpt.language import _
from semigpt.storage import replace_file
from semigpt.system import apart, handled

if TYPE_CHECKING:
    from semigpt.recipe import Event

__all__ = ["Opened", "beside", "opened", "telling"]

FOLDER = "SEMIGPT_OPENED"  # names the file in which the run's folder is told
HOST, PORT = "127.0.0.1", 8080
NEEDED = ("fastapi", "uvicorn", "prometheus_client")


class Opened:
    """The server beside a command."""

    def __init__(self, process: subprocess.Popen[bytes] | None) -> None:
        self._process = process
        self._url: str | None = None
        self._told = threading.Thread(target=self._announce, daemon=True)
        if process is not None:
            self._told.start()

    def _announce(self) -> None:
        """Say where the page is, once the server says so."""
        assert self._process is not None
        assert self._process.stdout is not None
        url, _space, browsed = self._process.stdout.readline().decode().strip().partition(" ")
        if not url:
            return
        self._url = url
        note(
            _("the page of this run: {url}").format(url=url)
            if browsed
            else _("the page of this run: {url} (no browser can be opened from here)").format(
                url=url
            )
        )

    def stay(self, code: int) -> int:
        """After a command that went well: keep the page until Ctrl-C. Its exit code."""
        if code == 0 and self._process is not None and self._url is not None:
            note(_("the page stays at {url}; Ctrl-C ends it").format(url=self._url))
            # A launcher of processes leaves handlers of its own behind.
            interrupting = handled(_interrupt, signal.SIGINT)
            with contextlib.suppress(KeyboardInterrupt), interrupting, terminating():
                self._process.wait()
        return code

    def close(self) -> None:
        """End the server."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._told.join(10)
        self._process.stdout.close()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def opened(asked: bool) -> Iterator[Opened]:
    """A server for as long as the context, of the run that `telling` names; none unless `asked`.

    Inside a process that such a context has started there is one already.
    Raises SettingsError where a library of the server's is missing.
    """
    if not asked or FOLDER in os.environ:
        yield Opened(None)
        return
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise SettingsError(
                _("--open needs {name}: pip install 'semigpt[serve]'").format(name=name)
            )
    with tempfile.TemporaryDirectory(prefix="semigpt-") as place:
        file = Path(place) / "folder"
        os.environ[FOLDER] = str(file)
        code = "from semigpt.cli.opened import beside; beside()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            **apart(),  # a terminal's Ctrl-C is for the run, which saves first
        )
        page = Opened(process)
        try:
            yield page
        finally:
            del os.environ[FOLDER]
            page.close()


def telling(events: Iterator[Event], folder: Path) -> Iterator[Event]:
    """The events of a run; the server is told of its folder once that is there."""
    from semigpt.recipe import Prepared

    for event in events:
        if isinstance(event, Prepared) and FOLDER in os.environ:
            replace_file(Path(os.environ[FOLDER]), os.fsencode(folder.absolute()))
        yield event


def beside() -> None:
    """The server's process."""
    file = Path(sys.argv[1])
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    while not file.exists():
        time.sleep(0.1)
    try:
        _serve(Path(os.fsdecode(file.read_bytes())))
    except SemigptError as error:
        sys.exit(one_line(str(error)))


def _end_with_standard_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _serve(folder: Path) -> None:
    from semigpt.serving import listen, server

    # On the CPU: a GPU is the run's.
    models = server.Models.find([folder], device="cpu")
    with contextlib.ExitStack() as held:
        try:
            sockets = held.enter_context(listen.listening(HOST, PORT))
        except SettingsError:  # another server's
            sockets = held.enter_context(listen.listening(HOST, 0))
        url = f"{listen.address(HOST, sockets[0].getsockname()[1])}/"

        def announce() -> None:
            browsed = _browse(f"{url}#training")
            print(url, "browsed" if browsed else "", flush=True)

        server.serve(models, sockets, ready=announce)


def _browse(url: str) -> bool:
    """Open a browser; whether one is known. One in this terminal is none: the run writes there."""
    has_windows = sys.platform in ("win32", "darwin")
    if not has_windows and not any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))):
        return False
    try:
        return webbrowser.open(url)
    except webbrowser.Error:
        return False
