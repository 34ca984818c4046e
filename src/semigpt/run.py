"""One run while it trains: what is evaluated, logged, saved and restored."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from semigpt import auto
from semigpt.config import Recipe
from semigpt.controls import pictured
from semigpt.device import pick_device
from semigpt.errors import CheckpointError, SettingsError
from semigpt.evaluation.baselines import known_baselines, measure_baselines
from semigpt.evaluation.evaluate import LossEstimate, source_entropy
from semigpt.evaluation.information import bits
from semigpt.evaluation.portrait import portrait
from semigpt.export.page_file import write_run_page
from semigpt.huggingface.folder import load_model, model_card, save_model
from semigpt.huggingface.snapshot import Snapshot
from semigpt.language import _
from semigpt.measuring import Measurement, Text, measure
from semigpt.models.base import LanguageModel
from semigpt.parallel import ALONE, Group
from semigpt.report.page import write_report
from semigpt.restoring import check_arithmetic, check_same, progress_of, restore
from semigpt.resuming import no_checkpoint
from semigpt.run_events import BaselinesMeasured, Evaluated, Finished, Prepared
from semigpt.run_folder import Checkpoint, RunFolder
from semigpt.settings import to_table
from semigpt.stages import mark, stage
from semigpt.storage import replace_file
from semigpt.system import is_out_of_memory
from semigpt.training.forecast import Forecast, peak_memory
from semigpt.training.optimizer import Optimizer
from semigpt.training.progress import Progress, StepReport
from semigpt.training.step import arithmetic_of
from semigpt.training.trainer import blocks_of

__all__ = ["TrainingRun"]

METRICS_EVERY = 10  # steps; a line of metrics.jsonl each


class TrainingRun:
    """One run while it trains: measured, logged, saved, and restored where it was left.

    What is remembered from step to step is in `progress` and in the fields that `save` writes.
    """

    def __init__(
        self,
        run: RunFolder,
        recipe: Recipe,
        text: Text,
        model: LanguageModel,
        optimizer: Optimizer,
        forecast: Forecast | None,
    ) -> None:
        self.run, self.recipe, self.settings = run, recipe, recipe.training
        self.text = text
        corpus, tokenizer, dataset = text
        self.model, self.optimizer = model, optimizer
        self.forecast = forecast
        self.evaluations = auto.EVALUATIONS if forecast is None else forecast.evaluations
        self.progress = Progress()
        self._fraction = 0.0  # of the run, done before the step at hand
        self._evaluated_step = self._saved_step = -1
        self.best = math.inf  # the lowest validation loss so far
        self.saving_seconds = 0.0  # spent on checkpoints and model/ so far
        self._checkpoint_cost = 0.0  # seconds that the next checkpoint is expected to take
        self._model_cost = 0.0  # and the next writing of model/
        self._last_save = 0.0  # seconds that the last checkpoint took, model/ with it
        self._saved_at = 0.0  # of the run's clock
        self._unsaved: Snapshot | None = None  # the best weights
        self.tokens_per_character = len(dataset.stream("validation")) / corpus.characters(
            "validation"
        )
        self.baselines = known_baselines(corpus, "validation", counted_on=corpus)
        self.source_entropy = source_entropy(corpus, "validation")
        self.identity = {
            "corpus": corpus.fingerprint,
            "tokenizer": tokenizer.fingerprint,
            "model": {**to_table(model.settings), "kind": model.kind},
        }
        # A model that is going to be sharded is not on its device yet.
        self.arithmetic = arithmetic_of(pick_device(recipe.machine.device))
        self.metadata: dict[str, Any] = {
            "forecast": None if forecast is None else asdict(forecast),
            "baselines": None if self.baselines is None else self.baselines.as_dict(),
            "source_entropy": self.source_entropy,
            "parameters": model.settings.parameter_count,
            "tokens_per_character": self.tokens_per_character,
            "corpus": {
                "spec": corpus.spec,
                "characters": corpus.characters("train"),
                "documents": corpus.document_count("train"),
                "fingerprint": corpus.fingerprint,
                "home": str(run.home or Path.cwd()),
            },
            "tokenizer": {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size},
        }

    def prepared(self, resumed_at: int | None) -> Prepared:
        """The event of a run that is about to begin, or to resume."""
        return Prepared(
            *(*self.text, self.model, self.model.device, self.baselines),
            *(self.source_entropy, self.run, resumed_at),
        )

    # Resuming

    def restore_newest(self, *, other_bits: bool = False) -> Checkpoint | None:
        """Restore the newest checkpoint and cut the logs back to it; None, and empty logs, before
        the first.

        other_bits: resume also where this machine computes other bits than the run has so far
        """
        checkpoint, leg = self.run.newest(), self.recipe.leg
        if checkpoint is None and leg.number > 1:
            raise no_checkpoint(self.run)
        if checkpoint is not None:
            # Where the clock ends a run, no two end in the same bits anyhow.
            forgiven = other_bits or self.settings.minutes is not None
            check_arithmetic(checkpoint, self.arithmetic, forgiven=forgiven)
            self._restore(checkpoint)
        self.run.rewind(checkpoint)
        before, now = self.run.config(), self.recipe.tables()
        if before != now:
            if before["data"] != now["data"]:
                self.metadata["corpus"]["home"] = str(Path.cwd())
            if leg.number > before.get("leg", {}).get("number", 1):
                self.run.begin_leg(leg.number, now)
            else:
                self.run.write_config(now)
        return checkpoint

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Restore a checkpoint, bit for bit. Raises CheckpointError where it is of another run or
        version.
        """
        check_same(checkpoint, self.identity)
        try:
            self.progress = progress_of(checkpoint)
            self.saving_seconds, self._checkpoint_cost = checkpoint.metadata["saving"]
            best = checkpoint.metadata["best"]
            self.best = math.inf if best is None else float(best)
            restore(self.model, self.optimizer, checkpoint)
        except (LookupError, TypeError, ValueError, RuntimeError, SettingsError) as error:
            if is_out_of_memory(error):
                raise
            raise CheckpointError(
                _(
                    "{folder} does not hold what this version saves ({kind}: {error}); train from "
                    "scratch with another --out"
                ).format(
                    folder=checkpoint.folder,
                    kind=type(error).__name__,
                    error=" ".join(str(error).split()),
                )
            ) from None
        self._saved_at = self.progress.seconds
        self._fraction = self.progress.fraction(self.settings, self.recipe.leg)
        self._evaluated_step = self._saved_step = self.progress.step

    # Measuring and logging

    def measure_baselines(self) -> BaselinesMeasured:
        """Measure the baselines of a new text, and note them for the report."""
        corpus = self.text.corpus
        with stage("baselines"):
            self.baselines = measure_baselines(corpus, "validation", counted_on=corpus, xz=False)
        self.metadata["baselines"] = self.baselines.as_dict()
        self.run.write_metadata(self.metadata)
        return BaselinesMeasured(self.baselines)

    def begin(self, measurement: Measurement | None, group: Group = ALONE) -> Evaluated:
        """Evaluate the model as it begins. A run that began from another's weights saves them, and
        from then on needs nothing but its own folder.
        """
        evaluated = self.evaluate(measurement, group)
        start = self.recipe.start
        if start.lora is not None:  # the adapters change nothing yet
            save_model(self.run.base_folder, self.model, self.text.tokenizer, start.base_card)
        if start.folder is not None:
            self.save()
        return evaluated

    def evaluate(self, measurement: Measurement | None = None, group: Group = ALONE) -> Evaluated:
        """Measure and log, and keep the weights where they are the best so far.

        measurement: what was measured of these very weights before
        group:       the processes that wait for their next turn, if there are others
        """
        step, sample = self.progress.step, self.recipe.sample
        self._evaluated_step = step
        with stage("evaluation"):
            estimate, text, whole = measurement or measure(
                self.model, self.text, self.settings, sample, group, self.optimizer
            )
        result = Evaluated(
            step=step,
            estimate=estimate,
            bits_per_character=bits(estimate.loss) * self.tokens_per_character,
            sample=text,
            best=estimate.loss < self.best,
        )
        self._append(
            {
                "val_loss": estimate.loss,
                "val_loss_se": estimate.standard_error,
                "bits_per_character": result.bits_per_character,
            }
        )
        self.run.append("samples", {"step": step, "prompt": sample.prompt, "text": text})
        self._append_seconds(step, self.progress.seconds)
        if result.best:
            self.best = estimate.loss
            self.optimizer.flush()
            card = self._card(step, self.progress.tokens_seen, result.bits_per_character)
            self._unsaved = Snapshot.of(self.model, card, whole)
            spent = self.saving_seconds + self._model_cost
            if spent <= auto.SAVING_FRACTION * self.progress.seconds or not step:
                self._save_model()
        return result

    def _append(self, row: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl. NaN is no JSON: as text, it is in the log all the same."""
        progress = {"step": self.progress.step, "tokens_seen": self.progress.tokens_seen}
        wrong = {
            name: str(value)
            for name, value in row.items()
            if isinstance(value, float) and not math.isfinite(value)
        }
        finite = {name: value for name, value in row.items() if name not in wrong}
        self.run.append(
            "metrics", {**progress, **finite, **({"not_finite": wrong} if wrong else {})}
        )

    def _append_seconds(self, step: int, seconds: float) -> None:
        self.run.append("timings", {"step": step, "seconds": round(seconds, 3)})

    def _card(self, step: int, tokens_seen: int, bits_per_character: float) -> str:
        """The README.md of model/, for the weights of a step."""
        corpus, tokenizer, _ = self.text
        spec = pictured(corpus.spec, one_line=True)
        baselines = self.baselines and (
            f" ({self.baselines.kneser_ney_5:.3f} by a 5-gram of characters, "
            f"{self.baselines.bigram:.3f} by a bigram)"
        )
        facts = {
            "parameters": f"{self.model.settings.parameter_count:,}",
            "context length": f"{self.model.settings.context_length} tokens",
            "tokenizer": f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens",
            "text": f"`{spec}`, {corpus.characters('train'):,} characters",
            "trained for": f"{step:,} steps, {tokens_seen:,} tokens",
            "bits per character on unseen text": f"{bits_per_character:.3f}{baselines or ''}",
        }
        start, origin = self.recipe.start, "random weights"
        if start.folder is not None:
            origin = f"the weights of `{start.folder}`"
            facts |= start.facts
        return model_card(self.model, facts, origin, foreign=tokenizer.kind == "foreign")

    def log(self, report: StepReport) -> None:
        """A line of metrics.jsonl for every tenth step, and for each that was skipped or spiked."""
        if report.skipped:
            values = {"loss": str(report.loss), "gradient_norm": str(report.gradient_norm)}
            blocks = blocks_of(report.step, self.settings)
            self._append({"skipped": self.progress.skipped, "blocks": blocks, "not_finite": values})
        elif report.spike:
            self._append({"spike": report.loss, "blocks": blocks_of(report.step, self.settings)})
        if report.step % METRICS_EVERY == 0 and not report.skipped:
            names = ("loss", "learning_rate", "gradient_norm")
            self._append({name: getattr(report, name) for name in names})
            self._append_seconds(report.step, report.seconds)
        if report.fraction >= 1:
            mark("last step")

    def evaluation_due(self, report: StepReport) -> bool:
        """Whether the model is evaluated after this step; asked once for each step."""
        before, self._fraction = self._fraction, report.fraction
        if report.fraction >= 1:
            return True
        if self.settings.eval_every is not None:
            return report.step % self.settings.eval_every == 0
        return int(report.fraction * self.evaluations) > int(before * self.evaluations)

    @property
    def lacks_evaluation(self) -> bool:
        """Whether the weights have changed since they were evaluated."""
        return self._evaluated_step != self.progress.step

    # Saving

    @property
    def lacks_checkpoint(self) -> bool:
        """Whether the weights have changed since they were saved."""
        return self._saved_step != self.progress.step

    def save_due(self, report: StepReport) -> bool:
        """Whether a checkpoint is saved after this step."""
        if report.fraction >= 1:
            return True
        if isinstance(self.settings.save_every, int):
            return report.step % self.settings.save_every == 0
        since = report.seconds - self._saved_at
        if self.settings.save_minutes is not None:
            return since >= 60 * self.settings.save_minutes
        return auto.checkpoint_due(
            report.seconds, since, self.saving_seconds, self._checkpoint_cost
        )

    def save(self) -> None:
        """Write a checkpoint of this moment, and the best weights if model/ has not got them: it
        may be resumed.
        """
        spent = self.saving_seconds
        self._save_model()
        begin = time.monotonic()
        metadata = {
            "progress": asdict(self.progress),
            "saving": [self.saving_seconds, self._checkpoint_cost],
            "best": self.best if math.isfinite(self.best) else None,
            "complete": self.progress.fraction(self.settings, self.recipe.leg) >= 1,
            "arithmetic": self.arithmetic,
            **self.identity,
        }
        tensors, write = self.optimizer.checkpoint(self.model)
        step, keep = self.progress.step, self.settings.keep
        self.run.save(tensors, metadata, step=step, keep=keep, write=write)
        self._saved_step = self.progress.step
        self._checkpoint_cost = time.monotonic() - begin
        self.saving_seconds += self._checkpoint_cost
        self._saved_at = self.progress.seconds
        self._last_save = self.saving_seconds - spent

    def _save_model(self) -> None:
        """Write the best weights to model/, unless it has them."""
        if self._unsaved is None:
            return
        begin = time.monotonic()
        self.run.check_held()
        self._unsaved.save(self.run, self.text.tokenizer, self.recipe.start.folder)
        self._model_cost = time.monotonic() - begin
        self._unsaved = None
        if self.progress.step:
            self.saving_seconds += self._model_cost
        else:  # a first guess: a checkpoint holds up to three times the weights
            self._checkpoint_cost = 3 * self._model_cost

    def finish(self, *, complete: bool) -> Finished:
        """Write the report, and say how the run ended. The caller has saved."""
        best = self._best_row()
        # Its baselines may have been measured after these weights were saved.
        card = self._card(best["step"], best["tokens_seen"], best["bits_per_character"])
        self.run.check_held()
        replace_file(self.run.model_folder / "README.md", card.encode())
        model = load_model(self.run.model_folder).to(self.model.device)
        corpus, tokenizer, dataset = self.text
        self.metadata.update(portrait(model, tokenizer, corpus, dataset))
        self.run.write_metadata(self.metadata)
        write_report(self.run, complete=complete)
        self.run.write_metadata({**self.metadata, "complete": complete})
        no_page = write_run_page(self.run, model, tokenizer)
        progress, before_the_end = self.progress, self.saving_seconds - self._last_save
        return Finished(
            run=self.run,
            step=progress.step,
            tokens_seen=progress.tokens_seen,
            seconds=progress.seconds,
            best=self._as_evaluated(best),
            baselines=self.baselines,
            complete=complete,
            skipped=progress.skipped,
            saving_fraction=before_the_end / progress.seconds if progress.seconds else 0.0,
            last_save_seconds=self._last_save,
            forecast=self.forecast,
            memory=peak_memory(self.model.device),
            disk=self.run.size(),
            no_page=no_page,
        )

    def _best_row(self) -> dict[str, Any]:
        """The line of metrics.jsonl of the evaluation with the lowest loss."""
        evaluations = [row for row in self.run.rows("metrics") if "val_loss" in row]
        return min(evaluations, key=lambda row: row["val_loss"])

    def _as_evaluated(self, best: Mapping[str, Any]) -> Evaluated:
        text = next(row["text"] for row in self.run.rows("samples") if row["step"] == best["step"])
        tokens = self.settings.eval_blocks * self.model.settings.context_length
        estimate = LossEstimate(best["val_loss"], best.get("val_loss_se", math.inf), tokens)
        return Evaluated(best["step"], estimate, best["bits_per_character"], text, True)
