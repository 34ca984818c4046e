"""The lock of a run folder: one process trains in it at a time, and in that very folder."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import IO

from semigpt.errors import CheckpointError
from semigpt.language import _
from semigpt.storage import try_lock
from semigpt.system import is_locked

__all__ = ["RunLock"]

HELD = "process "  # how a lock file begins, where it is not empty


class RunLock:
    """A lock on the file `.lock` of a run folder, which the operating system releases with the
    process, however it ended.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / ".lock"
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Lock the folder until `release`.

        Raises CheckpointError, naming the process, where another one holds it.
        """
        try:
            file = self._path.open("a+", encoding="utf-8", errors="replace")
        except OSError as error:
            raise CheckpointError(
                _("cannot write in the run folder {folder}: {strerror}").format(
                    folder=self._folder, strerror=error.strerror
                )
            ) from None
        if not try_lock(file):
            file.seek(0)
            holder = " ".join(file.read(100).split()) or _("another process")
            file.close()
            raise CheckpointError(
                _(
                    "{folder} is being trained by {holder}; wait for it to end, or train into "
                    "another --out"
                ).format(folder=self._folder, holder=holder)
            ) from None
        file.seek(0)
        if not (file.read(len(HELD)) or HELD).startswith(HELD):
            file.close()
            raise CheckpointError(
                _("{path} is not a lock of semigpt's; choose another --out").format(path=self._path)
            )
        try:
            file.seek(0)
            file.truncate(0)
            file.write(f"{HELD}{os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        except OSError:
            pass  # a full disk: the lock holds without a name in it
        self._file = file
        self.check()

    @property
    def held(self) -> bool:
        """Whether any process is known to hold it."""
        return is_locked(self._path)

    def release(self) -> None:
        """Let another process train here."""
        if self._file is not None:
            # Closing writes what `acquire` could not where the disk was full, and may fail again.
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def check(self) -> None:
        """Raise CheckpointError where the path leads no longer to the folder that was locked, which
        was moved or removed since: two runs never mix.
        """
        if self._file is None:
            return
        try:
            held = os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except (FileNotFoundError, NotADirectoryError):
            held = False
        if not held:
            raise CheckpointError(
                _(
                    "{folder} was moved or removed while it trained; the run stops here, and "
                    "what lies there now is left alone: resume it where it is, with --resume"
                ).format(folder=self._folder)
            )
