"""Worker processes of this machine, which end when the process that started them does."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from semigpt.system import ignore_interrupts

__all__ = ["Workers", "worker_request"]


class Workers:
    """A context manager: `count` processes that run `MODULE.main()`; leaving it ends them.

    request: JSON that each process gets from `worker_request()`
    """

    def __init__(self, count: int, module: str, request: dict[str, Any]) -> None:
        self.count, self.module, self.request = count, module, request
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Workers:
        # By a command of its own: a fork inherits the locks of pyarrow's threads, and what
        # `multiprocessing` spawns runs the main module of the program once more.
        home = str(Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-c", f"from {self.module} import main; main()"]
        for _ in range(self.count):
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
            )
            self._processes.append(process)
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has died, which `alive` tells
                process.stdin.write(json.dumps(self.request).encode() + b"\n")
                process.stdin.flush()
        return self

    @property
    def alive(self) -> int:
        """How many of the processes run."""
        return sum(process.poll() is None for process in self._processes)

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            with contextlib.suppress(OSError):
                process.communicate()
        self._processes.clear()


def worker_request() -> Any:
    """In a worker: the request it got. Ctrl-C is left to the process that started it, and when that
    ends, by SIGKILL too, this one does.
    """
    ignore_interrupts()
    request = json.loads(sys.stdin.buffer.readline())

    def end() -> None:
        sys.stdin.buffer.read()  # until its other end is closed
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
    return request
