"""The trainer: schedule, budgets, what is refused, and numbers pinned."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
import torch

from conftest import VOCABULARY, small_model
from semigpt.dataset import Dataset, as_block
from semigpt.device import MachineSettings
from semigpt.errors import SettingsError, TrainingError
from semigpt.models.gpt import GPT
from semigpt.native import orthogonal as newton_schulz
from semigpt.ngrams.counts import Counts
from semigpt.training.distillation import Teacher
from semigpt.training.muon import Muon
from semigpt.training.optimizer import Optimizer, OptimizerSettings, learning_rate_scale
from semigpt.training.progress import Pace, Progress, StepReport
from semigpt.training.settings import TrainingSettings
from semigpt.training.step import make_step
from semigpt.training.trainer import training_steps


def run(
    rung: str, dataset: Dataset, training: TrainingSettings, **optimizer: object
) -> tuple[list[float], torch.nn.Module]:
    model = small_model(rung)
    settings = OptimizerSettings(**{"learning_rate": 1e-2, **optimizer})
    reports = list(training_steps(model, dataset, Optimizer(model, settings), training, Progress()))
    return [report.loss for report in reports], model


def test_training_learns_every_rung(rung: str, dataset: Dataset) -> None:
    losses, _ = run(
        rung,
        dataset,
        TrainingSettings(steps=60, batch_size=16),
        learning_rate=0.05 if rung == "bigram" else 1e-2,
    )
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_one_step_is_pinned(dataset: Dataset, optimizer: str) -> None:
    """A change here is a change of initialization, order of blocks, loss or update."""
    losses, _ = run(
        "gpt",
        dataset,
        TrainingSettings(steps=3, batch_size=4),
        optimizer=optimizer,
        schedule="constant",
        warmup=0,
    )
    expected = {"adamw": [3.9200, 3.8133, 3.8269], "muon": [3.9200, 3.8099, 3.8348]}[optimizer]
    assert losses == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("parts", [2, 8])
def test_the_loss_of_a_step_is_the_mean_over_its_micro_batches(
    dataset: Dataset, parts: int
) -> None:
    (whole,), _ = run("attention", dataset, TrainingSettings(steps=1, batch_size=8))
    training = TrainingSettings(steps=1, batch_size=8, gradient_accumulation=parts)
    (accumulated,), _ = run("attention", dataset, training)
    assert accumulated == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize(
    ("budget", "steps"),
    [({"steps": 7}, 7), ({"tokens": 16 * 8 * 5}, 5), ({"tokens": 16 * 8 * 5 - 1}, 5)],
)
def test_budget_in_steps_or_tokens(dataset: Dataset, budget: dict[str, int], steps: int) -> None:
    losses, _ = run("bigram", dataset, TrainingSettings(batch_size=8, **budget))
    assert len(losses) == steps


def test_budget_in_minutes_ends_by_the_clock(dataset: Dataset) -> None:
    start = time.monotonic()
    losses, _ = run("bigram", dataset, TrainingSettings(batch_size=8, minutes=0.01))
    assert time.monotonic() - start > 0.5
    assert len(losses) > 3


@pytest.mark.parametrize("budget", [{}, {"steps": 1, "minutes": 1.0}])
def test_exactly_one_budget(budget: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="exactly one of steps, tokens and minutes"):
        TrainingSettings(**budget)


def test_schedules_start_low_reach_the_top_and_end_at_the_final_rate() -> None:
    cosine = OptimizerSettings(schedule="cosine", warmup=0.1, final_rate=0.1)
    trapezoid = OptimizerSettings(schedule="trapezoid", warmup=0.1, decay=0.4, final_rate=0.0)
    for settings in (cosine, trapezoid):
        assert 0 < learning_rate_scale(0.0, settings) <= 0.01
        assert learning_rate_scale(0.05, settings) == pytest.approx(0.5)
        assert learning_rate_scale(0.1, settings) == pytest.approx(1.0)
        assert learning_rate_scale(1.0, settings) == pytest.approx(settings.final_rate)
    assert learning_rate_scale(0.55, cosine) == pytest.approx(0.1 + 0.9 * 0.5)
    assert learning_rate_scale(0.6, trapezoid) == pytest.approx(1.0)
    assert learning_rate_scale(0.8, trapezoid) == pytest.approx(0.5)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("decayed", ["matrices", "all"])
@pytest.mark.parametrize("rung", ["blocks", "gpt", "memory"])
def test_decay_falls_on_matrices_alone(rung: str, decayed: Any, optimizer: Any) -> None:
    """Without a gradient decay is all that moves a weight: by exactly rate x decay of itself."""
    model = small_model(rung)
    settings = OptimizerSettings(
        optimizer=optimizer,
        decayed=decayed,
        learning_rate=1e-2,
        muon_learning_rate=1e-2,
        weight_decay=0.5,
        schedule="constant",
        warmup=0,
    )
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    Optimizer(model, settings).step(0.5)
    free = {
        name
        for name, parameter in model.named_parameters()
        if parameter.dim() == 1 or "embed" in name or name in ("gate", "token_features.weight")
    }
    assert len(free) >= 5
    for name, parameter in model.named_parameters():
        decays = decayed == "all" or name not in free
        expected = before[name] * (1 - 1e-2 * 0.5) if decays else before[name]
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-6, atol=0, msg=name)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("tied", [False, True])
def test_embeddings_have_a_rate_of_their_own(optimizer: Any, tied: bool) -> None:
    """AdamW's first step goes as far as the rate, in every number that has a gradient."""
    model = small_model("gpt", tie_embeddings=tied)
    assert isinstance(model, GPT)
    settings = OptimizerSettings(
        optimizer=optimizer,
        learning_rate=1e-3,
        embedding_rate=4.0,
        weight_decay=0.0,
        schedule="constant",
        warmup=0,
    )
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    Optimizer(model, settings).step(0.5)
    moved = {name: (before[name] - parameter).abs() for name, parameter in model.named_parameters()}
    expected = {"model.embed_tokens.weight": 1e-3 if tied else 4e-3, "model.norm.weight": 1e-3}
    for name, distance in {**expected, **({} if tied else {"lm_head.weight": 1e-3})}.items():
        torch.testing.assert_close(
            moved[name], torch.full_like(moved[name], distance), rtol=1e-3, atol=1e-6
        )


