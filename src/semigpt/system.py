"""Processes, signals, cores and memory, where operating systems differ. Files and locks are
`semigpt.storage`'s; no other module calls what one system alone has.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = [
    "CLOSED_PIPE",
    "HANGUP",
    "allow_open_files",
    "apart",
    "available_cores",
    "can_fork",
    "ending_signals",
    "fork",
    "free_memory",
    "free_port",
    "handled",
    "has_ended",
    "ignore_interrupts",
    "is_hollow",
    "is_locked",
    "is_out_of_memory",
    "is_private",
    "kill",
    "made_private",
    "memory_file",
    "peak_memory",
    "status_of",
    "step_back",
    "user_id",
]

CLOSED_PIPE = 13  # SIGPIPE, which Windows lacks and Python ignores: `write` fails instead
HANGUP = 1  # SIGHUP: the terminal has gone


def available_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def allow_open_files(count: int) -> None:
    """Let this process have so many files open, as far as the system lets it: 256 on some."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count and soft != resource.RLIM_INFINITY:
        most = count if hard == resource.RLIM_INFINITY else min(count, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def memory_file(size: int) -> int | None:
    """The descriptor of so many bytes of memory without a name; None where there are none."""
    if not hasattr(os, "memfd_create"):
        return None
    with contextlib.ExitStack() as failed, contextlib.suppress(OSError):
        file = os.memfd_create("semigpt")
        failed.callback(os.close, file)
        os.posix_fallocate(file, 0, size)  # fails here, not when it is written
        failed.pop_all()
        return file
    return None


def peak_memory() -> int:
    """The most bytes of memory that this process has held; 0 where nothing says."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def step_back(by: int = 5) -> None:
    """Let other processes go first, where the system knows of that.

    Not last: beside two busy programs nice 19 leaves a hundredth of a core.
    """
    if hasattr(os, "nice"):
        os.nice(by)


def is_locked(path: Path) -> bool:
    """Whether a process holds a lock on a file, where the system says so without taking it:
    Linux does.
    """
    try:
        file = path.stat().st_ino
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    return any(line.split()[5].endswith(f":{file}") for line in lines if " FLOCK " in line)


# Signals


def ending_signals() -> tuple[int, ...]:
    """The signals by which a process is asked to end: SIGTERM, and SIGHUP where there is one and
    nobody (such as nohup) has had it ignored.
    """
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN:
        return (signal.SIGTERM,)
    return (signal.SIGTERM, hangup)


@contextlib.contextmanager
def handled(handler: Callable[[int, object], None], *numbers: int) -> Iterator[None]:
    """Inside, `handler` gets these signals.

    Only the main thread may ask for that: in another one the signals stay the program's that
    started it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def ignore_interrupts() -> None:
    """Leave Ctrl-C, which a whole process group gets, to another process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# Files and their users


def apart() -> dict[str, Any]:
    """Arguments of `subprocess.Popen` for a process that a terminal's Ctrl-C does not reach."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def user_id() -> int:
    """The number of the user that this process runs as; 0 where users have none."""
    return os.geteuid() if hasattr(os, "geteuid") else 0


def is_private(path: Path) -> bool:
    """Whether a file or folder, and every folder above it, is this user's or root's, and no other
    user can write there. True where files have no owners.
    """
    if not hasattr(os, "geteuid"):
        return True
    path = path.resolve()
    for place in (path, *path.parents):
        status = place.stat()
        shared = status.st_mode & stat.S_IWOTH or (
            status.st_mode & stat.S_IWGRP and status.st_gid not in (0, os.getegid())
        )
        # In a sticky folder, such as /tmp, nobody renames or removes what is another's.
        sticky = place != path and status.st_mode & stat.S_ISVTX
        if status.st_uid not in (0, os.geteuid()) or (shared and not sticky):
            return False
    return True


def is_hollow(path: Path) -> bool:
    """Whether a large file is holes but for an eighth: reading it takes hours, and says zeros."""
    status = path.stat()
    allocated = 512 * getattr(status, "st_blocks", status.st_size)
    return status.st_size > 1 << 30 and 8 * allocated < status.st_size


# Memory


def free_memory() -> int | None:
    """Bytes free, within the container's limit; None where nothing says."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(
            int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")
        )
    except (OSError, StopIteration):
        return None
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        free = min(free, limit - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # no container, or one without a limit ("max")
    return free


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was lacking: PyTorch says so in errors of other names."""
    words = ("can't allocate memory", "not enough memory", "std::bad_alloc")
    by_name = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return by_name or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


# Processes that are forked


@contextlib.contextmanager
def made_private() -> Iterator[None]:
    """What is made inside, this user alone can read, write or connect to."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def free_port() -> int:
    """A port of this machine on which nobody listens at the moment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def can_fork() -> bool:
    """Whether the functions below work: on Linux and macOS, not on Windows."""
    return hasattr(os, "fork")


def fork(work: Callable[[], None], log: Path) -> int:
    """Run `work` in a copy of this process, its output appended to `log`; the copy's id."""
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        work()
        code = 0
    except BaseException as error:
        # Nothing of the parent's may run in the child, not even its error handling.
        with contextlib.suppress(OSError):
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def kill(process: int) -> bool:
    """Kill a forked process at once and wait for it; False where it had ended well before.

    Raises ChildProcessError where it had ended with an error.
    """
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if status and not os.WIFSIGNALED(status):
        raise ChildProcessError(f"exit code {os.waitstatus_to_exitcode(status)}")
    return os.WIFSIGNALED(status)


def status_of(process: int) -> int | None:
    """How a forked process ended, 0 for well; None while it runs. Asked until it ends, once."""
    found, status = os.waitpid(process, os.WNOHANG)
    return status if found else None


def has_ended(process: int) -> bool:
    """Whether a forked process has ended; it can still be asked or killed."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
