"""Jupyter notebooks (.ipynb): the text of their cells in order, Markdown as `markdown_files` reads
it and code as it stands. What cells printed is left out.
"""

import json
from collections.abc import Iterator
from typing import Any

from semigpt.corpus.kinds.markdown_files import markdown_paragraphs
from semigpt.errors import CorpusError
from semigpt.language import _

__all__ = ["notebook_paragraphs"]


def notebook_paragraphs(text: str, where: str) -> Iterator[str]:
    """The paragraphs of a notebook; a cell of code is one. Raises CorpusError for another file."""
    try:
        book = json.loads(text, strict=False) if text.strip() else {"cells": []}
    except (ValueError, RecursionError) as error:
        raise CorpusError(
            _("{where}: no notebook ({kind} in its JSON)").format(
                where=where, kind=type(error).__name__
            )
        ) from None
    cells = book.get("cells") if isinstance(book, dict) else None
    if not isinstance(cells, list):
        raise CorpusError(
            _("{where}: no notebook of Jupyter 3 or later: it has no list of cells").format(
                where=where
            )
        )
    for cell in cells:
        kind, source = _cell(cell)
        if kind == "markdown":
            yield from markdown_paragraphs(source)
        elif source:
            yield source


def _cell(cell: Any) -> tuple[str, str]:
    """The kind and the source of a cell, which is one string or a list of lines."""
    if not isinstance(cell, dict):
        return "", ""
    kind, source = cell.get("cell_type"), cell.get("source")
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    return str(kind), source.rstrip("\n") if isinstance(source, str) else ""
