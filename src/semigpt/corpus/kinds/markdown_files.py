"""Markdown as the text that a reader sees.

Read by markdown-it-py, as CommonMark with tables and strikethrough. A heading, paragraph, list item
or table cell is a paragraph of the text; so is a block of code, as it stands. Lines that were
wrapped in the source are joined by a space. Left out: front matter, addresses of links, pictures
with their descriptions, tags of HTML, the signs of mark-up.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

from semigpt.corpus.doctor.markup import HTML, plain

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

__all__ = ["markdown_paragraphs"]

FRONT_MATTER = re.compile(r"\A(---|\+\+\+)[ \t]*\n(?:.*\n)*?\1[ \t]*(?:\n|\Z)")
LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
# The library takes quadratic time for some of the text inside a paragraph: 0.2 s for so many `[`.
INLINE_CHARACTERS = 20_000


def markdown_paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a Markdown text."""
    parser = _parser()
    inside: dict[str, object] = {}
    for token in parser.parse(FRONT_MATTER.sub("", text, count=1), inside):
        match token.type:
            case "inline" if len(token.content) > INLINE_CHARACTERS:
                yield token.content
            case "inline":
                tokens: list[Token] = []
                parser.inline.parse(token.content, parser, inside, tokens)
                yield _inline(tokens)
            case "fence" | "code_block":
                yield token.content.rstrip("\n")
            case "html_block":
                yield from HTML.sub(plain, token.content).split("\n")


@cache
def _parser() -> "MarkdownIt":
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return parser.disable("inline")  # parsed above, where it is short enough


def _inline(tokens: "Sequence[Token]") -> str:
    parts = []
    for token in tokens:
        match token.type:
            case "text" | "text_special" | "code_inline":
                parts.append(token.content)
            case "softbreak":
                parts.append(" ")
            case "hardbreak":
                parts.append("\n")
            case "html_inline" if LINE_BREAK.fullmatch(token.content):
                parts.append("\n")
    return "".join(parts)
