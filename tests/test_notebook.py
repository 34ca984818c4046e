"""How a training shows itself in Python: one display in a kernel, lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from semigpt import notebook, show_progress
from semigpt.evaluation.baselines import Baselines
from semigpt.evaluation.evaluate import LossEstimate
from semigpt.preparation import Preparing
from semigpt.recipe import Stepped
from semigpt.run_events import BaselinesMeasured, Evaluated, Finished
from semigpt.run_folder import RunFolder
from semigpt.training.progress import StepReport

HOSTILE = "<script>alert(1)</script> & \x1b[2J 한국"


def report(step: int, steps: int = 40, loss: float = 5.0) -> StepReport:
    return StepReport(
        step=step,
        tokens_seen=100 * step,
        fraction=step / steps,
        loss=loss,
        learning_rate=0.1,
        gradient_norm=1.0,
        seconds=0.5 * step,
    )


def evaluated(step: int, bits: float) -> Evaluated:
    return Evaluated(step, LossEstimate(2.0, 0.1, 64), bits, HOSTILE, best=True)


def events(folder: Path) -> Iterator[Any]:
    """Those of a short run, as far as they are shown."""
    yield Preparing("reading: 3 documents", 0.25)
    yield evaluated(0, 10.0)
    for step in range(1, 41):
        yield Stepped(report(step))
        if step == 20:
            measured = Baselines(**dict.fromkeys(Baselines.__dataclass_fields__, 3.0))
            yield BaselinesMeasured(measured)
        if step % 20 == 0:
            yield evaluated(step, 6.0 - step / 10)
    yield Finished(
        run=RunFolder(folder / HOSTILE.replace("/", "")),
        **{"step": 40, "tokens_seen": 4000, "seconds": 20.0, "best": evaluated(40, 2.0)},
        **{"baselines": None, "complete": True, "skipped": 0, "saving_fraction": 0.0},
        **{"last_save_seconds": 0.0, "forecast": None, "memory": 1, "disk": 1},
    )


class Kernel:
    """A stand-in for IPython in a kernel: what `display` was given, and each update of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **shell: object) -> None:
        self.shown: list[str] = []
        self.begun = 0
        ipython, displays = ModuleType("IPython"), ModuleType("IPython.display")
        ipython.get_ipython = lambda: SimpleNamespace(**shell)
        displays.display = self.display
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        monkeypatch.setitem(sys.modules, "IPython.display", displays)
        monkeypatch.setattr(notebook, "PAUSE", 0.0)

    def display(self, thing: Any, *, display_id: bool) -> Kernel:
        assert display_id
        self.begun += 1
        self.update(thing)
        return self

    def update(self, thing: Any) -> None:
        self.shown.append(thing._repr_html_())


def test_a_kernel_shows_one_display_that_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = Kernel(monkeypatch, kernel=object())
    expected = list(events(tmp_path))
    assert [type(one) for one in show_progress(events(tmp_path))] == [type(o) for o in expected]
    assert kernel.begun == 1
    assert len(kernel.shown) == len(expected) + 1
    assert 'value="0.2500"' in kernel.shown[0]
    assert "reading: 3 documents" in kernel.shown[0]
    middle = kernel.shown[12]
    assert "step 11 · loss 5.000 nats · 200 tokens/s · 0:14 left" in middle
    assert "10.000" in middle
    assert "data:image/svg+xml" not in middle, "one evaluation is no curve"
    assert "data:image/svg+xml" in kernel.shown[-1]
    assert "2.000" in kernel.shown[-1]
    assert "<progress" not in kernel.shown[-1]
    assert not any("<script" in html or "\x1b" in html for html in kernel.shown)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("shell", ["none", "a terminal's"])
def test_elsewhere_it_is_a_line_at_each_evaluation(
    shell: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if shell == "none":
        monkeypatch.delitem(sys.modules, "IPython", raising=False)
    else:
        Kernel(monkeypatch)
    list(show_progress(events(tmp_path)))
    out, lines = capsys.readouterr()
    assert out == ""
    assert lines.splitlines() == [
        "step 0: 10.000 bits per character",
        "step 20: 4.000 bits per character",
        "step 40: 2.000 bits per character",
        "finished: 2.000 bits per character",
    ]
    assert shell != "none" or "IPython" not in sys.modules


def test_steps_alone_have_a_line_at_each_tenth_and_a_curve_of_their_loss(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [report(step, loss=1.0) for step in range(1, 41)]
    list(show_progress(steps))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "step 4 · loss 1.000 nats"
    assert len(lines) == 10
    kernel = Kernel(monkeypatch, kernel=object())
    list(show_progress(steps))
    assert "step 40 · loss 1.000 nats" in kernel.shown[-1]
    assert "data:image/svg+xml" in kernel.shown[-1]


def test_what_ends_the_loop_early_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing() -> Iterator[StepReport]:
        yield report(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(show_progress(failing()))
    assert capsys.readouterr().err == "step 1 · loss 5.000 nats · stopped\n"
    kernel = Kernel(monkeypatch, kernel=object())
    for one in show_progress(report(step) for step in range(1, 41)):
        if one.step == 3:
            break
    assert "step 3 · loss 5.000 nats · stopped" in kernel.shown[-1]
    assert "<progress" not in kernel.shown[-1]


def test_what_happened_shows_itself_as_a_small_table(tmp_path: Path) -> None:
    *_, finished = events(tmp_path)
    assert repr(finished).endswith(": 40 steps, 2.000 bits per character>")
    for html in (finished._repr_html_(), finished.best._repr_html_()):
        assert html.count("<tr>") == 3
        assert "2.000" in html
        assert "<script" not in html
        assert "\x1b" not in html
