"""Line charts as inline SVG that open with no network, in any browser, on a phone or on paper.

`line_chart` makes an HTML figure for `semigpt.report.document`, `svg_file` a picture by itself.
Lines are named at their ends, not in a legend, and the names never overlap. Colours come from CSS:
a chart follows the reader's light or dark setting.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from semigpt.html import escape
from semigpt.language import _
from semigpt.report.layout import (
    extent,
    padded,
    precise,
    short_number,
    shortened,
    spread,
    text_width,
    thinned,
    tick_label,
    ticks,
)

__all__ = ["CHART_STYLE", "Level", "Series", "line_chart", "svg_document", "svg_file"]

# Lines. Found by search for the largest smallest distance: any two are at least 0.13 (light) and
# 0.16 (dark) apart in OKLab, also as protanopes and deuteranopes see them (Machado et al. 2009),
# and 3 : 1 against the paper.
LINES_LIGHT = ("#0069b4", "#966900", "#a51e69", "#3c4b00", "#c37887", "#6987ff")
LINES_DARK = ("#5aa5f0", "#e1b400", "#a53c96", "#69690f", "#d27887", "#4b5aff")
LIGHT = {
    "paper": "#fcfcfa",
    "ink": "#1c1b19",
    "soft": "#66635d",
    "rule": "#e2dfd8",
    "faint": "#b9b5ac",
    "floor": "#ece9e2",
    **{f"c{index}": colour for index, colour in enumerate(LINES_LIGHT)},
}
DARK = {
    "paper": "#171614",
    "ink": "#ebe8e1",
    "soft": "#a19c92",
    "rule": "#33312d",
    "faint": "#6a665e",
    "floor": "#2b2824",
    **{f"c{index}": colour for index, colour in enumerate(LINES_DARK)},
}

# Pixels, of a drawing 350 or 720 wide.
NAME_HEIGHT = 15.0  # from one name to the next
NAME_INDENT = 22.0  # from the plot to a name, which a leader crosses
FILE_MARGIN = 18.0  # around a picture by itself
MARKED_POINTS = 40  # a line of at most so many points shows each as a dot
HOVER_POINTS = 60  # about so many points of a line show their value under the pointer


@dataclass(frozen=True)
class Series:
    """A line of (x, y) points, x rising. Points that are not finite are left out.

    label: its name, "" for none
    faint: context to another line: thin, grey and underneath
    """

    label: str
    points: Sequence[tuple[float, float]]
    faint: bool = False


@dataclass(frozen=True)
class Level:
    """A horizontal line to compare with, such as a baseline. Nothing can be below a `floor`:
    shaded.
    """

    label: str
    y: float
    floor: bool = False


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    levels: Sequence[Level] = (),
    y_max: float | None = None,
    small: bool = False,
) -> str:
    """An HTML figure with the series as lines, drawn once for wide screens and once for narrow
    ones.

    levels: horizontal lines; they need no series
    y_max:  where lines are cut off; levels above it are named at the top edge with an arrow
    small:  one small drawing without the axes' names, to set beside others

    Long lines are thinned to what a screen can show, every peak kept. With no point to draw, the
    figure says so. CHART_STYLE is its style.
    """
    drawable = _drawable(series)
    caption = f"<figcaption>{escape(title)}</figcaption>"
    if not drawable:
        missing = _("No points yet.")
        return f'<figure class="chart">{caption}<p class="missing">{escape(missing)}</p></figure>'
    sizes = [("small", 350, 160)] if small else [("wide", 720, 400), ("narrow", 350, 340)]
    drawings = []
    for kind, width, height in sizes:
        frame = _Frame.around(drawable, _finite(levels), width, height, y_max=y_max, bare=small)
        content = _content(frame, drawable, _finite(levels), title, x_label, y_label)
        view = f'viewBox="0 0 {frame.width} {frame.height:.0f}"'
        drawings.append(
            f'<svg class="{kind}" {view} role="img" aria-label="{escape(title)}">{content}</svg>'
        )
    return f'<figure class="chart">{caption}{"".join(drawings)}</figure>'


def svg_file(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    levels: Sequence[Level] = (),
    y_max: float | None = None,
    width: int = 720,
    height: int = 400,
) -> str:
    """The content of an SVG file with the series as lines, to show in a README.

    The arguments are `line_chart`'s; `width` and `height` are those of the drawing in pixels,
    before a margin. `title` is for those who cannot see the picture. It brings its own style and
    its own paper, light or dark as the reader's setting is, so it can be read on any background.

    Raises ValueError where there is no point to draw.
    """
    drawable = _drawable(series)
    if not drawable:
        raise ValueError("a chart needs at least one finite point")
    frame = _Frame.around(drawable, _finite(levels), width, height, y_max=y_max, bare=False)
    content = _content(frame, drawable, _finite(levels), title, x_label, y_label)
    return svg_document(content, frame.width, frame.height, title=title)


def svg_document(content: str, width: float, height: float, *, title: str) -> str:
    """An SVG file around a drawing, with a margin, a style and a paper of its own."""
    across, down = width + 2 * FILE_MARGIN, height + 2 * FILE_MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" width="{across:.0f}" '
        f'height="{down:.0f}" viewBox="{-FILE_MARGIN} {-FILE_MARGIN} {across:.1f} {down:.1f}" '
        f'role="img"><title>{escape(title)}</title><style>{CHART_STYLE}{FILE_STYLE}</style>'
        f'<rect class="paper" x="{-FILE_MARGIN}" y="{-FILE_MARGIN}" width="{across:.1f}" '
        f'height="{down:.1f}" rx="8"/>{content}</svg>\n'
    )


def _drawable(series: Sequence[Series]) -> list[Series]:
    """The series that have a point to draw, without what is not finite."""
    finite = (
        Series(s.label, [p for p in s.points if all(map(math.isfinite, p))], s.faint)
        for s in series
    )
    return [s for s in finite if s.points]


def _finite(levels: Sequence[Level]) -> list[Level]:
    return [level for level in levels if math.isfinite(level.y)]


# One drawing


@dataclass(frozen=True)
class _Frame:
    """Where the plot lies in the drawing, in pixels, and which values its edges have."""

    width: int
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_ticks: list[float]
    y_ticks: list[float]
    bare: bool  # without the axes' names

    @classmethod
    def around(
        cls,
        series: Sequence[Series],
        levels: Sequence[Level],
        width: int,
        height: int,
        *,
        y_max: float | None,
        bare: bool,
    ) -> _Frame:
        """A frame that holds all that is drawn, higher than asked for where the names need it."""
        x_range = extent([x for s in series for x, _y in s.points])
        values = [y for s in series for _x, y in s.points] + [level.y for level in levels]
        lowest, highest = min(values), max(values)
        if y_max is not None and lowest < y_max:
            highest = min(highest, y_max)
        y_range = padded(lowest, highest)
        names = [f"{s.label} {short_number(s.points[-1][1])} ↑" for s in series if s.label]
        names += [f"{level.label} {short_number(level.y)} ↑" for level in levels]
        y_ticks = ticks(*y_range, about=5 if height > 250 else 4)
        left = max(text_width(tick_label(y, y_ticks)) for y in y_ticks) + 10
        right = width - 18.0
        if names:
            right = width - min(max(map(text_width, names)) + NAME_INDENT, width * 0.45)
        top, below = (8.0, 24.0) if bare else (30.0, 40.0)
        bottom = max(height - below, top + NAME_HEIGHT * len(names))
        x_ticks = ticks(*x_range, about=6 if right - left > 350 else 3)
        return cls(
            width=width,
            height=bottom + below,
            left=left,
            right=right,
            top=top,
            bottom=bottom,
            x_range=x_range,
            y_range=y_range,
            x_ticks=x_ticks,
            y_ticks=y_ticks,
            bare=bare,
        )

    def x(self, value: float) -> float:
        """Pixels from the left edge of the drawing."""
        low, high = self.x_range
        return self.left + (self.right - self.left) * ((value - low) / (high - low))

    def y(self, value: float) -> float:
        """Pixels from the top edge of the drawing."""
        low, high = self.y_range
        return self.bottom - (self.bottom - self.top) * (value - low) / (high - low)

    def is_above(self, y: float) -> bool:
        """Whether a height in pixels is beyond the plot's top edge."""
        return y < self.top - 0.5


