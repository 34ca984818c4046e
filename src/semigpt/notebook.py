"""How a training goes, shown where Python runs: in a Jupyter notebook one display that changes, and
elsewhere a line on standard error now and then.

IPython is asked only where it has been imported already, as in a kernel.
"""

from __future__ import annotations

import base64
import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any, TypeVar, cast

from semigpt.controls import pictured
from semigpt.evaluation.baselines import Baselines
from semigpt.html import escape, table
from semigpt.language import _
from semigpt.recipe import Preparing, Stepped
from semigpt.report.charts import Level, Series, svg_file
from semigpt.run_events import BaselinesMeasured, Evaluated, Finished, Prepared
from semigpt.training.progress import StepReport

__all__ = ["show_progress"]

E = TypeVar("E")
PAUSE = 0.5  # seconds between two updates of a display
PARTS = 10  # of a training; without evaluations, a line at the end of each
POINTS = 100  # of the training loss
SAMPLE = 160  # characters


def show_progress(events: Iterable[E]) -> Iterator[E]:
    """Pass on what `semigpt.train` or `semigpt.training_steps` yields, and show how it goes.

        for report in semigpt.show_progress(semigpt.training_steps(…)): ...
        *_, finished = semigpt.show_progress(semigpt.train(recipe, folder))

    In a Jupyter kernel one display is updated, twice a second at most; elsewhere standard error
    gets a line at each evaluation, or at each tenth of the steps. What ends the loop early (an
    error, ■, `break`) leaves the display as it was, with the word that it stopped.
    """
    state = _State()
    show = _show()
    try:
        for event in events:
            show(state, state.take(event))
            yield event
        state.ended = True
    finally:
        state.stopped = not state.ended
        show(state, True)


