"""Pages and line charts that open with no network, in any browser, on a phone or on paper.

`page` is the shell: it allows itself no script, no font and no address. `escape` makes any text safe to put
in it. `line_chart` draws curves as inline SVG. Lines are named at their ends, not in a legend, and the names
never lie on each other. Colours come from CSS: a chart follows the reader's light or dark setting.
"""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Level", "Series", "escape", "line_chart", "page", "short_number"]

# Characters that HTML forbids or UTF-8 cannot hold. Controls become their pictures (␀, ␛); the rest U+FFFD.
_FORBIDDEN = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys([*range(0x80, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF], 0xFFFD),
}


def escape(text: object) -> str:
    """Any text, whatever a corpus or a model put in it, as HTML that shows it: encodable, never markup."""
    return html.escape(str(text).translate(_FORBIDDEN))


def short_number(value: float) -> str:
    """A number in about three significant digits: 1.87, 11.2, 0.0003, 12,345."""
    size = abs(value)
    if size >= 1e7 or 0 < size < 0.1:
        return f"{value:.3g}"
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"


# Charts

# Found by search for the largest smallest distance: any two are at least 0.13 (light) and 0.16 (dark) apart
# in OKLab, also as protanopes and deuteranopes see them (Machado et al. 2009), and 3 : 1 against the paper.
_LIGHT = ("#0069b4", "#966900", "#a51e69", "#3c4b00", "#c37887", "#6987ff")
_DARK = ("#5aa5f0", "#e1b400", "#a53c96", "#69690f", "#d27887", "#4b5aff")

_NAME_HEIGHT = 15.0  # pixels from one name to the next
_NAME_INDENT = 22.0  # pixels from the plot to a name, which a leader crosses
_MARKED = 40  # a line of at most so many points shows each as a dot
_HOVERS = 60  # about so many places of a line tell their value


@dataclass(frozen=True)
class Series:
    """A line of (x, y) points, x rising. Points that are not finite are left out; no label, no name."""

    label: str
    points: Sequence[tuple[float, float]]
    faint: bool = False  # context to another line: thin, grey and underneath


@dataclass(frozen=True)
class Level:
    """A horizontal line to compare with, such as a baseline."""

    label: str
    y: float
    floor: bool = False  # nothing can be below it: what is under it is shaded


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    levels: Sequence[Level] = (),
    log_x: bool = False,
    y_max: float | None = None,
    small: bool = False,
) -> str:
    """An HTML figure with the series as lines, drawn once for wide screens and once for narrow ones.

    `log_x` leaves out points at or below x = 0. Above `y_max` lines are cut off, and levels are named at the
    top edge with an arrow. `small` makes one small drawing without names of axes, to set beside others. Long
    lines are thinned to what a screen can show, every peak kept. With no point to draw, the figure says so.
    The style is that of `page`.
    """
    drawable = []
    for s in series:
        points = [
            (x, y)
            for x, y in s.points
            if math.isfinite(x) and math.isfinite(y) and (x > 0 or not log_x)
        ]
        if points:
            drawable.append(Series(s.label, points, s.faint))
    caption = f"<figcaption>{escape(title)}</figcaption>"
    if not drawable:
        return f'<figure class="chart">{caption}<p class="missing">No points yet.</p></figure>'
    levels = [level for level in levels if math.isfinite(level.y)]
    sizes = [("small", 350, 160)] if small else [("wide", 720, 400), ("narrow", 350, 340)]
    drawings = []
    for kind, width, height in sizes:
        frame = _Frame.around(drawable, levels, width, height, log_x=log_x, y_max=y_max, bare=small)
        drawings.append(_drawing(frame, drawable, levels, kind, title, x_label, y_label))
    return f'<figure class="chart">{caption}{"".join(drawings)}</figure>'


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
    log_x: bool
    bare: bool
    x_ticks: list[float]
    y_ticks: list[float]

    @classmethod
    def around(
        cls,
        series: Sequence[Series],
        levels: Sequence[Level],
        width: int,
        height: int,
        *,
        log_x: bool,
        y_max: float | None,
        bare: bool,
    ) -> _Frame:
        """A frame that holds all that is drawn, higher than asked for where the names need it."""
        x_range = _extent((x for s in series for x, _ in s.points), log_x)
        values = [y for s in series for _, y in s.points] + [level.y for level in levels]
        lowest, highest = min(values), max(values)
        if y_max is not None and lowest < y_max:
            highest = min(highest, y_max)
        y_range = _padded(lowest, highest)
        names = [f"{s.label} {short_number(s.points[-1][1])} ↑" for s in series if s.label]
        names += [f"{level.label} {short_number(level.y)} ↑" for level in levels]
        y_ticks = _ticks(*y_range, about=5 if height > 250 else 4)
        left = max(_text_width(_tick_label(y, y_ticks)) for y in y_ticks) + 10
        right = width - 18.0
        if names:
            right = width - min(max(map(_text_width, names)) + _NAME_INDENT, width * 0.45)
        top, below = (8.0, 24.0) if bare else (30.0, 40.0)
        bottom = max(height - below, top + _NAME_HEIGHT * len(names))
        wide = right - left > 350
        x_ticks = (
            _log_ticks(*x_range, 9 if wide else 5) if log_x else _ticks(*x_range, 6 if wide else 3)
        )
        return cls(
            width,
            bottom + below,
            left,
            right,
            top,
            bottom,
            x_range,
            y_range,
            log_x,
            bare,
            x_ticks,
            y_ticks,
        )

    def x(self, value: float) -> float:
        low, high = self.x_range
        if self.log_x:
            value, low, high = math.log(value), math.log(low), math.log(high)
        share = (value - low) / (high - low)
        return self.left + (self.right - self.left) * share

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.bottom - (self.bottom - self.top) * (value - low) / (high - low)

    def is_above(self, y: float) -> bool:
        """Whether a height in pixels is beyond the top edge."""
        return y < self.top - 0.5


