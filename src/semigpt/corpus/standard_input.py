"""A text from standard input: kept in the cache under a hash of it, and known by that.

    CACHE/stdin/SHA256.txt

A SPEC of `-` reads it, once a process; `-#sha256=…`, which a run keeps, is that text.
"""

import functools
import hashlib
import sys
import tempfile
from pathlib import Path

from semigpt.errors import CorpusError
from semigpt.language import _
from semigpt.storage import cache_folder, fsync

__all__ = ["received", "text_received", "with_received"]

CHUNK_BYTES = 1 << 20


@functools.cache
def received() -> str:
    """Read standard input to its end and keep it; its hash.

    Raises CorpusError where it is a terminal or a notebook's, or nothing comes.
    """
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None or sys.stdin.isatty():
        raise CorpusError(
            _(
                "--data -: nothing is piped into standard input: "
                "write `cat a.txt | semigpt train --data -`"
            )
        )
    digest = hashlib.sha256()
    folder = cache_folder() / "stdin"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as file:
            try:
                while chunk := stream.read(CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
                if not file.tell():
                    raise CorpusError(_("--data -: standard input is empty: pipe a text into it"))
                file.flush()
                fsync(Path(file.name))
                Path(file.name).replace(_path(digest.hexdigest()))
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise CorpusError(
            _(
                "{folder}: standard input cannot be kept there ({reason}): free some "
                "space, or name another folder in SEMIGPT_CACHE"
            ).format(folder=folder, reason=error.strerror or error)
        ) from None
    return digest.hexdigest()


def text_received(sha256: str | None) -> Path:
    """The file that holds the text of `-#sha256=…`, or of `-`.

    Raises CorpusError where that text was received once, and is neither kept nor piped in again.
    """
    if sha256 is None:
        return _path(received())
    path = _path(sha256)
    if path.is_file():
        return path
    again = _("pipe the same text in again, with --data -")
    try:
        found = received()
    except CorpusError:
        found = ""
    if found != sha256:
        what = _("another text came this time") if found else _("it is no longer kept")
        raise CorpusError(
            _("the text came from standard input, and {what}: {again}").format(
                what=what, again=again
            )
        )
    return path


def with_received(spec: str) -> str:
    """`spec` with each `-` named by the text that standard input holds."""
    parts = spec.split("\n")
    return "\n".join(f"-#sha256={received()}" if part == "-" else part for part in parts)


def _path(sha256: str) -> Path:
    return cache_folder() / "stdin" / f"{sha256}.txt"
