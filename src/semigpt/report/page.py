"""One HTML page a run: how well it went, how it got there, what it writes and what surprises it.

The page is made from the run folder alone, so it can be written again at any time, also for a run that was
killed: what is not there yet is named as such.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semigpt.errors import SemigptError
from semigpt.report.charts import Level, Series, escape, line_chart, page, short_number
from semigpt.run_folder import RunFolder
from semigpt.storage import replace_file

__all__ = ["write_report"]

Row = Mapping[str, Any]

# Keys of `facts()["baselines"]`, the name in the chart, and how the headline puts it.
BASELINES = (
    ("uniform", "uniform", "guessing blindly"),
    ("unigram", "unigram", "counting letters"),
    ("bigram", "bigram", "counting letter pairs"),
    ("xz", "xz", "the compressor xz"),
    ("kneser_ney_5", "5-gram", "a 5\N{NON-BREAKING HYPHEN}gram"),
)
SHOWN_SAMPLES = 12
SHOWN_CHARACTERS = 600  # of a sample
SHOWN_PASSAGES = 4
SHOWN_PIECES = 800  # of a passage
HEAT = (
    0.5,
    1.0,
    2.0,
    3.0,
    5.0,
    7.0,
    10.0,
)  # bits per character: the edges between the shades of surprise


def write_report(run: RunFolder) -> Path:
    """Write `report.html` from what the run folder holds, and return its path.

    Raises CheckpointError if the file cannot be written; parts of the run that are missing raise nothing.
    """
    try:
        config = run.config()
    except (SemigptError, OSError):
        config = {}
    facts = run.metadata()
    metrics, timings, samples = run.rows("metrics"), run.rows("timings"), run.rows("samples")
    evaluations = [row for row in metrics if _number(row, "bits_per_character") is not None]
    best = min(evaluations, key=lambda row: row["bits_per_character"], default=None)
    parts = (
        _headline(run, facts, best, metrics),
        _figures(facts, metrics, timings),
        _curves(facts, metrics, evaluations),
        _samples(samples, evaluations, timings),
        _surprise(facts),
        _settings(config),
        _next_steps(run, config),
    )
    html = page(f"{run.path.name} · semigpt", "\n".join(parts), STYLE)
    replace_file(run.report_file, html.encode("utf-8"))
    return run.report_file


# The parts of the page, in its order


def _headline(run: RunFolder, facts: Row, best: Row | None, metrics: Sequence[Row]) -> str:
    name = f'<p class="soft">semigpt · {escape(run.path.name)}</p>'
    if best is None:
        state = f"{_last(metrics, 'step'):,.0f} steps in" if metrics else "not a step in"
        return (
            f"{name}<h1>This run has not been evaluated yet.</h1>"
            f"<p>It is {state}. Go on with it, and this page fills itself at the end.</p>"
        )
    own = best["bits_per_character"]
    error = _standard_error(best)
    measured = (
        f" (±\N{NO-BREAK SPACE}{error:.2f}, the standard error)"
        if error is not None and error >= 0.005
        else ""
    )
    sentences = [
        f"At each character it is as unsure as if it guessed among {_choices(own)}{measured}."
    ]
    baselines = _part(facts, "baselines")
    known = [
        (value, phrase)
        for key, _, phrase in BASELINES
        if (value := _number(baselines, key)) is not None
    ]
    if known:
        (value, phrase), *others = sorted(known, reverse=True)
        clauses = [
            f"{phrase} needs {value:.2f}",
            *(f"{phrase} {value:.2f}" for value, phrase in others),
        ]
        sentences.append(f"{', '.join(clauses)}.".capitalize())
    if (source := _number(facts, "source_entropy")) is not None:
        sentences.append(f"The text itself holds {source:.2f}, and no model can need less.")
    headline = (
        f"This model needs <strong>{own:.2f} bits per character</strong> on text it has not seen."
    )
    return f"{name}<h1>{headline}</h1><p>{escape(' '.join(sentences))}</p>"


def _figures(facts: Row, metrics: Sequence[Row], timings: Sequence[Row]) -> str:
    corpus, tokenizer = _part(facts, "corpus"), _part(facts, "tokenizer")
    seconds, tokens_seen = _last(timings, "seconds"), _last(metrics, "tokens_seen")
    ratio = _number(facts, "tokens_per_character")
    cells = []
    if (parameters := _number(facts, "parameters")) is not None:
        cells.append((_counted(parameters), "parameters"))
    if (characters := _number(corpus, "characters")) is not None:
        documents = _number(corpus, "documents")
        of = f", {documents:,.0f} documents" if documents is not None else ""
        cells.append((_counted(characters), f"characters of {corpus.get('spec', 'text')}{of}"))
    if (vocab_size := _number(tokenizer, "vocab_size")) is not None:
        cells.append(
            (
                f"{vocab_size:,.0f}",
                f"tokens in the vocabulary ({tokenizer.get('kind', 'tokenizer')})",
            )
        )
    if metrics:
        cells.append((f"{_last(metrics, 'step'):,.0f}", "steps"))
    if seconds:
        cells.append((_duration(seconds), "of training"))
    if seconds and tokens_seen and ratio:
        cells.append((_counted(tokens_seen / ratio / seconds), "characters per second"))
    divs = (
        f"<div><dt>{escape(figure)}</dt><dd>{escape(what)}</dd></div>" for figure, what in cells
    )
    return f'<dl class="figures">{"".join(divs)}</dl>'


def _curves(facts: Row, metrics: Sequence[Row], evaluations: Sequence[Row]) -> str:
    baselines, source = _part(facts, "baselines"), _number(facts, "source_entropy")
    ratio = _number(facts, "tokens_per_character")
    levels = [
        Level(label, value)
        for key, label, _ in BASELINES
        if (value := _number(baselines, key)) is not None
    ]
    if source is not None:
        levels.append(Level("the source", source, floor=True))
    curves = [Series("model", _points(evaluations, "bits_per_character"))]
    if ratio is not None:
        scale = ratio / math.log(2)  # nats per token → bits per character
        curves.append(
            Series("training", [(x, y * scale) for x, y in _points(metrics, "loss")], faint=True)
        )
    # The first loss is far above all that matters later: cut it off at the best of these that is passed.
    passed = [
        value
        for key in ("bigram", "unigram")
        if (value := _number(baselines, key)) is not None
        and evaluations
        and evaluations[-1]["bits_per_character"] < value
    ]
    note = "Held-out text after each stage of training"
    note += ", and the batches learnt from (faint)." if len(curves) > 1 else "."
    parts = ["<h2>Learning</h2>"]
    parts.append(
        line_chart(
            curves,
            title=f"{note} Lower is better.",
            x_label="steps",
            y_label="bits per character",
            levels=levels,
            y_max=passed[0] * 1.1 if passed else None,
        )
        if evaluations or metrics
        else '<p class="missing">No curve yet: the log of this run is empty.</p>'
    )
    rates, norms = _points(metrics, "learning_rate"), _points(metrics, "gradient_norm")
    if rates or norms:
        pair = [
            line_chart([Series("", points)], title=title, x_label="steps", y_label="", small=True)
            for points, title in ((rates, "Learning rate"), (norms, "Gradient norm"))
            if len(points) > 1
        ]
        parts.append(f'<div class="pair">{"".join(pair)}</div>')
    return "".join(parts)


def _samples(samples: Sequence[Row], evaluations: Sequence[Row], timings: Sequence[Row]) -> str:
    parts = ["<h2>What it writes</h2>"]
    if not samples:
        return f'{parts[0]}<p class="missing">No sample yet: one is written at each evaluation.</p>'
    measured = {row.get("step"): row["bits_per_character"] for row in evaluations}
    clock = {row.get("step"): _number(row, "seconds") for row in timings}
    parts.append('<p class="soft">From its first moment to its last.</p>')
    for row in _evenly(samples, SHOWN_SAMPLES):
        step, prompt, text = row.get("step"), str(row.get("prompt", "")), str(row.get("text", ""))
        facts = [f"step {step:,}" if isinstance(step, int) else "a sample"]
        if step in measured:
            facts.append(f"{measured[step]:.2f} bits")
        if seconds := clock.get(step):
            facts.append(_duration(seconds))
        if len(text) > SHOWN_CHARACTERS:
            text = f"{text[:SHOWN_CHARACTERS]}…"
        begin = f"<b>{escape(prompt)}</b>" if prompt else ""
        parts.append(
            f'<section class="sample"><h3>{"".join(f"<span>{escape(fact)}</span>" for fact in facts)}</h3>'
            f'<p lang="ko">{begin}{escape(text)}</p></section>'
        )
    return "".join(parts)


def _surprise(facts: Row) -> str:
    title = "<h2>What surprises it</h2>"
    passages = facts.get("surprise") or []
    if not passages:
        return f'{title}<p class="missing">Not measured yet: it is when a run ends.</p>'
    edges = ("0", *(f"{edge:g}" for edge in HEAT))
    legend = "".join(f'<i class="s{shade}">{edge}</i>' for shade, edge in enumerate(edges))
    parts = [
        f'{title}<p class="soft">Text it has not seen: the stronger its colour, the more bits per character '
        "cost. One bit is a chance of 1 in 2, three bits 1 in 8, ten bits 1 in 1,000.</p>"
        f'<p class="legend soft"><span>bits, from</span>{legend}</p>'
    ]
    for passage in passages[:SHOWN_PASSAGES]:
        pieces = [(str(piece), float(cost)) for piece, cost in passage if piece]
        characters = sum(len(piece) for piece, _ in pieces)
        if not characters:
            continue
        shaded = "".join(_shaded(piece, cost) for piece, cost in pieces[:SHOWN_PIECES])
        more = "…" if len(pieces) > SHOWN_PIECES else ""
        average = sum(cost for _, cost in pieces) / characters
        parts.append(
            f'<section class="sample"><h3>{average:.2f} bits per character</h3>'
            f'<p lang="ko" class="passage">{shaded}{more}</p></section>'
        )
    return "".join(parts)


def _shaded(piece: str, cost: float) -> str:
    """A piece of text, its background by the bits per character it cost."""
    shade = sum(cost / len(piece) >= edge for edge in HEAT)
    shown = escape(piece).replace("\n", "↵\n")  # a line's end costs bits too: show where
    return f'<i class="s{shade}" title="{short_number(cost)} bits">{shown}</i>'


def _settings(config: Row) -> str:
    if not config:
        return '<h2>Settings</h2><p class="missing">No config.toml to read.</p>'
    tables = []
    for name, table in config.items():
        values = table if isinstance(table, Mapping) else {name: table}
        rows = "".join(
            f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>"
            for key, value in values.items()
        )
        tables.append(f"<section><h3>{escape(name)}</h3><table>{rows}</table></section>")
    return f'<h2>Settings</h2><div class="settings">{"".join(tables)}</div>'


def _next_steps(run: RunFolder, config: Row) -> str:
    prompt = str(_part(config, "sample").get("prompt") or "오늘")
    path = shlex.quote(str(run.path))
    model = shlex.quote(str(run.model_folder))
    lines = (
        ("write with it", f"semigpt generate {path} {shlex.quote(prompt)}"),
        ("measure it on the test split", f"semigpt evaluate {path} --split test"),
        ("go on with a run that was stopped", f"semigpt train --resume {path}"),
        ("use it anywhere: the folder is a Hugging Face model", model),
    )
    commands = "\n".join(
        f'<span class="soft"># {why}</span>\n{escape(what)}' for why, what in lines
    )
    return f'<h2>Go on</h2><pre lang="ko">{commands}</pre>'


# Reading rows that may lack anything


def _part(table: Row, key: str) -> Row:
    part = table.get(key)
    return part if isinstance(part, Mapping) else {}


def _number(row: Row, key: str) -> float | None:
    value = row.get(key)
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _points(rows: Sequence[Row], key: str) -> list[tuple[float, float]]:
    """(step, value) of the rows that have both."""
    pairs = ((_number(row, "step"), _number(row, key)) for row in rows)
    return [(step, value) for step, value in pairs if step is not None and value is not None]


def _last(rows: Sequence[Row], key: str) -> float:
    """The value in the last row that has one, or 0."""
    return next((value for row in reversed(rows) if (value := _number(row, key)) is not None), 0)


def _standard_error(evaluation: Row) -> float | None:
    """The standard error of an evaluation, in bits per character."""
    loss, error = _number(evaluation, "val_loss"), _number(evaluation, "val_loss_se")
    return error * evaluation["bits_per_character"] / loss if loss and error is not None else None


def _evenly(rows: Sequence[Row], most: int) -> list[Row]:
    """At most `most` rows, evenly apart, the first and the last among them."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(index * (len(rows) - 1) / (most - 1))] for index in range(most)]


