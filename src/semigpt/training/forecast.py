"""What a run will take in time, memory and disk, before it begins.

A run that the machine cannot hold is refused; otherwise a short rehearsal is measured.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from semigpt import auto, system
from semigpt.dataset import Dataset
from semigpt.errors import SettingsError
from semigpt.language import _
from semigpt.models.base import LanguageModel, ModelSettings
from semigpt.models.lora import adapter_count
from semigpt.native import ahead
from semigpt.parallel import ALONE, Group
from semigpt.training.distillation import Teacher
from semigpt.training.optimizer import Optimizer, OptimizerSettings
from semigpt.training.progress import Progress
from semigpt.training.settings import TrainingSettings
from semigpt.training.step import Step
from semigpt.training.trainer import training_steps

__all__ = [
    "Forecast",
    "check_resources",
    "forecast_further",
    "forecast_run",
    "peak_memory",
    "readable_bytes",
]

REHEARSED_STEPS = 30  # at most, after one that is not counted
REHEARSED_SECONDS = 0.5
LORA_RANK = 16  # the rank that is advised
FLOAT_BYTES = 4  # weights, gradients and the optimizer's moments are float32


@dataclass(frozen=True)
class Forecast:
    """What a run is expected to take."""

    steps: int
    epochs: float
    seconds: float  # of the run's clock
    memory: int  # bytes, the process's most (on a GPU: the GPU's)
    disk: int  # bytes of checkpoints and model, at their most
    evaluations: int = auto.EVALUATIONS  # spread evenly, where `eval_every` does not say
    # Bits per character at the end, as the law of learning has it, and what it may be off by; None
    # for a rung that it was not fitted to.
    expected: float | None = None
    expected_error: float | None = None
    # (minutes, bits per character) of longer runs of the same command.
    later: tuple[tuple[float, float], ...] = ()
    ends_early: bool = False  # before its minutes: more readings would only hurt
    saved_memory: int = 0  # bytes of gradients and moments that LoRA does without

    @property
    def seconds_per_step(self) -> float:
        """Of the run's clock, evaluations included."""
        return self.seconds / self.steps


def check_resources(
    model: ModelSettings,
    settings: TrainingSettings,
    optimizer: OptimizerSettings,
    folder: Path,
    device: torch.device,
    *,
    from_model: bool = False,
    lora: int | None = None,
    shards: int = 1,
) -> None:
    """Raise SettingsError where memory or disk have less free than the least that the run needs:
    `least_memory`, and on disk the checkpoints to keep, one more while it is written, and the model
    twice.

    lora: the rank of the adapters of a run that trains those alone
    shards: processes that share one copy of the model
    """
    parameters = model.parameter_count

    def least(lora: int | None) -> int:
        return least_memory(
            *(model, settings, optimizer), from_model=from_model, lora=lora, shards=shards
        )

    free = available_memory(device)
    if free is not None and least(lora) > free:
        smaller = _("a smaller model with --from") if from_model else "a smaller --size"
        if from_model and lora is None and model.adapted_shapes and least(LORA_RANK) <= free:
            smaller = _("--lora {rank}, which needs at least {memory}, {smaller}").format(
                rank=LORA_RANK, memory=readable_bytes(least(LORA_RANK)), smaller=smaller
            )
        raise SettingsError(
            _(
                "this run needs at least {memory} of memory and {device} has "
                "{free} free; choose {smaller}, or more gradient_accumulation"
            ).format(
                memory=readable_bytes(least(lora)),
                device=device,
                free=readable_bytes(free),
                smaller=smaller,
            )
        )
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    trained = parameters if lora is None else adapter_count(model, lora)
    disk = checkpoint_disk(3 * FLOAT_BYTES * trained, parameters, settings.keep)
    disk += FLOAT_BYTES * parameters * (lora is not None)
    free_disk = shutil.disk_usage(place).free
    if disk > free_disk:
        raise SettingsError(
            _(
                "this run needs {disk} of disk for checkpoints and {place} has "
                "{free_disk} free; choose another --out, a smaller --size or "
                "--set training.keep=1"
            ).format(disk=readable_bytes(disk), place=place, free_disk=readable_bytes(free_disk))
        )