@dataclass(frozen=True)
class _Name:
    """The name of a line, to be set at the right of it."""

    label: str
    value: float
    style: str
    end: tuple[float, float]  # where the line ends, in pixels


def _content(
    frame: _Frame,
    series: Sequence[Series],
    levels: Sequence[Level],
    title: str,
    x_label: str,
    y_label: str,
) -> str:
    """The inside of the <svg>: floor, grid, levels, lines, leaders, dots, names, in this order."""
    names = [
        _Name(level.label, level.y, "level", (frame.right, frame.y(level.y))) for level in levels
    ]
    lines, dots = "", ""
    colours = iter(range(len(series)))
    for s in sorted(series, key=lambda s: not s.faint):
        style = "faint" if s.faint else _line_style(next(colours))
        pixels = [(frame.x(x), frame.y(y)) for x, y in s.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in thinned(pixels))
        lines += f'<path class="line {style}" d="M{path}"/>'
        dots += _dots(frame, s, pixels, style, title, x_label, y_label)
        if s.label:
            names.append(_Name(s.label, s.points[-1][1], style, pixels[-1]))
    left, top = f"{frame.left:.1f}", f"{frame.top:.1f}"
    width, height = f"{frame.right - frame.left:.1f}", f"{frame.bottom - frame.top + 1:.1f}"
    # An inner <svg> with the same coordinates cuts off what leaves the plot.
    plot = (
        f'<svg x="{left}" y="{top}" width="{width}" height="{height}" '
        f'viewBox="{left} {top} {width} {height}">{lines}</svg>'
    )
    background = _background(frame, levels, x_label, y_label)
    return f"{background}{plot}{_leaders_dots_names(frame, names, dots, y_label)}"


