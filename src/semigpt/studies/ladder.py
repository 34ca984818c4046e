"""`semigpt ladder`: every rung on the same text, side by side: what each idea buys.

Each rung is an ordinary run in `FOLDER/RUNG/`, trained by `recipe.train`: it can be looked at, resumed, generated
from and evaluated like any other. The table, the page and `ladder.json` are made from those folders alone.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

from semigpt.errors import CheckpointError, SettingsError
from semigpt.html import escape
from semigpt.models import RUNGS
from semigpt.recipe import (
    Evaluated,
    Event,
    Finished,
    Prepared,
    Recipe,
    Stepped,
    check_unchanged,
    train,
)
from semigpt.report.charts import Level, Series, line_chart
from semigpt.report.document import page
from semigpt.run_folder import RunFolder
from semigpt.settings import check_choice, check_positive
from semigpt.storage import replace_file

__all__ = ["LadderSettings", "Reached", "Row", "Rung", "climb", "rung_recipe", "show_ladder"]

ADDS = {
    "bigram": "one table: the token before",
    "attention": "one head that looks back",
    "multihead": "several heads side by side",
    "feedforward": "a network after looking",
    "blocks": "residual blocks with LayerNorm, stacked (GPT-2)",
    "gpt": "RMSNorm, RoPE, SwiGLU, QK-norm (Qwen3)",
    "memory": "the counts of n-grams, hints from them, and a gate",
}
# The book's own validation losses at step 49,800, batch 32 x block 8, on naver-news-summarization-ko.
BOOK_LOSSES = {
    "bigram": 3.40,
    "attention": 3.44,
    "multihead": 3.29,
    "feedforward": 3.36,
    "blocks": 3.23,
}
BASELINES = {
    "unigram": "letter frequencies",
    "bigram": "letter pairs, counted",
    "kneser_ney_5": "5-gram (Kneser-Ney)",
}


@dataclass(frozen=True, kw_only=True)
class LadderSettings:
    """Which rungs, on what, and how long each: `steps` alike for all, or `minutes`, each with its own good settings.

    `book` sets the book's batch of 32 blocks of 8, its learning rate of 1e-2, torch.optim.AdamW's own defaults, and
    an evaluation every 300 steps. `data`, `machine` and `sample` are tables of a recipe.
    """

    rungs: tuple[str, ...] = RUNGS
    steps: int | None = None
    minutes: float | None = None
    book: bool = False
    seed: int = 0
    data: Mapping[str, Any]
    machine: Mapping[str, Any]
    sample: Mapping[str, Any]

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise SettingsError("say how long each rung trains with --steps or --minutes")
        check_positive(self, "steps", "minutes")
        if not self.rungs:
            raise SettingsError(f"no rung to train; name some of {', '.join(RUNGS)} with --rungs")
        for rung in self.rungs:
            check_choice("rung", rung, RUNGS)
        if len(set(self.rungs)) != len(self.rungs):
            raise SettingsError(f"a rung is named twice: {', '.join(self.rungs)}")


def rung_recipe(settings: LadderSettings, rung: str) -> Recipe:
    """The recipe of one rung."""
    length = {"steps": settings.steps, "minutes": settings.minutes}
    training: dict[str, Any] = {
        "seed": settings.seed,
        **{k: v for k, v in length.items() if v is not None},
    }
    model: dict[str, Any] = {"rung": rung}
    optimizer: dict[str, Any] = {}
    if settings.book:
        # 4,096 blocks of 8 are 33,000 characters: a standard error of some 0.015 nats, where the book's rungs lie
        # 0.05 apart.
        training |= {"batch_size": 32, "order": "random", "eval_every": 300, "eval_blocks": 4096}
        model |= {"context_length": 8}
        if rung in ("gpt", "memory"):
            training |= {"teacher": "none"}  # what the shape alone buys
            model |= {"width": 32, "num_layers": 4, "num_heads": 4}
        if rung in ("feedforward", "blocks"):
            model |= {"dropout": 0.1}
        if rung not in ("bigram", "gpt", "memory"):
            model |= {"width": 32} | ({"num_heads": 4} if rung != "attention" else {})
        if rung == "blocks":
            model |= {"num_layers": 4}
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
    return Recipe.from_tables(tables, "the ladder's settings")


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
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Climb]:
    """Train rung after rung in `folder`, writing the table and the page anew after each.

    A rung that is finished with the same settings is not trained again, one that is not is resumed. `stop` ends the
    climb as it ends a run: saved, to be gone on with by the same command. Raises what `recipe.train` raises.
    """
    recipes = {rung: rung_recipe(settings, rung) for rung in settings.rungs}
    rows: list[Row] = []
    for rung, recipe in recipes.items():
        path = folder / rung
        done = finished(path, recipe)
        if not done:
            for event in train(recipe, path, stop=stop, progress=progress):
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
    begun = Recipe.from_tables(run.config())
    check_unchanged(begun, recipe.as_begun(begun), path)
    return bool(run.facts().get("complete"))


def rung_row(run: RunFolder) -> Row:
    """What a finished run folder says of itself; CheckpointError where its logs are gone."""
    facts = run.facts()
    metrics, timings = run.rows("metrics"), run.rows("timings")
    evaluations = [row for row in metrics if "val_loss" in row]
    if not (evaluations and timings and facts):
        raise CheckpointError(
            f"{run.path} has no evaluation in its logs; delete it and climb again"
        )
    best = min(evaluations, key=lambda row: row["val_loss"])
    last = timings[-1]
    samples = {row["step"]: row["prompt"] + row["text"] for row in run.rows("samples")}
    rung = run.config()["model"]["rung"]
    seconds_per_step = step_seconds(timings)
    tokens_a_step = max(row["tokens_seen"] for row in metrics) / max(last["step"], 1)
    return Row(
        rung=rung,
        adds=ADDS[rung],
        parameters=facts["parameters"],
        val_loss=best["val_loss"],
        val_loss_se=best["val_loss_se"],
        bits_per_character=best["bits_per_character"],
        characters_per_second=tokens_a_step / seconds_per_step / facts["tokens_per_character"]
        if seconds_per_step
        else 0.0,
        seconds=last["seconds"],
        steps=last["step"],
        sample=samples.get(best["step"], ""),
        book_val_loss=BOOK_LOSSES.get(rung),
    )


def step_seconds(timings: Sequence[Mapping[str, Any]]) -> float:
    """What a step takes by a run's clock, from the stretches between its lines.

    A stretch with an evaluation or a checkpoint in it stands out by its length and is left out: those of at most 1.5 times
    the median count.
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
    return sum(seconds for seconds, _ in plain) / sum(steps for _, steps in plain)


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
    if settings.steps is not None:
        length = f"{settings.steps:,} step{'s' * (settings.steps != 1)}"
    else:
        length = f"{settings.minutes:g} minute{'s' * (settings.minutes != 1)}"
    return f"{settings.data.get('spec', 'news')}: {length} a rung{', the book’s settings' if settings.book else ''}"


