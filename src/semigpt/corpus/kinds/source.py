"""A file's bytes and text, for the readers that take it whole."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from semigpt.corpus.compression import decompressed_chunks, is_compressed, open_binary
from semigpt.corpus.files import open_text, scan_file
from semigpt.corpus.kinds.html_pages import DECLARED_CHARSET
from semigpt.corpus.kinds.limits import PART_BYTES, check_size
from semigpt.corpus.request import FileRequest
from semigpt.corpus.text import EncodingError, scan_text
from semigpt.language import N_, _

__all__ = ["decoded", "file_text", "page_text", "plain_file"]

ADVICE = N_("cut it into smaller files")


def file_text(request: FileRequest) -> str:
    """The text of a file, decoded, its line ends "\\n".

    Raises CorpusError where it is in no encoding that is read, or too long to be read in one piece.
    """
    scan = scan_file(request.path, request.reading)
    if scan is None:
        return ""
    check_size(str(request.path), scan.bytes, _(ADVICE))
    with open_text(request.path, scan) as file:
        return file.read()


def decoded(content: bytes, name: str) -> str:
    """Bytes as text, in the encoding that is found; `name` is what an error calls them."""
    encoding = scan_text(lambda: io.BytesIO(content), name).encoding
    return content[len(encoding.mark) :].decode(encoding.codec)


def page_text(request: FileRequest) -> str:
    """The text of a web page: in the encoding that is found, else in the one that it declares.

    Raises CorpusError as `file_text` does, where neither fits.
    """
    try:
        return file_text(request)
    except EncodingError as refusal:
        with open_binary(request.path) as file:
            content = file.read(PART_BYTES + 1)
        check_size(str(request.path), len(content), _(ADVICE))
        declared = DECLARED_CHARSET.search(content[:4096])
        try:
            text = content.decode(declared[1].decode("ascii")) if declared else None
        except (LookupError, UnicodeError):
            text = None
        if text is None:
            raise refusal from None
        request.reading.tally(_("in the encoding that it declares, and read so"), request.path.name)
        return text


@contextmanager
def plain_file(request: FileRequest, *, copy_if: bool = False) -> Iterator[Path]:
    """The file itself, or a decompressed copy in the scratch folder while it is used.

    copy_if: asks for a copy of a file that is not compressed, too
    """
    if not (copy_if or is_compressed(request.path)):
        yield request.path
        return
    copy = request.scratch / f"plain{request.extension}"
    try:
        with copy.open("wb") as out:
            for chunk in decompressed_chunks(request.path, request.extension.removeprefix(".")):
                out.write(chunk)
        yield copy
    finally:
        copy.unlink(missing_ok=True)
