"""The tour's chapters: Markdown files in a folder a language, whose code is what runs.

A chapter is plain Markdown wherever a repository is browsed. In a terminal each block, set apart by
blank lines, is shown like this:

    # 1. Title                  the chapter's heading
    Some sentences.             a paragraph; a field such as {len(text):,} is evaluated in it
    ```python                   lines that are run and shown with their answers
    ```python raises            the same, where one line is wrong and its error is the answer
    <!-- let: name = value -->  a value for the fields, or in capitals for the code; not shown
    <!-- if: condition -->      the blocks up to `else` or `end` are shown where this is true
    <!-- else -->
    <!-- end -->

Conditions do not nest.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from importlib.resources import files
from typing import Literal, NamedTuple

from semigpt.tour.session import Session

__all__ = ["Block", "Lang", "blocks", "columns", "pages", "read_chapters"]

Lang = Literal["ko", "en"]
Kind = Literal["heading", "paragraph", "code", "mistake", "let", "if", "else", "end"]

LINE = 88  # columns a line of a paragraph may take
BLOCK = re.compile(r"^```.*?^```$|^\S.*?(?=\n\n|\n*\Z)", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"```python(?P<raises> raises)?\n(?P<code>.*)\n```", re.DOTALL)
DIRECTIVE = re.compile(r"<!-- (?:(?P<kind>let|if): (?P<argument>.+)|(?P<bare>else|end)) -->")


class Block(NamedTuple):
    """One block of a chapter: what it is, and its text without the marks that say so."""

    kind: Kind
    text: str


def read_chapters(lang: Lang) -> list[str]:
    """The Markdown of each chapter, in order."""
    folder = files("semigpt.tour") / lang
    chapters = sorted(folder.iterdir(), key=lambda file: file.name)
    return [
        chapter.read_text(encoding="utf-8") for chapter in chapters if chapter.name.endswith(".md")
    ]


def blocks(markdown: str) -> Iterator[Block]:
    """The blocks of a chapter. Raises ValueError for a mark that means nothing here."""
    for found in BLOCK.findall(markdown):
        if found.startswith("```"):
            fence = FENCE.fullmatch(found)
            if fence is None:
                raise ValueError(f"not a block of Python: {found!r}")
            yield Block("mistake" if fence["raises"] else "code", fence["code"])
        elif found.startswith("<!--"):
            directive = DIRECTIVE.fullmatch(found)
            if directive is None:
                raise ValueError(f"neither let, if, else nor end: {found!r}")
            kind: Kind = directive["kind"] or directive["bare"]  # type: ignore[assignment]
            yield Block(kind, directive["argument"] or "")
        elif found.startswith("# "):
            yield Block("heading", found.removeprefix("# "))
        else:
            yield Block("paragraph", found)


def pages(markdown: str, session: Session) -> Iterator[str]:
    """Run a chapter in the session; yield each block's text for the terminal as it is there."""
    shown = True
    for kind, text in blocks(markdown):
        if kind == "if":
            shown = bool(session.evaluate(text))
        elif kind == "else":
            shown = not shown
        elif kind == "end":
            shown = True
        elif not shown:
            continue
        elif kind == "let":
            name, _, expression = text.partition(" = ")
            session.values[name] = session.evaluate(expression)
        elif kind == "heading":
            yield f"{text}\n{'=' * columns(text)}"
        elif kind == "paragraph":
            yield wrapped(session.fill(text))
        elif kind == "code":
            yield session.run(text)
        else:
            yield session.mistake(text)


def wrapped(text: str) -> str:
    """Sentences broken at spaces into lines of at most `LINE` columns."""
    lines = [""]
    for word in text.split():
        if lines[-1] and columns(lines[-1]) + 1 + columns(word) > LINE:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".lstrip()
    return "\n".join(lines)


def columns(text: str) -> int:
    """How many columns of a terminal a text takes: a Hangul syllable takes two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
