"""A run's HTML page: its bits per character, its curves, what it writes and what surprises it.

The page is made from the run folder alone, so it can be written again at any time, for a run that
was killed too: what is missing is named.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semigpt.errors import SemigptError
from semigpt.evaluation.information import BASELINE_NAMES
from semigpt.html import escape
from semigpt.language import N_, _, language
from semigpt.report.charts import Level, Series, line_chart
from semigpt.report.document import page
from semigpt.report.layout import short_number
from semigpt.report.looks import LOOKS_STYLE, attention_figure, embedding_figure
from semigpt.run_folder import RunFolder
from semigpt.storage import replace_file

__all__ = ["heading", "readable_bits", "write_report"]

Row = Mapping[str, Any]

# The baselines' names in a chart, by their keys in metadata.json.
LEVEL_NAMES = {
    "uniform": N_("uniform"),
    "unigram": N_("unigram"),
    "bigram": N_("bigram"),
    "xz": N_("xz"),
    "kneser_ney_5": N_("5-gram"),
}
SHOWN_SAMPLES = 12
SHOWN_CHARACTERS = 600  # of a sample
SHOWN_PASSAGES = 4
SHOWN_PARTS = 800  # of a passage
# Bits per character: the edges between the shades of surprise.
SHADES = (0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0)


def write_report(run: RunFolder, *, complete: bool | None = None) -> Path:
    """Write `report.html` from what the run folder holds, and return its path.

    `complete` is whether the run is finished; by default what its metadata.json says. Raises
    CheckpointError if the file cannot be written; parts of the run that are missing raise nothing.
    """
    try:
        config = run.config()
    except (SemigptError, OSError):
        config = {}
    metadata = run.metadata()
    if complete is None:
        complete = bool(metadata.get("complete"))
    metrics, timings, samples = run.rows("metrics"), run.rows("timings"), run.rows("samples")
    evaluations = [row for row in metrics if _number(row, "bits_per_character") is not None]
    best = min(evaluations, key=lambda row: row["bits_per_character"], default=None)
    parts = (
        _headline(run, metadata, best, metrics),
        _figures(metadata, metrics, timings),
        _curves(metadata, metrics, evaluations),
        _legs(config),
        _samples(samples, evaluations, timings),
        _surprise(metadata),
        _inside(metadata),
        _settings(config),
        _next_steps(run, config, complete=complete),
    )
    html = page(
        f"{run.path.name} · semigpt", "\n".join(parts), STYLE + LOOKS_STYLE, lang=language()
    )
    run.check_held()
    replace_file(run.report_file, html.encode("utf-8"))
    return run.report_file


# The parts of the page, in its order


def _headline(run: RunFolder, metadata: Row, best: Row | None, metrics: Sequence[Row]) -> str:
    name = f'<p class="soft">semigpt · {escape(run.path.name)}</p>'
    if best is None:
        state = _("It has made no step.")
        if metrics:
            state = _("It has made {steps:,.0f} steps.").format(steps=_last(metrics, "step"))
        title = _("This run has not been evaluated yet.")
        again = _("Resume it, and this page is written again at the end.")
        return f"{name}<h1>{escape(title)}</h1><p>{escape(state)} {escape(again)}</p>"
    own = best["bits_per_character"]
    error = _standard_error(best)
    sentences = [
        _("At each character it is as uncertain as a fair choice among {choices}.").format(
            choices=_choices(own)
        )
    ]
    if error is not None and error >= 0.005:
        sentences.append(_("The standard error is {error:.2f} bits.").format(error=error))
    measured = sorted(_baselines(metadata, BASELINE_NAMES), key=lambda pair: -pair[1])
    if measured:
        named = ", ".join(f"{name} {value:.2f}" for name, value in measured)
        sentences.append(_("The baselines need: {named}.").format(named=named))
    if (source := _number(metadata, "source_entropy")) is not None:
        sentences.append(
            _("The source itself needs {source:.2f}: no model can be below.").format(source=source)
        )
    if (expected := _number(_part(metadata, "forecast"), "expected")) is not None:
        sentences.append(
            _("Before training it was expected to need {expected:.2f}.").format(expected=expected)
        )
    bits = _("{bits:.2f} bits per character").format(bits=own)
    headline = escape(_("This model needs {bits} on text it has not seen.")).format(
        bits=f"<strong>{escape(bits)}</strong>"
    )
    how = _(
        "Measured on blocks of the validation split that begin without a context. "
        "`semigpt evaluate` measures the whole test split, each token behind half a context at "
        "least, so that its figure is another one, as a rule a little lower."
    )
    return (
        f"{name}<h1>{headline}</h1><p>{escape(' '.join(sentences))}</p>"
        f'<p class="soft">{escape(how)}</p>'
    )


def _figures(metadata: Row, metrics: Sequence[Row], timings: Sequence[Row]) -> str:
    corpus, tokenizer = _part(metadata, "corpus"), _part(metadata, "tokenizer")
    seconds, tokens_seen = _last(timings, "seconds"), _last(metrics, "tokens_seen")
    ratio = _number(metadata, "tokens_per_character")
    cells = []
    if (parameters := _number(metadata, "parameters")) is not None:
        cells.append((_counted(parameters), _("parameters")))
    if (characters := _number(corpus, "characters")) is not None:
        what = _("characters of {spec}").format(spec=corpus.get("spec", "text"))
        if (documents := _number(corpus, "documents")) is not None:
            what = _("{what}, {documents:,.0f} documents").format(what=what, documents=documents)
        cells.append((_counted(characters), what))
    if (vocab_size := _number(tokenizer, "vocab_size")) is not None:
        what = _("tokens in the vocabulary ({kind})").format(
            kind=tokenizer.get("kind", "tokenizer")
        )
        cells.append((f"{vocab_size:,.0f}", what))
    if metrics:
        cells.append((f"{_last(metrics, 'step'):,.0f}", _("steps")))
    if seconds:
        cells.append((_duration(seconds), _("of training")))
    if seconds and tokens_seen and ratio:
        cells.append((_counted(tokens_seen / ratio / seconds), _("characters per second")))
    divs = (
        f"<div><dt>{escape(figure)}</dt><dd>{escape(what)}</dd></div>" for figure, what in cells
    )
    return f'<dl class="figures">{"".join(divs)}</dl>'


def _curves(metadata: Row, metrics: Sequence[Row], evaluations: Sequence[Row]) -> str:
    levels = [Level(name, value) for name, value in _baselines(metadata, LEVEL_NAMES)]
    if (source := _number(metadata, "source_entropy")) is not None:
        levels.append(Level(_("the source itself"), source, floor=True))
    curves = [Series(_("model"), _points(evaluations, "bits_per_character"))]
    if (ratio := _number(metadata, "tokens_per_character")) is not None:
        scale = ratio / math.log(2)  # nats per token → bits per character
        curves.append(
            Series(_("training"), [(x, y * scale) for x, y in _points(metrics, "loss")], faint=True)
        )
    caption = _("Held-out text at each evaluation. Lower is better.")
    if len(curves) > 1:
        caption = _(
            "Held-out text at each evaluation, and the training batches (faint). Lower is better."
        )
    parts = [heading(_("Learning"))]
    parts.append(
        line_chart(
            curves,
            title=caption,
            x_label=_("steps"),
            y_label=_("bits per character"),
            levels=levels,
            y_max=_cut(metadata, evaluations),
        )
        if evaluations or metrics
        else _missing(_("No curve yet: the log of this run is empty."))
    )
    rates, norms = _points(metrics, "learning_rate"), _points(metrics, "gradient_norm")
    if rates or norms:
        pair = [
            line_chart(
                [Series("", points)], title=title, x_label=_("steps"), y_label="", small=True
            )
            for points, title in ((rates, _("Learning rate")), (norms, _("Gradient norm")))
            if len(points) > 1
        ]
        parts.append(f'<div class="pair">{"".join(pair)}</div>')
    return "".join(parts)


def _legs(config: Row) -> str:
    """Where the last leg begins, of a run that was trained further."""
    leg = _part(config, "leg")
    number, step = _number(leg, "number"), _number(leg, "step")
    if number is None or step is None:
        return ""
    text = _(
        "Trained in {legs:.0f} legs: the rates climb again at step {step:,.0f}, where the last "
        "begins. The settings below are its own; those of the earlier ones are in legs/."
    ).format(legs=number, step=step)
    return _soft(text)


def _cut(metadata: Row, evaluations: Sequence[Row]) -> float | None:
    """Where the chart is cut off: the first losses are far above all that matters later.

    Somewhat above the lower of bigram and unigram that the model is below by now; None where it is
    below neither.
    """
    if not evaluations:
        return None
    now = evaluations[-1]["bits_per_character"]
    measured = _part(metadata, "baselines")
    for value in (_number(measured, "bigram"), _number(measured, "unigram")):
        if value is not None and now < value:
            return value * 1.1
    return None


def _samples(samples: Sequence[Row], evaluations: Sequence[Row], timings: Sequence[Row]) -> str:
    parts = [heading(_("What it writes"))]
    if not samples:
        return parts[0] + _missing(_("No sample yet: one is written at each evaluation."))
    measured = {row.get("step"): row["bits_per_character"] for row in evaluations}
    clock = {row.get("step"): _number(row, "seconds") for row in timings}
    parts.append(_soft(_("From the first evaluation to the last.")))
    for row in _evenly(samples, SHOWN_SAMPLES):
        step, prompt, text = row.get("step"), str(row.get("prompt", "")), str(row.get("text", ""))
        labels = [_("step {step:,}").format(step=step) if isinstance(step, int) else _("a sample")]
        if step in measured:
            labels.append(readable_bits(measured[step]))
        if seconds := clock.get(step):
            labels.append(_duration(seconds))
        if len(text) > SHOWN_CHARACTERS:
            text = f"{text[:SHOWN_CHARACTERS]}…"
        begin = f"<b>{escape(prompt)}</b>" if prompt else ""
        head = "".join(f"<span>{escape(label)}</span>" for label in labels)
        parts.append(
            f'<section class="sample"><h3>{head}</h3>'
            f'<p lang="ko">{begin}{escape(text)}</p></section>'
        )
    return "".join(parts)


def _surprise(metadata: Row) -> str:
    title = heading(_("What surprises it"))
    passages = metadata.get("surprisal") or []
    if not passages:
        return title + _missing(_("Not measured yet: it is when a run ends."))
    edges = ("0", *(f"{edge:g}" for edge in SHADES))
    legend = "".join(f'<i class="s{shade}">{edge}</i>' for shade, edge in enumerate(edges))
    scale = _(
        "Text the model has not seen. The stronger the colour, the more bits per character: one "
        "bit is a chance of 1 in 2, three bits 1 in 8, ten bits 1 in 1,000."
    )
    unit = _("bits per character, from")
    parts = [f'{title}{_soft(scale)}<p class="legend soft"><span>{escape(unit)}</span>{legend}</p>']
    for passage in passages[:SHOWN_PASSAGES]:
        parts_of_text = [(str(part), float(bits)) for part, bits in passage if part]
        characters = sum(len(part) for part, _bits in parts_of_text)
        if not characters:
            continue
        shaded = "".join(_shaded(part, bits) for part, bits in parts_of_text[:SHOWN_PARTS])
        more = "…" if len(parts_of_text) > SHOWN_PARTS else ""
        average = _("{bits:.2f} bits per character").format(
            bits=sum(bits for _text, bits in parts_of_text) / characters
        )
        parts.append(
            f'<section class="sample"><h3>{escape(average)}</h3>'
            f'<p lang="ko" class="passage">{shaded}{more}</p></section>'
        )
    return "".join(parts)


def _shaded(text: str, bits: float) -> str:
    """A part of a passage, its background by the bits per character that it needs."""
    shade = sum(bits / len(text) >= edge for edge in SHADES)
    shown = escape(text).replace("\n", "↵\n")  # the end of a line needs bits too: show where
    title = escape(_("{bits} bits").format(bits=short_number(bits)))
    return f'<i class="s{shade}" title="{title}">{shown}</i>'


def _inside(metadata: Row) -> str:
    """Where the model looks and how its tokens lie."""
    looks = (
        ("attention", _("Where it looks"), attention_figure, _("It has no heads that look back.")),
        (
            "embeddings",
            _("How it arranges its tokens"),
            embedding_figure,
            _("It has too few tokens for a map."),
        ),
    )
    parts = []
    for key, title, figure, lacking in looks:
        try:
            drawn = figure(metadata.get(key))
        except (TypeError, ValueError, LookupError, AttributeError):
            drawn = ""
        if not drawn:
            unknown = _("Not measured yet: it is when a run ends.")
            drawn = _missing(lacking if key in metadata else unknown)
        parts.append(heading(title) + drawn)
    return "".join(parts)


def _settings(config: Row) -> str:
    title = heading(_("Settings"))
    if not config:
        return title + _missing(_("No config.toml to read."))
    tables = []
    for name, table in config.items():
        values = table if isinstance(table, Mapping) else {name: table}
        rows = "".join(
            f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>"
            for key, value in values.items()
        )
        tables.append(f"<section><h3>{escape(name)}</h3><table>{rows}</table></section>")
    return f'{title}<div class="settings">{"".join(tables)}</div>'


def _next_steps(run: RunFolder, config: Row, *, complete: bool) -> str:
    prompt = str(_part(config, "sample").get("prompt") or "오늘")
    path = shlex.quote(str(run.path))
    model = shlex.quote(str(run.model_folder))
    lines = [
        (_("write with it"), f"semigpt generate {path} {shlex.quote(prompt)}"),
        (_("measure it on the test split"), f"semigpt evaluate {path} --split test"),
        (_("use it anywhere: the folder is a Hugging Face model"), model),
    ]
    if not complete:
        resumed = _("resume this run, which was stopped")
        lines.insert(0, (resumed, f"semigpt train --resume {path}"))
    commands = "\n".join(
        f'<span class="soft"># {escape(why)}</span>\n{escape(what)}' for why, what in lines
    )
    return heading(_("Use it")) + f'<pre lang="ko">{commands}</pre>'


def heading(text: str) -> str:
    """A heading within a page."""
    return f"<h2>{escape(text)}</h2>"


def _soft(text: str) -> str:
    return f'<p class="soft">{escape(text)}</p>'


def _missing(text: str) -> str:
    return f'<p class="missing">{escape(text)}</p>'


# Reading rows that may lack anything


def _part(table: Row, key: str) -> Row:
    part = table.get(key)
    return part if isinstance(part, Mapping) else {}


def _number(row: Row, key: str) -> float | None:
    value = row.get(key)
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _baselines(metadata: Row, names: Mapping[str, str]) -> list[tuple[str, float]]:
    """(name, bits per character) of the baselines that were measured, in the order of `names`."""
    found = _part(metadata, "baselines")
    return [
        (_(name), value)
        for key, name in names.items()
        if (value := _number(found, key)) is not None
    ]


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
    """2^bits: the number of equally likely characters with that entropy."""
    choices = 2**bits
    return f"{choices:.1f}" if choices < 10 else f"{choices:,.0f}"


def _counted(count: float) -> str:
    """38,300 or 4.31 million; in Korean 431만."""
    if language() == "ko":
        for unit, name in ((1e8, "억"), (1e4, "만")):
            if count >= unit:
                return f"{short_number(count / unit)}{name}"
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if count >= unit:
            return f"{count / unit:.2f} {name}"
    return f"{count:,.0f}" if count < 1e4 else f"{round(count, -2):,.0f}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return _("{seconds:.0f} s").format(seconds=seconds)
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return _("{minutes} min {seconds:02d} s").format(minutes=minutes, seconds=rest)
    hours, minutes = divmod(minutes, 60)
    return _("{hours} h {minutes:02d} min").format(hours=hours, minutes=minutes)


def readable_bits(bits: float) -> str:
    """Bits per character beside a sample, where the unit is known: 1.32 bits."""
    return _("{bits:.2f} bits").format(bits=bits)


STYLE = """
:root { --heat: 222, 92, 24; }
@media (prefers-color-scheme: dark) { :root { --heat: 232, 104, 40; } }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr));
  gap: 1rem 1.5rem; margin: 1.8rem 0 0; }
