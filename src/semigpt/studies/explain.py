"""`semigpt train --explain`: how a recipe would run on this machine, what else was tried, and what each way takes.

Everything is measured on the recipe's own model and batches, a second or two each; nothing is trained or written.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch

from semigpt.auto import dropout_for, weight_decay_for
from semigpt.dataset import Dataset
from semigpt.device import MachineSettings, gigaflops, pick_device
from semigpt.errors import SettingsError
from semigpt.models.attention import BlocksModel
from semigpt.models.base import LanguageModel
from semigpt.models.gpt import GPT
from semigpt.recipe import (
    Recipe,
    count_ngrams,
    fitted,
    fresh_model,
    has_teacher,
    make_teacher,
    pays_to_compile,
    prepare,
)
from semigpt.training.distillation import Teacher
from semigpt.training.forecast import planned
from semigpt.training.optimizer import Optimizer
from semigpt.training.progress import Progress
from semigpt.training.step import backend_of, make_step
from semigpt.training.trainer import training_steps

__all__ = ["Choice", "explain"]

WARM_UP = 2  # steps that are not counted
SECONDS = 1.5  # of steps that are


@dataclass(frozen=True)
class Choice:
    """One thing that is decided, and on what grounds."""

    what: str
    chosen: str
    why: str
    force: str  # what to write on the command line to have it otherwise


def explain(recipe: Recipe) -> Iterator[Choice]:
    """Each choice in turn. Raises what preparing the recipe's text and model raises."""
    corpus, tokenizer, dataset = prepare(recipe)
    named = recipe.tokenizer.kind or recipe.tokenizer.folder
    recipe = fitted(recipe, corpus, tokenizer)
    device = pick_device(recipe.machine.device)
    here = "the fastest there is" if recipe.machine.device == "auto" else "as asked"
    yield Choice("device", device.type, here, "--device cpu|cuda|mps")
    size = recipe.model["size"]
    shape = recipe.build_model(tokenizer.vocab_size, shape_only=True)
    context, batch = shape.settings.context_length, recipe.training.batch_size
    length = next(
        f"{value:g} {name}"
        for name in ("minutes", "steps", "tokens")
        if (value := getattr(recipe.training, name)) is not None
    )
    yield Choice(
        "size",
        f"{size}: {shape.parameter_count():,} parameters, {batch} x {context} tokens per step",
        f"for {length} of training, with products at {gigaflops(recipe.machine):,.0f} GFLOP/s; the measurements are in semigpt.auto"
        if "model.size" in recipe.dialled
        else "as asked",
        "--size tiny|small|base|large",
    )
    read = f"the text has {corpus.characters('train'):,} characters; the measurements are in semigpt.auto"
    yield Choice(
        "tokenizer",
        f"{tokenizer.kind}: {tokenizer.vocab_size:,} tokens",
        "as asked" if named else read,
        "--tokenizer char|byte|jamo|bpe|unigram",
    )
    whom = "the n-grams of the training text" if has_teacher(recipe, dataset) else "none"
    why = f"the text has {len(dataset.stream('train')):,} tokens; the measurements are in semigpt.recipe.has_teacher"
    yield Choice("teacher", whom, why, "--set training.teacher=counts|none")

    asked, vocab_size = recipe.machine, tokenizer.vocab_size
    counts = count_ngrams(recipe, dataset, device)
    teacher = make_teacher(recipe, dataset, counts)

    def seconds(machine: MachineSettings) -> float:
        if machine.threads is not None:
            torch.set_num_threads(machine.threads)
        tried = replace(recipe, machine=machine)
        return seconds_per_step(
            tried, fresh_model(tried, vocab_size, device, counts), dataset, teacher
        )

    chosen = seconds(asked)
    steps, planned_seconds = planned(recipe.training, context, chosen, seconds_per_evaluation=0.0)
    epochs = steps * batch * context / len(dataset.stream("train"))
    rung = recipe.model["rung"]
    often = f"the text is read {epochs:.2g} times"
    if rung == "gpt":
        dropout = recipe.model.get("dropout", dropout_for(rung, epochs))
        why = "as asked" if "dropout" in recipe.model else often
        yield Choice("dropout", f"{dropout:g}", why, "--set model.dropout=0.1")
    if rung in ("gpt", "memory"):
        decay, why = recipe.optimizer.weight_decay, "as asked"
        if decay is None:
            decay, why = weight_decay_for(rung, epochs), often
        yield Choice("weight decay", f"{decay:g}", why, "--set optimizer.weight_decay=0.1")
    model = fresh_model(recipe, vocab_size, device, counts)
    speed = f"{1000 * chosen:.1f} ms a step, {batch * context / chosen:,.0f} tokens per second"
    if isinstance(model, GPT):
        yield _precision(model, asked, chosen, seconds)
    if isinstance(model, GPT | BlocksModel):
        yield _step(model, asked, chosen, seconds)
    if device.type == "cpu":
        before = torch.get_num_threads()
        others = [count for count in {1, before} if count != before]
        try:
            tried = [
                f"{count}: {1000 * seconds(replace(asked, threads=count)):.1f} ms"
                for count in others
            ]
        finally:
            torch.set_num_threads(before)
        why = f"{speed}; {', '.join(tried)}" if tried else speed
        yield Choice("threads", str(before), why, "--set machine.threads=N")
        kept = "glibc's or the system's own"
        why = "the step in C keeps its buffers; LD_PRELOAD=libtcmalloc.so helps the plain one"
        yield Choice("allocator", kept, why, "LD_PRELOAD")
    force = "--set machine.compile=true|false"
    if asked.compile is None and pays_to_compile(rung, device, planned_seconds):
        by_clock = "yes" if recipe.training.minutes is not None else "no"
        why = f"{1000 * seconds(replace(asked, compile=True)):.1f} ms a step, {1000 * chosen:.1f} without"
        yield Choice("compile", by_clock, f"{why}; by itself where minutes end the run", force)
    else:
        why = "10 to 40 s before the first step; it pays on a GPU from a minute on, and on a CPU the step in C is past it"
        yield Choice("compile", "yes" if asked.compile else "no", why, force)


