"""`semigpt ladder`: every rung on the same text, side by side: what each idea buys.

Each rung is an ordinary run in `FOLDER/RUNG/`, trained by `recipe.train`: it can be looked at,
resumed, generated from and evaluated like any other. The table, the page and `ladder.json` are made
from those folders alone.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

from semigpt.config import Recipe
from semigpt.errors import CheckpointError, SemigptError, SettingsError
from semigpt.export.page_file import LARGEST, PAGE_FILE, Exhibit, check, exhibit, write_page
from semigpt.html import escape
from semigpt.huggingface.open import open_run
from semigpt.language import N_, _, language, ngettext
from semigpt.models import LADDER, model_class
from semigpt.recipe import Event, train
from semigpt.report.charts import Level, Series, line_chart
from semigpt.report.document import page
from semigpt.report.page import heading, readable_bits
from semigpt.run_events import Finished
from semigpt.run_folder import RunFolder
from semigpt.settings import check_choice, check_positive
from semigpt.storage import replace_file

__all__ = [
    "LadderSettings",
    "Reached",
    "Row",
    "Rung",
    "climb",
    "rung_recipe",
    "too_short",
    "write_models",
]

# Baselines in the charts, by their keys in metadata.json.
BASELINES = {"unigram": N_("unigram"), "bigram": N_("counted pairs"), "kneser_ney_5": N_("5-gram")}


@dataclass(frozen=True, kw_only=True)
class LadderSettings:
    """Which rungs, on what, and how long each: `steps` alike for all, or `minutes`, each with its
    own good settings.

    `book` sets the book's batch of 32 blocks of 8, its learning rate of 1e-2, torch.optim.AdamW's
    own defaults, and an evaluation every 300 steps. `data`, `machine` and `sample` are tables of a
    recipe.
    """

    rungs: tuple[str, ...] = tuple(LADDER)
    steps: int | None = None
    minutes: float | None = None
    book: bool = False
    seed: int = 0
    data: Mapping[str, Any]
    machine: Mapping[str, Any]
    sample: Mapping[str, Any]

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise SettingsError(_("say how long each rung trains with --steps or --minutes"))
        check_positive(self, "steps", "minutes")
        if not self.rungs:
            raise SettingsError(
                _("no rung to train; name some of {ladder} with --rungs").format(
                    ladder=", ".join(LADDER)
                )
            )
        for rung in self.rungs:
            check_choice("rung", rung, LADDER)
        if len(set(self.rungs)) != len(self.rungs):
            raise SettingsError(
                _("a rung is named twice: {rungs}").format(rungs=", ".join(self.rungs))
            )


def rung_recipe(settings: LadderSettings, rung: str) -> Recipe:
    """The recipe of one rung."""
    length = {"steps": settings.steps, "minutes": settings.minutes}
    training: dict[str, Any] = {
        "seed": settings.seed,
        **{k: v for k, v in length.items() if v is not None},
    }
    model: dict[str, Any] = {"kind": rung}
    optimizer: dict[str, Any] = {}
    if settings.book:
        # 4,096 blocks of 8 are 33,000 characters: a standard error of some 0.015 nats, where the
        # book's rungs lie 0.05 apart. No teacher: what the shape alone buys.
        training |= {"batch_size": 32, "order": "random", "eval_every": 300, "eval_blocks": 4096}
        training |= {"teacher": "none"}
        model |= model_class(rung).book
        optimizer = {
            "optimizer": "adamw",
            "learning_rate": 1e-2,
            "embedding_rate": 1.0,
            "betas": [0.9, 0.999],
            "weight_decay": 0.01,
            "decayed": "all",
            "schedule": "constant",
            "warmup": 0.0,
            "clip": 0.0,
        }
    tables: dict[str, Mapping[str, Any]] = {
        "data": settings.data,
        # Characters for all: rungs are compared, and the book's losses are nats per character.
        "tokenizer": {"kind": "char"},
        "model": model,
        "training": training,
        "optimizer": optimizer,
        "machine": settings.machine,
        "sample": settings.sample,
    }
    return Recipe.from_tables(tables, _("the ladder's settings"))


@dataclass(frozen=True)
class Row:
    """One rung, as it ended: an entry of `ladder.json`."""

    rung: str
    adds: str
    parameters: int
    val_loss: float  # nats per token, on the fixed validation blocks, at the run's best evaluation
    val_loss_se: float
    bits_per_character: float
    characters_per_second: float  # while training: evaluations and saving left out
    seconds: float  # of the run's clock, all of it
    steps: int
    sample: str
    book_val_loss: float | None  # the book's own, on its own corpus, after 49,800 steps


@dataclass(frozen=True)
class Rung:
    """Something happened on the way to a rung."""

    rung: str
    event: Event


@dataclass(frozen=True)
class Reached:
    """A rung is trained, by now or already."""

    row: Row
    trained: bool  # now


Climb: TypeAlias = Rung | Reached


def climb(
    settings: LadderSettings,
    folder: Path,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Climb]:
    """Train rung after rung in `folder`, writing the table and the page again after each.

    A rung that is finished with the same settings is not trained again, one that is not is resumed.
    `stop` ends the climb as it ends a run: saved, to be resumed by the same command. Raises what
    `recipe.train` raises.
    """
    recipes = {rung: rung_recipe(settings, rung) for rung in settings.rungs}
    rows: list[Row] = []
    for rung, recipe in recipes.items():
        path = folder / rung
        done = finished(path, recipe)
        if not done:
            for event in train(recipe, path, stop=stop):
                yield Rung(rung, event)
                if isinstance(event, Finished) and not event.complete:
                    return
        rows.append(rung_row(RunFolder.open(path)))
        write_ladder(folder, settings, rows)
        yield Reached(rows[-1], trained=not done)
        if stop():
            return


def finished(path: Path, recipe: Recipe) -> bool:
    """Whether this very run lies there, complete; SettingsError if it is another one."""
    if not (path / "config.toml").is_file():
        return False
    run = RunFolder.open(path)
    recipe.resumed_from(Recipe.from_tables(run.config()), path)
    return run.complete


def rung_row(run: RunFolder) -> Row:
    """What a finished run folder says of itself; CheckpointError where its logs are gone."""
    metadata = run.metadata()
    metrics, timings = run.rows("metrics"), run.rows("timings")
    evaluations = [row for row in metrics if "val_loss" in row]
    if not (evaluations and timings and metadata):
        raise CheckpointError(
            _("{path} has no evaluation in its logs; delete it and climb again").format(
                path=run.path
            )
        )
    best = min(evaluations, key=lambda row: row["val_loss"])
    last = timings[-1]
    samples = {row["step"]: row["prompt"] + row["text"] for row in run.rows("samples")}
    kind = run.config()["model"]["kind"]
    rung = model_class(kind)
    seconds_per_step = step_seconds(timings)
    tokens_per_step = max(row["tokens_seen"] for row in metrics) / max(last["step"], 1)
    return Row(
        rung=kind,
        adds=rung.description,
        parameters=metadata["parameters"],
        val_loss=best["val_loss"],
        val_loss_se=best["val_loss_se"],
        bits_per_character=best["bits_per_character"],
        characters_per_second=tokens_per_step / seconds_per_step / metadata["tokens_per_character"]
        if seconds_per_step
        else 0.0,
        seconds=last["seconds"],
        steps=last["step"],
        sample=samples.get(best["step"], ""),
        book_val_loss=rung.book_loss,
    )


def too_short(settings: LadderSettings, rows: Sequence[Row]) -> str | None:
    """That rungs end above the one below them, and how long to climb instead; None where each is
    better than the last.

    A larger model learns more from a step and makes fewer of them, so a climb that is too short,
    or on a busy machine, ranks them the wrong way round.
    """
    above = [
        _("{higher} above {lower}").format(higher=after.rung, lower=before.rung)
        for before, after in pairwise(rows)
        if after.bits_per_character > before.bits_per_character
    ]
    if not above:
        return None
    length = (
        f"--steps {2 * settings.steps}"
        if settings.steps is not None
        else f"--minutes {2 * (settings.minutes or 1):g}"
    )
    return _("too short to rank them: {above}; climb longer, with {length} --out FOLDER").format(
        above=", ".join(above), length=length
    )


def step_seconds(timings: Sequence[Mapping[str, Any]]) -> float:
    """What a step takes by a run's clock, from the stretches between its lines.

    A stretch with an evaluation or a checkpoint in it stands out by its length and is left out:
    those of at most 1.5 times the median count.
    """
    stretches: list[tuple[float, int]] = [
        (after["seconds"] - before["seconds"], after["step"] - before["step"])
        for before, after in pairwise(timings)
        if after["step"] > before["step"]
    ]
    if not stretches:
        return 0.0
    usual = statistics.median(seconds / steps for seconds, steps in stretches)
    plain = [(seconds, steps) for seconds, steps in stretches if seconds / steps <= 1.5 * usual]
    return sum(seconds for seconds, _steps in plain) / sum(steps for _seconds, steps in plain)


def write_models(folder: Path, rungs: Sequence[str]) -> list[str]:
    """Write `model.html`, the models of all rungs in one page, and say which it leaves out and why.

    Where they are too many parameters together, the largest is left out first.
    """
    exhibits: list[Exhibit] = []
    left_out: list[str] = []
    for rung in rungs:
        run, model, tokenizer = open_run(folder / rung)
        each = exhibit(rung, model, tokenizer, run)
        try:
            check([each])
        except SettingsError as error:
            left_out.append(str(error))
        else:
            exhibits.append(each)
    while sum(each.model.parameter_count() for each in exhibits) > LARGEST:
        largest = max(exhibits, key=lambda each: each.model.parameter_count())
        exhibits.remove(largest)
        left_out.append(
            _("{page} leaves out {rung}: together they are too large").format(
                page=PAGE_FILE, rung=largest.name
            )
        )
    try:
        if exhibits:
            write_page(folder / PAGE_FILE, _("The ladder"), exhibits)
    except SemigptError as error:
        left_out.append(str(error))
    return left_out


# The table and the page


def write_ladder(folder: Path, settings: LadderSettings, rows: Sequence[Row]) -> None:
    """`ladder.json`, `ladder.md` and `ladder.html`, each replaced in one move."""
    listed = json.dumps([asdict(row) for row in rows], ensure_ascii=False, indent=1)
    replace_file(folder / "ladder.json", f"{listed}\n".encode("utf-8", "surrogatepass"))
    replace_file(folder / "ladder.md", markdown(settings, rows).encode("utf-8", "replace"))
    replace_file(
        folder / "ladder.html", html_page(folder, settings, rows).encode("utf-8", "replace")
    )


def headline(settings: LadderSettings) -> str:
    """What was asked for, in a few words."""
    spec = settings.data.get("spec", "news")
    if settings.steps is not None:
        line = ngettext(
            "{spec}: {steps:,} step per rung", "{spec}: {steps:,} steps per rung", settings.steps
        ).format(spec=spec, steps=settings.steps)
    else:
        minutes = settings.minutes or 0.0
        line = ngettext(
            "{spec}: {minutes:g} minute per rung",
            "{spec}: {minutes:g} minutes per rung",
            1 if minutes == 1 else 2,
        ).format(spec=spec, minutes=minutes)
    return _("{line}, the book’s settings").format(line=line) if settings.book else line


COLUMNS = (
    N_("rung"),
    N_("bits per character"),
    N_("adds"),
    N_("validation loss"),
    N_("parameters"),
    N_("characters per second"),
    N_("seconds"),
)
BOOK_COLUMN = N_("the book's loss")
BOOK_TEXT = "hf:daekeun-ml/naver-news-summarization-ko"


def beside_the_book(settings: LadderSettings) -> bool:
    """Whether losses can be compared with the book's: the same text and settings."""
    return settings.book and str(settings.data.get("spec", "")).split("#")[0] == BOOK_TEXT


