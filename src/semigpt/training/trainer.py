"""Training as an iterator: `for report in training_steps(...)`.

What is printed, evaluated, saved or generated between two steps is plain code of the caller's.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Generator, Iterator

import torch
from torch import Tensor, nn

from semigpt.dataset import Dataset
from semigpt.device import MachineSettings
from semigpt.errors import SettingsError, TrainingError
from semigpt.evaluation.evaluate import estimate_loss
from semigpt.language import _
from semigpt.models.base import LanguageModel
from semigpt.parallel import ALONE, Group, TreeSum, Turn, check_lanes
from semigpt.training.distillation import Teacher
from semigpt.training.optimizer import Optimizer
from semigpt.training.progress import FIRST_LEG, Progress, StepReport
from semigpt.training.settings import LegSettings, TrainingSettings
from semigpt.training.sharding import ShardedOptimizer
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
    group: Group = ALONE,
) -> Generator[StepReport, None, None]:
    """Train `model` on the training split to the end of `settings`: one report per update.

    `progress` is kept current. `step` computes loss and gradients; by default the fastest that
    `make_step` finds. `teacher` decides the distillation weight of each step, `leg` where the
    schedule begins. What the caller does between two steps counts on the run's clock.

    The processes of a `group` compute a step's micro-batches together, by the first one's clock,
    and each ends with the same bits. Dropout draws from the global generator, which each
    micro-batch sets anew: which units it drops depends on seed, step and micro-batch alone.

    A loss or gradient that is not finite never reaches the weights. It raises TrainingError,
    naming step and blocks; with `on_nonfinite="skip"` the step ends without an update and its
    report says so.
    """
    check_lanes(settings.gradient_accumulation, group.size, group.shards)
    step = step or make_step(model, MachineSettings(), teacher)
    clock_zero = time.monotonic() - progress.seconds
    batch = _batch(model, dataset, settings, progress.step, group)
    while True:
        turn = Turn.STEP if progress.fraction(settings, leg) < 1 else Turn.END
        if turn is Turn.END and group.sharded and not group.rank:
            return  # the caller may save once more, with the others, and ends the group
        progress.seconds, turn = group.agree(progress.seconds, turn)
        if turn is Turn.END:
            break
        if turn is not Turn.STEP:  # the first process's caller wants it
            _join_in(turn, model, dataset, optimizer, settings, group)
            continue
        fraction = progress.fraction(settings, leg)
        model.train()
        distillation_weight = 0.0 if teacher is None else teacher.distillation_weight(progress)
        lanes = _lanes(batch, settings, progress.step, group)
        loss = _accumulate(step, lanes, optimizer.parameters, distillation_weight, group)
        norm = optimizer.clip_gradients()
        # Read while a GPU still works on this step.
        upcoming = _batch(model, dataset, settings, progress.step + 1, group)
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
        report = StepReport(
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
        try:
            yield report
        except GeneratorExit:
            group.end()
            raise
        progress.seconds = time.monotonic() - clock_zero


def _join_in(
    turn: Turn,
    model: LanguageModel,
    dataset: Dataset,
    optimizer: Optimizer,
    settings: TrainingSettings,
    group: Group,
) -> None:
    """This process's part of an evaluation, or of a checkpoint."""
    if turn is Turn.SAVE:
        assert isinstance(optimizer, ShardedOptimizer)
        optimizer.write_part()
        return
    estimate_loss(
        model,
        dataset.stream("validation"),
        context_length=model.settings.context_length,
        blocks=settings.eval_blocks,
        group=group,
    )
    optimizer.whole(model)  # of a sharded one the first process needs a copy


def blocks_of(step: int, settings: TrainingSettings) -> tuple[int, int]:
    """The first and last block of a step (counted from 1), as numbers in the seed's order."""
    return (step - 1) * settings.batch_size, step * settings.batch_size - 1