def _line_style(number: int) -> str:
    """The CSS classes of line number 0, 1 …: the colours, then the same again dashed."""
    return f"c{number % len(LINES_LIGHT)}" + " dashed" * (number >= len(LINES_LIGHT))


def _background(frame: _Frame, levels: Sequence[Level], x_label: str, y_label: str) -> str:
    """The grid and the axes, and the levels on them."""
    left, right, bottom = f"{frame.left:.1f}", f"{frame.right:.1f}", f"{frame.bottom:.1f}"
    parts = []
    for level in levels:
        y = frame.y(level.y)
        if level.floor and y < frame.bottom:
            parts.append(f'<path class="floor" d="M{left} {y:.1f}H{right}V{bottom}H{left}z"/>')
    for tick in frame.y_ticks:
        y = frame.y(tick)
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{right}"/>')
        parts.append(
            f'<text x="{frame.left - 8:.1f}" y="{y:.1f}" dy=".35em" text-anchor="end">'
            f"{tick_label(tick, frame.y_ticks)}</text>"
        )
    for tick in frame.x_ticks:
        x = frame.x(tick)
        parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v4"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{frame.bottom + 17:.1f}" text-anchor="middle">'
            f"{tick_label(tick, frame.x_ticks)}</text>"
        )
    parts.append(f'<path class="axis" d="M{left} {bottom}H{right}"/>')
    if not frame.bare:
        parts.append(f'<text x="0" y="12">{escape(y_label)}</text>')
        parts.append(
            f'<text x="{right}" y="{frame.height - 5:.1f}" text-anchor="end">'
            f"{escape(x_label)}</text>"
        )
    for level in levels:
        if not frame.is_above(y := frame.y(level.y)):
            parts.append(f'<path class="level" d="M{left} {y:.1f}H{right}"/>')
    return "".join(parts)


def _dots(
    frame: _Frame,
    series: Series,
    pixels: Sequence[tuple[float, float]],
    style: str,
    title: str,
    x_label: str,
    y_label: str,
) -> str:
    """Points that show their value under the pointer; visible dots where a line has few."""
    mark = " mark" if len(pixels) <= MARKED_POINTS and not series.faint else ""
    shown = {*range(0, len(pixels), math.ceil(len(pixels) / HOVER_POINTS)), len(pixels) - 1}
    parts = []
    for index in sorted(shown):
        (x, y), (x_value, y_value) = pixels[index], series.points[index]
        if not frame.is_above(y):
            name = series.label or title
            tooltip = _("{name}: {y} {y_label} at {x} {x_label}").format(
                name=name,
                y=precise(y_value),
                y_label=y_label,
                x=precise(x_value),
                x_label=x_label,
            )
            at = f'cx="{x:.1f}" cy="{y:.1f}"'
            parts.append(
                f'<g class="dot {style}{mark}"><title>{escape(" ".join(tooltip.split()))}</title>'
                f'<circle class="reach" {at} r="9"/><circle {at} r="2.6"/></g>'
            )
    return "".join(parts)