class _State:
    """What is known of a training so far. It shows itself as HTML, or as one line."""

    def __init__(self) -> None:
        self.what = ""  # what is done now
        self.fraction: float | None = None
        self.speed = ""
        self.first: StepReport | None = None
        self.losses: list[tuple[float, float]] = []  # step, nats
        self.smooth = 0.0
        self.evaluations: list[Evaluated] = []
        self.levels: list[Level] = []
        self.finished: Finished | None = None
        self.ended = self.stopped = False

    def take(self, event: object) -> bool:
        """Learn of an event; whether it is worth a line."""
        match event:
            case Preparing():
                self.what, self.fraction = event.what, event.fraction
            case Prepared():
                self.fraction, self.what = None, self._model(event)
                if event.source_entropy is not None:
                    self.levels = [Level(_("the source"), event.source_entropy, floor=True)]
                self._compare(event.baselines)
                return True
            case BaselinesMeasured():
                self._compare(event.baselines)
            case Evaluated():
                self.evaluations.append(event)
                return True
            case Finished():
                self.finished = event
                return True
            case Stepped(report=report) | (StepReport() as report):
                return self._step(report)
        return False

    def _compare(self, baselines: Baselines | None) -> None:
        if baselines is not None:
            self.levels += [Level(name, value) for name, value in baselines.named()]

    def _model(self, event: Prepared) -> str:
        return _("{kind}, {parameters} parameters, {spec}").format(
            kind=event.model.kind,
            parameters=f"{event.model.parameter_count():,}",
            spec=event.corpus.spec,
        )

    def _step(self, report: StepReport) -> bool:
        """Without evaluations a line at each tenth."""
        before, self.fraction = self.fraction or 0.0, report.fraction
        if not report.skipped:
            self.smooth += (report.loss - self.smooth) * (0.05 if self.losses else 1.0)
            if not self.losses or int(before * POINTS) < int(report.fraction * POINTS):
                self.losses.append((report.step, self.smooth))
        self.what = _("step {step} · loss {loss} nats").format(
            step=f"{report.step:,}", loss=f"{self.smooth:.3f}"
        )
        if self.first is None:
            self.first = report
        elif (elapsed := report.seconds - self.first.seconds) > 0:
            tokens = (report.tokens_seen - self.first.tokens_seen) / elapsed
            done = report.fraction - self.first.fraction
            left = round(elapsed * (1 - report.fraction) / done) if done > 0 else 0
            self.speed = _("{speed} tokens/s · {left} left").format(
                speed=f"{tokens:,.0f}", left=f"{left // 60}:{left % 60:02d}"
            )
        tenth = int(before * PARTS) < int(report.fraction * PARTS)
        return tenth and not self.evaluations

    def __repr__(self) -> str:
        """One line."""
        parts = [self.what]
        if self.finished is not None:
            bits = f"{self.finished.best.bits_per_character:.3f}"
            parts = [_("finished: {bits} bits per character").format(bits=bits)]
        elif self.evaluations:
            last = self.evaluations[-1]
            line = _("step {step}: {bits} bits per character")
            parts = [line.format(step=f"{last.step:,}", bits=f"{last.bits_per_character:.3f}")]
        if self.stopped:
            parts.append(_("stopped"))
        return pictured(" · ".join(part for part in parts if part), one_line=True)

    def _repr_html_(self) -> str:
        if self.finished is not None:
            return self.finished._repr_html_() + self._curve()
        now = [self.what, *([] if self.ended else [_("stopped") if self.stopped else self.speed])]
        line = escape(" · ".join(part for part in now if part))
        value = "" if self.fraction is None else f' value="{self.fraction:.4f}"'
        bar = f'<progress{value} max="1" style="width:100%" aria-label="{escape(self.what)}">'
        parts = [f"<div>{line}</div>", "" if self.stopped or self.ended else f"{bar}</progress>"]
        if self.evaluations:
            rows = [
                (_("step {step}").format(step=f"{one.step:,}"), f"{one.bits_per_character:.3f}")
                for one in self.evaluations[-3:]
            ]
            sample = " ".join(self.evaluations[-1].sample.split())[:SAMPLE]
            parts += [table(_("bits per character"), rows), f'<p lang="ko">{escape(sample)}</p>']
        style = "max-width:44em;font-variant-numeric:tabular-nums"
        return f'<div style="{style}">{"".join(parts)}{self._curve()}</div>'

    def _curve(self) -> str:
        """The curve so far, as an image: its style stays its own."""
        if len(self.evaluations) > 1:
            points = [(float(one.step), one.bits_per_character) for one in self.evaluations]
            name, unit, levels = _("model"), _("bits per character"), self.levels
        elif len(self.losses) > 1 and not self.evaluations:
            points, name, unit, levels = self.losses, _("training loss"), _("nats"), []
        else:
            return ""
        drawing = svg_file(
            [Series(name, points)],
            title=unit,
            x_label=_("steps"),
            y_label=unit,
            levels=levels,
            width=560,
            height=240,
        )
        data = base64.b64encode(drawing.encode()).decode()
        source = f"data:image/svg+xml;base64,{data}"
        return f'<img style="max-width:100%" alt="{escape(unit)}" src="{source}">'


def _show() -> Callable[[_State, bool], None]:
    """What shows a state as it is, or, where it is worth no line, only when it is time."""
    display = _kernel_display()
    if display is None:
        return _write_line
    handle: Any = None
    last = 0.0

    def update(state: _State, important: bool) -> None:
        nonlocal handle, last
        now = time.monotonic()
        if not important and now - last < PAUSE:
            return
        last = now
        if handle is None:
            handle = display(state, display_id=True)
        else:
            handle.update(state)

    return update


def _write_line(state: _State, important: bool) -> None:
    if important and not state.ended:
        sys.stderr.write(f"{state}\n")


def _kernel_display() -> Callable[..., Any] | None:
    """IPython's `display`, where a Jupyter kernel runs this code."""
    ipython = sys.modules.get("IPython")
    shell = None
    with contextlib.suppress(AttributeError):  # a module of that name that is none
        shell = ipython and ipython.get_ipython()
    if not hasattr(shell, "kernel"):
        return None
    return cast(Callable[..., Any], import_module("IPython.display").display)