@dataclass(frozen=True)
class _Name:
    """The name of a line, to be set at the right of it."""

    label: str
    value: float
    style: str
    end: tuple[float, float]  # where the line ends, in pixels


def _drawing(
    frame: _Frame,
    series: Sequence[Series],
    levels: Sequence[Level],
    kind: str,
    title: str,
    x_label: str,
    y_label: str,
) -> str:
    """One SVG; its layers from the ground up are floor, grid, levels, lines, leaders, dots and names."""
    names = [
        _Name(level.label, level.y, "level", (frame.right, frame.y(level.y))) for level in levels
    ]
    lines, dots = "", ""
    colours = iter(range(len(series)))
    for s in sorted(series, key=lambda s: not s.faint):
        colour = 0 if s.faint else next(colours)
        style = (
            "faint" if s.faint else f"c{colour % len(_LIGHT)}" + " dashed" * (colour >= len(_LIGHT))
        )
        pixels = [(frame.x(x), frame.y(y)) for x, y in s.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in _thinned(pixels))
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
    ground = _ground(frame, levels, x_label, y_label)
    above = _leaders_dots_names(frame, names, dots, y_label)
    view = f'viewBox="0 0 {frame.width} {frame.height:.0f}"'
    return f'<svg class="{kind}" {view} role="img" aria-label="{escape(title)}">{ground}{plot}{above}</svg>'