def columns(settings: LadderSettings) -> tuple[str, ...]:
    """The table's columns."""
    return tuple(map(_, COLUMNS + (BOOK_COLUMN,) * beside_the_book(settings)))


def cells(settings: LadderSettings, row: Row) -> tuple[str, ...]:
    """A row as text, one for each of the columns."""
    book = "" if row.book_val_loss is None else f"{row.book_val_loss:.2f}"
    return (
        row.rung,
        f"{row.bits_per_character:.3f}",
        _(row.adds),
        f"{row.val_loss:.3f} ± {row.val_loss_se:.3f}",
        f"{row.parameters:,}",
        f"{row.characters_per_second:,.0f}",
        f"{row.seconds:,.0f}",
    ) + (book,) * beside_the_book(settings)


def book_note(settings: LadderSettings, rows: Sequence[Row]) -> str:
    """What the book's losses are; where they cannot be compared, here and not in the table."""
    if beside_the_book(settings):
        return _(
            "The book's losses are those on its own news (naver-news-summarization-ko) after "
            "49,800 steps of 32 blocks of 8."
        )
    losses = [f"{row.rung} {row.book_val_loss:.2f}" for row in rows if row.book_val_loss]
    if not losses:
        return ""
    return _(
        "The book's own losses, on its own news (naver-news-summarization-ko) after 49,800 steps "
        "of 32 blocks of 8: {losses}. Losses of different texts cannot be compared, their order "
        "can."
    ).format(losses=", ".join(losses))


