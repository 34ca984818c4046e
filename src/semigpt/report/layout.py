"""Where the parts of a chart go, and how its numbers are written."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

__all__ = [
    "extent",
    "padded",
    "precise",
    "short_number",
    "shortened",
    "spread",
    "text_width",
    "thinned",
    "tick_label",
    "ticks",
]

COLUMN = 2.0  # pixels; a long line keeps its highest and lowest point in each column


# Places


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The places, moved as little as can be (least squares) to be in low … high and `gap` apart.

    Their order stays. They must fit: (len(places) - 1) × gap ≤ high - low.
    """
    # With each place lowered by rank × gap, "gap apart" becomes "not falling": isotonic regression,
    # by pooling neighbours that violate it (Ayer et al. 1955). A bound on all of them clips its
    # result.
    order = sorted(range(len(places)), key=lambda index: places[index])
    pools: list[tuple[float, int]] = []  # sum, count
    for rank, index in enumerate(order):
        total, count = places[index] - rank * gap, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            before, more = pools.pop()
            total, count = total + before, count + more
        pools.append((total, count))
    means = [total / count for total, count in pools for _ in range(count)]
    highest = high - (len(places) - 1) * gap
    result = [0.0] * len(places)
    for rank, index in enumerate(order):
        result[index] = max(min(means[rank], highest), low) + rank * gap
    return result


def thinned(pixels: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The lowest and the highest point of each COLUMN, in order; always the first and the last."""
    columns: dict[int, list[int]] = {}
    for index, (x, _) in enumerate(pixels):
        columns.setdefault(int(x // COLUMN), []).append(index)
    kept = {0, len(pixels) - 1}
    for indices in columns.values():
        kept.add(min(indices, key=lambda index: pixels[index][1]))
        kept.add(max(indices, key=lambda index: pixels[index][1]))
    return [pixels[index] for index in sorted(kept)]


def extent(values: Sequence[float]) -> tuple[float, float]:
    """The least and the greatest value, widened where they are the same."""
    low, high = min(values), max(values)
    return (low, high) if low < high else (low, low + (abs(low) or 1.0))


def padded(low: float, high: float) -> tuple[float, float]:
    """A range widened by a twentieth at each end, but not below zero where the values are not."""
    margin = (high - low or abs(high) or 1.0) * 0.05
    return (max(low - margin, 0.0) if low >= 0 else low - margin), high + margin


def ticks(low: float, high: float, about: int) -> list[float]:
    """About so many round numbers from low to high, in steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * next(factor for factor in (1, 2, 5, 10) if factor * unit >= rough * 0.999)
    inside = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [round(index * step, 12 - math.floor(math.log10(step))) for index in inside] or [low]


# Text


def short_number(value: float) -> str:
    """A number in about three significant digits: 1.87, 11.2, 0.0003, 12,345."""
    size = abs(value)
    if size >= 1e7 or 0 < size < 0.1:
        return f"{value:.3g}"
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def tick_label(value: float, ticks: Sequence[float]) -> str:
    """A tick in as many decimals as all of them need; from 10,000 on in k, then M, then G."""
    greatest = max(abs(tick) for tick in ticks)
    if greatest and not 1e-5 <= greatest < 1e12:
        return f"{value:g}"
    units = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
    unit, suffix = next(((unit, s) for unit, s in units if greatest >= 10 * unit), (1.0, ""))
    decimals = next(
        (d for d in range(8) if all(math.isclose(round(t / unit, d), t / unit) for t in ticks)), 8
    )
    return f"{value / unit:,.{decimals}f}{suffix if value else ''}"


def precise(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:,.4g}"


def text_width(text: str) -> float:
    """About how wide a text is at 12 pixels, more rather than less."""
    return sum(
        12.0 if unicodedata.east_asian_width(character) in "WF" else 6.9 for character in text
    )


def shortened(text: str, width: float) -> str:
    """The text, or its beginning and an ellipsis where it is wider than `width` pixels."""
    if text_width(text) <= width:
        return text
    while text and text_width(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
