"""The logs of a run folder: rows of JSON, and how long they were when a checkpoint was saved."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semigpt.errors import CheckpointError
from semigpt.language import N_, _
from semigpt.storage import is_shortage, open_regular, sha256_file

__all__ = [
    "UnreadError",
    "append_row",
    "check_logs",
    "cut_logs",
    "log_digest",
    "log_sizes",
    "read_rows",
    "reason",
    "unread",
]

AGAIN = N_("or train from scratch with another --out")


class UnreadError(CheckpointError):
    """A file of which nobody knows whether it is whole: the system lacks files or memory."""


def reason(error: Exception) -> str:
    """Why a file failed, in the system's words, which safetensors passes on in its own error."""
    return (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())


def unread(path: Path, error: Exception) -> CheckpointError:
    """The error for a file that cannot be read: an UnreadError where it may well be whole."""
    return (UnreadError if is_shortage(error) else CheckpointError)(
        _("{path} cannot be read: {reason}").format(path=path, reason=reason(error))
    )


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line to a log. Raises CheckpointError where it cannot be written."""
    try:
        with path.open("a", encoding="utf-8", errors="surrogatepass") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    except OSError as error:
        raise CheckpointError(
            _("cannot write {path}: {strerror}; free some disk, then --resume").format(
                path=path, strerror=error.strerror
            )
        ) from None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Every line of a log. Raises CheckpointError for a line that is damaged."""
    try:
        return _json_lines(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            _("{path}: {error}; bring the file back, {again}").format(
                path=path, error=reason(error), again=_(AGAIN)
            )
        ) from None


def log_sizes(logs: Mapping[str, Path]) -> dict[str, int]:
    """Bytes of each log, 0 for one that is not there."""
    return {name: path.stat().st_size if path.exists() else 0 for name, path in logs.items()}


def log_digest(path: Path, length: int) -> str:
    """The SHA-256 of the first bytes of a log, which may be none."""
    if not length:
        return hashlib.sha256().hexdigest()
    try:
        return sha256_file(path, length)
    except OSError as error:
        raise unread(path, error) from None


def check_logs(
    logs: Mapping[str, Path], lengths: Mapping[str, int], digests: Mapping[str, str]
) -> None:
    """Raise CheckpointError where a log is shorter than it was when a checkpoint was saved, or
    another.
    """
    sizes = log_sizes(logs)
    for name, length in lengths.items():
        if sizes[name] < length:
            raise CheckpointError(
                _(
                    "{log} is cut off: {size:,} bytes where the checkpoint was "
                    "saved with {length:,}; bring it back, {again}"
                ).format(log=logs[name], size=sizes[name], length=length, again=_(AGAIN))
            )
    for name, digest in digests.items():
        if name in lengths and log_digest(logs[name], lengths[name]) != digest:
            read_rows(logs[name])  # names the line, where it is no JSON
            raise CheckpointError(
                _(
                    "{log} is not what the run had written when the checkpoint was "
                    "saved; bring it back, {again}"
                ).format(log=logs[name], again=_(AGAIN))
            )


def cut_logs(logs: Mapping[str, Path], lengths: Mapping[str, int]) -> None:
    """Cut each log to its length. Raises OSError where one cannot be written."""
    sizes = log_sizes(logs)
    for name, length in lengths.items():
        if sizes[name] > length:
            os.truncate(logs[name], length)


def _json_lines(path: Path) -> list[dict[str, Any]]:
    """Every whole line of a `.jsonl` file; a last line that a crash cut off is left out.

    Raises OSError, and ValueError, its message without the path, for a line that holds no object.
    """
    if not path.exists():
        return []
    rows = []
    with open_regular(path) as file:
        content = file.read()
    # Not splitlines: a sample may hold U+2028, which ends no row.
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        try:
            row = json.loads(line.decode("utf-8", "surrogatepass"))
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise ValueError(_("line {number} is damaged").format(number=number))
        rows.append(row)
    return rows
