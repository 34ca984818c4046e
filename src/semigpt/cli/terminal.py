"""What a person sees in the terminal while a model trains, and the tables after it.

Bars, tables and messages go to standard error; the result, a line or an object for a script, to standard output.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from semigpt.corpus.staging import prepare_corpus
from semigpt.evaluation.evaluate import Evaluation
from semigpt.evaluation.evaluate import evaluate as evaluate_split
from semigpt.models.base import LanguageModel
from semigpt.recipe import (
    DataSettings,
    Evaluated,
    Finished,
    Forecasted,
    Prepared,
    Recipe,
    Stepped,
    train,
)
from semigpt.studies.crash_test import Trial
from semigpt.tokenizers.base import Tokenizer
from semigpt.training.forecast import readable_bytes

__all__ = ["evaluate_run", "evaluation_table", "show_training", "torture_line", "torture_table"]


def _console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def printable(text: str) -> str:
    """Text that any terminal takes: a lone surrogate, which UTF-8 has no bytes for, is shown as U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class _TimeLeft(ProgressColumn):
    """Minutes and seconds to the end, from the share of the run, or of the text, that is done."""

    def render(self, task: Task) -> Text:
        seconds, share, begun = (task.fields[name] for name in ("seconds", "share", "begun"))
        if share <= begun:
            return Text("")
        left = round(seconds * (1 - share) / (share - begun))
        return Text(f"{left // 60}:{left % 60:02d} left", style="dim")


