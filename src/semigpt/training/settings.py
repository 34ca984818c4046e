"""The settings of training: length, batches, evaluation, checkpoints."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from semigpt.dataset import BlockOrder
from semigpt.errors import SettingsError
from semigpt.language import _
from semigpt.ngrams.counts import LEVELS
from semigpt.settings import check_at_most, check_choice, check_positive

__all__ = ["LENGTHS", "Embeddings", "LegSettings", "More", "TrainingSettings"]

LENGTHS = ("steps", "tokens", "minutes")
Embeddings: TypeAlias = Literal["random", "bigrams"]


@dataclass(frozen=True, kw_only=True)
class LegSettings:
    """Where the leg at hand of a run begins. The first leg is the run as it began.

    A run that is trained further has one leg more: its schedule begins again at `step`, with the
    rate that it stood at. The length in `TrainingSettings` counts from the beginning of the run.
    """

    number: int = 1
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0  # of the run's clock
    rate: float = 0.0  # the rate at its beginning, as a fraction of the top

    def __post_init__(self) -> None:
        check_positive(self, "number")

    def top(self, rewarm: float) -> float:
        """The highest rate of a later leg as a fraction of the first leg's: no rate falls first."""
        return max(rewarm, self.rate)


@dataclass(frozen=True, kw_only=True)
class More:
    """How much further a run is trained: exactly one of steps, tokens and minutes.

    Raises SettingsError for none, several, or nothing more.
    """

    steps: int | None = None
    tokens: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name in LENGTHS if (value := getattr(self, name)) is not None}
        if len(given) != 1:
            raise SettingsError(
                _("say how much further with exactly one of steps, tokens, minutes")
            )
        for name, value in given.items():
            if not 0 < value < math.inf:
                raise SettingsError(
                    _(
                        "{name} +{value:g} is no training further; give more than 0, as in "
                        "--{name} +10"
                    ).format(name=name, value=value)
                )


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How long to train, on what batches, and how often to evaluate and save.

    Exactly one of `steps`, `tokens` and `minutes` says how long, and the schedule follows it.
    With `steps` or `tokens` a run is reproducible to the bit on one machine; with `minutes` the
    number of steps depends on the clock. Raises SettingsError for impossible values.
    """

    steps: int | None = None
    tokens: int | None = None
    minutes: float | None = None
    # A run by the clock ends here, where more readings would only hurt; default: at no number.
    most_tokens: int | None = None
    batch_size: int = 64  # sequences per step, over all processes and micro-batches together
    gradient_accumulation: int = 1  # micro-batches per step
    order: BlockOrder = "epoch"
    seed: int = 0
    eval_every: int | None = None  # steps; default: ten times over the run
    eval_blocks: int = 128
    # 500 is steps, "2m" minutes; default: as often as 2 % of the time allows.
    save_every: int | str | None = None
    keep: int = 2  # checkpoints kept
    # On a loss or gradient that is not finite.
    on_nonfinite: Literal["stop", "skip"] = "stop"
    # counts: the targets are partly what n-gram counts predict, while the model is behind them.
    # auto: counts for a long text.
    teacher: Literal["auto", "counts", "none"] = "none"
    # Tokens of the longest n-gram counted; default: the memory's, where the model has one, or 5.
    teacher_order: int | None = None
    # Rows of a `gpt`'s output layer that a step computes, a sample; 0: all of them.
    output_sample: int = 0
    # What a fresh model's embeddings and output layer begin with. bigrams: the text's own, as far
    # as the width reaches; of a `gpt` or a `memory` with an output layer of its own.
    embeddings: Embeddings = "random"

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.steps, self.tokens, self.minutes)) != 1:
            raise SettingsError(
                _("say how long to train with exactly one of steps, tokens and minutes")
            )
        check_positive(self, "steps", "tokens", "minutes", "most_tokens")
        check_positive(self, "batch_size", "gradient_accumulation")
        check_positive(self, "eval_every", "eval_blocks", "keep")
        check_at_most(self, eval_blocks=10_000_000, batch_size=10_000_000)
        check_choice("order", self.order, ("epoch", "random"))
        check_choice("on_nonfinite", self.on_nonfinite, ("stop", "skip"))
        if isinstance(self.save_every, int):
            check_positive(self, "save_every")
        elif self.save_every is not None and not self.save_minutes:
            raise SettingsError(
                _(
                    "save_every takes steps or minutes, such as 500 or 2m, not {save_every!r}"
                ).format(save_every=self.save_every)
            )
        check_choice("teacher", self.teacher, ("auto", "counts", "none"))
        check_choice("embeddings", self.embeddings, get_args(Embeddings))
        if self.teacher_order is not None and not 2 <= self.teacher_order <= LEVELS:
            raise SettingsError(
                _("teacher_order must be between 2 and {levels}, not {teacher_order}").format(
                    levels=LEVELS, teacher_order=self.teacher_order
                )
            )
        if self.output_sample < 0:
            raise SettingsError(
                _("{name} must not be less than 0, not {value}").format(
                    name="output_sample", value=self.output_sample
                )
            )
        if self.seed < 0:
            raise SettingsError(
                _("seed must not be less than 0, not {seed}").format(seed=self.seed)
            )
        if self.batch_size % self.gradient_accumulation:
            raise SettingsError(
                _(
                    "a batch of {batch_size} blocks cannot be cut into "
                    "{gradient_accumulation} equal micro-batches"
                ).format(
                    batch_size=self.batch_size, gradient_accumulation=self.gradient_accumulation
                )
            )

    @property
    def save_minutes(self) -> float | None:
        """The minutes between two checkpoints, where `save_every` is given in minutes."""
        found = (
            re.fullmatch(r"(\d+(?:\.\d+)?)m", self.save_every)
            if isinstance(self.save_every, str)
            else None
        )
        return float(found[1]) if found and math.isfinite(float(found[1])) else None
