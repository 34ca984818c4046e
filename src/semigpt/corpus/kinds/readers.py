"""A reader for each ending: which module's function reads which kind."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from semigpt.corpus.compression import open_binary
from semigpt.corpus.json_lines import json_lines_documents
from semigpt.corpus.kinds.archives import ARCHIVES, Find, archive_reader
from semigpt.corpus.kinds.html_pages import html_paragraphs
from semigpt.corpus.kinds.hwp import hwp_paragraphs
from semigpt.corpus.kinds.json_files import has_json_lines, json_texts
from semigpt.corpus.kinds.markdown_files import markdown_paragraphs
from semigpt.corpus.kinds.notebooks import notebook_paragraphs
from semigpt.corpus.kinds.packages import (
    docx_paragraphs,
    epub_paragraphs,
    hwpx_paragraphs,
    odt_paragraphs,
)
from semigpt.corpus.kinds.pdf import pdf_pages
from semigpt.corpus.kinds.prose import prose
from semigpt.corpus.kinds.sheets import ods_sheets, xlsx_sheets
from semigpt.corpus.kinds.source import file_text, page_text, plain_file
from semigpt.corpus.kinds.subtitles import sami_cues, srt_cues, vtt_cues
from semigpt.corpus.kinds.workbooks import workbook
from semigpt.corpus.library import library_errors
from semigpt.corpus.reading import Document
from semigpt.corpus.request import FileRequest, Reader, from_start
from semigpt.language import _

__all__ = ["kinds"]


def kinds(find: Find) -> dict[str, Reader]:
    """The reader of each ending; `find` finds those of an archive's members."""
    html = prose(lambda request: html_paragraphs(page_text(request)), "HTML")
    archive = Reader(archive_reader(find))
    return {
        ".md": prose(lambda request: markdown_paragraphs(file_text(request)), "Markdown"),
        ".ipynb": prose(
            lambda request: notebook_paragraphs(file_text(request), str(request.path)), "a notebook"
        ),
        ".html": html,
        ".htm": html,
        ".xhtml": html,
        ".srt": prose(_subtitles(srt_cues), "subtitles"),
        ".vtt": prose(_subtitles(vtt_cues), "subtitles"),
        ".smi": prose(_subtitles(sami_cues), "subtitles"),
        ".json": Reader(_json_documents),
        ".xlsx": workbook(xlsx_sheets),
        ".xlsm": workbook(xlsx_sheets),
        ".ods": workbook(ods_sheets),
        ".docx": prose(_from_path(docx_paragraphs), _("a Word document")),
        ".odt": prose(_from_path(odt_paragraphs), _("an OpenDocument text")),
        ".hwpx": prose(_from_path(hwpx_paragraphs), _("a Hangul document")),
        ".hwp": prose(_from_path(hwp_paragraphs), _("a Hangul document")),
        ".epub": prose(_from_path(epub_paragraphs), "an EPUB"),
        ".pdf": prose(_from_path(pdf_pages), "a PDF"),
        **dict.fromkeys(ARCHIVES, archive),
    }


def _subtitles(
    cues: Callable[[str], tuple[list[str], str]],
) -> Callable[[FileRequest], list[str]]:
    def read(request: FileRequest) -> list[str]:
        found, note = cues(file_text(request))
        if note:
            request.reading.tally(note, request.path.name)
        return found

    return read


def _json_documents(request: FileRequest) -> Iterator[Document]:
    """The documents of a .json file, which on the Hub is often one of JSON lines."""
    with library_errors(request.path, "JSON"), open_binary(request.path) as file:
        lines = has_json_lines(file)
    yield from (json_lines_documents if lines else from_start(_json, "JSON"))(request)


def _json(request: FileRequest) -> Iterator[str]:
    text = file_text(request)
    if text and not text.isspace():
        yield from json_texts(text, request)
    request.reading.column = request.reading.columns.get(request.extension)


def _from_path(
    paragraphs: Callable[[Path, str], Iterator[str]],
) -> Callable[[FileRequest], Iterable[str]]:
    def read(request: FileRequest) -> Iterator[str]:
        with plain_file(request) as path:
            yield from paragraphs(path, str(request.path))

    return read