@pytest.mark.parametrize("rung", ["blocks", "gpt"])
@pytest.mark.parametrize("clip", [0.0, 1e-3, 1e3])
def test_clipping_is_torchs(rung: str, clip: float, dataset: Dataset) -> None:
    model, plain = small_model(rung), small_model(rung)
    inputs, targets = dataset.batch("train", 16, 4)
    for each in (model, plain):
        each(inputs, targets)[1].backward()
    norm = Optimizer(model, OptimizerSettings(clip=clip)).clip_gradients()
    expected = torch.nn.utils.clip_grad_norm_(plain.parameters(), clip or math.inf)
    assert 1e-3 < expected < 1e3
    torch.testing.assert_close(norm, expected, msg="the norm returned is the one before clipping")
    for ours, torchs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, torchs.grad)


def test_a_run_clips_before_it_updates(dataset: Dataset) -> None:
    """AdamW's first moment is a tenth of the gradient that it was given."""
    model = small_model("gpt")
    settings = OptimizerSettings(optimizer="adamw", clip=1e-3, betas=(0.9, 0.95))
    optimizer = Optimizer(model, settings)
    training = TrainingSettings(steps=1, batch_size=4)
    (report,) = training_steps(model, dataset, optimizer, training, Progress())
    assert report.gradient_norm > 1e-2
    moments = [tensor for name, tensor in optimizer.state().items() if name.endswith(".exp_avg")]
    total = torch.nn.utils.get_total_norm(moments)
    assert total.item() == pytest.approx((1 - 0.9) * 1e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be more than 0"),
        ({"betas": (0.9, 1.0)}, "betas must be at least 0 and less than 1"),
        ({"schedule": "linear"}, "schedule must be one of cosine, trapezoid, constant"),
        ({"warmup": 2.0}, "warmup is a fraction"),
        ({"clip": -1.0}, "clip must not be less than 0"),
    ],
)
def test_impossible_optimizer_settings_are_refused(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        OptimizerSettings(**settings)


def test_a_batch_that_cannot_be_cut_is_refused() -> None:
    with pytest.raises(SettingsError, match="10 blocks cannot be cut into 4"):
        TrainingSettings(steps=1, batch_size=10, gradient_accumulation=4)


def test_poisoned_weights_stop_the_run_before_the_update(dataset: Dataset, rung: str) -> None:
    """P8: what is not finite never reaches the weights."""
    model = small_model(rung)
    optimizer = Optimizer(model, OptimizerSettings())
    settings = TrainingSettings(steps=5, batch_size=4)
    steps = training_steps(model, dataset, optimizer, settings, Progress())
    next(steps)
    with torch.no_grad():
        next(p for p in model.parameters() if p.dim() == 2)[:, 0] = math.inf
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(
        TrainingError, match="at step 2, blocks 4 to 7 of seed 0; the weights were not touched"
    ):
        next(steps)
    for now, then in zip(model.parameters(), before, strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)])