def markdown(settings: LadderSettings, rows: Sequence[Row]) -> str:
    """The table and the samples, to be read as text or on a code host."""
    names = columns(settings)
    lines = [
        "# " + _("The ladder on {headline}").format(headline=headline(settings)),
        "",
        f"| {' | '.join(names)} |",
        "|---|---:|---|" + "---:|" * (len(names) - 3),
    ]
    lines += [f"| {' | '.join(cells(settings, row))} |" for row in rows]
    lines += ["", _("Loss in nats per token, ± its standard error."), book_note(settings, rows), ""]
    if note := too_short(settings, rows):
        lines += [f"{note[0].upper()}{note[1:]}.", ""]
    for row in rows:
        text = "\n".join(f"    {line}" for line in row.sample.splitlines())
        lines += ["## " + _("What `{rung}` writes").format(rung=row.rung), "", text, ""]
    return "\n".join(lines)


STYLE = """
table.ladder { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
table.ladder th, table.ladder td { padding: .3em .6em; text-align: right;
  border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent); }
table.ladder :is(th, td):is(:nth-child(1), :nth-child(3)) { text-align: left; }
table.ladder td:not(:nth-child(3)) { white-space: nowrap; }
table.ladder td:nth-child(3) { min-width: 9em; overflow-wrap: normal; }
table.ladder :is(th, td):first-child { position: sticky; left: 0; background: var(--paper); }
div.wide { overflow-x: auto; }
p.sideways { display: none; }
@media (max-width: 34rem) { p.sideways { display: block; } }
@media (min-width: 62rem) { div.wide { margin-inline: -6rem; } }
div.samples { display: grid; gap: 1.2rem 1.6rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 13rem), 1fr)); }
div.samples section { break-inside: avoid; }
div.samples b { font-weight: 650; }
p.sample { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .92rem; }
"""


