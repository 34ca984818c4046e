"""Training as an iterator: `for report in training_steps(...)`. What is printed, evaluated, saved or sampled between
two steps is plain code of the caller's.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from semigpt.dataset import BlockOrder, Dataset, TokenStream, as_block
from semigpt.errors import SettingsError, TrainingError
from semigpt.models.base import LanguageModel
from semigpt.ngrams.counts import LEVELS, Counts
from semigpt.settings import check_choice, check_positive
from semigpt.training.optimizer import Optimizer

__all__ = ["Progress", "StepReport", "Teacher", "TrainingSettings", "blocks_of", "training_steps"]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How long, on what batches, and how often to look up.

    Exactly one of `steps`, `tokens` and `minutes` says how long; the schedule fits whichever it is. With `steps` or
    `tokens` a run is reproducible to the bit on one machine; with `minutes` the clock decides how many steps fit.
    """

    steps: int | None = None
    tokens: int | None = None
    minutes: float | None = None
    batch_size: int = 64  # blocks a step, over all processes and micro-batches together
    gradient_accumulation: int = 1  # micro-batches a step
    order: BlockOrder = "epoch"
    seed: int = 0
    eval_every: int | None = None  # steps; default: ten times over the run
    eval_blocks: int = 128
    save_every: int | str | None = (
        None  # 500 steps, "2m" minutes; default: as often as 2 % of the time allows
    )
    keep: int = 2  # checkpoints kept
    on_nonfinite: Literal["stop", "skip"] = (
        "stop"  # what a loss or gradient that is not finite does
    )
    # With counts as the teacher, targets are what the counts of n-grams say and not only the token that came, as long as
    # the model is behind them; auto: counts where the text is long (semigpt.recipe.TAUGHT_TOKENS).
    teacher: Literal["auto", "counts", "none"] = "none"
    # Tokens of the longest n-gram that is counted; default: those of a memory, where the model has one, or 5.
    teacher_order: int | None = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.steps, self.tokens, self.minutes)) != 1:
            raise SettingsError(
                "say how long to train with exactly one of steps, tokens and minutes"
            )
        check_positive(self, "steps", "tokens", "minutes", "batch_size", "gradient_accumulation")
        check_positive(self, "eval_every", "eval_blocks", "keep")
        check_choice("order", self.order, ("epoch", "random"))
        check_choice("on_nonfinite", self.on_nonfinite, ("stop", "skip"))
        if isinstance(self.save_every, int):
            check_positive(self, "save_every")
        elif self.save_every is not None and not self.save_minutes:
            raise SettingsError(
                f"save_every takes steps or minutes, such as 500 or 2m, not {self.save_every!r}"
            )
        check_choice("teacher", self.teacher, ("auto", "counts", "none"))
        if self.teacher_order is not None and not 2 <= self.teacher_order <= LEVELS:
            raise SettingsError(
                f"teacher_order must be between 2 and {LEVELS}, not {self.teacher_order}"
            )
        if self.seed < 0:
            raise SettingsError(f"seed must not be less than 0, not {self.seed}")
        if self.batch_size % self.gradient_accumulation:
            raise SettingsError(
                f"a batch of {self.batch_size} blocks cannot be cut into {self.gradient_accumulation} equal micro-batches"
            )

    @property
    def save_minutes(self) -> float | None:
        """The minutes between two checkpoints, where `save_every` is given in minutes."""
        found = (
            re.fullmatch(r"(\d+(?:\.\d+)?)m", self.save_every)
            if isinstance(self.save_every, str)
            else None
        )
        return float(found[1]) if found else None


# Nats per token that a teacher must be ahead to be listened to fully.
LESSON = 0.35

# A spike: a loss this far above its running mean (of about 50 steps, the first 50 reported on by nobody).
SPIKE_DEVIATIONS = 5.0
SPIKE_NATS = 0.5
SPIKE_MEMORY = 0.98
SPIKE_QUIET = 50


@dataclass
class Progress:
    """How far a run has come: all that going on needs to know beside weights, optimizer and random state."""

    step: int = 0
    tokens_seen: int = 0
    seconds: float = 0.0  # of the run's own clock, pauses between resumes left out
    skipped: int = 0  # steps without an update, their loss or gradient not finite
    loss_mean: float = (
        0.0  # running, over the steps that were not skipped; a spike is measured against it
    )
    loss_variance: float = 0.0

    def watch(self, loss: float) -> bool:
        """Take a loss into the running mean and variance; whether it stood out of those before it as a spike."""
        seen = self.step - self.skipped
        away = loss - self.loss_mean
        spike = (
            seen >= SPIKE_QUIET
            and away > SPIKE_NATS
            and away > SPIKE_DEVIATIONS * math.sqrt(self.loss_variance)
        )
        # The exponentially weighted mean and variance (Finch 2009), begun as a plain mean over the first steps.
        share = max(1 - SPIKE_MEMORY, 1 / (seen + 1))
        self.loss_mean += share * away
        self.loss_variance = (1 - share) * (self.loss_variance + share * away * away)
        return spike

    def share(self, settings: TrainingSettings) -> float:
        """The part of the run that is done, 0 to 1."""
        if settings.steps is not None:
            done = self.step / settings.steps
        elif settings.tokens is not None:
            done = self.tokens_seen / settings.tokens
        else:
            done = self.seconds / (60 * (settings.minutes or 1.0))
        return min(done, 1.0)


