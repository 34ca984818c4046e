"""The tour's pictures: drawn as SVG where there is a place for them, in characters elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from semigpt.columns import columns
from semigpt.controls import pictured
from semigpt.language import _
from semigpt.report.charts import Level, Series, line_chart, svg_file
from semigpt.report.grids import Grid, grid_chart, grid_file

__all__ = ["Picture", "block", "curves", "heat_map"]

SHADES = (" ", "░", "▒", "▓", "█")


class Picture:
    """A picture, as a notebook, an HTML page and a terminal show it."""

    def __init__(self, *, svg: str, html: str, text: str) -> None:
        self.html = html
        self._svg = svg
        self._text = text

    def _repr_svg_(self) -> str:
        return self._svg

    def __repr__(self) -> str:
        return self._text


def heat_map(values: Any, rows: Sequence[str], columns: Sequence[str], name: str = "") -> Picture:
    """Numbers as shades, the highest of all the darkest: [rows, columns], or several such grids.

    The lightest is 0, or the lowest where one is below that.

    rows, columns: a character beside each
    name:          of each grid, with its number behind it where there are several
    """
    numbers = torch.as_tensor(values).detach().float()
    several = numbers.dim() == 3
    low, high = min(0.0, numbers.min().item()), numbers.max().item()
    down, across = [list(map(visible, labels)) for labels in (rows, columns)]
    grids = [
        Grid(
            grid.tolist(),
            down,
            across,
            name=f"{name} {number}".strip() if several else name,
            low=low,
            high=high,
        )
        for number, grid in enumerate(numbers if several else numbers[None], 1)
    ]
    title = name or _("weights")
    return Picture(
        svg=grid_file(grids, title=title),
        html=grid_chart(grids, title=title),
        text=_in_characters(grids),
    )


def block(context: Iterable[int], target: Iterable[int], decode: Any) -> Picture:
    """A block, a row for each of its questions: the characters that are seen, and the next one."""
    seen, wanted = ([visible(decode([int(i)])) for i in ids] for ids in (context, target))
    size = len(seen)
    letters = [[*seen[: t + 1], wanted[t], *[""] * (size - 1 - t)] for t in range(size)]
    values = [[0.25] * (t + 1) + [0.75] + [0.0] * (size - 1 - t) for t in range(size)]
    grid = Grid(values, [str(t + 1) for t in range(size)], [""] * (size + 1), letters)
    title = _("contexts and targets")
    return Picture(
        svg=grid_file([grid], title=title),
        html=grid_chart([grid], title=title),
        text="\n".join(f"{' '.join(row[: t + 1])} → {row[t + 1]}" for t, row in enumerate(letters)),
    )


def curves(
    lines: Mapping[str, Iterable[tuple[float, float]]],
    x: str,
    y: str,
    levels: Mapping[str, float] | None = None,
) -> Picture:
    """Lines of (x, y) points by name, and levels across to compare them with."""
    series = [Series(name, list(points)) for name, points in lines.items()]
    named = [Level(name, height) for name, height in (levels or {}).items()]
    title = _("{y} against {x}").format(x=x, y=y)
    return Picture(
        svg=svg_file(series, title=title, x_label=x, y_label=y, levels=named),
        html=line_chart(series, title=title, x_label=x, y_label=y, levels=named),
        text=title,
    )


def visible(character: str) -> str:
    """A character that can be seen in a row of others."""
    return {" ": "␣", "\n": "↵"}.get(character) or pictured(character, one_line=True)


def _in_characters(grids: Sequence[Grid]) -> str:
    """The grids beside each other, two columns a cell."""
    first = grids[0]
    margin = max(map(columns, first.rows))
    heads = ["".join(label + " " * (2 - columns(label)) for label in g.columns) for g in grids]
    lines = [" " * (margin + 1) + "  ".join(heads)]
    if any(grid.name for grid in grids) and len(grids) > 1:
        names = [f"{grid.name:{2 * len(grid.columns)}}" for grid in grids]
        lines.insert(0, " " * (margin + 1) + "  ".join(names))
    for number, label in enumerate(first.rows):
        shaded = ("".join(2 * _shade(shade) for shade in grid.shades()[number]) for grid in grids)
        lines.append(f"{' ' * (margin - columns(label))}{label} {'  '.join(shaded)}")
    return "\n".join(line.rstrip() for line in lines)


def _shade(shade: float) -> str:
    """Blank below a sixteenth."""
    return SHADES[min(int(4 * shade + 0.75), 4)]
