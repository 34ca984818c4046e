"""PDF as the text that lies in its pages; a page that is a picture has none.

Read by PDFium (pypdfium2), which knows the Korean encodings of fonts that are not embedded: of two
libraries tried, the other made 쟑뇛 of 한글 in KSCms-UHC-H and raised nothing. It runs in a process
of its own with a limit of memory and of time, because 4.5 kB can ask it for 2 GB, and what it does
with a stranger's file then harms nothing here. Lines are those of the page.
"""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from semigpt.corpus.kinds.extra import missing_extra
from semigpt.corpus.kinds.limits import Budget
from semigpt.errors import CorpusError
from semigpt.language import N_, _

__all__ = ["pdf_pages"]

READER = Path(__file__).with_name("pdf_pages.py")
SECONDS_PER_PAGE = 60
# U+0002 and U+FFFE: a hyphen at a line's end that the page, but not its text, has.
HYPHEN = re.compile("[\x02\ufffe](?:\r\n|\n)?")
ERRORS = {
    "password": N_("is encrypted: save it without a password"),
    "format": N_("is no PDF, or was cut short"),
    "page": N_("a page of it is broken"),
}


def pdf_pages(path: Path, where: str) -> Iterator[str]:
    """The text of each page. Raises CorpusError where the file is broken, encrypted or a bomb."""
    with path.open("rb") as file:
        # Readers look for the mark in the first kilobyte.
        if b"%PDF-" not in file.read(1024):
            raise CorpusError(f"{where}: {_(ERRORS['format'])}")
    command = [sys.executable, "-I", str(READER), str(path.absolute())]
    budget = Budget(where, path.stat().st_size)
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    pipe = process.stdout
    assert pipe is not None
    try:
        while (page := _page(process, pipe, where)) is not None:
            budget.spend(len(page))
            yield HYPHEN.sub("", page.decode("utf-8")).replace("\r\n", "\n")
    finally:
        process.kill()
        pipe.close()
        process.wait()


def _page(process: "subprocess.Popen[bytes]", pipe: IO[bytes], where: str) -> bytes | None:
    """The next page that the process writes; None after the last one."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(SECONDS_PER_PAGE, stop)
    timer.start()
    try:
        line = pipe.readline().decode("ascii").rstrip("\n")
        size = int(line, 16) if re.fullmatch("[0-9a-f]{8}", line) else 0
        page = pipe.read(size)
    finally:
        timer.cancel()
    if line == "done":
        return None
    if line.startswith("error "):
        if line == "error library":
            raise missing_extra("PDF", "pypdfium2")
        raise CorpusError(f"{where}: {_(ERRORS[line.removeprefix('error ')])}")
    if late.is_set():
        raise CorpusError(
            _("{where}: a page of it took more than {seconds_per_page} s to read").format(
                where=where, seconds_per_page=SECONDS_PER_PAGE
            )
        )
    if not line or len(page) < size:
        raise CorpusError(
            _(
                "{where}: its reader stopped, most likely because a page asks for too much memory"
            ).format(where=where)
        )
    return page
