"""`semigpt generate --show`: chunks of text painted by their surprisal, and what else was likely.

The surprisal of a chunk is -log2 of the probability that the model gave to all its tokens, in bits.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator

from semigpt.controls import pictured
from semigpt.generation.stream import Chunk

__all__ = ["painted", "surprisal"]

COLOURS = (
    (0.0, ""),
    (1.0, "on color(194)"),
    (3.0, "on color(229)"),
    (6.0, "on color(216)"),
    (10.0, "on color(203)"),
)
"""Backgrounds of a terminal with 256 colours, and the bits per character where each begins."""


def surprisal(chunk: Chunk) -> float:
    """In bits; 0 without scores."""
    return -sum(score.log_probability for score in chunk.scores) / math.log(2)


def painted(chunks: Iterator[Chunk]) -> Iterator[str]:
    """What to write: a line for each chunk; on a terminal first the text, painted as it comes.

    A line holds the text, its surprisal, and the alternatives of each of its tokens, separated by
    tabs.
    """
    if not sys.stdout.isatty():
        yield from (_line(chunk) + "\n" for chunk in chunks if chunk.text)
        return
    lines = []
    for chunk in chunks:
        if chunk.text:
            yield _paint(chunk)
            lines.append(_line(chunk))
    yield "\n\n" + "\n".join(lines) + "\n"


def _paint(chunk: Chunk) -> str:
    from rich.color import ColorSystem
    from rich.style import Style

    bits = surprisal(chunk) / len(chunk.text)
    colour = next(colour for least, colour in reversed(COLOURS) if bits >= least)
    style = Style.parse(f"{colour} black" if colour else "none")
    # A painted line end would colour the rest of the line.
    return "\n".join(
        style.render(pictured(part), color_system=ColorSystem.EIGHT_BIT) if part else ""
        for part in chunk.text.split("\n")
    )


def _line(chunk: Chunk) -> str:
    alternatives = " | ".join(
        " ".join(f"{text} {math.exp(p):.1%}" for text, p in score.alternatives)
        for score in chunk.scores
    )
    text = chunk.text if chunk.text.isprintable() else ascii(chunk.text)[1:-1]
    return f"{text}\t{surprisal(chunk):.2f}\t{alternatives}"
