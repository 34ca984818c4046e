"""P8: a loss or gradient that is not finite never reaches the weights and is always logged."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import semigpt.run as run_module
from conftest import SMALL, small_model
from semigpt.config import SampleSettings
from semigpt.dataset import Dataset
from semigpt.device import MachineSettings
from semigpt.errors import SettingsError, TrainingError
from semigpt.models import model_settings
from semigpt.models.base import LanguageModel
from semigpt.recipe import Finished, Recipe, Stepped, train
from semigpt.run_folder import RunFolder
from semigpt.studies.crash_test import small_tables
from semigpt.training.optimizer import Optimizer, OptimizerSettings
from semigpt.training.progress import Progress
from semigpt.training.settings import TrainingSettings
from semigpt.training.step import Step, make_step
from semigpt.training.trainer import training_steps


def poisoned_step(model: LanguageModel, at: int, kind: str) -> Step:
    """A step of which the `at`-th goes wrong."""
    calls, step = itertools.count(1), make_step(model, MachineSettings())

    def poisoned(*arguments: Any) -> torch.Tensor:
        loss = step(*arguments)
        if next(calls) != at:
            return loss
        if kind != "gradient":
            return loss * float(kind)
        next(p for p in model.parameters() if p.dim() == 2).grad.mul_(math.inf)
        return loss

    return poisoned


@pytest.mark.parametrize("kind", ["nan", "inf", "gradient"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_poisoned_batch_never_reaches_the_weights(
    dataset: Dataset, rung: str, kind: str, optimizer: str
) -> None:
    model = small_model(rung)
    optimizer_ = Optimizer(model, OptimizerSettings(optimizer=optimizer))
    settings = TrainingSettings(steps=5, batch_size=4)
    step = poisoned_step(model, 3, kind)
    steps = training_steps(model, dataset, optimizer_, settings, Progress(), step=step)
    next(steps), next(steps)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(
        TrainingError, match="at step 3, blocks 8 to 11 of seed 0; the weights were not touched"
    ):
        next(steps)
    if (
        rung != "bigram"
    ):  # its weights are brought up to date when they are read, which is no update
        assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert all(p.isfinite().all() for p in model.parameters())
    assert all(tensor.isfinite().all() for tensor in optimizer_.state().values())


@pytest.mark.parametrize("kind", ["nan", "gradient"])
def test_skipping_counts_and_goes_on(dataset: Dataset, rung: str, kind: str) -> None:
    model = small_model(rung)
    progress = Progress()
    settings = TrainingSettings(steps=5, batch_size=4, on_nonfinite="skip")
    step = poisoned_step(model, 3, kind)
    optimizer = Optimizer(model, OptimizerSettings())
    reports = list(training_steps(model, dataset, optimizer, settings, progress, step=step))
    assert [report.skipped for report in reports] == [False, False, True, False, False]
    assert progress.skipped == 1
    assert all(p.isfinite().all() for p in model.parameters())
    assert all(math.isfinite(report.loss) for report in reports if not report.skipped)


def recipe(**training: object) -> Recipe:
    return Recipe.from_tables(small_tables("gpt", **training))


def poison_from(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients that are not finite at one step of the run, counted from 1, rehearsal aside."""
    real = Optimizer.clip_gradients
    calls: dict[int, int] = {}

    def clip_gradients(self: Optimizer) -> torch.Tensor:
        calls[id(self)] = calls.get(id(self), 0) + 1
        norm = real(self)
        return norm * math.nan if len(calls) > 1 and calls[id(self)] == step else norm

    monkeypatch.setattr(Optimizer, "clip_gradients", clip_gradients)


def test_the_run_stops_and_names_its_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison_from(11, monkeypatch)
    with pytest.raises(TrainingError) as error:
        list(train(recipe(), tmp_path / "run"))
    message = str(error.value)
    assert "\n" not in message
    assert "at step 11, blocks 80 to 87 of seed 0; the weights were not touched" in message
    assert "the last good checkpoint, step-00000008, is intact" in message
    assert f"semigpt train --resume {tmp_path / 'run'} --set training.on_nonfinite=skip" in message
    newest = RunFolder.open(tmp_path / "run").newest()
    assert newest is not None
    assert all(tensor.isfinite().all() for tensor in newest.tensors["model"].values())


