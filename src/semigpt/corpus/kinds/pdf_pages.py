"""Write the text of each page of a PDF to standard output: a program of its own, run by `pdf`.

    python -I pdf_pages.py FILE

A page is its length in bytes (eight digits of base 16), a line end, and so many bytes of UTF-8. The
last line is "done". An error that was foreseen is one line "error WORD".
"""

import contextlib
import sys
from typing import Any

MEMORY = 1536 << 20


def main() -> int:
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = sys.stdout.buffer
    try:
        import pypdfium2
    except ImportError:
        out.write(b"error library\n")
        return 0
    try:
        document: Any = pypdfium2.PdfDocument(sys.argv[1])
    except pypdfium2.PdfiumError as error:
        word = b"password" if "password" in str(error).lower() else b"format"
        out.write(b"error " + word + b"\n")
        return 0
    for number in range(len(document)):
        try:
            page = document[number]
            text = page.get_textpage().get_text_range().encode("utf-8", "replace")
            page.close()
        except pypdfium2.PdfiumError:
            out.write(b"error page\n")
            return 0
        out.write(b"%08x\n" % len(text) + text)
        out.flush()
    out.write(b"done\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
