"""How far a run has come, and what one step of it was."""

from __future__ import annotations

import math
from dataclasses import dataclass

from semigpt.training.settings import TrainingSettings

__all__ = ["Progress", "StepReport"]

# A spike: a loss so far above its running mean, from the 51st step on.
SPIKE_DEVIATIONS = 5.0
SPIKE_NATS = 0.5
SPIKE_DECAY = 0.98  # of the running mean: about 50 steps
SPIKE_WARM_UP = 50


@dataclass
class Progress:
    """All that resuming needs beside weights, optimizer and random state."""

    step: int = 0
    tokens_seen: int = 0
    seconds: float = 0.0  # of the run's own clock, without pauses between resumes
    skipped: int = 0  # steps without an update: loss or gradient not finite
    loss_mean: float = 0.0  # running, over the steps that were not skipped
    loss_variance: float = 0.0

    def watch(self, loss: float) -> bool:
        """Take a loss into the running mean and variance; whether it is a spike above them."""
        seen = self.step - self.skipped
        distance = loss - self.loss_mean
        spike = (
            seen >= SPIKE_WARM_UP
            and distance > SPIKE_NATS
            and distance > SPIKE_DEVIATIONS * math.sqrt(self.loss_variance)
        )
        # Exponentially weighted mean and variance (Finch 2009), a plain mean over the first steps.
        rate = max(1 - SPIKE_DECAY, 1 / (seen + 1))
        self.loss_mean += rate * distance
        self.loss_variance = (1 - rate) * (self.loss_variance + rate * distance * distance)
        return spike

    def fraction(self, settings: TrainingSettings) -> float:
        """The fraction of the run that is done, 0 to 1."""
        if settings.steps is not None:
            done = self.step / settings.steps
        elif settings.tokens is not None:
            done = self.tokens_seen / settings.tokens
        else:
            done = self.seconds / (60 * (settings.minutes or 1.0))
        return min(done, 1.0)


@dataclass(frozen=True)
class StepReport:
    """One step, after its update."""

    step: int
    tokens_seen: int
    fraction: float  # of the run, done
    loss: float  # nats per token, of this step's batch before the update
    learning_rate: float
    gradient_norm: float  # before clipping
    seconds: float  # of the run's clock
    skipped: bool = False  # no update: loss or gradient was not finite
    spike: bool = False  # the loss is far above its running mean