def html_page(folder: Path, settings: LadderSettings, rows: Sequence[Row]) -> str:
    """The page: table, curves of all rungs against steps and against seconds, baselines drawn in, a
    sample a rung.
    """
    head = "".join(f"<th>{escape(column)}</th>" for column in columns(settings))
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells(settings, row))}</tr>"
        for row in rows
    )
    by_steps, by_seconds = [], []
    metadata: dict[str, Any] = {}
    for row in rows:
        run = RunFolder.open(folder / row.rung)
        metadata = run.metadata()
        clock = {line["step"]: line["seconds"] for line in run.rows("timings")}
        curve = [
            (m["step"], m["bits_per_character"])
            for m in run.rows("metrics")
            if "bits_per_character" in m
        ]
        by_steps.append(Series(row.rung, curve))
        by_seconds.append(
            Series(row.rung, [(clock[step], loss) for step, loss in curve if step in clock])
        )
    levels = [
        Level(_(name), value)
        for key, name in BASELINES.items()
        if (value := (metadata.get("baselines") or {}).get(key))
    ]
    if metadata.get("source_entropy"):
        levels.append(Level(_("the source itself"), metadata["source_entropy"], floor=True))
    # The fresh models' ln V, all alike, would press the curves together.
    y_max = 1.1 * max((level.y for level in levels), default=0.0) or None
    charts = "".join(
        line_chart(
            series,
            title=_("Held-out text against {x_label}. Lower is better.").format(x_label=x_label),
            x_label=x_label,
            y_label=_("bits per character"),
            levels=levels,
            y_max=y_max,
        )
        for series, x_label in ((by_steps, _("steps")), (by_seconds, _("seconds")))
    )
    prompt = str(settings.sample.get("prompt", ""))
    begin = f"<b>{escape(prompt)}</b>" if prompt else ""
    samples = "".join(
        f"<section><h3>{escape(row.rung)} · {escape(readable_bits(row.bits_per_character))}</h3>"
        f'<p class="sample" lang="ko">{begin}{escape(row.sample.removeprefix(prompt))}</p>'
        "</section>"
        for row in rows
    )
    note = too_short(settings, rows)
    title, aside = _("The ladder"), _("The table goes on to the right.")
    units = _("Loss in nats per token, ± its standard error.")
    content = (
        f"<h1>{escape(title)}</h1><p>{escape(headline(settings))}</p>"
        f'<div class="wide"><table class="ladder"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
        f'<p class="soft sideways">{escape(aside)}</p>'
        f'<p class="soft">{escape(units)} '
        f"{escape(book_note(settings, rows))}</p>"
        + (f"<p>{escape(note[0].upper() + note[1:])}.</p>" if note else "")
        + heading(_("Learning"))
        + charts
        + heading(_("What each writes"))
        + f'<div class="samples">{samples}</div>'
    )
    return page(f"{title} · semigpt", content, STYLE, lang=language())
