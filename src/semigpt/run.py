"""The books of one run: what is measured, logged and saved while it trains."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from semigpt.corpus.staging import Corpus
from semigpt.dataset import Dataset
from semigpt.errors import CheckpointError
from semigpt.evaluation.baselines import measure_baselines
from semigpt.evaluation.evaluate import LossEstimate, estimate_loss, source_entropy
from semigpt.evaluation.information import bits
from semigpt.evaluation.surprisal import surprisal
from semigpt.generation.engine import generate_text
from semigpt.generation.sampling import SamplingSettings
from semigpt.huggingface.folder import load_model, model_card, save_model
from semigpt.models.base import LanguageModel
from semigpt.report.page import write_report
from semigpt.run_folder import Checkpoint, RunFolder
from semigpt.settings import to_table
from semigpt.tokenizers.base import Tokenizer
from semigpt.training.forecast import Forecast
from semigpt.training.optimizer import Optimizer
from semigpt.training.trainer import Progress, StepReport, TrainingSettings, blocks_of

__all__ = ["Evaluated", "Record", "SampleSettings", "measure"]

METRICS_EVERY = 10  # steps; a line of metrics.jsonl each
SAVING_SHARE = 0.02  # of the run's time, the most that saving takes where `save_every` does not say
SAVING_PAUSE = (
    30.0  # seconds between two checkpoints at least, there: as much work as a kill may cost
)


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """What is written at each evaluation, to see the model learn."""

    prompt: str = ""
    max_new_tokens: int = 160
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None

    def sampling(self) -> SamplingSettings:
        """How the samples are drawn; SettingsError for what cannot be."""
        return SamplingSettings(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)


@dataclass(frozen=True)
class Evaluated:
    """The validation split's fixed blocks, measured, and a text written."""

    step: int
    estimate: LossEstimate
    bits_per_character: float
    sample: str
    best: bool  # the lowest loss so far: these are the weights in model/


def measure(
    model: LanguageModel,
    tokenizer: Tokenizer,
    dataset: Dataset,
    settings: TrainingSettings,
    sample: SampleSettings,
) -> tuple[LossEstimate, str]:
    """The loss on the validation split's fixed blocks, and a text as the model writes it now."""
    estimate = estimate_loss(
        model,
        dataset.stream("validation"),
        context_length=model.settings.context_length,
        blocks=settings.eval_blocks,
    )
    text = generate_text(
        model,
        tokenizer,
        sample.prompt,
        max_new_tokens=sample.max_new_tokens,
        sampling=sample.sampling(),
        seed=settings.seed,
    )[0]
    return estimate, text


