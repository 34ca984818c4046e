"""The tour's chapters: Markdown files in a folder a language, whose code is what runs.

A chapter is plain Markdown wherever a repository is browsed. Its blocks are set apart by blank
lines:

    # 1. Title                  the chapter's heading
    Some sentences.             a paragraph; a field such as {len(text):,} is evaluated in it
    ```python                   lines that are run and shown with their answers
    ```python raises            the same, where one line is wrong and its error is the answer
    ```python figure            lines that draw a picture: run and shown where there are pictures
    ## Exercise                 a heading within the chapter
    <details>                   what follows, up to </details>, is folded away; its code is run with
    <summary>Answer</summary>   names that the rest of the tour does not see
    <!-- let: name = value -->  a value for the fields, or in capitals for the code; not shown
    <!-- if: condition -->      the blocks up to `else` or `end` are shown where this is true
    <!-- else -->
    <!-- end -->

Conditions do not nest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal, NamedTuple, TypeAlias

from semigpt.tour.session import Ran, Session

__all__ = [
    "Block",
    "Code",
    "Element",
    "Fold",
    "FoldEnd",
    "Heading",
    "Lang",
    "Paragraph",
    "blocks",
    "read_chapters",
    "told",
]

Lang = Literal["ko", "en"]
Kind = Literal[
    "heading",
    "subheading",
    "paragraph",
    "code",
    "mistake",
    "figure",
    "fold",
    "unfold",
    "let",
    "if",
    "else",
    "end",
]

BLOCK = re.compile(r"^```.*?^```$|^\S.*?(?=\n\n|\n*\Z)", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"```python(?: (?P<kind>raises|figure))?\n(?P<code>.*)\n```", re.DOTALL)
DIRECTIVE = re.compile(r"<!-- (?:(?P<kind>let|if): (?P<argument>.+)|(?P<bare>else|end)) -->")
FOLD = re.compile(r"<details>\n<summary>(.+)</summary>")
FENCED: dict[str | None, Kind] = {None: "code", "raises": "mistake", "figure": "figure"}


class Block(NamedTuple):
    """One block of a chapter: what it is, and its text without the marks that say so."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Heading:
    """A chapter's heading (level 1), or one within it (level 2)."""

    text: str
    level: int = 1


@dataclass(frozen=True)
class Paragraph:
    """Sentences, their fields filled: parts in turn prose and, without its backticks, code."""

    parts: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Statements and their answers."""

    ran: tuple[Ran, ...]


@dataclass(frozen=True)
class Fold:
    """What follows is folded away under this, up to a `FoldEnd`."""

    summary: str


@dataclass(frozen=True)
class FoldEnd:
    """The end of what is folded away."""


Element: TypeAlias = Heading | Paragraph | Code | Fold | FoldEnd


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
            yield Block(FENCED[fence["kind"]], fence["code"])
        elif found.startswith("<!--"):
            directive = DIRECTIVE.fullmatch(found)
            if directive is None:
                raise ValueError(f"neither let, if, else nor end: {found!r}")
            kind: Kind = directive["kind"] or directive["bare"]  # type: ignore[assignment]
            yield Block(kind, directive["argument"] or "")
        elif found == "</details>":
            yield Block("unfold", "")
        elif found.startswith("<"):
            fold = FOLD.fullmatch(found)
            if fold is None:
                raise ValueError(f"no fold with a summary: {found!r}")
            yield Block("fold", fold[1])
        elif found.startswith("# "):
            yield Block("heading", found.removeprefix("# "))
        elif found.startswith("## "):
            yield Block("subheading", found.removeprefix("## "))
        else:
            yield Block("paragraph", found)


def told(markdown: str, session: Session, *, figures: bool) -> Iterator[Element]:
    """Run a chapter in the session; yield its elements, each as soon as it is there.

    figures: whether there is a place for pictures that have no form in text
    """
    shown, folded = True, ExitStack()
    for kind, text in blocks(markdown):
        if kind == "if":
            shown = bool(session.evaluate(text))
        elif kind == "else":
            shown = not shown
        elif kind == "end":
            shown = True
        elif not shown or (kind == "figure" and not figures):
            continue
        elif kind == "let":
            name, _, expression = text.partition(" = ")
            session.values[name] = session.evaluate(expression)
        elif kind == "heading":
            yield Heading(text)
        elif kind == "subheading":
            yield Heading(text, level=2)
        elif kind == "paragraph":
            yield Paragraph(tuple(session.fill(part) for part in text.split("`")))
        elif kind == "fold":
            folded.enter_context(session.aside())
            yield Fold(text)
        elif kind == "unfold":
            folded.close()
            yield FoldEnd()
        else:
            yield Code(tuple(session.run(text, mistaken=kind == "mistake")))