def _batch(
    model: LanguageModel, dataset: Dataset, settings: TrainingSettings, step: int, group: Group
) -> tuple[Tensor, Tensor]:
    """This process's inputs and targets of a step, `[B, T]` both, on the model's device."""

    def rows(rank: int, world_size: int) -> tuple[Tensor, Tensor]:
        return dataset.batch(
            "train",
            model.settings.context_length,
            settings.batch_size,
            seed=settings.seed,
            step=step,
            order=settings.order,
            rank=rank,
            world_size=world_size,
        )

    if group.sharded:  # its micro-batches are no neighbours
        lanes = settings.gradient_accumulation
        parts = [rows(lane, lanes) for lane in group.lanes(lanes)]
        inputs_BT, targets_BT = (torch.cat(ids) for ids in zip(*parts, strict=True))
    else:
        inputs_BT, targets_BT = rows(group.rank, group.size)
    if model.device.type != "cuda":
        return inputs_BT.to(model.device), targets_BT.to(model.device)
    # Pinned memory is copied while the GPU is busy with the step before.
    inputs_BT, targets_BT = (ids_BT.pin_memory() for ids_BT in (inputs_BT, targets_BT))
    return (
        inputs_BT.to(model.device, non_blocking=True),
        targets_BT.to(model.device, non_blocking=True),
    )


def _lanes(
    batch: tuple[Tensor, Tensor], settings: TrainingSettings, step: int, group: Group
) -> Iterator[tuple[Tensor, Tensor, float]]:
    """This process's micro-batches, and the weight of each in the step; before each, dropout's
    generator is set.
    """
    inputs_BT, targets_BT = batch
    lanes = settings.gradient_accumulation
    own = group.lanes(lanes)
    for number, *part in zip(
        own, inputs_BT.chunk(len(own)), targets_BT.chunk(len(own)), strict=True
    ):
        drawn = hashlib.sha256(f"{settings.seed} {step} {number}".encode()).digest()
        seed = int.from_bytes(drawn[:7], "little")
        if inputs_BT.is_cpu:  # the same seed; torch.manual_seed formats the stack: 0.2 to 2 ms
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)
        yield part[0], part[1], 1 / lanes


def _accumulate(
    step: Step,
    lanes: Iterator[tuple[Tensor, Tensor, float]],
    parameters: list[nn.Parameter],
    distillation_weight: float,
    group: Group,
) -> Tensor:
    """The mean loss of a batch; its gradients, the sum of its micro-batches', in `.grad`."""
    summed = TreeSum()
    for inputs_BT, targets_BT, weight in lanes:
        loss = step(inputs_BT, targets_BT, weight, distillation_weight) * weight
        if weight == 1:
            return loss
        touched = [p for p in parameters if p.grad is not None]
        gradients = [p.grad for p in touched if p.grad is not None]
        if any(gradient.is_sparse for gradient in gradients):
            return _accumulate_rows(loss, step, lanes, distillation_weight, group)
        loss = group.sum_in_replica(loss.float().reshape(1))  # as the step has the gradients
        flat = [*(g.flatten() for g in gradients), loss]
        padding = -sum(map(len, flat)) % group.size  # so that they are added in place
        summed.add(torch.cat([*flat, flat[-1].new_zeros(padding)]))
        for parameter in parameters:
            parameter.grad = None
    total = group.sum_of_replicas(summed.total())
    begin = 0
    for parameter in touched:
        parameter.grad = total[begin : begin + parameter.numel()].view_as(parameter)
        begin += parameter.numel()
    return total[begin]


def _accumulate_rows(
    loss: Tensor,
    step: Step,
    lanes: Iterator[tuple[Tensor, Tensor, float]],
    distillation_weight: float,
    group: Group,
) -> Tensor:
    """The rest of a batch of which the gradient is a few rows: PyTorch adds them in `.grad`."""
    if group.size > 1:
        raise SettingsError(
            _(
                "a bigram is trained by one process: leave --processes out, "
                "or choose another --model"
            )
        )
    for inputs_BT, targets_BT, weight in lanes:
        loss = loss + step(inputs_BT, targets_BT, weight, distillation_weight) * weight
    return loss


def _not_finite(loss: float, norm: float, step: int, settings: TrainingSettings) -> TrainingError:
    first, last = blocks_of(step, settings)
    return TrainingError(
        _(
            "the loss is {loss} and the gradient norm {norm} at step {step}, "
            "blocks {first} to {last} "
            "of seed {seed}; the weights were not touched"
        ).format(loss=loss, norm=norm, step=step, first=first, last=last, seed=settings.seed)
    )