COLUMNS = (
    "rung",
    "adds",
    "parameters",
    "validation loss",
    "bits per character",
    "characters per second",
    "seconds",
    "the book's loss",
)

NARROW_COLUMNS = ("rung", "adds", "parameters", "loss", "bits/char", "chars/s", "s", "book")


def cells(row: Row) -> tuple[str, ...]:
    """A row as text, one for each of COLUMNS."""
    return (
        row.rung,
        row.adds,
        f"{row.parameters:,}",
        f"{row.val_loss:.3f} ± {row.val_loss_se:.3f}",
        f"{row.bits_per_character:.3f}",
        f"{row.characters_per_second:,.0f}",
        f"{row.seconds:,.0f}",
        "" if row.book_val_loss is None else f"{row.book_val_loss:.2f}",
    )


BOOK_NOTE = (
    "The book's losses are its own, on its own news corpus (naver-news-summarization-ko) after 49,800 steps of 32 blocks of 8; "
    "losses of different texts cannot be compared, their order can."
)


def markdown(settings: LadderSettings, rows: Sequence[Row]) -> str:
    """The table and the samples, to be read as text or on a code host."""
    lines = [
        f"# The ladder on {headline(settings)}",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---|---|" + "---:|" * (len(COLUMNS) - 2),
    ]
    lines += [f"| {' | '.join(cells(row))} |" for row in rows]
    lines += ["", "Loss in nats per token, ± its standard error.", BOOK_NOTE, ""]
    for row in rows:
        text = "\n".join(f"    {line}" for line in row.sample.splitlines())
        lines += [f"## What `{row.rung}` writes", "", text, ""]
    return "\n".join(lines)