@dataclass
class Record:
    """A run in its folder, and how it stands."""

    run: RunFolder
    settings: TrainingSettings
    sample: SampleSettings
    corpus: Corpus
    tokenizer: Tokenizer
    dataset: Dataset
    model: LanguageModel
    optimizer: Optimizer
    forecast: Forecast | None
    position: Progress = field(default_factory=Progress)
    best: float = math.inf  # the lowest validation loss so far
    saving_seconds: float = 0.0  # all that saving has taken
    saving_cost: float = 0.0  # what the next checkpoint is expected to take
    saved_at: float = 0.0  # of the run's clock

    def __post_init__(self) -> None:
        corpus = self.corpus
        self.tokens_per_character = len(self.dataset.stream("validation")) / corpus.characters(
            "validation"
        )
        self.baselines = measure_baselines(corpus, "validation", counted_on=corpus, xz=False)
        self.source_entropy = source_entropy(corpus, "validation")
        self.identity = {
            "corpus": corpus.fingerprint,
            "tokenizer": self.tokenizer.fingerprint,
            "model": {**to_table(self.model.settings), "rung": self.model.rung},
        }
        self.facts: dict[str, Any] = {
            "forecast": None if self.forecast is None else asdict(self.forecast),
            "baselines": self.baselines.as_dict(),
            "source_entropy": self.source_entropy,
            "parameters": self.model.parameter_count(),
            "tokens_per_character": self.tokens_per_character,
            "corpus": {
                "spec": corpus.spec,
                "characters": corpus.characters("train"),
                "documents": corpus.document_count("train"),
            },
            "tokenizer": {"kind": self.tokenizer.kind, "vocab_size": self.tokenizer.vocab_size},
        }

    # Going on

    def go_on(self, checkpoint: Checkpoint) -> None:
        """Stand where a checkpoint stood, bit for bit; CheckpointError where it is of another run or version."""
        check_same(checkpoint, self.identity)
        try:
            self.position = Progress(**checkpoint.facts["progress"])
            self.saving_seconds, self.saving_cost = checkpoint.facts["saving"]
            best = checkpoint.facts["best"]
            self.best = math.inf if best is None else float(best)
            restore(self.model, self.optimizer, checkpoint)
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{checkpoint.folder} does not hold what this version saves ({type(error).__name__}: "
                f"{' '.join(str(error).split())}); train anew with another --out"
            ) from None
        self.saved_at = self.position.seconds

    # Measuring and logging

    def evaluate(self) -> Evaluated:
        """Measure, log, and keep the weights in model/ where they are the best so far."""
        step = self.position.step
        estimate, text = measure(
            self.model, self.tokenizer, self.dataset, self.settings, self.sample
        )
        result = Evaluated(
            step,
            estimate,
            bits(estimate.loss) * self.tokens_per_character,
            text,
            estimate.loss < self.best,
        )
        row = {
            "val_loss": estimate.loss,
            "val_loss_se": estimate.standard_error,
            "bits_per_character": result.bits_per_character,
        }
        self._append(row)
        self.run.append("samples", {"step": step, "prompt": self.sample.prompt, "text": text})
        self.run.append("timings", {"step": step, "seconds": round(self.position.seconds, 3)})
        if result.best:
            self.best = estimate.loss
            begin = time.monotonic()
            self.optimizer.flush()
            card = model_card(self.model, self._card_facts(result))
            save_model(self.run.model_folder, self.model, self.tokenizer, card)
            taken = time.monotonic() - begin
            if step:
                self.saving_seconds += taken
            else:
                self.saving_cost = (
                    3 * taken
                )  # a first guess: a checkpoint holds up to three times the weights
        return result

    def _append(self, row: Mapping[str, Any]) -> None:
        self.run.append(
            "metrics", {"step": self.position.step, "tokens_seen": self.position.tokens_seen, **row}
        )

    def _card_facts(self, result: Evaluated) -> dict[str, str]:
        counted = f"{self.baselines.kneser_ney_5:.3f} by a 5-gram of characters, {self.baselines.bigram:.3f} by letter pairs"
        return {
            "parameters": f"{self.model.parameter_count():,}",
            "context length": f"{self.model.settings.context_length} tokens",
            "tokens": f"{self.tokenizer.kind}, {self.tokenizer.vocab_size:,} of them",
            "text": f"`{self.corpus.spec}`, {self.corpus.characters('train'):,} characters",
            "trained for": f"{result.step:,} steps, {self.position.tokens_seen:,} tokens",
            "bits per character on unseen text": f"{result.bits_per_character:.3f} ({counted})",
        }

    def log(self, report: StepReport) -> None:
        """A step's line of metrics.jsonl: every tenth step's, and each that was skipped or leapt."""
        if report.skipped:
            # NaN is no JSON: as text, it is in the log all the same.
            not_finite = {"loss": str(report.loss), "gradient_norm": str(report.gradient_norm)}
            blocks = blocks_of(report.step, self.settings)
            self._append(
                {"skipped": self.position.skipped, "blocks": blocks, "not_finite": not_finite}
            )
        elif report.spike:
            self._append({"spike": report.loss, "blocks": blocks_of(report.step, self.settings)})
        if report.step % METRICS_EVERY == 0 and not report.skipped:
            names = ("loss", "learning_rate", "gradient_norm")
            self._append({name: getattr(report, name) for name in names})
            self.run.append("timings", {"step": report.step, "seconds": round(report.seconds, 3)})

    # Saving

    def save_due(self, report: StepReport) -> bool:
        """Whether the settings ask for a checkpoint after this step."""
        if isinstance(self.settings.save_every, int):
            return report.step % self.settings.save_every == 0
        since = report.seconds - self.saved_at
        if self.settings.save_minutes is not None:
            return since >= 60 * self.settings.save_minutes
        allowed = SAVING_SHARE * report.seconds
        return since >= SAVING_PAUSE and self.saving_seconds + self.saving_cost <= allowed

    def save(self) -> None:
        """Write a checkpoint of this moment."""
        begin = time.monotonic()
        facts = {
            "progress": asdict(self.position),
            "saving": [self.saving_seconds, self.saving_cost],
            "best": self.best if math.isfinite(self.best) else None,
            "complete": self.position.share(self.settings) >= 1,
            **self.identity,
        }
        tensors: dict[str, dict[str, Tensor]] = {
            "model": dict(self.model.named_parameters()),
            "optimizer": self.optimizer.state(),
            "random": random_state(self.model.device),
        }
        self.run.save(tensors, facts, step=self.position.step, keep=self.settings.keep)
        self.saving_cost = time.monotonic() - begin
        self.saving_seconds += self.saving_cost
        self.saved_at = self.position.seconds

    def close(self, *, complete: bool) -> Evaluated:
        """Write the report; the best evaluation of the run."""
        best_model = load_model(self.run.model_folder).to(self.model.device)
        texts = passages(self.corpus)
        self.facts["surprisal"] = [surprisal(best_model, self.tokenizer, text) for text in texts]
        self.run.write_facts(self.facts)
        write_report(self.run, complete=complete)
        self.run.write_facts({**self.facts, "complete": complete})
        evaluations = [row for row in self.run.rows("metrics") if "val_loss" in row]
        best = min(evaluations, key=lambda row: row["val_loss"])
        text = next(row["text"] for row in self.run.rows("samples") if row["step"] == best["step"])
        tokens = self.settings.eval_blocks * self.model.settings.context_length
        estimate = LossEstimate(best["val_loss"], best["val_loss_se"], tokens)
        return Evaluated(best["step"], estimate, best["bits_per_character"], text, True)