class TrainingDisplay:
    """The bar and the lines above it; where there is no terminal, a plain line at each evaluation."""

    def __init__(self, recipe: Recipe) -> None:
        self.console = _console()
        self.recipe = recipe
        self.prepared: Prepared | None = None
        self.bar = Progress(
            TextColumn("{task.fields[what]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[loss]}"),
            TextColumn("{task.fields[speed]}", style="dim"),
            _TimeLeft(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task(
            "", total=1.0, what="reading", loss="", speed="", seconds=0.0, share=0.0, begun=0.0
        )
        self.read: tuple[float, float, float] | None = (
            None  # the share and when, at first; the share now
        )
        self.first: tuple[int, float] | None = None
        self.smooth: float | None = None

    def reading(self, documents: int, characters: int) -> None:
        self.bar.update(
            self.task, what=f"reading: {documents:,} documents, {characters:,} characters"
        )

    def writing(self, tokens: int) -> None:
        self.bar.update(self.task, what=f"writing {tokens:,} tokens")

    def share(self, share: float) -> None:
        """How much of the text is read, and then how much of its tokens written: each from where it was begun."""
        now = time.monotonic()
        if self.read is None or share < self.read[2]:
            self.read = (share, now, share)
        begun, since, _ = self.read
        self.read = (begun, since, share)
        self.bar.update(
            self.task,
            completed=share,
            loss=f"{share:.0%}",
            seconds=now - since,
            share=share,
            begun=begun,
        )
        if share >= 1:
            self.bar.update(self.task, what="preparing", loss="")

    def show_prepared(self, event: Prepared) -> None:
        self.prepared = event
        self.bar.update(self.task, completed=0.0, what="", loss="", share=0.0, begun=0.0)
        corpus, say = event.corpus, self.console.print
        for finding in corpus.findings:
            say(f"[yellow]text[/]     {escape(finding)}")
        splits = ", ".join(f"{split} {corpus.characters(split):,}" for split in corpus.splits)
        say(f"[bold]text[/]     {escape(corpus.spec)}: {splits} characters")
        tokenizer = event.tokenizer
        say(f"[bold]tokens[/]   {tokenizer.kind}, {tokenizer.vocab_size:,} of them")
        dtype = str(event.model.compute_dtype).removeprefix("torch.")
        say(
            f"[bold]model[/]    {event.model.rung}, {event.model.parameter_count():,} parameters, on {event.device} in {dtype}"
        )
        say(
            f"[bold]run[/]      {escape(str(event.run.path))}"
            + ("" if event.resumed_at is None else f", from step {event.resumed_at:,}")
        )
        say(f"[bold]to beat[/]  {self.targets()}")
        say("")

    def targets(self) -> str:
        """The baselines in one line, in bits per character on the validation split."""
        if self.prepared is None:
            return ""
        parts = [
            f"{name} {value:.2f}"
            for name, value in named_baselines(self.prepared.baselines.as_dict())
            if value
        ]
        if self.prepared.source_entropy is not None:
            parts.append(f"the source itself {self.prepared.source_entropy:.2f}")
        return ", ".join(parts) + " bits per character"

    def show_forecast(self, event: Forecasted) -> None:
        forecast = event.forecast
        length = f"about {readable_time(forecast.seconds)}"
        if self.recipe.training.minutes is not None:
            length = f"in {readable_time(forecast.seconds)} about {forecast.steps:,} steps"
        self.console.print(
            f"[bold]forecast[/] {length}, {forecast.epochs:.2g} epochs, {readable_bytes(forecast.memory)} of memory, "
            f"{readable_bytes(forecast.disk)} of disk for checkpoints"
            + (f"; dropout {event.dropout:g}" if event.dropout else "")
            + (event.advice and f"; {event.advice}")
        )
        self.console.print("")

    def show_step(self, event: Stepped) -> None:
        report = event.report
        if report.skipped:
            self.console.print(
                f"[yellow]step {report.step:,}[/]: loss {report.loss}, gradient norm {report.gradient_norm}: skipped"
            )
            return
        if report.spike:
            self.console.print(
                f"[yellow]step {report.step:,}[/]: the loss leaps to {report.loss:.3f} nats"
            )
        if self.first is None:
            self.first = (report.tokens_seen, report.seconds)
            return
        self.smooth = (
            report.loss if self.smooth is None else 0.95 * self.smooth + 0.05 * report.loss
        )
        elapsed = report.seconds - self.first[1]
        speed = (report.tokens_seen - self.first[0]) / elapsed if elapsed > 0 else 0.0
        self.bar.update(
            self.task,
            completed=report.fraction,
            what=f"step {report.step:,}",
            loss=f"loss {self.smooth:.3f} nats",
            speed=f"{speed:,.0f} tokens/s",
            seconds=report.seconds,
            share=report.fraction,
        )

    def show_evaluated(self, event: Evaluated) -> None:
        sample = printable(self.recipe.sample.prompt + event.sample).replace("\n", " ")
        self.console.print(
            f"[bold]step {event.step:,}[/]: {event.bits_per_character:.3f} bits per character "
            f"[dim](validation loss {event.estimate.loss:.3f} ± {event.estimate.standard_error:.3f} nats)[/]"
        )
        self.console.print(Text(f"  {sample}", style="cyan"))

    def show_finished(self, event: Finished) -> None:
        assert self.prepared is not None
        say = self.console.print
        best = event.best
        minutes = event.seconds / 60
        say("")
        if not event.complete:
            say(
                f"stopped and saved at step {event.step:,}; go on with: semigpt train --resume "
                + escape(str(event.run.path))
            )
        table = Table(
            title=f"{event.step:,} steps, {event.tokens_seen:,} tokens, {minutes:.1f} minutes",
            title_justify="left",
        )
        table.add_column("bits per character on unseen text (validation)")
        table.add_column("", justify="right")
        rows = [
            (name, value)
            for name, value in named_baselines(self.prepared.baselines.as_dict())
            if value is not None
        ]
        rows.append((f"this model, at its best (step {best.step:,})", best.bits_per_character))
        if self.prepared.source_entropy is not None:
            rows.append(("the source itself: no model can be below", self.prepared.source_entropy))
        for name, value in sorted(rows, key=lambda row: -row[1]):
            mine = name.startswith("this model")
            table.add_row(
                Text(name, style="bold" if mine else ""),
                Text(f"{value:.3f}", style="bold" if mine else ""),
            )
        say(table)
        say("")
        if event.skipped:
            say(
                f"[yellow]{event.skipped:,} steps skipped[/]: their loss or gradient was not finite"
            )
        say(f"saving took {event.saving_share:.1%} of the time{self.how_far_off(event)}")
        say("")
        say(f'write with it:  semigpt generate {escape(str(event.run.path))} "…"')
        say(f"measure it:     semigpt evaluate {escape(str(event.run.path))}")
        say(f"look at it:     {escape(str(event.run.report_file))}")

    def how_far_off(self, event: Finished) -> str:
        """The forecast beside what came, for a run that reached its end."""
        forecast = event.forecast
        if forecast is None or not event.complete:
            return ""
        if self.recipe.training.minutes is None:
            took = f"{readable_time(event.seconds)} where {readable_time(forecast.seconds)} were forecast"
            off = event.seconds / forecast.seconds - 1
        else:
            took = f"{event.step:,} steps where {forecast.steps:,} were forecast"
            off = event.step / forecast.steps - 1
        return (
            f"; the run took {took} ({off:+.0%}), {readable_bytes(event.memory)} of memory "
            f"({event.memory / max(forecast.memory, 1) - 1:+.0%}), {readable_bytes(event.disk)} of disk "
            f"({event.disk / max(forecast.disk, 1) - 1:+.0%}, its most while a checkpoint is written)"
        )


def readable_time(seconds: float) -> str:
    """A duration as a person says it: 12 seconds, 38 minutes, 5.2 hours."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def named_baselines(values: dict[str, float | None]) -> list[tuple[str, float | None]]:
    """Each baseline under the name a person knows it by."""
    names = {
        "uniform": "every token alike",
        "unigram": "letter frequencies",
        "bigram": "letter pairs",
        "kneser_ney_5": "5-gram (Kneser-Ney)",
        "xz": "xz -9e",
    }
    return [(names[key], value) for key, value in values.items()]


def show_training(
    recipe: Recipe, folder: Path, *, resume: bool, stop: Callable[[], bool], as_json: bool
) -> Finished:
    """Train, showing how it goes; the run folder (or one JSON object) goes to standard output."""
    display = TrainingDisplay(recipe)
    finished: Finished | None = None
    with display.bar:
        events = train(
            recipe,
            folder,
            resume=resume,
            stop=stop,
            progress=display.reading,
            tokens=display.writing,
            share=display.share,
        )
        for event in events:
            match event:
                case Prepared():
                    display.show_prepared(event)
                case Forecasted():
                    display.show_forecast(event)
                case Stepped():
                    display.show_step(event)
                case Evaluated():
                    display.show_evaluated(event)
                case Finished():
                    finished = event
    assert finished is not None
    assert display.prepared is not None
    display.show_finished(finished)
    if as_json:
        result: dict[str, Any] = {
            "run": str(finished.run.path),
            "complete": finished.complete,
            "steps": finished.step,
            "tokens": finished.tokens_seen,
            "seconds": round(finished.seconds, 3),
            "skipped": finished.skipped,
            "saving_share": round(finished.saving_share, 5),
            "forecast": None if finished.forecast is None else asdict(finished.forecast),
            "memory": finished.memory,
            "disk": finished.disk,
            "val_loss": finished.best.estimate.loss,
            "val_loss_se": finished.best.estimate.standard_error,
            "bits_per_character": finished.best.bits_per_character,
            "baselines": display.prepared.baselines.as_dict(),
            "source_entropy": display.prepared.source_entropy,
            "sample": recipe.sample.prompt + finished.best.sample,
        }
        print(json.dumps(result, ensure_ascii=False), file=sys.stdout)  # noqa: T201
    else:
        print(finished.run.path, file=sys.stdout)  # noqa: T201
    return finished


def evaluate_run(
    model: LanguageModel,
    tokenizer: Tokenizer,
    data: DataSettings,
    *,
    other: DataSettings | None,
    split: str,
    stride: int | None,
    xz: bool,
) -> Evaluation:
    """Evaluate with a bar; `other` is another text than the one trained on, whose baselines stay those of `data`."""
    console = _console()
    counted_on = prepare_corpus(data.spec, column=data.column, split=data.split)
    corpus = (
        counted_on
        if other is None
        else prepare_corpus(other.spec, column=other.column, split=other.split)
    )
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"evaluating on {split}", total=None)
        return evaluate_split(
            model,
            tokenizer,
            corpus,
            split,
            counted_on=counted_on,
            stride=stride,
            xz=xz,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def torture_line(trial: Trial) -> None:
    """One trial's outcome, as it comes."""
    outcome = (
        "the same bits" if not trial.differences else f"DIFFERENT: {', '.join(trial.differences)}"
    )
    _console().print(
        f"{trial.rung}, gradient accumulation {trial.gradient_accumulation}: {trial.kills} kills, {outcome}"
    )


def torture_table(trials: list[Trial]) -> None:
    """What `semigpt torture` found, on standard output."""
    table = Table(
        title=f"{sum(trial.kills for trial in trials)} kills by SIGKILL", title_justify="left"
    )
    table.add_column("rung", no_wrap=True)
    for name in ("micro-batches", "kills", "in a save", "before any", "runs", "seconds", "bytes"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("differences", min_width=11)
    for trial in trials:
        table.add_row(
            trial.rung,
            str(trial.gradient_accumulation),
            str(trial.kills),
            str(trial.while_saving),
            str(trial.before_first),
            str(trial.runs),
            f"{trial.seconds:.0f}",
            f"{trial.compared_bytes:,}",
            ", ".join(trial.differences) or "none",
        )
    Console(highlight=False, width=max(Console().width, 110)).print(table)


def evaluation_table(result: Evaluation, split: str) -> None:
    """The table a person reads, on standard output."""
    console = Console(highlight=False)
    information = result.information
    table = Table(
        title=f"{split}: {information.characters:,} characters, {information.tokens:,} tokens",
        title_justify="left",
    )
    table.add_column("bits per character")
    table.add_column("", justify="right")
    rows = [
        (name, value)
        for name, value in named_baselines(result.baselines.as_dict())
        if value is not None
    ]
    rows.append(("this model", information.bits_per_character))
    if result.source_entropy is not None:
        rows.append(("the source itself: no model can be below", result.source_entropy))
    for name, value in sorted(rows, key=lambda row: -row[1]):
        style = "bold" if name == "this model" else ""
        table.add_row(Text(name, style=style), Text(f"{value:.4f}", style=style))
    console.print(table)
    console.print(
        f"loss {information.loss_nats_per_token:.4f} nats per token, perplexity {information.perplexity:.2f}, "
        f"{information.bits_per_byte:.4f} bits per byte"
    )
