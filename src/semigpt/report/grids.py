"""Grids of shaded cells as inline SVG: attention weights, tables of probabilities, blocks.

`grid_chart` makes an HTML figure for `semigpt.report.document`, `grid_file` a picture by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from semigpt.html import escape
from semigpt.report.charts import svg_document
from semigpt.report.layout import precise

__all__ = ["Grid", "grid_chart", "grid_file"]

# Pixels.
CELL = 24.0
LABEL = 30.0  # left of the rows
LINE = 22.0  # a name, or the labels of the columns
APART = 18.0  # between two grids
STRONGEST = 0.8  # opacity; letters stay legible on it
NAMED_CELLS = 600  # a picture of at most so many cells says each one's value under the pointer


@dataclass(frozen=True)
class Grid:
    """Rows of values, each cell shaded by where it is between `low` and `high`.

    rows, columns: what stands beside them, "" for nothing
    letters:       what stands in the cells, by row and column
    name:          what stands above
    """

    values: Sequence[Sequence[float]]
    rows: Sequence[str]
    columns: Sequence[str]
    letters: Sequence[Sequence[str]] = ()
    name: str = ""
    low: float = 0.0
    high: float = 1.0

    def shades(self) -> list[list[float]]:
        """Each cell's shade, 0 to 1; that of a value that is not finite is 0."""
        span = self.high - self.low or 1.0
        return [
            [min(max((v - self.low) / span, 0.0), 1.0) if math.isfinite(v) else 0.0 for v in row]
            for row in self.values
        ]


def grid_chart(grids: Sequence[Grid], *, title: str) -> str:
    """An HTML figure of grids side by side, two in a row; charts.CHART_STYLE is its style."""
    content, width, height = _drawing(grids)
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" style="max-width: {width:.0f}px" role="img" '
        f'aria-label="{escape(title)}">{content}</svg></figure>'
    )


def grid_file(grids: Sequence[Grid], *, title: str) -> str:
    """The content of an SVG file of the same; `title` is for those who cannot see it."""
    return svg_document(*_drawing(grids), title=title)


def _drawing(grids: Sequence[Grid]) -> tuple[str, float, float]:
    """The inside of an <svg>, its width and its height."""
    named = sum(len(row) for grid in grids for row in grid.values) <= NAMED_CELLS
    sizes = [
        (LABEL + CELL * len(grid.columns), LINE * (1 + bool(grid.name)) + CELL * len(grid.rows))
        for grid in grids
    ]
    across = max(width for width, _ in sizes)
    down = max(height for _, height in sizes)
    parts = []
    for index, grid in enumerate(grids):
        left, top = (index % 2) * (across + APART), (index // 2) * (down + APART)
        parts.append(_grid(grid, left, top, named=named))
    columns, rows = min(2, len(grids)), (len(grids) + 1) // 2
    width = columns * across + (columns - 1) * APART
    return "".join(parts), width, rows * down + (rows - 1) * APART


def _grid(grid: Grid, left: float, top: float, *, named: bool) -> str:
    parts = []
    first, above = left + LABEL, top + LINE * (1 + bool(grid.name))
    if grid.name:
        parts.append(_text(first, top + LINE / 2, grid.name, anchor="start", strong=True))
    for column, label in enumerate(grid.columns):
        parts.append(_text(first + CELL * (column + 0.5), above - LINE / 2, label))
    for row, (label, values, shades) in enumerate(
        zip(grid.rows, grid.values, grid.shades(), strict=True)
    ):
        y = above + CELL * row
        parts.append(_text(first - 8, y + CELL / 2, label, anchor="end"))
        for column, (value, shade) in enumerate(zip(values, shades, strict=True)):
            x = first + CELL * column
            tip = f"{label} · {grid.columns[column]}: {precise(value)}"
            tooltip = f"<title>{escape(tip)}</title>" if named and math.isfinite(value) else ""
            parts.append(
                f'<rect class="cell" x="{x:g}" y="{y:g}" width="{CELL:g}" height="{CELL:g}" '
                f'fill-opacity="{STRONGEST * shade:.2f}">{tooltip}</rect>'
            )
            if grid.letters and grid.letters[row][column]:
                letter = grid.letters[row][column]
                parts.append(_text(x + CELL / 2, y + CELL / 2, letter, strong=True))
    return "".join(parts)


def _text(x: float, y: float, text: str, *, anchor: str = "middle", strong: bool = False) -> str:
    weight = ' class="strong"' if strong else ""
    return (
        f'<text{weight} x="{x:g}" y="{y:g}" dy=".35em" text-anchor="{anchor}">{escape(text)}</text>'
    )
