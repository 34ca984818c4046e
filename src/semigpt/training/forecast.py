"""What a run will take in time, memory and disk, before it begins.

A run that the machine cannot hold is refused; otherwise a short rehearsal is measured.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from semigpt import auto, system
from semigpt.dataset import Dataset
from semigpt.device import MachineSettings, pick_precision
from semigpt.errors import SettingsError
from semigpt.language import _
from semigpt.models.base import LanguageModel, ModelSettings
from semigpt.models.gpt import GPTSettings
from semigpt.models.lora import adapter_count
from semigpt.native import ahead, gpt_step
from semigpt.parallel import ALONE, Group
from semigpt.tensor_file import Parts
from semigpt.training.distillation import Teacher
from semigpt.training.memory import FLOAT_BYTES, TrainingShape, least_memory, moments, step_memory
from semigpt.training.optimizer import Optimizer, OptimizerSettings
from semigpt.training.progress import Progress
from semigpt.training.settings import TrainingSettings
from semigpt.training.step import Step
from semigpt.training.trainer import training_steps

__all__ = [
    "Forecast",
    "available_memory",
    "check_resources",
    "forecast_further",
    "forecast_run",
    "peak_memory",
    "process_memory",
    "readable_bytes",
    "rehearsal_of",
]

REHEARSED_STEPS = 30  # at most, after one that is not counted
REHEARSED_SECONDS = 0.5
LORA_RANK = 16  # the rank that is advised


@dataclass(frozen=True)
class Forecast:
    """What a run is expected to take."""

    steps: int
    epochs: float
    seconds: float  # of the run's clock
    memory: int  # bytes, the most of each process (on a GPU: the GPU's)
    disk: int  # bytes of checkpoints and model, at their most
    evaluations: int = auto.EVALUATIONS  # spread evenly, where `eval_every` does not say
    # Bits per character at the end, as the law of learning has it, and what it may be off by; None
    # for a rung that it was not fitted to.
    expected: float | None = None
    expected_error: float | None = None
    # What the best way from random weights is expected to need, where the run begins from the
    # starter of its own accord.
    from_nothing: float | None = None
    # (minutes, bits per character) of longer runs of the same command.
    later: tuple[tuple[float, float], ...] = ()
    ends_early: bool = False  # before its minutes: more readings would only hurt
    saved_memory: int = 0  # bytes of gradients and moments that LoRA does without
    processes: int = 1  # that share a step

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
    machine: MachineSettings | None = None,
    from_model: bool = False,
    lora: int | None = None,
    processes: int = 1,
    on_this_machine: int = 1,
    shards: int = 1,
    fitting: Callable[[], str] = str,
) -> None:
    """Raise SettingsError where memory or disk have less free than the least that the run needs.

    In memory: `process_memory`. On disk: the checkpoints to keep, one more while it is written,
    and the model twice.

    lora: the rank of the adapters of a run that trains those alone
    processes: that share a step; those `on_this_machine` share the memory of its CPU, while each
        has a GPU of its own
    shards: processes that share one copy of the model
    fitting: what would fit in memory, or nothing; asked where the run does not
    """
    machine = machine or MachineSettings()
    parameters = model.parameter_count

    def least(lora: int | None) -> int:
        sizes = (model, settings, optimizer, machine, device)
        return process_memory(
            *sizes, from_model=from_model, lora=lora, processes=processes, shards=shards
        )

    sharing = on_this_machine if device.type == "cpu" else 1
    free, memory = available_memory(device), least(lora)
    if free is not None and memory * sharing > free:
        needed, has = readable_bytes(memory), readable_bytes(free)
        smaller = _("a smaller model with --from") if from_model else _("a smaller --size")
        smaller = fitting() or smaller
        adapted = from_model and lora is None and model.adapted_shapes
        if adapted and least(LORA_RANK) * sharing <= free:
            smaller = _("--lora {rank}, which needs at least {memory}, {smaller}").format(
                rank=LORA_RANK, memory=readable_bytes(least(LORA_RANK)), smaller=smaller
            )
        message = _(
            "this run needs at least {memory} of memory and {device} has "
            "{free} free; choose {smaller}, or more gradient_accumulation"
        )
        if shards > 1:
            message = _(
                "this run needs at least {memory} of memory in each of {shards} processes that "
                "cut its model among them, and {device} has {free} free; choose {smaller}, or more "
                "gradient_accumulation"
            )
        elif sharing > 1:
            message = _(
                "this run needs at least {memory} of memory in each of {sharing} processes and "
                "{device} has {free} free; choose fewer --processes, {smaller}, or more "
                "gradient_accumulation"
            )
        own = {"shards": shards, "sharing": sharing, "smaller": smaller}
        raise SettingsError(message.format(memory=needed, device=device, free=has, **own))
    trained = parameters if lora is None else adapter_count(model, lora)
    disk = checkpoint_disk(3 * FLOAT_BYTES * trained, parameters, settings.keep)
    disk += FLOAT_BYTES * parameters * (lora is not None)
    _check_disk(disk, folder)


def _check_disk(disk: int, folder: Path) -> None:
    """Raise SettingsError where less is free."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free_disk = shutil.disk_usage(place).free
    if disk > free_disk:
        raise SettingsError(
            _(
                "this run needs {disk} of disk for checkpoints and {place} has "
                "{free_disk} free; choose another --out, a smaller --size or "
                "--set training.keep=1"
            ).format(disk=readable_bytes(disk), place=place, free_disk=readable_bytes(free_disk))
        )


