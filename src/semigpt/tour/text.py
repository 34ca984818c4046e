"""The tour as text: for a terminal, a pipe or a file."""

from __future__ import annotations

from textwrap import indent

from semigpt.columns import columns, wrapped
from semigpt.tour.loader import Code, Element, Fold, FoldEnd, Heading, Paragraph
from semigpt.tour.session import Ran

__all__ = ["as_text"]

TENSOR = 80  # columns that PyTorch gives a line of a tensor
MARGIN = "    "  # before code, where the line is long enough
LONGEST_LINE = 100  # columns; longer ones are hard to read


def as_text(element: Element, width: int) -> str:
    """An element on lines of at most `width` columns, but for lines of code and their answers.

    Code is shown as at Python's prompt. "" for an element that has no text.
    """
    match element:
        case Heading(text, level):
            return f"{text}\n{('=' if level == 1 else '-') * columns(text)}"
        case Fold(summary):
            return f"{summary}\n{'-' * columns(summary)}"
        case Paragraph(parts):
            return wrapped("`".join(parts), min(width, LONGEST_LINE))
        case Code(ran):
            margin = MARGIN if width >= TENSOR + len(MARGIN) else ""
            return indent("\n".join(map(prompted, ran)), margin)
        case FoldEnd():
            return ""


def prompted(ran: Ran) -> str:
    """A statement and its answer, as at Python's prompt."""
    first, *others = ran.source.splitlines()
    # At the prompt an empty line would end the statement.
    lines = [f">>> {first}", *(f"... {line}" for line in others if line)]
    lines += ran.printed.splitlines() + ran.value.splitlines()
    if ran.error:
        lines += f"Traceback (most recent call last):\n    ...\n{ran.error}".splitlines()
    return "\n".join(lines)