def _ground(frame: _Frame, levels: Sequence[Level], x_label: str, y_label: str) -> str:
    """The grid and the axes, and the levels on them."""
    left, right, bottom = f"{frame.left:.1f}", f"{frame.right:.1f}", f"{frame.bottom:.1f}"
    parts = []
    for level in levels:
        y = frame.y(level.y)
        if level.floor and y < frame.bottom:
            parts.append(f'<path class="floor" d="M{left} {y:.1f}H{right}V{bottom}H{left}z"/>')
    for tick in frame.y_ticks:
        y, label = frame.y(tick), _tick_label(tick, frame.y_ticks)
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{right}"/>')
        parts.append(
            f'<text x="{frame.left - 8:.1f}" y="{y:.1f}" dy=".35em" text-anchor="end">{label}</text>'
        )
    for tick in frame.x_ticks:
        x, label = frame.x(tick), _tick_label(tick, frame.x_ticks)
        parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v4"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{frame.bottom + 17:.1f}" text-anchor="middle">{label}</text>'
        )
    parts.append(f'<path class="axis" d="M{left} {bottom}H{right}"/>')
    if not frame.bare:
        x_name = f"{x_label}, logarithmic" if frame.log_x else x_label
        parts.append(f'<text x="0" y="12">{escape(y_label)}</text>')
        parts.append(
            f'<text x="{right}" y="{frame.height - 5:.1f}" text-anchor="end">{escape(x_name)}</text>'
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
    """Places of a line that tell their value; seen only under the pointer where a line has many points."""
    mark = " mark" if len(pixels) <= _MARKED and not series.faint else ""
    places = {*range(0, len(pixels), math.ceil(len(pixels) / _HOVERS)), len(pixels) - 1}
    parts = []
    for index in sorted(places):
        (x, y), (x_value, y_value) = pixels[index], series.points[index]
        if not frame.is_above(y):
            told = f"{series.label or title}: {_precise(y_value)} {y_label} at {_precise(x_value)} {x_label}"
            at = f'cx="{x:.1f}" cy="{y:.1f}"'
            parts.append(
                f'<g class="dot {style}{mark}"><title>{escape(told)}</title>'
                f'<circle class="reach" {at} r="9"/><circle {at} r="2.6"/></g>'
            )
    return "".join(parts)


def _leaders_dots_names(frame: _Frame, names: Sequence[_Name], dots: str, y_label: str) -> str:
    """Every name beside the plot, and a leader to it from the end of its line."""
    places = spread([name.end[1] for name in names], _NAME_HEIGHT, frame.top, frame.bottom)
    leaders, texts = "", ""
    for name, place in zip(names, places, strict=True):
        y = max(name.end[1], frame.top)
        kind = "level" if name.style == "level" else f"line {name.style}"
        if name.end[0] < frame.right - 0.5:  # a line that ends early is led to the edge
            leaders += (
                f'<path class="{kind} onward" d="M{name.end[0]:.1f} {y:.1f}H{frame.right:.1f}"/>'
            )
        leader = f"M{frame.right:.1f} {y:.1f}L{frame.right + 12:.1f} {place:.1f}h4"
        leaders += f'<path class="{kind} leader" d="{leader}"/>'
        number = short_number(name.value) + " ↑" * frame.is_above(name.end[1])
        label = _fitted(
            name.label, frame.width - frame.right - _NAME_INDENT - _text_width(f" {number}")
        )
        weight = "" if name.style in ("level", "faint") else ' class="strong"'
        told = escape(f"{name.label}: {_precise(name.value)} {y_label}")
        texts += (
            f'<text{weight} x="{frame.right + _NAME_INDENT - 2:.1f}" y="{place:.1f}" dy=".35em">'
            f"{escape(label)} {number}<title>{told}</title></text>"
        )
    return leaders + dots + texts


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places moved as little as can be (least squares) to be `gap` or more apart, in order, in low … high.

    They must fit: (len(places) - 1) × gap ≤ high - low.
    """
    # With each place lowered by rank × gap, "gap apart" becomes "not falling": isotonic regression, by
    # pooling neighbours that violate it (Ayer et al. 1955). A bound on all of them is a clip of its result.
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


def _thinned(
    pixels: Sequence[tuple[float, float]], column: float = 2.0
) -> list[tuple[float, float]]:
    """The lowest and the highest point of each column of pixels, in order; always the first and the last."""
    columns: dict[int, list[int]] = {}
    for index, (x, _) in enumerate(pixels):
        columns.setdefault(int(x // column), []).append(index)
    kept = {0, len(pixels) - 1}
    for indices in columns.values():
        kept.add(min(indices, key=lambda index: pixels[index][1]))
        kept.add(max(indices, key=lambda index: pixels[index][1]))
    return [pixels[index] for index in sorted(kept)]


def _extent(values: Iterable[float], log: bool) -> tuple[float, float]:
    """The least and the greatest value, parted where they are the same."""
    values = list(values)
    low, high = min(values), max(values)
    if low < high:
        return low, high
    return (low / 2, low * 2) if log else (low, low + (abs(low) or 1.0))


def _padded(low: float, high: float) -> tuple[float, float]:
    """A range with some air around it; the air does not reach below zero where the values do not."""
    air = (high - low or abs(high) or 1.0) * 0.05
    return (max(low - air, 0.0) if low >= 0 else low - air), high + air


def _ticks(low: float, high: float, about: int) -> list[float]:
    """About so many round numbers from low to high, in steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * next(factor for factor in (1, 2, 5, 10) if factor * unit >= rough * 0.999)
    inside = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [round(index * step, 12 - math.floor(math.log10(step))) for index in inside] or [low]


def _log_ticks(low: float, high: float, about: int) -> list[float]:
    """Powers of ten from low to high, with their fives and doubles where no more than `about` come of it."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 5), (1,)):
        ticks = [factor * 10.0**decade for decade in decades for factor in factors]
        ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) <= about:
            break
    return ticks or [low]


def _tick_label(value: float, ticks: Sequence[float]) -> str:
    """A tick in as many decimals as all of them need; from 10,000 on in k, then M."""
    greatest = max(abs(tick) for tick in ticks)
    if greatest and not 1e-5 <= greatest < 1e12:
        return f"{value:g}"
    units = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
    unit, suffix = next(((unit, s) for unit, s in units if greatest >= 10 * unit), (1.0, ""))
    if any(0 < abs(tick) < unit for tick in ticks):  # a logarithmic axis: each tick for itself
        return short_number(value) if value % 1 else f"{value:,.0f}"
    decimals = next(
        (d for d in range(8) if all(math.isclose(round(t / unit, d), t / unit) for t in ticks)), 8
    )
    return f"{value / unit:,.{decimals}f}{suffix if value else ''}"


def _precise(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:,.4g}"


def _text_width(text: str) -> float:
    """About how wide a text is at 12 pixels; rather more than less."""
    return sum(
        12.0 if unicodedata.east_asian_width(character) in "WF" else 6.9 for character in text
    )


def _fitted(text: str, room: float) -> str:
    """The text, or its beginning and an ellipsis where it is wider than `room` pixels."""
    if _text_width(text) <= room:
        return text
    while text and _text_width(f"{text}…") > room:
        text = text[:-1]
    return f"{text}…"


# The page

_COLOURS = (
    ":root { " + " ".join(f"--c{index}: {colour};" for index, colour in enumerate(_LIGHT)) + " }\n"
    "@media (prefers-color-scheme: dark) { :root { "
    + " ".join(f"--c{index}: {colour};" for index, colour in enumerate(_DARK))
    + " } }\n"
    + "\n".join(f".c{index} {{ --line: var(--c{index}); }}" for index in range(len(_LIGHT)))
)

_STYLE = """
:root { color-scheme: light dark; --paper: #fcfcfa; --ink: #1c1b19; --soft: #66635d; --rule: #e2dfd8;
  --faint: #b9b5ac; --floor: #ece9e2; --heat: 222, 92, 24; }
@media (prefers-color-scheme: dark) { :root { --paper: #171614; --ink: #ebe8e1; --soft: #a19c92;
  --rule: #33312d; --faint: #6a665e; --floor: #2b2824; --heat: 232, 104, 40; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 3rem 1.25rem 5rem; max-width: 47.5rem; background: var(--paper);
  color: var(--ink); font: 400 1rem/1.6 system-ui, -apple-system, "Segoe UI", "Apple SD Gothic Neo",
  "Malgun Gothic", "Noto Sans KR", "Noto Sans CJK KR", sans-serif; }
h1 { margin: .3rem 0 .8rem; font-size: clamp(1.55rem, 5vw, 2.2rem); font-weight: 400; line-height: 1.25;
  letter-spacing: -.015em; text-wrap: balance; }
h1 strong { font-weight: 650; white-space: nowrap; }
h2 { margin: 3.2rem 0 .4rem; font-size: 1.1rem; font-weight: 650; }
h3 { margin: 0 0 .3rem; font-size: .8rem; font-weight: 500; color: var(--soft); }
p { margin: .4rem 0; max-width: 41rem; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "D2Coding", "Noto Sans Mono CJK KR",
  monospace; font-size: .85em; }
pre { margin: .6rem 0; padding: .8rem 1rem; border: 1px solid var(--rule); border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.7; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
td, th { padding: .22rem 0; border-bottom: 1px solid var(--rule); text-align: left; font-weight: 400;
  vertical-align: top; }
th { color: var(--soft); padding-right: 1.2rem; }
td { overflow-wrap: anywhere; }
[lang=ko] { white-space: pre-wrap; word-break: keep-all; overflow-wrap: anywhere; }
.soft, figcaption, .missing { color: var(--soft); font-size: .88rem; }
.missing { font-style: italic; }
figure { margin: 1.2rem 0; }
figcaption { margin-bottom: .5rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: 0 2rem; }
.chart svg { display: block; width: 100%; height: auto; overflow: visible; }
.chart svg svg { overflow: hidden; }
.chart .narrow { display: none; }
@media (max-width: 34rem) { .chart .wide { display: none; } .chart .narrow { display: block; } }
.chart text { font-size: 12px; fill: var(--soft); font-variant-numeric: tabular-nums; }
.chart text.strong { fill: var(--ink); font-weight: 600; }
.grid { stroke: var(--rule); }
.axis { stroke: var(--faint); }
.floor { fill: var(--floor); }
.level { fill: none; stroke: var(--soft); stroke-dasharray: 1 3; }
.level.leader { stroke-dasharray: none; opacity: .5; }
.faint { --line: var(--faint); }
.line { fill: none; stroke: var(--line); stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.line.dashed { stroke-dasharray: 7 4; }
.line.faint, .line.leader, .line.onward { stroke-width: 1; }
.line.leader { stroke-dasharray: none; }
.line.onward { stroke-dasharray: 1 3; }
.small .line { stroke-width: 1.3; }
.dot circle { fill: var(--line); opacity: 0; }
.dot.mark circle, .dot:hover circle { opacity: 1; }
.dot circle.reach { fill: transparent; }
@media print { body { padding: 0; max-width: none; } }
"""

# Nothing may be loaded or run, whatever text found its way in.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(title: str, body: str, style: str = "") -> str:
    """A whole HTML document. `body` is HTML, Korean text in it has lang="ko"; `style` is more CSS."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{_COLOURS}\n{style}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )
