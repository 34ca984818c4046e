"""A folder that appears whole or not at all, and is gone on with where a process that wrote it was stopped.

    PARENT/.staging-KEY-RANDOM/
      lock                  held (flock) by the process at work; the system lets go of it with the process
      journal/state.json    what of the rest is on the disk for certain, once there is enough to be worth it
      …                     the files themselves

Who wants to write the folder of a KEY takes one that a stopped process left with a journal, or makes its own; so
processes that write the same at once never wait for each other, and the last to end finds the others' work done.
What has no journal is removed with its process, or by the next one that comes by; what has one is kept for a week.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

__all__ = [
    "STATE",
    "STOPPED",
    "Clock",
    "has_kept",
    "publish",
    "read_journal",
    "sync",
    "temporary_folder",
    "write_journal",
]

PREFIX = ".staging-"
STATE = Path("journal") / "state.json"
KEPT_SECONDS = 7 * 24 * 3600.0
# At most so much work is done twice. Flushing to the disk waits for it: 0.05 to 0.3 s for the 200 MB of this time.
JOURNAL_SECONDS = 10.0
STOPPED = (KeyboardInterrupt, SystemExit)


class Clock:
    """Says when a journal is due."""

    def __init__(self) -> None:
        self._written = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._written >= JOURNAL_SECONDS

    def reset(self) -> None:
        self._written = time.monotonic()


@contextlib.contextmanager
def temporary_folder(
    parent: Path, key: str = "", *, anew: bool = False, kept: tuple[type[BaseException], ...] = STOPPED
) -> Iterator[Path]:
    """A folder in `parent`, removed on the way out unless `publish` gave it its name.

    key:  letters and digits that say what is to be in it: a folder of this key, left with a journal by a process
          that was stopped, is taken first. "" for one that nobody goes on with
    anew: what is left of the key is removed instead
    kept: what is raised through here and leaves the folder, if it has a journal
    """
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent)
    if anew:
        _remove_left(parent, key)
    temporary, lock, held = (_adopted(parent, key) if key else None) or _new(parent, key)
    with contextlib.ExitStack() as after:
        if not held:  # Windows, which does not remove an open file, and where nothing is kept
            after.callback(shutil.rmtree, temporary, ignore_errors=True)
        after.enter_context(lock)
        stays = False
        try:
            yield temporary
        except kept:
            stays = held and (temporary / STATE).is_file()
            raise
        finally:
            # While it is still held, or somebody else might take it in between.
            if not stays:
                shutil.rmtree(temporary, ignore_errors=True)
    if key:
        _remove_left(parent, key)


def _new(parent: Path, key: str) -> tuple[Path, IO[bytes], bool]:
    temporary = Path(tempfile.mkdtemp(prefix=PREFIX + f"{key}-" * bool(key), dir=parent))
    try:
        # Under its name only once it is held: between the two another process would find it free, and sweep.
        lock = (temporary / "lock.new").open("wb")
        held = _lock(lock)
        (temporary / "lock.new").rename(temporary / "lock")
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return temporary, lock, held


def _adopted(parent: Path, key: str) -> tuple[Path, IO[bytes], bool] | None:
    """The folder of this key with the youngest journal that nobody holds, now held."""
    left = [folder for folder in parent.glob(f"{PREFIX}{key}-*") if _is_kept(folder)]
    for folder in sorted(left, key=_age):
        with contextlib.suppress(OSError):
            lock = (folder / "lock").open("r+b")
            # Whoever held it may have given the folder its name, or removed it, since the file was opened.
            if _lock(lock) and os.path.samestat(os.fstat(lock.fileno()), (folder / "lock").stat()):
                return folder, lock, True
            lock.close()
    return None


def _lock(file: IO[bytes]) -> bool:
    """Whether this process now holds `file`. The system lets go of it when the process ends, in any way."""
    try:
        import fcntl
    except ImportError:  # Windows: nothing is swept or gone on with there
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def has_kept(parent: Path, key: str) -> bool:
    """Whether something of this key is there to be gone on with."""
    return any(map(_is_kept, parent.glob(f"{PREFIX}{key}-*")))


def _is_kept(folder: Path) -> bool:
    return _age(folder) < KEPT_SECONDS


def _age(folder: Path) -> float:
    try:
        return time.time() - (folder / STATE).stat().st_mtime
    except OSError:
        return float("inf")


def _sweep(parent: Path) -> None:
    """Remove what dead processes left and nobody will go on with."""
    for left in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            # Just made, or just about to be renamed: no lock for a moment.
            if _is_kept(left) or (not (left / "lock").exists() and time.time() - left.stat().st_mtime < 60):
                continue
            _remove_if_free(left)


def _remove_left(parent: Path, key: str) -> None:
    for left in parent.glob(f"{PREFIX}{key}-*"):
        with contextlib.suppress(OSError):
            if (left / "lock").exists():
                _remove_if_free(left)


def _remove_if_free(left: Path) -> None:
    lock = left / "lock"
    if not lock.exists():
        shutil.rmtree(left, ignore_errors=True)
        return
    with lock.open("rb") as file:
        if _lock(file):
            shutil.rmtree(left, ignore_errors=True)


def write_journal(folder: Path, state: dict[str, Any]) -> None:
    """Write down what of `folder` is on the disk for certain: the caller has flushed it."""
    path = folder / STATE
    path.parent.mkdir(exist_ok=True)
    new = path.with_suffix(".new")
    with new.open("w", encoding="ascii") as file:
        json.dump(state, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync(path.parent)
    sync(folder)


def read_journal(folder: Path) -> dict[str, Any] | None:
    """What `write_journal` wrote; None where there is none, or it cannot be read."""
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return state


def publish(temporary: Path, folder: Path, *, replace: bool = False) -> None:
    """Give what is whole its name, where there is nothing of that name yet or it is to be replaced."""
    shutil.rmtree(temporary / STATE.parent, ignore_errors=True)
    (temporary / "lock").unlink()
    sync(temporary)
    if replace and folder.is_dir():
        # The old one gets a temporary's name, so that a crash here leaves nothing for ever.
        old = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder.parent))
        with contextlib.suppress(FileNotFoundError):
            folder.rename(old / "old")
        shutil.rmtree(old, ignore_errors=True)
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        return  # another process was faster: what it wrote is the same
    sync(folder.parent)


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    if path.is_dir() and sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
