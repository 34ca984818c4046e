"""Work cut into parts, which any number of processes do together: on this machine, and on others
that see the same folder.

    FOLDER/tasks.json     the parts, one JSON object each
    FOLDER/00012.lock     locked by the process that does part 12
    FOLDER/00012/         what it made: renamed to this name when it is complete

What is a part never depends on the number of processes. The operating system frees the lock of a
process that dies, and the next one does its part from the beginning.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from semigpt.storage import try_lock, write_files

__all__ = ["Parts", "Task"]

Task = dict[str, Any]
TASKS = "tasks.json"


class Parts:
    """The parts in a folder. A part whose task has `after` waits until those parts are done."""

    def __init__(self, folder: Path, tasks: Sequence[Task]) -> None:
        self.folder, self.tasks = folder, tasks
        self._first_open = 0

    @classmethod
    def create(cls, folder: Path, tasks: Sequence[Task]) -> Parts:
        """The parts of these tasks, or those that are there already."""
        folder.mkdir(parents=True, exist_ok=True)
        if (found := cls.find(folder)) is not None:
            return found
        write_files(folder, {TASKS: json.dumps(tasks).encode()})
        return cls(folder, tasks)

    @classmethod
    def find(cls, folder: Path) -> Parts | None:
        """The parts in a folder, None where there are none."""
        try:
            return cls(folder, json.loads((folder / TASKS).read_bytes()))
        except (OSError, ValueError):
            return None

    def __len__(self) -> int:
        return len(self.tasks)

    def result(self, number: int) -> Path:
        """The folder that a part makes."""
        return self.folder / f"{number:05d}"

    def is_done(self, number: int) -> bool:
        return self.result(number).is_dir()

    @property
    def all_done(self) -> bool:
        while self._first_open < len(self.tasks) and self.is_done(self._first_open):
            self._first_open += 1
        return self._first_open == len(self.tasks)

    def do_next(self, work: Callable[[Task, Path], None]) -> bool:
        """Do the first part that nobody does or has done; False where there is none at the moment.

        work: makes the part of a task in a new folder. What it raises leaves the part open.
        """
        if self.all_done:
            return False
        for number in range(self._first_open, len(self.tasks)):
            after = self.tasks[number].get("after", ())
            if (
                not self.is_done(number)
                and all(map(self.is_done, after))
                and self._do(number, work)
            ):
                return True
        return False

    def remove(self, number: int, but: str) -> None:
        """Remove what a part made, except for one file; it stays done."""
        for path in self.result(number).iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != but:
                path.unlink(missing_ok=True)

    def _do(self, number: int, work: Callable[[Task, Path], None]) -> bool:
        result = self.result(number)
        with result.with_suffix(".lock").open("ab") as lock:
            if not try_lock(lock) or self.is_done(number):
                return False
            unfinished = result.with_suffix(".partial")  # ours alone, as the lock is
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            try:
                work(self.tasks[number], unfinished)
                unfinished.rename(result)
            except BaseException:
                with contextlib.suppress(OSError):
                    shutil.rmtree(unfinished)
                raise
        return True