def test_muon_over_stacks_is_torchs_one_by_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape)) for _ in range(3)]
    torchs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    muon = Muon(ours, momentum=0.9, weight_decay=0.1)
    reference = torch.optim.Muon(torchs, lr=0.02, weight_decay=0.1, momentum=0.9)
    for step in range(4):
        for a, b in zip(ours, torchs, strict=True):
            a.grad = (
                torch.randn(shape, generator=torch.Generator().manual_seed(step)) + a.detach() / 10
            )
            b.grad = a.grad.clone()
        muon.step(0.02)
        reference.step()
    for a, b in zip(ours, torchs, strict=True):
        # PyTorch orthogonalises in bfloat16 everywhere, and adds up in another order.
        torch.testing.assert_close(a, b, atol=2e-3, rtol=0)
    again = Muon(ours, momentum=0.9, weight_decay=0.1)
    again.load_state({name: tensor.clone() for name, tensor in muon.state().items()})
    assert all(torch.equal(again.state()[name], tensor) for name, tensor in muon.state().items())


@pytest.mark.parametrize("shape", [(48, 48), (16, 80), (112, 32), (16, 16), (128, 384)])
def test_newton_schulz_in_c_is_that_of_pytorchs_products(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not newton_schulz.fits(torch.empty(1, *shape)):
        pytest.skip("no C compiler")
    torch.manual_seed(0)
    matrices = torch.randn(5, *shape) * torch.logspace(-6, 6, 5)[:, None, None]
    matrices[3] = 0
    before = matrices.clone()
    found = Muon.orthogonal(matrices)
    assert torch.equal(matrices, before)
    # As few of them, and as many threads: a matrix's bits are its own.
    assert torch.equal(Muon.orthogonal(matrices[2:4]), found[2:4])
    monkeypatch.setattr(newton_schulz, "fits", lambda matrices: False)
    torch.testing.assert_close(found, Muon.orthogonal(matrices), rtol=1e-3, atol=1e-4)


def test_newton_schulz_in_c_leaves_what_it_does_not_take() -> None:
    for other in (
        torch.empty(1, 24, 16),
        torch.empty(1, 16, 40),
        torch.empty(1, 16, 16).double(),
        torch.empty(1, 16, 16, device="meta"),
    ):
        assert not newton_schulz.fits(other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_muon_multiplies_as_the_hardware_does(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semigpt.training.muon.pick_precision", lambda device, precision: dtype)
    matrices = torch.randn(2, 16, 40)
    before = matrices.clone()
    found = Muon.orthogonal(matrices)
    assert found.dtype == dtype
    assert torch.equal(matrices, before)
    singular = torch.linalg.svdvals(found.float())
    assert 0.5 < singular.min() < singular.max() < 1.3


def test_a_teacher_has_weight_while_it_is_ahead(dataset: Dataset) -> None:
    counts = Counts.fit(dataset.stream("train").read(0, 5000), VOCABULARY, order=3)
    teacher = Teacher.of(counts, dataset.stream("train"), 16)
    assert 1.28 < teacher.loss < 2.2, "leave-one-out: the noise, 1.28 nats, cannot be known"
    inputs, targets = as_block(dataset.stream("train").windows(np.arange(0, 4992, 16), 17))
    known = counts.distribution(inputs).gather(2, targets[..., None]).log().mean()
    assert teacher.loss > 0.05 - known.item(), "what it has seen itself does not count"
    weights = [
        teacher.distillation_weight(Progress(step=9, loss_mean=teacher.loss + gap))
        for gap in (-0.1, 0.0, 0.1, 0.2, 5.0)
    ]
    assert weights[:2] == [0.0, 0.0]
    assert weights[2:] == pytest.approx([0.1 / 0.35, 0.2 / 0.35, 1.0])
    assert teacher.distillation_weight(Progress()) == 1.0


@pytest.mark.parametrize("rung", ["bigram", "blocks", "gpt"])
def test_distilled_models_learn_sooner(rung: str, dataset: Dataset) -> None:
    counts = Counts.fit(dataset.stream("train").read(0, 5000), VOCABULARY, order=3)
    last = []
    for teacher in (None, Teacher.of(counts, dataset.stream("train"), 16)):
        model = small_model(rung)
        optimizer = Optimizer(model, OptimizerSettings(learning_rate=3e-3))
        settings = TrainingSettings(steps=40, batch_size=4)
        steps = training_steps(model, dataset, optimizer, settings, Progress(), teacher=teacher)
        last.append(sum([report.loss for report in steps][-10:]) / 10)
    assert last[1] < last[0] - 0.01


def test_the_learning_rate_follows_the_schedule(dataset: Dataset) -> None:
    model = small_model("attention")
    settings = OptimizerSettings(learning_rate=1e-2, warmup=0.3, decay=0.5)
    training = TrainingSettings(steps=10, batch_size=4)
    reports = training_steps(model, dataset, Optimizer(model, settings), training, Progress())
    found = [report.learning_rate for report in reports]
    expected = [1e-2 * learning_rate_scale(step / 10, settings) for step in range(10)]
    assert found == pytest.approx(expected)
    assert len(set(found)) > 5


def test_each_step_has_the_teachers_weight_of_the_moment(dataset: Dataset) -> None:
    model, progress = small_model("attention"), Progress()
    counts = Counts.fit(dataset.stream("train").read(0, 5000), VOCABULARY, order=3)
    teacher = Teacher(counts, loss=math.log(VOCABULARY))
    run_step = make_step(model, MachineSettings(), teacher)
    weights = []

    def step(*batch: Any) -> torch.Tensor:
        weights.append(batch[3])
        assert batch[3] == teacher.distillation_weight(progress)
        return run_step(*batch)

    training = TrainingSettings(steps=30, batch_size=4)
    optimizer = Optimizer(model, OptimizerSettings(learning_rate=1e-2))
    list(training_steps(model, dataset, optimizer, training, progress, step=step, teacher=teacher))
    assert weights[0] == 1.0
    assert weights[-1] < 1.0


def report(step: int, seconds: float) -> StepReport:
    return StepReport(step, 0, 0.1, 1.0, 0.1, 1.0, seconds, skipped=False, spike=False)


def test_steps_that_take_over_three_times_the_forecast_are_told_once() -> None:
    pace, now, told = Pace(0.1), 0.0, []
    # Evaluations between steps, and a few slow steps, are no slow machine.
    durations = [*[0.1] * 20, 5.0, *[0.1] * 9, *[1.0] * 4, *[0.1] * 9, *[0.29] * 20, *[0.4] * 20]
    for step, duration in enumerate(durations):
        now += duration
        told.append(pace.slowed(report(step, now)))
    assert [(at, slow) for at, slow in enumerate(told) if slow] == [(67, pytest.approx(0.4))]
    assert not any(Pace(None).slowed(report(step, float(step))) for step in range(30))
