"""Work cut into parts, which any number of processes do together: on this machine, and on others
that see the same folder.

    FOLDER/tasks.json     the parts, one JSON object each
    FOLDER/00012.lock     locked by the process that does part 12
    FOLDER/00012/         what it made: renamed to this name when it is complete
      state.json          what others have to know of it

What is a part never depends on the number of processes. The operating system frees the lock of a
process that dies, and the next one does its part from the beginning.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from semigpt.pool import Workers
from semigpt.storage import try_lock, write_files

__all__ = ["Parts", "Task", "Work", "read_state", "share", "write_state"]

Task = dict[str, Any]
Work = Callable[[Task, Path], None]
"""Makes the part of a task in a new folder. What it raises leaves the part open."""

TASKS, STATE = "tasks.json", "state.json"
WAIT_SECONDS = 0.02
TOLD_SECONDS = 1.0


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

    def do_next(self, work: Work) -> bool:
        """Do the first part that nobody does or has done; False where there is none now."""
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

    def until_done(self, number: int, work: Work, pool: Workers) -> Iterator[None]:
        """Wait for a part, doing parts where no worker is alive; yields about once a second."""
        told = time.monotonic()
        while not self.is_done(number):
            if pool.alive or not self.do_next(work):
                time.sleep(WAIT_SECONDS)
            if time.monotonic() - told >= TOLD_SECONDS:
                told = time.monotonic()
                yield

    def remove(self, number: int) -> None:
        """Remove what a part made, except for its state; it stays done."""
        for path in self.result(number).iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != STATE:
                path.unlink(missing_ok=True)

    def _do(self, number: int, work: Work) -> bool:
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


def share(folder: Path, stages: Sequence[Path], work: Work) -> Iterator[None]:
    """Do parts for the process that puts them together in `folder`, until all are done or it has
    given up; yields after each, and while it waits.

    stages: the folders of the parts, of which each is made after the one before it is done
    """
    try:
        while not (last := Parts.find(stages[-1])) or not last.all_done:
            parts = next(filter(None, map(Parts.find, reversed(stages))), None)
            if parts is None or not parts.do_next(work):
                if not folder.is_dir():
                    return
                time.sleep(WAIT_SECONDS)
            yield
    except OSError:
        if folder.is_dir():
            raise


def write_state(part: Path, found: dict[str, Any]) -> None:
    """Record in the folder of a part what others have to know of it."""
    (part / STATE).write_text(json.dumps(found), encoding="ascii")


def read_state(part: Path) -> dict[str, Any]:
    """What `write_state` recorded; nothing where it is damaged."""
    try:
        found: dict[str, Any] = json.loads((part / STATE).read_bytes())
    except (OSError, ValueError):
        return {}
    return found