def process_memory(
    model: ModelSettings,
    settings: TrainingSettings,
    optimizer: OptimizerSettings,
    machine: MachineSettings,
    device: torch.device,
    *,
    from_model: bool = False,
    lora: int | None = None,
    processes: int = 1,
    shards: int = 1,
) -> int:
    """Bytes that a process of a run needs at the least: `needed_memory`; of one that begins from
    another's weights, which may be large, also the best weights, and of a whole model the second
    of the rehearsal.
    """
    sizes = (model, settings, optimizer, machine, device)
    least = needed_memory(*sizes, lora=lora, processes=processes, shards=shards)
    copies = 0 if not from_model else 2 if shards == 1 else 1
    return least + FLOAT_BYTES * copies * model.parameter_count


def needed_memory(
    model: ModelSettings,
    settings: TrainingSettings,
    optimizer: OptimizerSettings,
    machine: MachineSettings,
    device: torch.device,
    *,
    lora: int | None = None,
    processes: int = 1,
    shards: int = 1,
) -> int:
    """Bytes that a process of a run needs at the least, before anything is allocated:
    `step_memory` of a `gpt` that autograd trains, else `least_memory`.
    """
    shape = TrainingShape(
        rows=settings.batch_size // settings.gradient_accumulation,
        lanes=settings.gradient_accumulation,
        processes=processes,
        shards=shards,
        muon=optimizer.optimizer == "muon",
        checkpoints=machine.checkpoint_activations,
        number_bytes=pick_precision(device, machine.precision).itemsize,
        adapters=None if lora is None else adapter_count(model, lora),
    )
    least = least_memory(model, shape)
    by_autograd = device.type == "cuda" or model.context_length > gpt_step.LONGEST or shards > 1
    if by_autograd and isinstance(model, GPTSettings) and model.ngram_order is None:
        return max(least, step_memory(model, shape).total)
    return least


def checkpoint_disk(checkpoint: int, parameters: int, keep: int) -> int:
    """The most bytes on disk of `keep` checkpoints of this size and of model/.

    One more of each while it is written.
    """
    return (keep + 1) * checkpoint + 2 * FLOAT_BYTES * parameters


def forecast_run(
    model: LanguageModel,
    step: Step,
    dataset: Dataset,
    optimizer: Optimizer,
    settings: TrainingSettings,
    evaluate: Callable[[], object],
    teacher: Teacher | None = None,
    *,
    group: Group = ALONE,
) -> Forecast:
    """Rehearse a few steps and one evaluation. The caller discards model and optimizer.

    It takes a second or two: one step that is not counted, then steps for half a second, at least
    two. The other processes of a sharded model follow `rehearsal_of` until this one's clock ends
    it.
    """
    ahead.wait()  # a compiler beside them would slow the steps that are measured
    durations: list[float] = []
    before = start = time.perf_counter()
    reports = training_steps(
        *(model, dataset, optimizer, rehearsal_of(settings), Progress()),
        step=step,
        teacher=teacher,
        group=group,
    )
    with contextlib.closing(reports):
        for report in reports:
            now = time.perf_counter()
            if report.step == 1:
                start = now
            else:
                durations.append(now - before)
            before = now
            if len(durations) >= 2 and now - start > REHEARSED_SECONDS:
                break
        begin = time.perf_counter()
        evaluate()
        seconds_per_evaluation = time.perf_counter() - begin
    seconds_per_step = statistics.mean(durations)
    context_length = model.settings.context_length
    steps, seconds = planned(settings, context_length, seconds_per_step, seconds_per_evaluation)
    parameters = model.parameter_count()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = parameters - trained
    disk = FLOAT_BYTES * frozen  # the base of an adapter
    files, _write = optimizer.checkpoint(model)
    checkpoint = sum(map(file_bytes, files.values()))
    # At the end the best weights are read, in two copies; in the place of one the rehearsal has had
    # another model.
    memory = peak_memory(model.device) + (
        FLOAT_BYTES * parameters if model.device.type == "cpu" else 0
    )
    # Whole models are rehearsed by one process: what is sent and received comes on top.
    if group.size > 1 and not group.sharded:
        memory += 3 * FLOAT_BYTES * parameters
    blocks = (len(dataset.stream("train")) - 1) // context_length
    muon = optimizer.settings.optimizer == "muon"
    return Forecast(
        steps=steps,
        epochs=steps * settings.batch_size / blocks,
        seconds=seconds,
        memory=memory,
        disk=disk + checkpoint_disk(checkpoint, parameters, settings.keep),
        saved_memory=FLOAT_BYTES * (1 + moments(muon=muon)) * frozen,
        evaluations=auto.evaluations(settings.minutes, seconds_per_evaluation),
        processes=group.size,
    )


def rehearsal_of(settings: TrainingSettings) -> TrainingSettings:
    """How a run's steps are rehearsed: as many as are made at most."""
    return replace(
        settings,
        steps=REHEARSED_STEPS + 1,
        tokens=None,
        minutes=None,
        most_tokens=None,
        on_nonfinite="skip",
        save_every=None,
    )


def file_bytes(held: Parts | Mapping[str, Tensor]) -> int:
    """Of a checkpoint's file."""
    if isinstance(held, Parts):
        return FLOAT_BYTES * sum(math.prod(shape) for shape in held.shapes.values())
    return sum(tensor.nbytes for tensor in held.values())


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
