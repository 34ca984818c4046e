"""Files and folders that are whole or not there: atomic writes, locks, digests, and folders that
can be resumed.

A resumable folder is written under a temporary name beside its final one and renamed when it is
complete:

    PARENT/.semigpt-KEY-RANDOM.lock     marks the folder as ours; locked by the process at work
    PARENT/.semigpt-KEY-RANDOM/
      journal/state.json                how much of the folder is certain to be on the disk
      ...                               the files themselves

A process that wants the folder of a KEY takes over one that a dead process left with a journal, or
starts its own. Processes that write the same folder at once never wait for each other: the last to
finish finds the others' work done. A folder without a journal is removed with its process, or by
the next process that comes by. One with a journal is kept for a week. Nothing is ever removed but a
folder whose lock file bears our mark.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, TypeVar

from semigpt.errors import CheckpointError, SemigptError
from semigpt.language import _
from semigpt.system import is_out_of_memory

__all__ = [
    "JOURNAL",
    "STOPPED",
    "HeldElsewhereError",
    "JournalClock",
    "cache_folder",
    "discard_folder",
    "fsync",
    "has_resumable",
    "is_held",
    "is_shortage",
    "open_regular",
    "publish",
    "read_journal",
    "read_json",
    "read_settled",
    "remove_partial",
    "replace_file",
    "resumable_folder",
    "run_to_end",
    "sha256_file",
    "try_lock",
    "write_files",
    "write_journal",
]

LARGEST_JSON = 1 << 20  # bytes of a config or manifest; parsed, it may be twenty times as large
NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # for a pipe's other end
PARTIAL = ".partial"  # the end of a temporary file's name
SETTLING_SECONDS = 5.0  # of waiting for another process that replaces files of a folder
PREFIX = ".semigpt-"
MARK = b"semigpt: the folder of this name is semigpt's own and temporary\n"
JOURNAL = Path("journal") / "state.json"
RESUMABLE_SECONDS = 7 * 24 * 3600.0
# At most this much work is done twice. Each journal waits for the disk: 0.05 to 0.3 s for the 200
# MB of this time.
JOURNAL_SECONDS = 10.0
STOPPED = (KeyboardInterrupt, SystemExit)


def cache_folder() -> Path:
    """`$SEMIGPT_CACHE`, else `$XDG_CACHE_HOME/semigpt`, else `~/.cache/semigpt`."""
    if own := os.environ.get("SEMIGPT_CACHE"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "semigpt"
    return Path.home() / ".cache" / "semigpt"


T = TypeVar("T")


def run_to_end(work: Generator[Any, None, T]) -> T:
    """What a generator of progress returns, its events dropped."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result


# Files


def fsync(path: Path) -> None:
    """Flush a file's bytes, or a folder's entries, to the disk."""
    on_windows = sys.platform == "win32"
    if on_windows and path.is_dir():
        return  # Windows opens no folder
    # And flushes no file that was opened to be read alone.
    descriptor = os.open(path, os.O_RDWR if on_windows else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path, length: int | None = None) -> str:
    """The SHA-256 of a file, or of its first `length` bytes, in hexadecimal."""
    with open_regular(path) as file:
        if length is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        found = hashlib.sha256()
        while length > 0 and (part := file.read(min(length, 1 << 20))):
            found.update(part)
            length -= len(part)
        return found.hexdigest()


def write_files(folder: Path, contents: Mapping[str, bytes | Sequence[bytes | memoryview]]) -> None:
    """Replace files of a folder so that a reader, or a crash, sees each old or new, and whole.

    A large content may be in parts, which need not be copied together.
    All are on the disk before the first gets its name, and get their names in the order given:
    between two states of the folder lie microseconds. Raises OSError, having changed nothing but
    where the disk fails in these.
    """
    temporary = {name: folder / f".{name}.{secrets.token_hex(6)}{PARTIAL}" for name in contents}
    try:
        for name, content in contents.items():
            with temporary[name].open("xb") as file:
                file.writelines([content] if isinstance(content, bytes) else content)
                file.flush()
                os.fsync(file.fileno())
        for name, path in temporary.items():
            path.replace(folder / name)
        fsync(folder)
    except BaseException:
        for path in temporary.values():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        raise


def remove_partial(folder: Path, names: Iterable[str]) -> None:
    """Remove what a `write_files` of these names left that a kill interrupted; nobody else may be
    writing there.
    """
    spelled = "|".join(map(re.escape, names))
    ours = re.compile(rf"\.({spelled})\.[0-9a-f]{{12}}{re.escape(PARTIAL)}")
    with contextlib.suppress(OSError):
        for path in list(folder.iterdir()):
            if ours.fullmatch(path.name) and path.is_file():
                path.unlink()


