"""Commands and scripts in a process of their own, without the two seconds in which one starts.

It is forked from one that has imported torch and never computed: as good as a new interpreter for
what forks in its turn, is killed, or is sent signals.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from semigpt.cli import main


class Ended(NamedTuple):
    """As a `subprocess.CompletedProcess`."""

    returncode: int | None
    stdout: str
    stderr: str


class Forked:
    """A `semigpt` command that runs, or a script with its arguments."""

    def __init__(self, *arguments: str, script: str = "") -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch", "semigpt.cli.terminal", "semigpt.recipe"])
        self.place = tempfile.TemporaryDirectory()
        given = (self.place.name, str(Path.cwd()), dict(os.environ), arguments, script)
        self.process = context.Process(target=_work, args=given)
        self.process.start()

    def send_signal(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def ended(self, timeout: float) -> Ended:
        """What it printed, once it has ended; killed after so many seconds."""
        self.process.join(timeout)
        self.process.kill()
        self.process.join()
        code = self.process.exitcode
        with self.place as place:
            return Ended(code, *(Path(place, name).read_text() for name in ("out", "err")))


def _work(
    place: str, folder: str, environment: dict[str, str], arguments: tuple[str, ...], script: str
) -> None:
    for number, name in enumerate(("out", "err"), 1):
        file = os.open(Path(place, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if not script:
        sys.exit(main(arguments))
    sys.argv[1:] = arguments
    exec(script, {"__name__": "__main__"})
