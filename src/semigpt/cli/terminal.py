"""What a person sees in the terminal while a model trains, and the tables after it.

Bars, tables and messages go to standard error; the result, a line or an object for a script, to
standard output.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from semigpt.cli.console import error_console
from semigpt.cli.output import write_json, write_path
from semigpt.config import Recipe
from semigpt.controls import pictured
from semigpt.evaluation.baselines import Baselines
from semigpt.language import _
from semigpt.next_step import what_next
from semigpt.recipe import (
    BaselinesMeasured,
    Continued,
    Event,
    Forecasted,
    Prepared,
    Preparing,
    Stepped,
)
from semigpt.run_events import Evaluated, Finished, Sharded
from semigpt.start import several_tokens
from semigpt.training.forecast import readable_bytes

__all__ = ["bits_table", "show_training"]


class _TimeLeft(ProgressColumn):
    """Minutes and seconds to the end, from the fraction that is done."""

    def render(self, task: Task) -> Text:
        seconds, fraction, begun = (task.fields[name] for name in ("seconds", "fraction", "begun"))
        if fraction <= begun:
            return Text("")
        left = round(seconds * (1 - fraction) / (fraction - begun))
        return Text(
            _("{minutes}:{seconds:02d} left").format(minutes=left // 60, seconds=left % 60),
            style="dim",
        )


class TrainingDisplay:
    """The bar and the lines above it; without a terminal, a plain line at each evaluation."""

    def __init__(self, recipe: Recipe) -> None:
        self.console = error_console()
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
            "",
            total=1.0,
            what=_("reading"),
            loss="",
            speed="",
            seconds=0.0,
            fraction=0.0,
            begun=0.0,
        )
        self.read: tuple[float, float, float] | None = (
            None  # the fraction and when, at first; the fraction now
        )
        self.first: tuple[int, float] | None = None
        self.smooth: float | None = None
        self.earlier = recipe.leg.seconds  # of the run's clock, before the leg at hand

    def show_preparing(self, event: Preparing) -> None:
        """How much of the text is read, and then of its tokens written: each timed from where it
        began.
        """
        now, fraction = time.monotonic(), event.fraction
        if fraction is None:
            self.bar.update(self.task, what=event.what, completed=0.0, loss="", begun=0.0)
            return
        if self.read is None or fraction < self.read[2]:
            self.read = (fraction, now, fraction)
        begun, since, _now = self.read
        self.read = (begun, since, fraction)
        self.bar.update(
            self.task,
            what=event.what,
            completed=fraction,
            loss=f"{fraction:.0%}" if fraction < 1 else "",
            seconds=now - since,
            fraction=fraction,
            begun=begun,
        )

    def show_prepared(self, event: Prepared) -> None:
        self.prepared = event
        self.bar.update(self.task, completed=0.0, what="", loss="", fraction=0.0, begun=0.0)
        corpus, say = event.corpus, self.console.print
        for finding in corpus.findings:
            say(_("[yellow]text[/]     {finding}").format(finding=escape(finding)))
        splits = ", ".join(f"{split} {corpus.characters(split):,}" for split in corpus.splits)
        say(
            _("[bold]text[/]     {spec}: {splits} characters").format(
                spec=escape(corpus.spec), splits=splits
            )
        )
        tokenizer = event.tokenizer
        say(
            _("[bold]tokens[/]   {kind}, vocabulary of {vocab_size:,}").format(
                kind=tokenizer.kind, vocab_size=tokenizer.vocab_size
            )
            + escape(self.kept_tokenizer(event))
        )
        dtype = str(event.model.compute_dtype).removeprefix("torch.")
        say(
            _("[bold]model[/]    {kind}, {parameters:,} parameters, on {device} in {dtype}").format(
                kind=event.model.kind,
                parameters=event.model.parameter_count(),
                device=event.device,
                dtype=dtype,
            )
        )
        path = escape(str(event.run.path))
        if event.resumed_at is None:
            say(_("[bold]run[/]      {path}").format(path=path))
        else:
            say(
                _("[bold]run[/]      {path}, from step {step:,}").format(
                    path=path, step=event.resumed_at
                )
            )
        if event.baselines is not None:
            self.show_baselines(event.baselines)
        say("")

    def show_sharded(self, event: Sharded) -> None:
        whole, part, free = map(readable_bytes, (event.whole, event.part, event.free))
        self.console.print(
            _(
                "[bold]sharded[/]  {processes} processes cut the model among them: whole it needs "
                "{whole} in each, in parts {part}, and {free} are free (--no-shard: whole)\n"
            ).format(processes=event.processes, whole=whole, part=part, free=free)
        )

    def kept_tokenizer(self, event: Prepared) -> str:
        """How the tokenizer of the model that the run began from spells the new text."""
        if self.recipe.start.folder is None:
            return ""
        corpus = event.corpus
        tokens = len(event.dataset.stream("validation")) / corpus.characters("validation")
        lacking, fraction = several_tokens(event.tokenizer, corpus)
        kept = _(" of {folder}: {tokens:.2f} tokens per character").format(
            folder=self.recipe.start.folder, tokens=tokens
        )
        if not lacking:
            return kept
        return kept + _(", {lacking:,} characters ({fraction:.1%} of the text) in several").format(
            lacking=lacking, fraction=fraction
        )

    def show_baselines(self, baselines: Baselines) -> None:
        """The baselines in one line, in bits per character on the validation split."""
        parts = [f"{name} {value:.2f}" for name, value in baselines.named()]
        if self.prepared is not None and self.prepared.source_entropy is not None:
            source = _("the source itself")
            parts.append(f"{source} {self.prepared.source_entropy:.2f}")
        self.console.print(
            _("[bold]baselines[/] (bits per character) {parts}").format(parts=" · ".join(parts))
        )

    def show_forecast(self, event: Forecasted) -> None:
        forecast = event.forecast
        length = _("about {time}").format(time=readable_time(forecast.seconds))
        if self.recipe.training.minutes is not None:
            length = _("in {time} about {steps:,} steps").format(
                time=readable_time(forecast.seconds), steps=forecast.steps
            )
        memory = readable_bytes(forecast.memory)
        if forecast.processes > 1:
            memory = _("{processes} x {memory}").format(processes=forecast.processes, memory=memory)
        if forecast.saved_memory:
            memory += _(" (LoRA saves {memory})").format(
                memory=readable_bytes(forecast.saved_memory)
            )
        self.console.print(
            _(
                "[bold]forecast[/] {length}, {epochs:.2g} epochs, "
                "{memory} of memory, "
                "{disk} of disk for checkpoints"
            ).format(
                length=length,
                epochs=forecast.epochs,
                memory=memory,
                disk=readable_bytes(forecast.disk),
            )
            + (_("; dropout {dropout:g}").format(dropout=event.dropout) if event.dropout else "")
            + (event.advice and f"; {event.advice}")
            + (_("; more readings would only hurt") if forecast.ends_early else "")
        )
        if forecast.expected is not None:
            later = "".join(
                _("; {minutes:g} minutes: {bits:.2f}").format(minutes=minutes, bits=bits)
                for minutes, bits in forecast.later
            )
            self.console.print(
                _(
                    "[bold]expected[/] {expected:.2f} ± {expected_error:.2f} bits "
                    "per character{later}"
                ).format(
                    expected=forecast.expected, expected_error=forecast.expected_error, later=later
                )
            )
        if forecast.from_nothing is not None:
            self.console.print(
                _(
                    "[bold]begins[/]   from the starter, a small model of Korean film reviews; "
                    "from random weights (--from none) {bits:.2f} expected"
                ).format(bits=forecast.from_nothing)
            )
        self.console.print("")

    def show_continued(self, event: Continued) -> None:
        leg, forecast = event.leg, event.forecast
        self.earlier = leg.seconds
        length = ""
        if forecast is not None:
            length = _("about {steps:,} steps in {time}; ").format(
                steps=forecast.steps - leg.step, time=readable_time(forecast.seconds - leg.seconds)
            )
        self.console.print(
            _(
                "[bold]further[/]  from step {step:,}: {length}the rates climb again, to "
                "{top:.2g} of what they were at most"
            ).format(step=leg.step, length=length, top=event.top)
        )
        self.console.print("")

    def show_step(self, event: Stepped) -> None:
        report = event.report
        if report.skipped:
            self.console.print(
                _(
                    "[yellow]step {step:,}[/]: loss {loss}, gradient norm {gradient_norm}: skipped"
                ).format(step=report.step, loss=report.loss, gradient_norm=report.gradient_norm)
            )
            return
        if report.spike:
            self.console.print(
                _("[yellow]step {step:,}[/]: the loss spikes to {loss:.3f} nats").format(
                    step=report.step, loss=report.loss
                )
            )
        if event.slowed is not None and self.prepared is not None:
            self.console.print(
                _(
                    "[yellow]slow[/]     a step takes {slowed:.2g} s, over three times what was "
                    "forecast: another program uses the machine. Close it, or "
                    "stop here with Ctrl-C "
                    "and resume when the machine is free: semigpt train --resume "
                    "{path}"
                ).format(slowed=event.slowed, path=escape(str(self.prepared.run.path)))
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
            what=_("step {step:,}").format(step=report.step),
            loss=_("loss {loss:.3f} nats").format(loss=self.smooth),
            speed=_("{speed:,.0f} tokens/s").format(speed=speed),
            seconds=report.seconds - self.earlier,
            fraction=report.fraction,
        )

    def show_evaluated(self, event: Evaluated) -> None:
        sample = pictured(self.recipe.sample.prompt + event.sample).replace("\n", " ")
        self.console.print(
            _(
                "[bold]step {step:,}[/]: {bits_per_character:.3f} bits per character "
                "[dim](validation loss {loss:.3f} ± "
                "{standard_error:.3f} nats)[/]"
            ).format(
                step=event.step,
                bits_per_character=event.bits_per_character,
                loss=event.estimate.loss,
                standard_error=event.estimate.standard_error,
            )
        )
        self.console.print(Text(f"  {sample}", style="cyan"))

    def show_finished(self, event: Finished) -> None:
        assert self.prepared is not None
        say = self.console.print
        best, baselines = event.best, event.baselines
        minutes = event.seconds / 60
        say("")
        if not event.complete:
            say(
                _(
                    "stopped and saved at step {step:,}; resume with: semigpt train --resume {path}"
                ).format(step=event.step, path=escape(str(event.run.path)))
            )
        mine = _("this model, at its best (step {step:,})").format(step=best.step)
        table = bits_table(
            _("{steps:,} steps, {tokens:,} tokens, {minutes:.1f} minutes").format(
                steps=event.step, tokens=event.tokens_seen, minutes=minutes
            ),
            _("bits per character on unseen text (validation)"),
            {**dict(baselines.named() if baselines else ()), mine: best.bits_per_character},
            mine=mine,
            floor=self.prepared.source_entropy,
        )
        say(table)
        say("")
        if event.skipped:
            say(
                _(
                    "[yellow]{skipped:,} steps skipped[/]: their loss or gradient was not finite"
                ).format(skipped=event.skipped)
            )
        say(
            _(
                "saving took {saving_fraction:.1%} of the time, and "
                "{last_save_seconds:.1f} s at "
                "its end{how_far_off}"
            ).format(
                saving_fraction=event.saving_fraction,
                last_save_seconds=event.last_save_seconds,
                how_far_off=self.how_far_off(event),
            )
        )
        if advice := what_next(self.recipe, event):
            say("")
            say(_("[yellow]next[/]     {advice}").format(advice=escape(advice)))
        say("")
        say(
            _('write with it:  semigpt generate {path} "…"').format(
                path=escape(str(event.run.path))
            )
        )
        say(_("measure it:     semigpt evaluate {path}").format(path=escape(str(event.run.path))))
        say(
            _("look at it:     {report_file}").format(
                report_file=escape(str(event.run.report_file))
            )
        )
        if event.no_page is None:
            say(
                _("play with it:   {page_file}, in a browser").format(
                    page_file=escape(str(event.run.page_file))
                )
            )
        else:
            say(_("[yellow]no page[/]  {no_page}").format(no_page=escape(event.no_page)))

    def how_far_off(self, event: Finished) -> str:
        """The forecast beside what came, for a run that reached its end."""
        forecast = event.forecast
        if forecast is None or not event.complete:
            return ""
        bits = ""
        if forecast.expected is not None:
            off = event.best.bits_per_character - forecast.expected
            bits = _(", {expected:.2f} bits per character expected ({off:+.2f})").format(
                expected=forecast.expected, off=off
            )
        if self.recipe.training.minutes is None:
            took, expected = readable_time(event.seconds), readable_time(forecast.seconds)
            off = event.seconds / forecast.seconds - 1
        else:
            took = _("{steps:,} steps").format(steps=event.step)
            expected = f"{forecast.steps:,}"
            off = event.step / forecast.steps - 1
        return _(
            "; the run took {took} where {expected} were forecast ({off:+.0%}), {memory} of memory "
            "({memory_off:+.0%}), {disk} of disk ({disk_off:+.0%}, its most while a checkpoint is "
            "written){bits}"
        ).format(
            took=took,
            expected=expected,
            off=off,
            memory=readable_bytes(event.memory),
            memory_off=event.memory / max(forecast.memory, 1) - 1,
            disk=readable_bytes(event.disk),
            disk_off=event.disk / max(forecast.disk, 1) - 1,
            bits=bits,
        )


def readable_time(seconds: float) -> str:
    """A duration as a person says it: 12 seconds, 38 minutes, 5.2 hours."""
    if seconds < 90:
        return _("{seconds:.0f} seconds").format(seconds=seconds)
    if seconds < 5400:
        return _("{minutes:.0f} minutes").format(minutes=seconds / 60)
    return _("{hours:.1f} hours").format(hours=seconds / 3600)


def bits_table(
    title: str,
    column: str,
    rows: Mapping[str, float | None],
    *,
    mine: str,
    floor: float | None,
    digits: int = 3,
) -> Table:
    """Bits per character by name, highest first; `mine` is the model's row, `floor` the source's
    own entropy.
    """
    table = Table(title=title, title_justify="left")
    table.add_column(column)
    table.add_column("", justify="right")
    known = {name: value for name, value in rows.items() if value is not None}
    if floor is not None:
        known[_("the source itself: no model can be below")] = floor
    for name, value in sorted(known.items(), key=lambda row: -row[1]):
        style = "bold" if name == mine else ""
        table.add_row(Text(name, style=style), Text(f"{value:.{digits}f}", style=style))
    return table


def show_training(recipe: Recipe, events: Iterator[Event], *, as_json: bool) -> Finished:
    """Show how a training goes; the run folder (or one JSON object) goes to standard output."""
    display = TrainingDisplay(recipe)
    finished: Finished | None = None
    with display.bar:
        for event in events:
            match event:
                case Preparing():
                    display.show_preparing(event)
                case Prepared():
                    display.show_prepared(event)
                case Sharded():
                    display.show_sharded(event)
                case Forecasted():
                    display.show_forecast(event)
                case Continued():
                    display.show_continued(event)
                case Stepped():
                    display.show_step(event)
                case BaselinesMeasured():
                    display.show_baselines(event.baselines)
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
            "saving_fraction": round(finished.saving_fraction, 5),
            "last_save_seconds": round(finished.last_save_seconds, 3),
            "forecast": None if finished.forecast is None else asdict(finished.forecast),
            "memory": finished.memory,
            "disk": finished.disk,
            "val_loss": finished.best.estimate.loss,
            "val_loss_se": finished.best.estimate.standard_error,
            "bits_per_character": finished.best.bits_per_character,
            "baselines": None if finished.baselines is None else finished.baselines.as_dict(),
            "source_entropy": display.prepared.source_entropy,
            "sample": recipe.sample.prompt + finished.best.sample,
        }
        write_json(result)
    else:
        write_path(finished.run.path)
    return finished