def replace_file(path: Path, content: bytes) -> None:
    """`write_files` of one file. Raises CheckpointError where it cannot be written."""
    try:
        write_files(path.parent, {path.name: content})
    except OSError as error:
        raise CheckpointError(
            _("cannot write {path}: {strerror}; free some disk or choose another --out").format(
                path=path, strerror=error.strerror
            )
        ) from None


def read_settled(folder: Path, read: Callable[[], T]) -> T:
    """What `read` gives of the files of a folder, which another process may be replacing.

    Where `read` refuses a file, it is asked again as long as `write_files` is at work there.
    """
    end = time.monotonic() + SETTLING_SECONDS
    while True:
        before = _names(folder)
        try:
            return read()
        except SemigptError:
            time.sleep(0.005)
            now = _names(folder)
            under_way = now != before or any(name.endswith(PARTIAL) for name, *_ in now)
            if not under_way or time.monotonic() > end:
                raise


def _names(folder: Path) -> set[tuple[str, int, int]]:
    """Name, inode and time of what lies in a folder."""
    found = set()
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                status = entry.stat()
                found.add((entry.name, status.st_ino, status.st_mtime_ns))
    return found


def open_regular(path: Path) -> BufferedReader:
    """Open a file to be read. Raises OSError for what is no regular file, such as a device or a
    pipe, without waiting for it.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | NO_WAIT)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, _("it is no regular file"), str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def is_shortage(error: Exception) -> bool:
    """Whether a file was not read for want of memory or open files, which says nothing of it."""
    words = os.strerror(errno.EMFILE), os.strerror(errno.ENFILE), os.strerror(errno.ENOMEM)
    # Libraries pass the system's words on in errors of their own.
    return is_out_of_memory(error) or any(word in str(error) for word in words)


def read_json(path: Path, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """The object in a JSON file of at most so many bytes.

    Raises OSError for one that cannot be opened and ValueError, its message without the path, for
    one larger, nested deeper than Python's stack, or that holds no object.
    """
    try:
        with open_regular(path) as file:
            content = file.read(largest + 1)
        if len(content) > largest:
            raise ValueError(_("it is larger than {size} MiB").format(size=largest >> 20))
        # Samples, which metadata holds, may have lone surrogates.
        value = json.loads(content.decode("utf-8", "surrogatepass"))
    except RecursionError:
        raise ValueError(_("it is nested too deeply")) from None
    if not isinstance(value, dict):
        raise ValueError(_("it holds no JSON object"))
    return value


# Locks


def try_lock(file: IO[Any]) -> bool:
    """Lock an open file for this process; False where another one holds it.

    The operating system releases the lock when the file is closed or the process ends, by SIGKILL
    too. Where it has no locks for files, none is held and the answer is True.
    """
    try:
        if sys.platform == "win32":  # untried: nobody has run this there
            import msvcrt

            # A byte past the end: locked bytes cannot be read by others, and the content names the
            # holder.
            file.seek(1 << 30)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return True
    except OSError:
        return False
    return True


def _lock_path(path: Path) -> IO[bytes] | None:
    """The lock file, opened and locked; None where another process holds it or removed it
    meanwhile.
    """
    try:
        file = path.open("r+b")
    except OSError:
        return None
    try:
        # Its holder may have removed it between our opening and our locking it.
        if try_lock(file) and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    except OSError:
        pass
    file.close()
    return None


# Folders


def discard_folder(folder: Path) -> None:
    """Remove a folder, renamed out of sight first so that a crash leaves no half of one under its
    name.
    """
    hidden = folder.with_name(f".{folder.name}.{os.getpid()}.old.partial")
    try:
        folder.rename(hidden)
    except OSError:
        return  # it stays, whole
    shutil.rmtree(hidden, ignore_errors=True)


class HeldElsewhereError(Exception):
    """Another process has the folder, the only argument, and can be helped."""


class JournalClock:
    """Says when the next journal is due."""

    def __init__(self) -> None:
        self._written = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._written >= JOURNAL_SECONDS

    def reset(self) -> None:
        self._written = time.monotonic()


@contextlib.contextmanager
def resumable_folder(
    parent: Path,
    key: str = "",
    *,
    from_scratch: bool = False,
    resumed_after: tuple[type[BaseException], ...] = STOPPED,
    shared: bool = False,
) -> Iterator[Path]:
    """A temporary folder in `parent`, removed on the way out unless `publish` gave it its name.

    key:           letters and digits that say what the folder is to hold. A folder of this key
                   that a dead process left with a journal is taken over. "" is never resumed.
    from_scratch:  what is left of the key is removed first
    resumed_after: exceptions after which the folder stays, if it has a journal
    shared:        there is one folder of the key at a time

    Raises HeldElsewhereError where it is shared, and another process has it.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent)
    if from_scratch:
        _remove_unlocked(parent, f"{PREFIX}{key}-*.lock")
    taken = _take_over(parent, key) if key else None
    folder, lock = taken or _new(parent, key, shared=shared)
    stays = False
    try:
        yield folder
    except resumed_after:
        stays = (folder / JOURNAL).is_file()
        raise
    finally:
        if stays:
            lock.close()
        else:
            _remove(folder, lock)
    if key:
        _remove_unlocked(parent, f"{PREFIX}{key}-*.lock")


