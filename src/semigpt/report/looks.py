"""Two pictures of a model's inside, drawn from what `evaluation.portrait` keeps in metadata.json:
where each head looks, and the embeddings of the likeliest tokens.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from semigpt.html import escape
from semigpt.language import N_, _
from semigpt.report.layout import shortened, text_width

__all__ = ["LOOKS_STYLE", "attention_figure", "embedding_figure"]

# Percent of a head's attention: the edges between the shades, and how strong each of them is.
PERCENTS = (5, 12, 25, 40, 60, 80)
STRENGTHS = (0.14, 0.28, 0.42, 0.58, 0.78, 1.0)
MOST_HEADS = 120  # drawn, of whole layers: some 1 kB each

# Pixels.
CELL = 11.0
SMALL = 9.5  # a letter beside a head
LONGEST = 38.0  # a part's name, at 12 pixels
GAP = 4.0
LABEL = 13.0  # the height of a token on the map
MAPS = (("wide", 720, 470, 240), ("narrow", 350, 400, 100))  # class, size at most, tokens


def attention_figure(found: object) -> str:
    """A triangle for each head of each layer, as an HTML figure; empty for what is none.

    Raises TypeError, ValueError, LookupError or AttributeError for data of another form.
    """
    if not isinstance(found, Mapping):
        return ""
    letters = _Letters([str(part) for part in found["parts"]])
    layers = _few_layers([[_Head.of(rows) for rows in layer] for layer in found["heads"]])
    sections = [letters.shared()]
    for number, heads in layers:
        drawings = "".join(
            letters.drawing(head, number, index) for index, head in enumerate(heads, 1)
        )
        heading = escape(_("Layer {layer}").format(layer=number))
        sections.append(f'<section><h3>{heading}</h3><div class="heads">{drawings}</div></section>')
    caption = _(
        "A row is the text up to the letter at its left; the stronger a cell, the more of its "
        "attention the head gives to the letter below."
    )
    edges = zip(("0", *PERCENTS), ("none", *(f"p{n}" for n in range(len(PERCENTS)))), strict=True)
    shades = "".join(f'<i class="{name}">{edge}</i>' for edge, name in edges)
    said = escape(_("percent of its attention, from"))
    legend = f'<p class="legend soft"><span>{said}</span>{shades}</p>'
    return (
        f'<figure class="chart looks long"><figcaption>{escape(caption)}</figcaption>{legend}'
        f"{''.join(sections)}</figure>"
    )


@dataclass(frozen=True)
class _Head:
    """The percents of one head: row i has i + 1."""

    rows: list[list[float]]

    @classmethod
    def of(cls, rows: Sequence[Sequence[float]]) -> _Head:
        return cls([[float(percent) for percent in row[: i + 1]] for i, row in enumerate(rows)])

    @property
    def back(self) -> float:
        """How many letters back it looks, on average over the rows that have anything behind."""
        distances = [
            sum(percent * (i - j) for j, percent in enumerate(row)) / (sum(row) or 1.0)
            for i, row in enumerate(self.rows)
            if i
        ]
        return sum(distances) / len(distances) if distances else 0.0

    def strokes(self) -> str:
        """A path for each shade, in units of cells: runs of cells that share it."""
        paths = [""] * len(PERCENTS)
        for i, row in enumerate(self.rows):
            column = 0
            for shade, run in groupby(sum(percent >= edge for edge in PERCENTS) for percent in row):
                length = len(list(run))
                if shade:
                    paths[shade - 1] += f"M{column} {i}h{length}"
                column += length
        return "".join(f'<path class="p{n}" d="{path}"/>' for n, path in enumerate(paths) if path)


def _few_layers(layers: list[list[_Head]]) -> list[tuple[int, list[_Head]]]:
    """The layers with their numbers from 1: all, or as many as may be drawn, evenly apart."""
    most = max(MOST_HEADS // max((len(heads) for heads in layers), default=1), 2)
    numbered = list(enumerate(layers, 1))
    if len(numbered) <= most:
        return numbered
    return [numbered[round(n * (len(numbered) - 1) / (most - 1))] for n in range(most)]


class _Letters:
    """The letters beside every head's triangle, and where the triangle lies."""

    def __init__(self, parts: Sequence[str]) -> None:
        # A space before a word is left out: it would be most of what is seen.
        self.parts = [shortened(visible(part.strip(" ") or part), LONGEST) for part in parts]
        longest = max(map(text_width, self.parts), default=0.0) * SMALL / 12
        self.left, self.size = longest + GAP, CELL * len(parts)
        self.upright = all(len(part) == 1 for part in self.parts)
        self.width = self.left + self.size + 2
        self.height = self.size + (SMALL if self.upright else longest) + 2 * GAP

    def drawing(self, head: _Head, layer: int, number: int) -> str:
        title = escape(_("head {head}").format(head=number))
        label = _("Layer {layer}, head {head}: looks {distance} letters back on average").format(
            layer=layer, head=number, distance=f"{head.back:.1f}"
        )
        view = f"0 0 {self.width:.0f} {self.height:.0f}"
        at = f"translate({self.left:g} {CELL / 2:g}) scale({CELL:g})"
        return (
            f'<svg viewBox="{view}" role="img" aria-label="{escape(label)}">'
            f'<use href="#looks-letters"/><text x="{self.left + self.size:.0f}" y="{SMALL:g}" '
            f'text-anchor="end">{title}</text><g transform="{at}">{head.strokes()}</g></svg>'
        )

    def shared(self) -> str:
        """What every drawing refers to: the letters and the ground of the triangle."""
        steps = "".join(f"v{CELL:g}h{CELL:g}" for _ in self.parts)
        marks = f'<path class="under" d="M{self.left:g} 0{steps}V{self.size:g}H{self.left:g}z"/>'
        for i, part in enumerate(self.parts):
            middle, label = CELL * (i + 0.5), escape(part)
            x, y = self.left + middle, self.size + GAP
            beside = f'x="{self.left - GAP:g}" y="{middle:g}" dy=".35em" text-anchor="end"'
            below = f'class="letter down" x="{x:g}" y="{y:g}"'
            if self.upright:
                below = f'class="letter" x="{x:g}" y="{y + SMALL * 0.8:g}" text-anchor="middle"'
            marks += f'<text class="letter" {beside}>{label}</text><text {below}>{label}</text>'
        return f'<svg class="shared" aria-hidden="true"><g id="looks-letters">{marks}</g></svg>'


