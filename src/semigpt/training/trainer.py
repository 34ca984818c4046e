"""Training as an iterator: `for report in training_steps(...)`.

What is printed, evaluated, saved or generated between two steps is plain code of the caller's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from semigpt.dataset import Dataset
from semigpt.device import MachineSettings
from semigpt.errors import TrainingError
from semigpt.models.base import LanguageModel
from semigpt.training.distillation import Teacher
from semigpt.training.optimizer import Optimizer
from semigpt.training.progress import FIRST_LEG, Progress, StepReport
from semigpt.training.settings import LegSettings, TrainingSettings
from semigpt.training.step import Step, make_step

__all__ = ["blocks_of", "training_steps"]


def training_steps(
    model: LanguageModel,
    dataset: Dataset,
    optimizer: Optimizer,
    settings: TrainingSettings,
    progress: Progress,
    *,
    step: Step | None = None,
    teacher: Teacher | None = None,
    leg: LegSettings = FIRST_LEG,
) -> Iterator[StepReport]:
    """Train `model` on the training split to the end of `settings`: one report per update.

    `progress` is kept current. `step` computes loss and gradients; by default the fastest that
    `make_step` finds. `teacher` decides the distillation weight of each step, `leg` where the
    schedule begins. What the caller does between two steps counts on the run's clock.

    A loss or gradient that is not finite never reaches the weights. It raises TrainingError,
    naming step and blocks; with `on_nonfinite="skip"` the step ends without an update and its
    report says so.
    """
    step = step or make_step(model, MachineSettings(), teacher)
    clock_zero = time.monotonic() - progress.seconds
    batch = _batch(model, dataset, settings, progress.step)
    while (fraction := progress.fraction(settings, leg)) < 1:
        model.train()
        distillation_weight = 0.0 if teacher is None else teacher.distillation_weight(progress)
        loss = _accumulate(step, batch, settings.gradient_accumulation, distillation_weight)
        norm = optimizer.clip_gradients()
        # Read while a GPU still works on this step.
        upcoming = _batch(model, dataset, settings, progress.step + 1)
        loss_value, norm_value = torch.stack((loss, norm)).tolist()
        finite = math.isfinite(loss_value) and math.isfinite(norm_value)
        if not finite and settings.on_nonfinite == "stop":
            optimizer.zero_gradients()
            raise _not_finite(loss_value, norm_value, progress.step + 1, settings)
        rate = optimizer.step(fraction, leg) if finite else 0.0
        optimizer.zero_gradients()
        spike = finite and progress.watch(loss_value)
        batch = upcoming
        progress.step += 1
        progress.skipped += not finite
        progress.tokens_seen += settings.batch_size * model.settings.context_length
        progress.seconds = time.monotonic() - clock_zero
        yield StepReport(
            step=progress.step,
            tokens_seen=progress.tokens_seen,
            fraction=progress.fraction(settings, leg),
            loss=loss_value,
            learning_rate=rate,
            gradient_norm=norm_value,
            seconds=progress.seconds,
            skipped=not finite,
            spike=spike,
        )
        progress.seconds = time.monotonic() - clock_zero


def blocks_of(step: int, settings: TrainingSettings) -> tuple[int, int]:
    """The first and last block of a step (counted from 1), as numbers in the seed's order."""
    return (step - 1) * settings.batch_size, step * settings.batch_size - 1


def _batch(
    model: LanguageModel, dataset: Dataset, settings: TrainingSettings, step: int
) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a step, `[B, T]` both, on the model's device."""
    inputs_BT, targets_BT = dataset.batch(
        "train",
        model.settings.context_length,
        settings.batch_size,
        seed=settings.seed,
        step=step,
        order=settings.order,
    )
    if model.device.type != "cuda":
        return inputs_BT.to(model.device), targets_BT.to(model.device)
    # Pinned memory is copied while the GPU is busy with the step before.
    inputs_BT, targets_BT = (ids_BT.pin_memory() for ids_BT in (inputs_BT, targets_BT))
    return (
        inputs_BT.to(model.device, non_blocking=True),
        targets_BT.to(model.device, non_blocking=True),
    )


def _accumulate(
    step: Step, batch: tuple[Tensor, Tensor], parts: int, distillation_weight: float
) -> Tensor:
    """The mean loss of a batch, its gradients accumulated over `parts` micro-batches."""
    inputs_BT, targets_BT = batch
    loss = torch.zeros((), device=inputs_BT.device)
    for part in zip(inputs_BT.chunk(parts), targets_BT.chunk(parts), strict=True):
        loss += step(*part, 1 / parts, distillation_weight) / parts
    return loss


def _not_finite(loss: float, norm: float, step: int, settings: TrainingSettings) -> TrainingError:
    first, last = blocks_of(step, settings)
    return TrainingError(
        f"the loss is {loss} and the gradient norm {norm} at step {step}, blocks {first} to {last} "
        f"of seed {settings.seed}; the weights were not touched"
    )
