"""`semigpt generate --show`: each piece of text with its surprise in bits, and what else the model considered."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator

from semigpt.generation.engine import Piece

__all__ = ["bits_of", "shown"]

# Backgrounds of the terminal's 256 colours, from what was expected to what was not, and the bits where each begins.
COLOURS = (
    (0.0, ""),
    (1.0, "on color(194)"),
    (3.0, "on color(229)"),
    (6.0, "on color(216)"),
    (10.0, "on color(203)"),
)


def bits_of(piece: Piece) -> float:
    """The surprise of a piece: -log2 of the probability that the model gave to all its tokens, 0 without scores."""
    return -sum(score.log_probability for score in piece.scores) / math.log(2)


def _line(piece: Piece) -> str:
    """The text, its bits and the alternatives of each of its tokens, with tabs between."""
    considered = " | ".join(
        " ".join(
            f"{text} {math.exp(log_probability):.1%}"
            for text, log_probability in score.alternatives
        )
        for score in piece.scores
    )
    return f"{ascii(piece.text)[1:-1] if not piece.text.isprintable() else piece.text}\t{bits_of(piece):.2f}\t{considered}"


def shown(pieces: Iterator[Piece]) -> Iterator[str]:
    """What to write for each piece: the text painted as it comes and the lines below it at its end, on a terminal;
    the lines alone where standard output is none."""
    if not sys.stdout.isatty():
        for piece in pieces:
            if piece.text:
                yield _line(piece) + "\n"
        return
    from rich.color import ColorSystem
    from rich.style import Style

    lines = []
    for piece in pieces:
        if not piece.text:
            continue
        each = bits_of(piece) / len(piece.text)
        colour = next(colour for least, colour in reversed(COLOURS) if each >= least)
        style = Style.parse(f"{colour} black" if colour else "none")
        # A line end inside paint would colour the rest of the line.
        yield "\n".join(
            style.render(part, color_system=ColorSystem.EIGHT_BIT) if part else ""
            for part in piece.text.split("\n")
        )
        lines.append(_line(piece))
    yield "\n\n" + "\n".join(lines) + "\n"
