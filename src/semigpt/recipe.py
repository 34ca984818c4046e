"""The story of a run: text, tokenizer, blocks, model, training, evaluation, samples.

`train` is an iterator of events. It computes, writes the run folder and yields what happened;
whoever iterates decides what to show.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import torch

from semigpt import auto
from semigpt.config import DataSettings, Recipe, SampleSettings, TokenizerSettings
from semigpt.counting import Counted, count
from semigpt.dataset import Dataset
from semigpt.device import pick_device, use_threads
from semigpt.errors import SemigptError, TrainingError
from semigpt.fitting import fitted, larger_step
from semigpt.huggingface.open import open_run
from semigpt.language import _
from semigpt.measuring import Text, measure
from semigpt.models.base import LanguageModel
from semigpt.output_layer import sampler_of
from semigpt.parallel import ALONE, Group, Processes
from semigpt.preparation import (
    Preparing,
    fresh_model,
    prepare,
    rehearse,
    with_outlook,
)
from semigpt.restoring import progress_of, restore
from semigpt.resuming import resumed_recipe
from semigpt.run import TrainingRun
from semigpt.run_events import BaselinesMeasured, Evaluated, Finished, Prepared, Sharded
from semigpt.run_folder import RunFolder
from semigpt.stages import mark, stage
from semigpt.storage import run_to_end
from semigpt.training.forecast import Forecast, forecast_run, rehearsal_of
from semigpt.training.optimizer import Optimizer
from semigpt.training.progress import Pace, Progress, StepReport
from semigpt.training.settings import LegSettings, More
from semigpt.training.sharding import ShardedOptimizer
from semigpt.training.step import Step, arithmetic_of, make_step
from semigpt.training.trainer import training_steps

__all__ = [
    "BaselinesMeasured",
    "Continued",
    "DataSettings",
    "Evaluated",
    "Event",
    "Finished",
    "Forecasted",
    "More",
    "Prepared",
    "Preparing",
    "Recipe",
    "SampleSettings",
    "Sharded",
    "Stepped",
    "TokenizerSettings",
    "open_run",
    "train",
]


# What happens in a run


@dataclass(frozen=True)
class Forecasted:
    """What a new run is going to take; `advice` is how to have it in ten minutes, where it takes
    longer.
    """

    forecast: Forecast
    advice: str
    dropout: float  # as asked for, or as chosen


@dataclass(frozen=True)
class Continued:
    """A run that had an end is going to be trained further."""

    leg: LegSettings
    forecast: Forecast | None  # of the whole run, to its new end
    top: float  # the highest rate to come, as a fraction of the first leg's


@dataclass(frozen=True)
class Stepped:
    """One update of the weights; `slowed` as `Pace` tells it."""

    report: StepReport
    slowed: float | None = None


Event: TypeAlias = (
    Preparing
    | Prepared
    | Sharded
    | Forecasted
    | Continued
    | Stepped
    | BaselinesMeasured
    | Evaluated
    | Finished
)


# The story


def train(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    other_bits: bool = False,
    more: More | None = None,
    stop: Callable[[], bool] = lambda: False,
    group: Group = ALONE,
) -> Iterator[Event]:
    """Run a recipe into a run folder; if this very run was left there unfinished, resume it.

    resume: there must be a run to resume; with `other_bits` also where this machine rounds
        otherwise than the one that saved it
    more: train it so much further, finished or not: a new schedule, one history
    stop: asked after each step and each event of the preparation; where it says yes the run is
        saved and ends, ready to be resumed; in the preparation that is a KeyboardInterrupt
    group: this process is its first; the others `follow`

    Raises what its parts raise: CorpusError, SettingsError, CheckpointError, TrainingError.
    """
    mark("begun")
    asked = recipe
    with contextlib.ExitStack() as held:
        run = open_to_resume(folder, resume or more is not None, held)
        new, forecast, first = run is None, None, None
        if run is not None:  # every choice was made when the run began
            recipe, forecast = resumed_recipe(recipe, run, more, moved=resume)
        device = pick_device(recipe.machine.device)
        recipe, cut = fitted(recipe, folder, device, group, new=new)  # as far as is known yet
        # The text, and the time there is, decide what a model learns most in it.
        recipe, text = yield from prepare(recipe, stop, run, group=group)
        recipe, now_cut = fitted(recipe, folder, device, group, new=new)
        use_threads(recipe.machine)
        counted = count(recipe, text.dataset, device, fresh=not (run and run.has_checkpoints))
        if run is None:
            with stage("forecast and first evaluation"):
                if not group.sharded:  # its length decides whether to compile
                    recipe, forecast, first = rehearse(
                        *(asked, recipe, text, device, counted), group
                    )
                run = RunFolder.create(folder, recipe.tables())
                held.callback(run.unlock)
                if isinstance(group, Processes) and group.sharded:
                    ready = recipe, text, device, counted, run
                    forecast = with_outlook(
                        asked, recipe, text, rehearse_sharded(ready, group), group
                    )
        gc.collect()  # what was rehearsed is thrown away
        model, optimizer, step = built(recipe, text.dataset, device, counted, group, run)
        training = TrainingRun(run, recipe, text, model, optimizer, forecast)
        checkpoint = None if new else training.restore_newest(other_bits=other_bits)
        yield from announced(training, asked, now_cut or cut, new=new, further=more is not None)
        run.write_metadata(training.metadata)
        if checkpoint is None and not group.sharded:
            yield training.begin(first)
        step = yield from together(training, group, step, begins=checkpoint is None)
        pace, stopped = Pace(forecast.seconds_per_step if forecast else None), False
        mark("first step")
        with naming_the_last_good(run):
            for report in training_steps(
                *(model, text.dataset, optimizer, recipe.training, training.progress),
                step=step,
                teacher=counted.teacher,
                leg=recipe.leg,
                group=group,
            ):
                training.log(report)
                yield Stepped(report, pace.slowed(report))
                if training.evaluation_due(report):
                    if training.baselines is None:
                        yield training.measure_baselines()
                    yield training.evaluate(group=group)
                stopped = stop() and report.fraction < 1
                if stopped or training.save_due(report):
                    with stage("checkpoint"):
                        training.save()
                if stopped:
                    break
        yield from end(training, stopped, group)


def follow(group: Processes) -> None:
    """Compute this process's micro-batches of the run that the first process trains, to its end.

    Raises SemigptError where the first process stands still without this one, or is gone: it has
    been told. What ends both, such as a loss that is not finite, the first one tells.
    """
    ready: _Ready | None = None
    while (told := group.next_run()) is not None:
        folder, stamp, rehearsal = told
        try:
            ready = ready or _ready(Path(folder), stamp)
            recipe, text, device, counted, run = ready
            checkpoint, progress = run.newest(), Progress()
            model, optimizer, step = built(recipe, text.dataset, device, counted, group, run)
            if checkpoint is not None:
                progress = progress_of(checkpoint)
                restore(model, optimizer, checkpoint)
        except SemigptError as error:
            group.report(None, str(error))
            raise
        if not group.report(bits_of(model)):
            return
        if isinstance(optimizer, ShardedOptimizer):
            step = optimizer.shard(model, step)
        with contextlib.suppress(TrainingError):
            for _ in training_steps(
                model,
                text.dataset,
                optimizer,
                rehearsal_of(recipe.training) if rehearsal else recipe.training,
                progress,
                step=step,
                teacher=counted.teacher,
                leg=recipe.leg,
                group=group,
            ):
                pass
        if not rehearsal:
            return
        del model, optimizer, step
        gc.collect()


_Ready: TypeAlias = tuple[Recipe, Text, torch.device, Counted, RunFolder]


def _ready(folder: Path, stamp: str) -> _Ready:
    """What a process needs of a run that the first has begun or resumed."""
    run = RunFolder.open(folder)
    recipe = Recipe.from_tables(run.config())
    device = pick_device(recipe.machine.device)
    use_threads(recipe.machine)
    recipe, text = run_to_end(prepare(recipe, run=run, verified=stamp))
    counted = count(recipe, text.dataset, device, fresh=not run.has_checkpoints)
    return recipe, text, device, counted, run


# Its parts


def open_to_resume(folder: Path, resume: bool, held: contextlib.ExitStack) -> RunFolder | None:
    """The run in `folder`, locked for as long as `held`; None where a new one may begin.

    Raises CheckpointError for a run that another process trains, or a folder that is no run.
    """
    if not resume and not (folder / "config.toml").is_file():
        RunFolder.check_free(folder)
        return None
    run = RunFolder.open(folder)
    run.lock()
    held.callback(run.unlock)
    return run


def built(
    recipe: Recipe,
    dataset: Dataset,
    device: torch.device,
    counted: Counted,
    group: Group,
    run: RunFolder,
) -> tuple[LanguageModel, Optimizer, Step]:
    """The model that a run begins with, or is restored into, its optimizer and its step.

    One that is going to be sharded is whole, and in the host's memory, until all have joined.
    """
    model = fresh_model(recipe, device, counted, restored=run, sharded=group.sharded)
    optimizer = (
        ShardedOptimizer(recipe.optimizer, group, device)
        if isinstance(group, Processes) and group.sharded
        # A GPU is faster than what brings it the others' matrices.
        else Optimizer(model, recipe.optimizer, group if device.type == "cpu" else ALONE)
    )
    sampler = sampler_of(recipe, dataset)
    return model, optimizer, make_step(model, recipe.machine, counted.teacher, sampler=sampler)


def rehearse_sharded(ready: _Ready, group: Processes) -> Forecast:
    """Forecast a run of a sharded model by a few steps and an evaluation of all its processes, on a
    model that is thrown away.
    """
    recipe, text, device, counted, run = ready
    model, optimizer, step = built(recipe, text.dataset, device, counted, group, run)
    group.begin(str(run.path.absolute()), text.dataset.stamp, rehearsal=True)
    group.join(bits_of(model))
    assert isinstance(optimizer, ShardedOptimizer)
    with ending(group):
        return forecast_run(
            *(model, optimizer.shard(model, step), text.dataset, optimizer, recipe.training),
            lambda: measure(model, text, recipe.training, recipe.sample, group, optimizer),
            counted.teacher,
            group=group,
        )


def announced(
    training: TrainingRun, asked: Recipe, cut: Sharded | None, *, new: bool, further: bool
) -> Iterator[Prepared | Sharded | Forecasted | Continued]:
    """What is known of a run before its first step; `asked` is the recipe before its choices."""
    recipe, forecast = training.recipe, training.forecast
    yield training.prepared(None if new else training.progress.step)
    if cut is not None:
        yield cut
    if new and forecast is not None:
        yield Forecasted(forecast, advice(asked, recipe, forecast), dropout_of(recipe))
    if further:
        yield Continued(recipe.leg, forecast, recipe.leg.top(recipe.optimizer.rewarm))


def together(
    training: TrainingRun, group: Group, step: Step, *, begins: bool
) -> Generator[Evaluated, None, Step]:
    """Wait until all processes are ready; returns the step that each computes, and evaluates a
    sharded model as it begins.
    """
    group.begin(str(training.run.path.absolute()), training.text.dataset.stamp)
    group.join(bits_of(training.model))
    if isinstance(training.optimizer, ShardedOptimizer):
        step = training.optimizer.shard(training.model, step)
        if begins:
            with ending(group, on_error=True):
                yield training.begin(None, group)
    return step


def end(training: TrainingRun, stopped: bool, group: Group) -> Iterator[Evaluated | Finished]:
    """What a run still owes, and its report."""
    with ending(group):
        if not stopped and training.lacks_checkpoint:
            # What came after a step, such as an evaluation, took the last of the clock.
            mark("last step")
            if training.lacks_evaluation:
                yield training.evaluate(group=group if group.sharded else ALONE)
            training.save()
    with stage("report"):
        finished = training.finish(complete=not stopped)
    yield finished


@contextlib.contextmanager
def ending(group: Group, *, on_error: bool = False) -> Iterator[None]:
    """Afterwards, or where something went wrong, tell the others that no step follows."""
    try:
        yield
    except BaseException:
        group.end()
        raise
    if not on_error:
        group.end()


@contextlib.contextmanager
def naming_the_last_good(run: RunFolder) -> Iterator[None]:
    """Add to a TrainingError which checkpoint is intact, and how to resume from it."""
    try:
        yield
    except TrainingError as error:
        raise TrainingError(
            _(
                "{error}; {run}. Resume without these blocks: semigpt train --resume "
                "{path} --set training.on_nonfinite=skip; or train from scratch with a lower "
                "learning_rate"
            ).format(error=error, run=run.last_good(), path=run.path)
        ) from None


def bits_of(model: LanguageModel) -> dict[str, str]:
    """What the bits of the next step depend on beside the recipe; processes compare it."""
    weights = hashlib.sha256()
    for parameter in model.parameters():
        weights.update(parameter.detach().cpu().contiguous().numpy().data)
    return arithmetic_of(model.device) | {"weights": weights.hexdigest()[:12]}


def dropout_of(recipe: Recipe) -> float:
    """The dropout while training; 0 for a rung that has none."""
    return float(getattr(recipe.model, "dropout", 0.0))


def advice(asked: Recipe, recipe: Recipe, forecast: Forecast) -> str:
    """What would be better: fewer processes, where they are more than the size's step teaches; or
    how to have a model in ten minutes, where this run takes longer. Empty where nothing is.

    A smaller size's time is reckoned from its parameters and its tokens per step, to which time is
    about proportional.
    """
    own = Recipe.from_tables({"model": {"kind": recipe.kind, "size": recipe.size}})
    most = own.training.batch_size * (auto.BATCHES[-1] if recipe.within_law else 1)
    context_length = recipe.model.context_length
    told = larger_step(recipe.training.batch_size * context_length, most * own.model.context_length)
    if told and forecast.processes > 1 and recipe.start.folder is None:
        return told
    if forecast.seconds <= 600 or recipe.training.minutes is not None:
        return ""

    def of_size(size: auto.Size) -> Recipe:
        length = {"steps": recipe.training.steps}
        return Recipe.from_tables(
            {"model": {"kind": recipe.kind, "size": size}, "training": length}
        )

    def work(other: Recipe) -> float:
        shape = replace(other.model, vocab_size=recipe.model.vocab_size)
        return float(shape.parameter_count * other.training.batch_size * shape.context_length)

    sizes = recipe.rung.sizes
    if recipe.training.steps is not None and asked.model == of_size(recipe.size).model:
        for smaller in reversed(sizes[: sizes.index(recipe.size)]):
            if forecast.seconds * work(of_size(smaller)) / work(recipe) <= 600:
                return _("for ten minutes use --size {size}").format(size=smaller)
    return _("for ten minutes use --minutes 10")
