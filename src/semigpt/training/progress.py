"""How far a run has come, and what one step of it was."""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass

from semigpt.training.settings import LegSettings, TrainingSettings

__all__ = ["Pace", "Progress", "StepReport"]

# A spike: a loss so far above its running mean, from the 51st step on.
SPIKE_DEVIATIONS = 5.0
SPIKE_NATS = 0.5
SPIKE_DECAY = 0.98  # of the running mean: about 50 steps
SPIKE_WARM_UP = 50
# A slow run: the median of its newest steps takes so many times as long as was forecast.
SLOW, SLOW_STEPS = 3.0, 9
FIRST_LEG = LegSettings()


@dataclass
class Progress:
    """All that resuming needs beside weights and optimizer."""

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

    def fraction(self, settings: TrainingSettings, leg: LegSettings = FIRST_LEG) -> float:
        """The fraction of the leg that is done, 0 to 1."""
        if settings.steps is not None:
            done, begin, end = float(self.step), float(leg.step), float(settings.steps)
        elif settings.tokens is not None:
            done, begin, end = float(self.tokens_seen), float(leg.tokens), float(settings.tokens)
        else:
            done, begin, end = self.seconds, leg.seconds, 60 * (settings.minutes or 1.0)
        fraction = min(max((done - begin) / (end - begin), 0.0), 1.0) if end > begin else 1.0
        if settings.most_tokens is not None and leg == FIRST_LEG:
            fraction = min(max(fraction, self.tokens_seen / settings.most_tokens), 1.0)
        return fraction


@dataclass(frozen=True)
class StepReport:
    """One step, after its update."""

    step: int
    tokens_seen: int
    fraction: float  # of the leg, done
    loss: float  # nats per token, of this step's batch before the update
    learning_rate: float
    gradient_norm: float  # before clipping
    seconds: float  # of the run's clock
    skipped: bool = False  # no update: loss or gradient was not finite
    spike: bool = False  # the loss is far above its running mean


class Pace:
    """Tells once that steps take far longer than was forecast, as beside another busy program.

    expected: seconds per step; None tells nothing
    """

    def __init__(self, expected: float | None) -> None:
        self._expected = expected
        self._durations: deque[float] = deque(maxlen=SLOW_STEPS)
        self._last: float | None = None

    def slowed(self, report: StepReport) -> float | None:
        """Seconds per step now, the first time that is over three times what was expected."""
        last, self._last = self._last, report.seconds
        if last is None or self._expected is None:
            return None
        self._durations.append(report.seconds - last)
        now = statistics.median(self._durations)
        if len(self._durations) < SLOW_STEPS or now <= SLOW * self._expected:
            return None
        self._expected = None
        return now
