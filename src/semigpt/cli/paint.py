"""`semigpt generate --show`: chunks of text painted by their surprisal, and what else was likely.

The surprisal of a chunk is -log2 of the probability that the model gave to all its tokens, in bits.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator

from semigpt.cli.token_table import visible
from semigpt.controls import pictured
from semigpt.generation.stream import Chunk

__all__ = ["painted", "surprisal"]

LONGEST_BAR = 12
SHOWN = 3  # alternatives on a line
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
    """What to write: a line for each chunk, of the text, its surprisal and the alternatives of each
    of its tokens, separated by tabs; on a terminal first the text, painted as it comes, and then
    the same in columns for the eye.
    """
    if not sys.stdout.isatty():
        yield from (_line(chunk) + "\n" for chunk in chunks if chunk.text)
        return
    lines = []
    for chunk in chunks:
        if chunk.text:
            yield _paint(chunk)
            lines.append(_columns(chunk))
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


def _columns(chunk: Chunk) -> str:
    """A line for the eye: the text, its surprisal in bits with a bar, and what was likeliest."""
    bits = surprisal(chunk)
    alternatives = [
        _padded(f"{visible(pictured(text, one_line=True))} {math.exp(p):.0%}", 11)
        for score in chunk.scores[:1]
        for text, p in score.alternatives[:SHOWN]
    ]
    text = _padded(visible(pictured(chunk.text, one_line=True)), 6)
    bar = "█" * min(round(bits), LONGEST_BAR)
    return f"{text} {bits:5.1f} {bar:{LONGEST_BAR}}  {''.join(alternatives)}".rstrip()


def _padded(text: str, width: int) -> str:
    from rich.cells import cell_len

    return text + " " * max(1, width - cell_len(text))


def _line(chunk: Chunk) -> str:
    alternatives = " | ".join(
        " ".join(f"{text} {math.exp(p):.1%}" for text, p in score.alternatives)
        for score in chunk.scores
    )
    text = chunk.text if chunk.text.isprintable() else ascii(chunk.text)[1:-1]
    return f"{text}\t{surprisal(chunk):.2f}\t{alternatives}"