STYLE = """
table.ladder { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
table.ladder th, table.ladder td { padding: .3em .6em; text-align: right; border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent); }
table.ladder th:nth-child(-n+2), table.ladder td:nth-child(-n+2) { text-align: left; }
table.ladder td:not(:nth-child(2)) { white-space: nowrap; }
table.ladder td:nth-child(2) { min-width: 9em; overflow-wrap: normal; }
div.wide { overflow-x: auto; }
@media (min-width: 62rem) { div.wide { margin-inline: -6rem; } }
p.sample { white-space: pre-wrap; overflow-wrap: anywhere; }
"""


def html_page(folder: Path, settings: LadderSettings, rows: Sequence[Row]) -> str:
    """The page: table, curves of all rungs against steps and against seconds, baselines drawn in, a sample a rung."""
    head = "".join(f"<th>{escape(column)}</th>" for column in COLUMNS)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells(row))}</tr>" for row in rows
    )
    by_steps, by_seconds = [], []
    facts: dict[str, Any] = {}
    for row in rows:
        run = RunFolder.open(folder / row.rung)
        facts = run.facts()
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
        Level(name, facts["baselines"][key])
        for key, name in BASELINES.items()
        if facts.get("baselines", {}).get(key)
    ]
    if facts.get("source_entropy"):
        levels.append(Level("the source itself", facts["source_entropy"], floor=True))
    # The fresh models' ln V, all alike, would press the curves together.
    y_max = 1.1 * max((level.y for level in levels), default=0.0) or None
    charts = "".join(
        line_chart(
            series,
            title=f"Held-out text against {x_label}. Lower is better.",
            x_label=x_label,
            y_label="bits per character",
            levels=levels,
            y_max=y_max,
        )
        for series, x_label in ((by_steps, "steps"), (by_seconds, "seconds"))
    )
    samples = "".join(
        f'<section class="sample"><h3>{escape(row.rung)}</h3><p class="sample" lang="ko">{escape(row.sample)}</p></section>'
        for row in rows
    )
    content = (
        f"<h1>The ladder</h1><p>{escape(headline(settings))}</p>"
        f'<div class="wide"><table class="ladder"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<p class="soft">Loss in nats per token, ± its standard error. {escape(BOOK_NOTE)}</p>'
        f"<h2>Learning</h2>{charts}<h2>What each writes</h2>{samples}"
    )
    return page("The ladder · semigpt", content, STYLE)


# The terminal


def show_ladder(
    settings: LadderSettings, folder: Path, *, stop: Callable[[], bool] = lambda: False
) -> list[Row]:
    """Climb, with a live table on standard error, or a plain line a rung where that is no terminal; the rows reached."""
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    rows: list[Row] = []
    under_way: dict[str, str] = {}
    doing = ""

    def table() -> Table:
        shown = Table(
            title=headline(settings), title_justify="left", caption=doing, caption_justify="left"
        )
        for number, column in enumerate(NARROW_COLUMNS):
            shown.add_column(column, justify="left" if number < 2 else "right", no_wrap=number != 1)
        reached = {row.rung: row for row in rows}
        for rung in settings.rungs:
            if rung in reached:
                shown.add_row(*cells(reached[rung]))
            else:
                shown.add_row(rung, ADDS[rung], "", under_way.get(rung, ""), style="dim")
        return shown

    def reading(documents: int, characters: int) -> None:
        nonlocal doing
        doing = f"reading: {documents:,} documents, {characters:,} characters"

    with Live(
        get_renderable=table,
        console=console,
        refresh_per_second=2,
        transient=not console.is_terminal,
    ) as live:
        if not console.is_terminal:
            live.stop()
        for event in climb(settings, folder, stop=stop, progress=reading):
            match event:
                case Rung(rung, Prepared() as prepared):
                    doing = f"{rung}: {prepared.model.parameter_count():,} parameters on {prepared.device}"
                case Rung(rung, Stepped(report)):
                    under_way[rung] = f"{report.loss:.2f} at {report.share:.0%}"
                case Rung(rung, Evaluated() as evaluated):
                    sample = (
                        evaluated.sample[:60].replace("\n", " ").encode("utf-8", "replace").decode()
                    )
                    doing = f"{rung}, step {evaluated.step:,}: {evaluated.bits_per_character:.3f} bits per character: {sample}"
                case Reached(row, trained):
                    rows.append(row)
                    doing = ""
                    if not console.is_terminal:
                        console.print(
                            Text(
                                " · ".join(cell for cell in cells(row) if cell)
                                + ("" if trained else " · as it was")
                            )
                        )
    return rows
