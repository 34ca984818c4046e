"""The texts of a .json file: one value, read whole, and what in it is a document.

    #path=data.paragraphs.context   what is at a path; a list stands for each of its items
    a list of strings               each of them
    a list of objects               the column of each, or a chat: see `conversations`
    an object                       of a corpus whose shape is known (SHAPES); else the one list in
                                    it; else itself, as a row

A path that ends at objects gives rows, of which --column takes one. Where none of this fits, the
error lists the paths at which there is text.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from semigpt.corpus.json_lines import columns_of_rows
from semigpt.corpus.json_paths import paths_in_words, values_at
from semigpt.corpus.kinds.conversations import conversation_template
from semigpt.corpus.request import FileRequest
from semigpt.errors import CorpusError
from semigpt.language import _

__all__ = ["has_json_lines", "json_texts"]

LINE_BYTES = 1 << 24


@dataclass(frozen=True)
class Shape:
    """A corpus whose files are known by their keys.

    name:      for the user
    documents: the path of what is a document
    texts:     the paths in it, of which the first that is there is its text
    """

    name: str
    documents: str
    texts: tuple[str, ...]


SHAPES = (
    Shape("KorQuAD's or SQuAD's", "data.paragraphs", ("context",)),
    Shape("KorQuAD 2's", "data", ("context",)),
    # A document's paragraphs, sentences or turns are lines of it.
    Shape(
        "모두의 말뭉치's",
        "document",
        ("paragraph.form", "utterance.form", "sentence.form", "paragraph.sentence.form"),
    ),
)


def has_json_lines(file: BinaryIO) -> bool:
    """Whether a file, at its first byte, is JSON lines: an object in the first line, and more."""
    first = file.readline(LINE_BYTES)
    try:
        value = json.loads(first.decode("utf-8-sig", "replace"), strict=False)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and bool(file.read(LINE_BYTES).strip())


def json_texts(text: str, request: FileRequest) -> Iterator[str]:
    """The documents of a .json file.

    Raises CorpusError where it is not JSON, a path or column is not there, or what is at it is not
    text.
    """
    where, path = str(request.path), request.options.path
    value = _parsed(text, where)
    if path is not None:
        found = list(values_at(value, path.split(".")))
        if not found:
            raise CorpusError(
                _("{where}: nothing at path={path}: {value}").format(
                    where=where, path=path, value=paths_in_words(value)
                )
            )
        yield from _documents(found, value, request)
        return
    for shape in SHAPES if isinstance(value, dict) and request.column is None else ():
        documents = list(values_at(value, shape.documents.split(".")))
        # Mostly all have the same part; a document that is empty has none.
        if any(_form(document, shape.texts) is not None for document in documents):
            paths = " or ".join(f"{shape.documents}.{part}" for part in shape.texts[:2])
            request.reading.tally(
                _("of {name} shape: read at {paths}").format(name=shape.name, paths=paths),
                request.path.name,
            )
            for document in documents:
                yield _form(document, shape.texts) or ""
            return
    rows = value if isinstance(value, list) else [value]
    if isinstance(value, dict):
        own_row = conversation_template([value]) or any(isinstance(v, str) for v in value.values())
        lists = [part for part in value.values() if isinstance(part, list) and part]
        if len(lists) == 1 and not own_row and all(isinstance(v, dict | str) for v in lists[0]):
            rows = lists[0]
    yield from _documents(rows, value, request)


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            raise CorpusError(
                _(
                    "{where}: more than one JSON value, from line {lineno}: if each line is "
                    "one, let its name end in .jsonl"
                ).format(where=where, lineno=error.lineno)
            ) from None
        raise CorpusError(
            _("{where}, line {lineno}: not JSON ({msg}, character {colno})").format(
                where=where, lineno=error.lineno, msg=error.msg, colno=error.colno
            )
        ) from None
    except (ValueError, RecursionError) as error:
        raise CorpusError(
            _("{where}: not JSON that can be read ({kind})").format(
                where=where, kind=type(error).__name__
            )
        ) from None


def _form(document: Any, paths: tuple[str, ...]) -> str | None:
    for path in paths:
        parts = [part for part in values_at(document, path.split(".")) if isinstance(part, str)]
        if parts:
            return "\n".join(parts)
    return None


def _documents(values: list[Any], whole: Any, request: FileRequest) -> Iterator[str]:
    where = str(request.path)
    if all(isinstance(value, str | None) for value in values) and any(values):
        request.reading.columns[request.extension] = "text"
        yield from (value or "" for value in values)
        return
    rows: list[Mapping[str, Any]] = []
    for number, value in enumerate(values, 1):
        if not isinstance(value, dict):
            raise CorpusError(
                _("{where}: item {number:,} is neither text nor an object: {whole}").format(
                    where=where, number=number, whole=paths_in_words(whole)
                )
            )
        rows.append(value)
    template = None if request.column else conversation_template(rows)
    if template is not None:
        note, text_of = template
        request.reading.tally(note, request.path.name)
        for number, row in enumerate(rows, 1):
            text = text_of(row)
            if text is None:
                raise CorpusError(
                    _("{where}: item {number:,} is not a row like the first one").format(
                        where=where, number=number
                    )
                )
            yield text
        return
    yield from _column(rows, whole, request)


def _column(rows: list[Mapping[str, Any]], whole: Any, request: FileRequest) -> Iterator[str]:
    columns = columns_of_rows(rows)
    if request.column is None and not any(columns.values()):
        raise CorpusError(
            _("{path}: no column holds text: {whole}").format(
                path=request.path, whole=paths_in_words(whole)
            )
        )
    column = request.choose_column(columns)
    for number, row in enumerate(rows, 1):
        value = row.get(column)
        if not isinstance(value, str | None):
            raise CorpusError(
                _("{path}: the column {column!r} of item {number:,} does not hold text").format(
                    path=request.path, column=column, number=number
                )
            )
        yield value or ""