def _leaders_dots_names(frame: _Frame, names: Sequence[_Name], dots: str, y_label: str) -> str:
    """Every name beside the plot, and a leader to it from the end of its line."""
    heights = spread([name.end[1] for name in names], NAME_HEIGHT, frame.top, frame.bottom)
    leaders, texts = "", ""
    for name, height in zip(names, heights, strict=True):
        y = max(name.end[1], frame.top)
        kind = "level" if name.style == "level" else f"line {name.style}"
        if name.end[0] < frame.right - 0.5:  # a line that ends early is led to the edge
            leaders += (
                f'<path class="{kind} onward" d="M{name.end[0]:.1f} {y:.1f}H{frame.right:.1f}"/>'
            )
        leader = f"M{frame.right:.1f} {y:.1f}L{frame.right + 12:.1f} {height:.1f}h4"
        leaders += f'<path class="{kind} leader" d="{leader}"/>'
        number = short_number(name.value) + " ↑" * frame.is_above(name.end[1])
        width = frame.width - frame.right - NAME_INDENT - text_width(f" {number}")
        label = shortened(name.label, width)
        weight = "" if name.style in ("level", "faint") else ' class="strong"'
        tooltip = escape(
            _("{name}: {y} {y_label}").format(
                name=name.label, y=precise(name.value), y_label=y_label
            )
        )
        texts += (
            f'<text{weight} x="{frame.right + NAME_INDENT - 2:.1f}" y="{height:.1f}" dy=".35em">'
            f"{escape(label)} {number}<title>{tooltip}</title></text>"
        )
    return leaders + dots + texts


# Style


def _variables(light: Mapping[str, str], dark: Mapping[str, str]) -> str:
    """CSS variables of the names given, by the reader's light or dark setting."""
    one, other = (
        " ".join(f"--{name}: {value};" for name, value in colours.items())
        for colours in (light, dark)
    )
    return (
        f":root {{ color-scheme: light dark; {one} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {other} }} }}\n"
    )


CHART_STYLE = (
    _variables(LIGHT, DARK)
    + "".join(f".c{index} {{ --line: var(--c{index}); }}\n" for index in range(len(LINES_LIGHT)))
    + """
.chart text { font-size: 12px; fill: var(--soft); font-variant-numeric: tabular-nums; }
.chart text.strong { fill: var(--ink); font-weight: 600; }
.grid { stroke: var(--rule); }
.axis { stroke: var(--faint); }
.floor { fill: var(--floor); }
.level { fill: none; stroke: var(--soft); stroke-dasharray: 1 3; }
.level.leader { stroke-dasharray: none; opacity: .5; }
.faint { --line: var(--faint); }
.line { fill: none; stroke: var(--line); stroke-width: 2; stroke-linejoin: round;
  stroke-linecap: round; }
.line.dashed { stroke-dasharray: 7 4; }
.line.faint, .line.leader, .line.onward { stroke-width: 1; }
.line.leader { stroke-dasharray: none; }
.line.onward { stroke-dasharray: 1 3; }
.small .line { stroke-width: 1.3; }
.dot circle { fill: var(--line); opacity: 0; }
.dot.mark circle, .dot:hover circle { opacity: 1; }
.dot circle.reach { fill: transparent; }
.cell { fill: var(--c0); stroke: var(--rule); print-color-adjust: exact;
  -webkit-print-color-adjust: exact; }
"""
)
FILE_STYLE = """
.paper { fill: var(--paper); }
text { font-family: system-ui, -apple-system, "Segoe UI", "Apple SD Gothic Neo", "Malgun Gothic",
  "Noto Sans KR", "Noto Sans CJK KR", sans-serif; }
"""
