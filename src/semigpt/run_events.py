"""What happens in a run, as whoever iterates `semigpt.train` is told."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from semigpt import html
from semigpt.corpus.corpus import Corpus
from semigpt.dataset import Dataset
from semigpt.evaluation.baselines import Baselines
from semigpt.evaluation.evaluate import LossEstimate
from semigpt.language import _
from semigpt.models.base import LanguageModel
from semigpt.run_folder import RunFolder
from semigpt.tokenizers.base import Tokenizer
from semigpt.training.forecast import Forecast

__all__ = ["BaselinesMeasured", "Evaluated", "Finished", "Prepared", "Sharded"]


@dataclass(frozen=True)
class Prepared:
    """Text, tokenizer and model are there; training is about to begin, or to resume."""

    corpus: Corpus
    tokenizer: Tokenizer
    dataset: Dataset
    model: LanguageModel
    device: torch.device
    baselines: Baselines | None  # None for a new text: they are measured beside the training
    source_entropy: float | None
    run: RunFolder
    resumed_at: int | None  # the step


@dataclass(frozen=True)
class Sharded:
    """Processes cut the model among them, since a whole one in each does not fit in memory."""

    processes: int  # that hold one replica together
    whole: int  # bytes that each process would need at the least
    part: int  # bytes that each needs now
    free: int


@dataclass(frozen=True)
class BaselinesMeasured:
    """What simple models need for the validation split of a new text is known now."""

    baselines: Baselines


@dataclass(frozen=True)
class Evaluated:
    """The validation split's fixed blocks, measured, and a text written."""

    step: int
    estimate: LossEstimate
    bits_per_character: float
    sample: str
    best: bool  # the lowest loss so far: these are the weights in model/

    def _repr_html_(self) -> str:
        rows = [
            (_("bits per character"), f"{self.bits_per_character:.3f}"),
            (_("validation loss, nats"), f"{self.estimate.loss:.3f}"),
            (_("a sample"), self.sample),
        ]
        return html.table(_("Step {step}").format(step=f"{self.step:,}"), rows)


@dataclass(frozen=True, repr=False)
class Finished:
    """The end of a run, reached or asked for."""

    run: RunFolder
    step: int
    tokens_seen: int
    seconds: float
    best: Evaluated
    baselines: Baselines | None  # None where a new text's run was stopped before they were measured
    complete: bool
    skipped: int  # steps without an update: their loss or gradient was not finite
    # Of the run's time, spent on checkpoints and model/ before its last save.
    saving_fraction: float
    last_save_seconds: float
    forecast: Forecast | None  # None where an older run was resumed without one
    memory: int  # bytes, the most that were held
    disk: int  # bytes of checkpoints and model/, at the end
    no_page: str | None = None  # why there is no model.html; None where there is

    def __repr__(self) -> str:
        bits = f"{self.best.bits_per_character:.3f} bits per character"
        return f"<Finished {self.run.path}: {self.step:,} steps, {bits}>"

    def _repr_html_(self) -> str:
        best = _("this model, at its best (step {step})").format(step=f"{self.best.step:,}")
        needs = [(best, self.best.bits_per_character)]
        if self.baselines is not None:
            needs += self.baselines.named()
        rows = [(name, f"{bits:.3f}") for name, bits in sorted(needs, key=lambda row: -row[1])]
        rows.append((_("report"), str(self.run.report_file)))
        if self.no_page is None:
            rows.append((_("the model in a page"), str(self.run.page_file)))
        title = _("{run}: {steps} steps, {tokens} tokens, {minutes} minutes").format(
            run=self.run.path,
            steps=f"{self.step:,}",
            tokens=f"{self.tokens_seen:,}",
            minutes=f"{self.seconds / 60:.1f}",
        )
        return html.table(title, rows)