def has_resumable(parent: Path, key: str) -> bool:
    """Whether a folder of this key is there to be resumed."""
    return any(_is_resumable(lock.with_suffix("")) for lock in parent.glob(f"{PREFIX}{key}-*.lock"))


def is_held(folder: Path) -> bool:
    """Whether a process works on a resumable folder."""
    lock = _lock_path(_lock_file(folder))
    if lock is not None:
        lock.close()
    return lock is None and _lock_file(folder).exists()


def publish(temporary: Path, folder: Path, *, replace: bool = False) -> None:
    """Give a complete folder its name, unless one is there that is not to be replaced."""
    shutil.rmtree(temporary / JOURNAL.parent, ignore_errors=True)
    fsync(temporary)
    while True:
        if replace and folder.is_dir():
            # The old one gets a temporary's name, so that a crash here leaves nothing for ever.
            old, lock = _new(folder.parent, "")
            with contextlib.suppress(FileNotFoundError):
                folder.rename(old / "old")
            _remove(old, lock)
        try:
            temporary.rename(folder)
            break
        except OSError as error:
            if folder.is_dir() and not replace:
                return  # another process was faster, and wrote the same
            # Another process's folder was there, and may be gone again.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    fsync(folder.parent)


def write_journal(folder: Path, state: dict[str, Any]) -> None:
    """Record how much of `folder` is certain to be on the disk; the caller has flushed it."""
    path = folder / JOURNAL
    path.parent.mkdir(exist_ok=True)
    write_files(path.parent, {path.name: json.dumps(state).encode()})
    fsync(folder)


def read_journal(folder: Path) -> dict[str, Any] | None:
    """What `write_journal` recorded; None where there is none, or it cannot be read."""
    try:
        state: dict[str, Any] = json.loads((folder / JOURNAL).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return state


def _new(parent: Path, key: str, *, shared: bool = False) -> tuple[Path, IO[bytes]]:
    while True:
        name = PREFIX + f"{key}-" * bool(key) + ("shared" if shared else secrets.token_hex(6))
        path = parent / f"{name}.lock"
        # Locked before it bears our mark: without the mark nobody removes it.
        with contextlib.suppress(FileExistsError):
            file = path.open("xb")
            break
        if shared:
            if (left := _lock_path(path)) is None:
                raise HeldElsewhereError(parent / name)
            _remove(parent / name, left)
    try:
        while not try_lock(file):
            time.sleep(0.001)  # a sweeping process looks for the mark, and lets go
        file.seek(0)
        file.write(MARK)
        file.flush()
        (parent / name).mkdir()
    except BaseException:
        _remove(parent / name, file)
        raise
    return parent / name, file


def _take_over(parent: Path, key: str) -> tuple[Path, IO[bytes]] | None:
    """The folder of this key with the newest journal that no process holds, now locked."""
    left = (lock.with_suffix("") for lock in parent.glob(f"{PREFIX}{key}-*.lock"))
    for folder in sorted(filter(_is_resumable, left), key=_age):
        lock = _lock_path(_lock_file(folder))
        if lock is not None:
            return folder, lock
    return None


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _is_resumable(folder: Path) -> bool:
    return _age(folder) < RESUMABLE_SECONDS


def _age(folder: Path) -> float:
    """Seconds since the folder's last journal."""
    try:
        return time.time() - (folder / JOURNAL).stat().st_mtime
    except OSError:
        return float("inf")


def _sweep(parent: Path) -> None:
    """Remove what dead processes left and nobody will resume."""
    _remove_unlocked(parent, f"{PREFIX}*.lock", but_resumable=True)


def _remove_unlocked(parent: Path, pattern: str, *, but_resumable: bool = False) -> None:
    for path in parent.glob(pattern):
        folder = path.with_suffix("")
        if but_resumable and _is_resumable(folder):
            continue
        lock = _lock_path(path)
        if lock is None:
            continue
        lock.seek(0)
        if lock.read(len(MARK)) == MARK:
            _remove(folder, lock)
        else:
            lock.close()


def _remove(folder: Path, lock: IO[bytes]) -> None:
    """Remove a folder that this process holds, then its lock file."""
    shutil.rmtree(folder, ignore_errors=True)
    path = _lock_file(folder)
    if sys.platform == "win32":
        lock.close()  # Windows removes no open file
    with contextlib.suppress(OSError):
        path.unlink()
    lock.close()