@dataclass(frozen=True)
class Teacher:
    """The counts of the training text's n-grams, and what they cost a token of it that they have not seen."""

    counts: Counts
    loss: float  # nats per token, leave-one-out

    @classmethod
    def of(cls, counts: Counts, stream: TokenStream, context_length: int) -> Teacher:
        """The loss over the stream's first blocks, some 100,000 tokens."""
        blocks = min(max(100_000 // context_length, 1), (len(stream) - 1) // context_length)
        starts = np.arange(blocks, dtype=np.int64) * context_length
        inputs_BT, targets_BT = as_block(stream.windows(starts, context_length + 1))
        p_BTK, _ = counts.lookup(
            inputs_BT.to(counts.device), targets_BT.to(counts.device), leave_one_out=True
        )
        return cls(counts, -p_BTK[..., -1].double().log().mean().item())

    def ahead(self, progress: Progress) -> float:
        """The share of the targets that is the counts': 1 while the model costs `LESSON` more than they do, falling to 0
        where it has caught up with them."""
        if not progress.step:
            return 1.0
        return min(max((progress.loss_mean - self.loss) / LESSON, 0.0), 1.0)


@dataclass(frozen=True)
class StepReport:
    """One step, after its update."""

    step: int
    tokens_seen: int
    share: float  # of the run, done
    loss: float  # nats per token, of this step's batch before the update
    learning_rate: float
    gradient_norm: float  # before clipping
    seconds: float  # of the run's clock
    skipped: bool = False  # no update: loss or gradient was not finite
    spike: bool = False  # the loss is far above its running mean


def training_steps(
    model: LanguageModel,
    dataset: Dataset,
    optimizer: Optimizer,
    settings: TrainingSettings,
    progress: Progress,
    *,
    context_length: int | None = None,
    teacher: Teacher | None = None,
) -> Iterator[StepReport]:
    """Train `model` on the training split until the settings' end, one report a step; `progress` is kept current.

    `teacher` is whom the model learns from beside the text, where the settings ask for one. What the caller
    does between two steps counts on the run's clock.

    A loss or gradient that is not finite never reaches the weights. It raises TrainingError, naming step and blocks;
    with `on_nonfinite="skip"` the step ends without an update, is counted, and its report says so.
    """
    context_length = context_length or model.settings.context_length
    parameters = [p for p in model.parameters() if p.requires_grad]
    parts = settings.gradient_accumulation
    clock_zero = time.monotonic() - progress.seconds

    def batch(step: int) -> tuple[Tensor, Tensor]:
        inputs, targets = dataset.batch(
            "train",
            context_length,
            settings.batch_size,
            seed=settings.seed,
            step=step,
            order=settings.order,
        )
        if (
            pinned := model.device.type == "cuda"
        ):  # copied while the GPU is busy with what it was given before
            inputs, targets = inputs.pin_memory(), targets.pin_memory()
        return inputs.to(model.device, non_blocking=pinned), targets.to(
            model.device, non_blocking=pinned
        )

    inputs, targets = batch(progress.step)
    while (share := progress.share(settings)) < 1:
        model.train()
        taught = 0.0 if teacher is None else teacher.ahead(progress)
        loss = torch.zeros((), device=model.device)
        for inputs_BT, targets_BT in zip(inputs.chunk(parts), targets.chunk(parts), strict=True):
            loss += (
                model.learn(
                    *(inputs_BT, targets_BT, 1 / parts),
                    teacher=None if teacher is None else teacher.counts,
                    taught=taught,
                )
                / parts
            )
        norm = optimizer.clip_gradients()
        upcoming = batch(progress.step + 1)  # a GPU is not through with this one yet
        loss_value, norm_value = torch.stack((loss, norm)).tolist()
        finite = math.isfinite(loss_value) and math.isfinite(norm_value)
        if not finite and settings.on_nonfinite == "stop":
            for parameter in parameters:
                parameter.grad = None
            first, last = blocks_of(progress.step + 1, settings)
            raise TrainingError(
                f"the loss is {loss_value} and the gradient norm {norm_value} at step {progress.step + 1}, blocks "
                f"{first} to {last} of seed {settings.seed}; the weights were not touched"
            )
        rate = optimizer.step(share) if finite else 0.0
        for parameter in parameters:
            parameter.grad = None
        spike = finite and progress.watch(loss_value)
        inputs, targets = upcoming
        progress.step += 1
        progress.skipped += not finite
        progress.tokens_seen += settings.batch_size * context_length
        progress.seconds = time.monotonic() - clock_zero
        yield StepReport(
            step=progress.step,
            tokens_seen=progress.tokens_seen,
            share=progress.share(settings),
            loss=loss_value,
            learning_rate=rate,
            gradient_norm=norm_value,
            seconds=progress.seconds,
            skipped=not finite,
            spike=spike,
        )
        progress.seconds = time.monotonic() - clock_zero


def blocks_of(step: int, settings: TrainingSettings) -> tuple[int, int]:
    """The numbers of the first and the last block that a step (counted from 1) learns from, in the seed's order."""
    return (step - 1) * settings.batch_size, step * settings.batch_size - 1