def test_skipped_steps_are_in_the_log_and_in_the_end_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison_from(11, monkeypatch)
    last = list(train(recipe(on_nonfinite="skip"), tmp_path / "run"))[-1]
    assert isinstance(last, Finished)
    assert last.skipped == 1
    rows = RunFolder.open(tmp_path / "run").rows("metrics")
    (row,) = [row for row in rows if "skipped" in row]
    assert (row["step"], row["blocks"], row["not_finite"]["gradient_norm"]) == (11, [80, 87], "nan")
    assert json.dumps(rows, allow_nan=False), "every line is JSON that any reader takes"


def test_a_run_that_stopped_may_go_on_skipping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """on_nonfinite is a setting that a run may change; its config.toml then says so."""
    for event in train(recipe(), tmp_path / "run"):
        if isinstance(event, Stepped) and event.report.step == 10:
            break
    last = list(train(recipe(on_nonfinite="skip"), tmp_path / "run"))[-1]
    assert isinstance(last, Finished)
    assert RunFolder.open(tmp_path / "run").config()["training"]["on_nonfinite"] == "skip"


def test_a_spike_is_seen_and_noise_is_not() -> None:
    """0.5 nats and 5 standard deviations above the running mean, from the 51st step on."""
    draw = torch.Generator().manual_seed(0)
    progress = Progress()

    def spikes(loss: float) -> bool:
        seen = progress.watch(loss)
        progress.step += 1
        return seen

    assert not any(spikes(5 - 0.04 * k) for k in range(49)), "falling is learning"
    assert not any(spikes(3.0 + 0.05 * torch.randn(1, generator=draw).item()) for _ in range(400))
    assert not spikes(3.4), "under half a nat"
    assert spikes(4.0)
    early = Progress()
    assert not any(early.watch(loss) for loss in (3.0, 3.0, 9.0)), "nobody knows yet what is usual"


def test_a_spike_stands_out_of_the_noise_of_its_own_run() -> None:
    """Where the loss varies by 0.3 nats, one nat more is no spike; two and a half are."""
    draw = torch.Generator().manual_seed(0)
    progress = Progress()
    for _ in range(400):
        assert not progress.watch(3.0 + 0.3 * torch.randn(1, generator=draw).item())
        progress.step += 1
    assert not progress.watch(4.0)
    assert progress.watch(5.5)


TABLES = {
    "optimizer": OptimizerSettings(),
    "model": model_settings("gpt", SMALL["gpt"]),
    "training": TrainingSettings(minutes=1.0),
    "sample": SampleSettings(),
}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_setting_is_not_finite(value: float) -> None:
    """Every number of every table, from TOML and, where it reaches the weights, from Python."""
    tried = 0
    for table, settings in TABLES.items():
        for field in fields(settings):
            now = getattr(settings, field.name)
            if "float" not in str(field.type):
                continue
            changed = (now[0], value) if isinstance(now, tuple) else value
            plain = list(changed) if isinstance(changed, tuple) else changed
            tables = small_tables("gpt")
            tables[table] = {**tables.get(table, {}), field.name: plain}
            with pytest.raises(SettingsError, match=field.name):
                Recipe.from_tables(tables)
            if table in ("optimizer", "model", "training"):
                with pytest.raises(SettingsError, match=field.name):
                    replace(settings, **{field.name: changed})
            tried += 1
    assert tried >= 15


@pytest.mark.parametrize("value", [10**400, 2**63])
def test_no_whole_number_is_too_large_for_c(value: int) -> None:
    for name in ("seed", "steps", "batch_size"):
        with pytest.raises(SettingsError, match=name):
            recipe(**{name: value})


def test_a_loss_of_weights_that_overflowed_is_json_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every step is skipped, evaluations say NaN, and the log is JSON all the same."""
    real = run_module.measure
    calls = itertools.count()

    def measured(*arguments: Any) -> Any:
        found = real(*arguments)
        if next(calls) == 0:
            return found
        return found._replace(estimate=replace(found.estimate, loss=math.nan))

    monkeypatch.setattr(run_module, "measure", measured)
    list(train(recipe(on_nonfinite="skip"), tmp_path / "run"))
    rows = RunFolder.open(tmp_path / "run").rows("metrics")
    assert json.dumps(rows, allow_nan=False)
    assert [row["not_finite"]["val_loss"] for row in rows if "not_finite" in row]
