"""Worker processes of this machine, which end when the process that started them does.

None is forked: a fork inherits the locks of the threads that pyarrow has started.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from semigpt.errors import SettingsError
from semigpt.language import _
from semigpt.system import available_cores, ignore_interrupts

__all__ = ["Workers", "executor", "processes", "worker_request"]


def processes(asked: int | None) -> int:
    """How many processes to work in; None: one per core. Raises SettingsError for fewer than 1."""
    if asked is not None and asked < 1:
        raise SettingsError(_("--workers {workers}: give at least 1").format(workers=asked))
    return asked or available_cores()


def executor(workers: int) -> ProcessPoolExecutor:
    """Processes to which calls are submitted. A caller's script has to guard its main module."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_follow_parent)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a worker"
    _end_after(parent.join)


def _end_after(wait: Callable[[], object]) -> None:
    """Leave Ctrl-C to the process that started this one, and end when `wait` returns."""
    ignore_interrupts()

    def end() -> None:
        wait()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


class Workers:
    """A context manager: `count` processes that run `MODULE.main()`; leaving it ends them.

    request: JSON that each process gets from `worker_request()`
    """

    def __init__(self, count: int, module: str, request: dict[str, Any]) -> None:
        self.count, self.module, self.request = count, module, request
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Workers:
        # By a command: what `multiprocessing` spawns runs the program's main module once more.
        home = str(Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-c", f"from {self.module} import main; main()"]
        while len(self.processes) < self.count:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
            )
            self.processes.append(process)
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has died, which `alive` tells
                process.stdin.write(json.dumps(self.request).encode() + b"\n")
                process.stdin.flush()
        return self

    @property
    def alive(self) -> int:
        """How many of the processes run."""
        return sum(process.poll() is None for process in self.processes)

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            with contextlib.suppress(OSError):
                process.communicate()
        self.processes.clear()


def worker_request() -> Any:
    """In a process of `Workers`: the request it got. When the one that started it ends, by SIGKILL
    too, this one does.
    """
    request = json.loads(sys.stdin.buffer.readline())
    _end_after(sys.stdin.buffer.read)  # until its other end is closed
    return request