def embedding_figure(found: object) -> str:
    """The map of the likeliest tokens as an HTML figure; empty for what is none.

    Raises what `attention_figure` does.
    """
    if not isinstance(found, Mapping):
        return ""
    tokens = [visible(str(token)) for token in found["tokens"]]
    points = [
        (token, float(x), float(y))
        for token, x, y in zip(tokens, found["x"], found["y"], strict=True)
        if math.isfinite(x) and math.isfinite(y)
    ]
    if not points:
        return ""
    caption = _(
        "The commonest tokens by their embeddings: those that stand together are alike to the "
        "model. The plane (two principal components) shows {shown} of how they differ in {width} "
        "directions."
    ).format(shown=f"{sum(map(float, found['variance'])):.0%}", width=f"{found['width']:,}")
    label = escape(caption)
    drawings = "".join(
        _map(points[:most], width, height, f'class="{kind}" role="img" aria-label="{label}"')
        for kind, width, height, most in MAPS
    )
    kinds = [(name, escape(_(said))) for name, said in KINDS]
    legend = "".join(f'<span class="{name}">{said}</span>' for name, said in kinds)
    return (
        f'<figure class="chart looks"><figcaption>{label}</figcaption>'
        f'<p class="kinds soft">{legend}</p>{drawings}</figure>'
    )