def passages(corpus: Corpus, count: int = 3, characters: int = 300) -> list[str]:
    """The beginnings of a few validation documents, those long enough to be worth a look first."""
    beginnings = [text[:characters] for text in islice(corpus.documents("validation"), 50)]
    return sorted(beginnings, key=lambda text: -min(len(text), characters // 2))[:count]


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of every generator that training draws from (dropout's: the order of data needs none)."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


@torch.no_grad()
def restore(model: LanguageModel, optimizer: Optimizer, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's numbers in place, bit for bit."""
    for name, parameter in model.named_parameters():
        parameter.copy_(checkpoint.tensors["model"][name])
    optimizer.load_state(checkpoint.tensors["optimizer"])
    torch.set_rng_state(checkpoint.tensors["random"]["cpu"])
    if model.device.type == "cuda" and "cuda" in checkpoint.tensors["random"]:
        torch.cuda.set_rng_state(checkpoint.tensors["random"]["cuda"], model.device)


def check_same(checkpoint: Checkpoint, identity: Mapping[str, Any]) -> None:
    """Raise CheckpointError, showing the difference, where going on would be with other text, ids or shapes."""
    for what, now in identity.items():
        before = checkpoint.facts.get(what)
        if before == now:
            continue
        if isinstance(now, dict) and isinstance(before, dict):
            names = [
                name
                for name in sorted(now.keys() | before.keys())
                if now.get(name) != before.get(name)
            ]
            difference = ", ".join(
                f"{name} was {before.get(name)}, is {now.get(name)}" for name in names
            )
        else:
            difference = f"its fingerprint was {str(before)[:12]}, is {str(now)[:12]}"
        raise CheckpointError(
            f"{checkpoint.folder} was trained with another {what}: {difference}; bring back the old one, or train anew "
            "with another --out"
        )