def _precision(
    model: GPT, asked: MachineSettings, chosen: float, seconds: Callable[[MachineSettings], float]
) -> Choice:
    name = str(model.compute_dtype).removeprefix("torch.")
    other: Literal["float32", "bfloat16"] = (
        "float32" if model.compute_dtype == torch.bfloat16 else "bfloat16"
    )
    took = seconds(replace(asked, precision=other))
    hardware = {
        "bfloat16": "the hardware multiplies it",
        "float32": "the hardware has no bfloat16 products"
        if asked.precision == "auto"
        else "as asked",
    }[name]
    why = f"{hardware}: {1000 * chosen:.1f} ms a step, {other} {1000 * took:.1f}"
    return Choice("precision", name, why, "--precision float32|bfloat16")


def _step(
    model: GPT | BlocksModel,
    asked: MachineSettings,
    chosen: float,
    seconds: Callable[[MachineSettings], float],
) -> Choice:
    other: Literal["plain", "native"]
    match backend_of(model, asked):
        case "native":
            name = "native: gradient and passes over memory in C, attention written out"
            other = "plain"
        case "cuda graph":
            name, other = "captured: PyTorch's operations as one CUDA graph", "plain"
        case "autograd":
            name, other = "plain: PyTorch's autograd", "native"
    try:
        took = f"{other} {1000 * seconds(replace(asked, step=other)):.1f} ms"
    except SettingsError as error:
        took = str(error)
    return Choice(
        "step", name, f"{1000 * chosen:.1f} ms; {took}", "--set machine.step=native|plain"
    )


def seconds_per_step(
    recipe: Recipe, model: LanguageModel, dataset: Dataset, teacher: Teacher | None
) -> float:
    """The median of the steps that fit `SECONDS`; the model is thrown away after."""
    plan = replace(recipe.training, steps=1000, tokens=None, minutes=None, on_nonfinite="skip")
    step = make_step(model, recipe.machine, teacher)
    optimizer = Optimizer(model, recipe.optimizer)
    times = [time.perf_counter()]
    for report in training_steps(
        model, dataset, optimizer, plan, Progress(), step=step, teacher=teacher
    ):
        times.append(time.perf_counter())
        if report.step > WARM_UP + 1 and times[-1] - times[WARM_UP] > SECONDS:
            break
    counted = times[WARM_UP:]
    return statistics.median(after - before for before, after in pairwise(counted))