def _map(
    points: Sequence[tuple[str, float, float]], width: int, height: int, attributes: str
) -> str:
    """A drawing of the tokens, the commonest first; one whose name would cover another's is a
    dot. It is as high as it needs to be.
    """
    xs, ys = [x for _, x, _ in points], [y for _, _, y in points]
    # One scale for both axes: distances on paper are distances on the plane.
    wide, high = max(xs) - min(xs) or 1.0, max(ys) - min(ys) or 1.0
    scale = min((width - 60) / wide, (height - 24) / high)
    height = round(scale * high + 24)
    taken: list[tuple[float, float, float]] = []  # the middle of a name, and half its width
    dots, names = "", ""
    for token, x, y in points:
        across = width / 2 + scale * (x - (min(xs) + max(xs)) / 2)
        down = 12 + scale * (max(ys) - y)
        half, kind = text_width(token) / 2 + 1, _kind(token)
        if all(abs(across - x) >= half + w or abs(down - y) >= LABEL for x, y, w in taken):
            taken.append((across, down, half))
            names += f'<text class="{kind}" x="{across:.0f}" y="{down:.0f}">{escape(token)}</text>'
        else:
            at = f'cx="{across:.0f}" cy="{down:.0f}"'
            dots += f'<circle class="{kind}" {at} r="1.6"><title>{escape(token)}</title></circle>'
    view = f'viewBox="0 0 {width} {height}"'
    return f'<svg {attributes} {view}>{dots}<g class="names">{names}</g></svg>'


KINDS = (
    ("hangul", N_("Hangul")),
    ("digit", N_("digits")),
    ("latin", N_("Latin letters")),
    ("sign", N_("signs and spaces")),
)


def _kind(token: str) -> str:
    """Which of KINDS a token is, by its first letter."""
    letter = token.lstrip("␣")[:1]
    called = unicodedata.name(letter, "") if letter else ""
    return next((name for name, _said in KINDS if name.upper() in called), "sign")


def visible(text: str) -> str:
    """A token with its spaces and line ends in sight."""
    return text.translate({ord(" "): "␣", ord("\n"): "↵", ord("\t"): "⇥"})


def _shades() -> Iterator[str]:
    for number, strength in enumerate(STRENGTHS):
        yield f".heads .p{number} {{ stroke-opacity: {strength}; }}\n"
        mixed = f"color-mix(in srgb, var(--c0) {100 * strength:.0f}%, transparent)"
        yield f".looks .legend .p{number} {{ background: {mixed}; }}\n"


LOOKS_STYLE = """
:root { --latin: var(--c2); }
@media (prefers-color-scheme: dark) { :root { --latin: var(--c4); } }
.looks.long { break-inside: auto; }
.looks section { break-inside: avoid; }
.heads { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.8rem, 1fr));
  gap: .6rem 1.2rem; margin: 0 0 1rem; }
.heads svg { display: block; width: 100%; max-width: 14rem; height: auto; }
.chart .heads text { font-size: 9.5px; }
.heads path { fill: none; stroke: var(--c0); stroke-width: 1; shape-rendering: crispEdges; }
.chart .shared { position: absolute; width: 0; height: 0; }
.letter { font-size: 9.5px; fill: var(--soft); }
.down { writing-mode: vertical-rl; }
.under { fill: var(--floor); }
.looks .legend .p5 { color: var(--paper); }
@media (max-width: 34rem) { .looks .legend span { flex-basis: 100%; } }
.looks .names text { text-anchor: middle; dominant-baseline: central; }
.looks .hangul { fill: var(--ink); color: var(--ink); }
.looks .digit { fill: var(--c0); color: var(--c0); }
.looks .latin { fill: var(--latin); color: var(--latin); }
.looks .sign { fill: var(--c1); color: var(--c1); }
.looks circle { opacity: .55; }
.kinds { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; }
""" + "".join(_shades())