# Figures for people


def _choices(bits: float) -> str:
    """2^bits, the number of equally likely characters that leave one as unsure."""
    choices = 2**bits
    return (
        f"{choices:.1f} equally likely ones"
        if choices < 10
        else f"{choices:,.0f} equally likely ones"
    )


def _counted(count: float) -> str:
    """38,300 or 4.31 million."""
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if count >= unit:
            return f"{count / unit:.2f} {name}"
    return f"{count:,.0f}" if count < 1e4 else f"{round(count, -2):,.0f}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes} min {rest:02d} s"
        if minutes < 60
        else f"{minutes // 60} h {minutes % 60:02d} min"
    )


STYLE = """
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 1rem 1.5rem;
  margin: 1.8rem 0 0; }
.figures dt { font-size: 1.25rem; font-variant-numeric: tabular-nums; letter-spacing: -.01em; }
.figures dd { margin: 0; color: var(--soft); font-size: .82rem; line-height: 1.35; overflow-wrap: anywhere; }
.sample { display: grid; grid-template-columns: 7.5rem 1fr; gap: .2rem 1.25rem; padding: .9rem 0;
  border-top: 1px solid var(--rule); }
.sample h3 { line-height: 1.5; padding-top: .15rem; font-variant-numeric: tabular-nums; }
.sample h3 span { display: block; }
.sample p { margin: 0; line-height: 1.75; min-width: 0; }
.sample b { font-weight: 650; }
@media (max-width: 34rem) { .sample { grid-template-columns: 1fr; } .sample h3 span { display: inline; }
  .sample h3 span + span::before { content: " · "; } }
.passage { line-height: 2; }
.passage i, .legend i { font-style: normal; padding: .14em 0; }
.legend { display: flex; flex-wrap: wrap; align-items: center; gap: 0; margin: .8rem 0 1.2rem; }
.legend span { margin-right: .8rem; }
.legend i { min-width: 2.4rem; text-align: center; color: var(--ink); font-variant-numeric: tabular-nums; }
.settings { columns: 17rem 2; column-gap: 2.5rem; }
.settings section { break-inside: avoid; padding: .8rem 0 .4rem; }
.settings table { width: 100%; table-layout: fixed; }
""" + "".join(
    f".s{shade} {{ background: rgba(var(--heat), {alpha}); }}\n"
    for shade, alpha in enumerate((0, 0.08, 0.16, 0.26, 0.37, 0.49, 0.62, 0.78))
)