.figures dt { font-size: 1.25rem; font-variant-numeric: tabular-nums; letter-spacing: -.01em; }
.figures dd { margin: 0; color: var(--soft); font-size: .82rem; line-height: 1.35;
  overflow-wrap: anywhere; }
.sample { display: grid; grid-template-columns: 7.5rem 1fr; gap: .2rem 1.25rem; padding: .9rem 0;
  border-top: 1px solid var(--rule); }
.sample h3 { line-height: 1.5; padding-top: .15rem; font-variant-numeric: tabular-nums; }
.sample h3 span { display: block; }
.sample p { margin: 0; line-height: 1.75; min-width: 0; }
.sample b { font-weight: 650; }
@media (max-width: 34rem) { .sample { grid-template-columns: 1fr; }
  .sample h3 span { display: inline; }
  .sample h3 span + span::before { content: " · "; } }
.passage { line-height: 2; }
.passage i, .legend i { font-style: normal; padding: .14em 0; print-color-adjust: exact;
  -webkit-print-color-adjust: exact; }
.legend { display: flex; flex-wrap: wrap; align-items: center; gap: 0; margin: .8rem 0 1.2rem; }
.legend span { margin-right: .8rem; }
.legend i { min-width: 2.4rem; text-align: center; color: var(--ink);
  font-variant-numeric: tabular-nums; }
.settings { columns: 17rem 2; column-gap: 2.5rem; }
.settings section { break-inside: avoid; padding: .8rem 0 .4rem; }
.settings table { width: 100%; table-layout: fixed; }
""" + "".join(
    f".s{shade} {{ background: rgba(var(--heat), {alpha}); }}\n"
    for shade, alpha in enumerate((0, 0.08, 0.16, 0.26, 0.37, 0.49, 0.62, 0.78))
)