def least_memory(
    model: ModelSettings,
    settings: TrainingSettings,
    optimizer: OptimizerSettings,
    *,
    from_model: bool = False,
    lora: int | None = None,
    shards: int = 1,
) -> int:
    """The least bytes of memory that a run needs.

    Weights, the gradients and moments (one of Muon's) of what is trained, and a micro-batch's
    logits with their gradient; for a run that begins from another's weights, which may be large,
    also the best weights, and the second model of the rehearsal.
    """
    adapter = 0 if lora is None else adapter_count(model, lora)
    parameters = model.parameter_count + adapter
    trained = parameters if lora is None else adapter
    rows = settings.batch_size // settings.gradient_accumulation
    logits = rows * model.context_length * model.vocab_size
    weights = (1 + 2 * from_model) * parameters
    state = weights + (1 + moments(optimizer)) * trained
    return FLOAT_BYTES * (state // shards + 2 * logits)


def moments(optimizer: OptimizerSettings) -> int:
    """Numbers that an optimizer keeps of each number it trains."""
    return 2 if optimizer.optimizer == "adamw" else 1


def checkpoint_disk(checkpoint: int, parameters: int, keep: int) -> int:
    """The most bytes on disk of `keep` checkpoints of this size and of model/.

    One more of each while it is written.
    """
    return (keep + 1) * checkpoint + 2 * FLOAT_BYTES * parameters


def forecast_run(
    model: LanguageModel,
    step: Step,
    dataset: Dataset,
    optimizer_settings: OptimizerSettings,
    settings: TrainingSettings,
    evaluate: Callable[[], object],
    teacher: Teacher | None = None,
    *,
    group: Group = ALONE,
) -> Forecast:
    """Rehearse a few steps and one evaluation. The caller discards the model.

    It takes a second or two: one step that is not counted, then steps for half a second, at least
    two.
    """
    ahead.wait()  # a compiler beside them would slow the steps that are measured
    optimizer = Optimizer(model, optimizer_settings)
    plan = replace(
        settings,
        steps=REHEARSED_STEPS + 1,
        tokens=None,
        minutes=None,
        on_nonfinite="skip",
        save_every=None,
    )
    durations: list[float] = []
    before = start = time.perf_counter()
    for report in training_steps(
        model, dataset, optimizer, plan, Progress(), step=step, teacher=teacher, group=group
    ):
        now = time.perf_counter()
        if report.step == 1:
            start = now
        else:
            durations.append(now - before)
        before = now
        if len(durations) >= 2 and now - start > REHEARSED_SECONDS:
            break
    seconds_per_step = statistics.mean(durations)
    begin = time.perf_counter()
    evaluate()
    seconds_per_evaluation = time.perf_counter() - begin
    context_length = model.settings.context_length
    steps, seconds = planned(settings, context_length, seconds_per_step, seconds_per_evaluation)
    parameters = model.parameter_count()
    trained = sum(parameter.numel() for parameter in optimizer.parameters)
    frozen = parameters - trained
    disk = FLOAT_BYTES * frozen  # the base of an adapter
    optimizer_bytes = sum(tensor.nbytes for tensor in optimizer.state().values())
    checkpoint = FLOAT_BYTES * trained + optimizer_bytes
    # At the end the best weights are read, in two copies; in the place of one the rehearsal has had
    # another model.
    memory = peak_memory(model.device) + (
        FLOAT_BYTES * parameters if model.device.type == "cpu" else 0
    )
    blocks = (len(dataset.stream("train")) - 1) // context_length
    return Forecast(
        steps=steps,
        epochs=steps * settings.batch_size / blocks,
        seconds=seconds,
        memory=memory,
        disk=disk + checkpoint_disk(checkpoint, parameters, settings.keep),
        saved_memory=FLOAT_BYTES * (1 + moments(optimizer_settings)) * frozen,
        evaluations=auto.evaluations(settings.minutes, seconds_per_evaluation),
    )


def forecast_further(
    forecast: Forecast | None, progress: Progress, settings: TrainingSettings, tokens_per_step: int
) -> Forecast | None:
    """The forecast of a run to its new end, at the speed that it had so far."""
    if forecast is None or not progress.step:
        return forecast
    seconds_per_step = progress.seconds / progress.step
    if settings.minutes is not None:
        seconds = 60 * settings.minutes
        steps = max(round(seconds / max(seconds_per_step, 1e-9)), progress.step)
    else:
        steps = settings.steps or -(-(settings.tokens or 0) // tokens_per_step)
        seconds = steps * seconds_per_step
    epochs = forecast.epochs * steps / forecast.steps
    return replace(forecast, steps=steps, epochs=epochs, seconds=seconds)


def planned(
    settings: TrainingSettings,
    context_length: int,
    seconds_per_step: float,
    seconds_per_evaluation: float,
) -> tuple[int, float]:
    """How many steps a run will make, and its seconds."""
    evaluations = auto.evaluations(settings.minutes, seconds_per_evaluation)
    if settings.minutes is not None:
        seconds = 60 * settings.minutes
        if settings.eval_every is None:
            left = seconds - evaluations * seconds_per_evaluation
        else:
            per_evaluation = settings.eval_every * seconds_per_step
            left = seconds / (1 + seconds_per_evaluation / per_evaluation)
        steps = max(round(left / seconds_per_step), 1)
        if settings.most_tokens is None:
            return steps, seconds
        most = -(-settings.most_tokens // (settings.batch_size * context_length))
        return min(steps, most), seconds * min(most / steps, 1.0)
    if settings.steps is not None:
        steps = settings.steps
    else:
        steps = -(-(settings.tokens or 0) // (settings.batch_size * context_length))
    if settings.eval_every is None:
        evaluations = min(evaluations, steps)
    else:
        evaluations = steps // settings.eval_every + 1
    return steps, steps * seconds_per_step + evaluations * seconds_per_evaluation


def available_memory(device: torch.device) -> int | None:
    """Bytes free on the device, within the container's limit; None where nothing says."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    return system.free_memory()


def peak_memory(device: torch.device) -> int:
    """The most bytes that the process has held so far, of the GPU or of the machine's memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return system.peak_memory()


def readable_bytes(count: float) -> str:
    """A number of bytes for people: 240 MB, 1.1 GB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e6:.0f} MB" if count >= 1e7 else f"{count / 1e6:.1f} MB"
