"""`semigpt train --explain`: how a recipe would run on this machine, what else was tried, and what
each way takes.

Everything is measured on the recipe's own model and batches, a second or two each; nothing is
trained or written.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal

import torch

from semigpt import auto, started_law
from semigpt.auto import Candidate
from semigpt.config import Recipe
from semigpt.corpus.corpus import Corpus
from semigpt.counting import Counted, count, has_teacher
from semigpt.dataset import Dataset
from semigpt.device import MachineSettings, pick_device
from semigpt.errors import SettingsError
from semigpt.evaluation.counting import describe
from semigpt.language import _
from semigpt.law import law_error
from semigpt.models.attention import BlocksModel
from semigpt.models.base import LanguageModel
from semigpt.models.gpt import GPT
from semigpt.output_layer import sampler_of
from semigpt.preparation import (
    fresh_model,
    prepare,
    ways_to_train,
)
from semigpt.storage import run_to_end
from semigpt.tokenizers.base import Tokenizer
from semigpt.training.forecast import planned
from semigpt.training.optimizer import Optimizer
from semigpt.training.progress import Progress
from semigpt.training.step import backend_of, make_step
from semigpt.training.trainer import training_steps

__all__ = ["Choice", "explain"]

WARM_UP = 2  # steps that are not counted
SECONDS = 1.5  # of steps that are
LAW = "docs/choices.md#the-law-of-learning"


@dataclass(frozen=True)
class Choice:
    """One thing that is decided, and on what grounds."""

    what: str
    chosen: str
    why: str
    force: str  # what to write on the command line to have it otherwise


def explain(recipe: Recipe) -> Iterator[Choice]:
    """Each choice in turn. Raises what preparing the recipe's text and model raises."""
    asked = recipe
    recipe, (corpus, tokenizer, dataset) = run_to_end(prepare(recipe))
    device = pick_device(recipe.machine.device)
    trial = Trial(recipe, dataset, device, count(recipe, dataset, device))
    here = _("the fastest there is") if recipe.machine.device == "auto" else _("as asked")
    yield Choice(_("device"), device.type, here, "--device cpu|cuda|mps")
    yield from law_choices(asked, recipe, corpus, tokenizer)
    if isinstance(trial.model, GPT):
        yield precision_choice(trial.model, trial)
        yield output_choice(trial)
    if isinstance(trial.model, GPT | BlocksModel):
        yield backend_choice(trial)
    if device.type == "cpu":
        yield threads_choice(trial)
        yield Choice(
            _("allocator"),
            _("glibc's or the system's own"),
            _("the step in C keeps its buffers; LD_PRELOAD=libtcmalloc.so helps the plain one"),
            "LD_PRELOAD",
        )
    yield compile_choice(trial)


@dataclass
class Trial:
    """The recipe's steps, measured as its machine settings have them or otherwise."""

    recipe: Recipe
    dataset: Dataset
    device: torch.device
    counted: Counted

    @cached_property
    def model(self) -> LanguageModel:
        return fresh_model(self.recipe, self.device, self.counted)

    @cached_property
    def seconds(self) -> float:
        """Per step, as the recipe has it."""
        return self.seconds_with(self.recipe.machine)

    @property
    def milliseconds(self) -> str:
        return _("{milliseconds:.1f} ms per step").format(milliseconds=1000 * self.seconds)

    def seconds_with(self, machine: MachineSettings) -> float:
        """Seconds per step with other settings of the machine: the median of the steps that fit
        `SECONDS`.
        """
        if machine.threads is not None:
            torch.set_num_threads(machine.threads)
        recipe = replace(self.recipe, machine=machine)
        model = fresh_model(recipe, self.device, self.counted)
        plan = replace(recipe.training, steps=1000, tokens=None, minutes=None, on_nonfinite="skip")
        optimizer = Optimizer(model, recipe.optimizer)
        sampler = sampler_of(recipe, self.dataset)
        step = make_step(model, machine, self.counted.teacher, sampler=sampler)
        times = [time.perf_counter()]
        for report in training_steps(
            model,
            self.dataset,
            optimizer,
            plan,
            Progress(),
            step=step,
            teacher=self.counted.teacher,
        ):
            times.append(time.perf_counter())
            if report.step > WARM_UP + 1 and times[-1] - times[WARM_UP] > SECONDS:
                break
        return statistics.median(after - before for before, after in pairwise(times[WARM_UP:]))


def law_choices(
    asked: Recipe, recipe: Recipe, corpus: Corpus, tokenizer: Tokenizer
) -> Iterator[Choice]:
    """What a model is and how it is trained, and what else was expected to end where."""
    model, training, decay = recipe.model, recipe.training, recipe.optimizer.weight_decay
    why = _("as asked")
    if asked.left_open:
        ways = ways_to_train(asked, corpus)
        error = (
            law_error(describe(corpus))
            if ways[0].start is None
            else started_law.coefficients()["error"]
        )
        why = _(
            "the law of learning expects {expected:.2f} ± {error:.2f} bits per character, the "
            "lowest of {ways} ways; {where}"
        ).format(expected=ways[0].expected, error=error, ways=len(ways), where=LAW)
    begun = recipe.start.folder or _("random weights")
    why_begun = _("together with the size") if asked.may_begin_from_starter else _("as asked")
    yield Choice(_("begins from"), begun, why_begun, "--from none|starter|FOLDER")
    yield Choice(
        _("size"),
        _(
            "{size}: {parameters:,} parameters, {batch_size} x {context_length} tokens per step"
        ).format(
            size=recipe.size,
            parameters=model.parameter_count,
            batch_size=training.batch_size,
            context_length=model.context_length,
        ),
        why,
        f"--size {'|'.join(recipe.rung.sizes)}",
    )
    for what, chosen, force in (
        (
            _("tokenizer"),
            _("{kind}: {tokens:,} tokens").format(kind=tokenizer.kind, tokens=tokenizer.vocab_size),
            "--tokenizer char|byte|jamo|bpe|char_bpe|unigram",
        ),
        (
            _("teacher"),
            _("the n-grams of the training text") if has_teacher(recipe) else _("none"),
            "--set training.teacher=counts|none",
        ),
        (
            _("embeddings"),
            _("the text's bigrams") if training.embeddings == "bigrams" else _("random"),
            "--set training.embeddings=bigrams|random",
        ),
        (_("dropout"), f"{getattr(model, 'dropout', 0.0):g}", "--set model.dropout=0.1"),
        (_("weight decay"), f"{decay or 0.0:g}", "--set optimizer.weight_decay=0.1"),
    ):
        yield Choice(what, chosen, _("together with the size"), force)
    if asked.left_open:
        for way in best_of_each(ways):
            told = _("{bits:.2f} bits per character expected").format(bits=way.expected)
            yield Choice(_("candidate"), described(way), told, flags(way))


def best_of_each(ways: list[Candidate]) -> list[Candidate]:
    """The best way of each beginning, size and vocabulary, the best first, six at most."""
    best: dict[tuple[str | None, str, str, int | None], Candidate] = {}
    for way in ways:
        best.setdefault((way.start, way.size, way.tokenizer, way.vocab_size), way)
    return list(best.values())[:6]


def flags(way: Candidate) -> str:
    """What to write on the command line for a candidate's beginning, or size and tokenizer."""
    if way.start is not None:
        return f"--from {way.start}"
    vocabulary = "" if way.vocab_size is None else f" --vocab-size {way.vocab_size}"
    return f"--size {way.size} --tokenizer {way.tokenizer}{vocabulary}"


def described(way: Candidate) -> str:
    """A candidate in a line."""
    vocabulary = "" if way.vocab_size is None else f" {way.vocab_size:,}"
    parts = [
        *([] if way.start is None else [_("from the {start}").format(start=way.start)]),
        way.size,
        f"{way.tokenizer}{vocabulary}",
        _("batch {size}").format(size=way.batch_size),
    ]
    parts += [_("dropout {dropout:g}").format(dropout=way.dropout)] if way.dropout else []
    if way.weight_decay:
        parts.append(_("weight decay {decay:g}").format(decay=way.weight_decay))
    parts += [_("the n-grams as teacher")] if way.taught else []
    tokens = _("{millions:.2g} million tokens").format(millions=way.tokens / 1e6)
    return ", ".join([*parts, tokens])


def precision_choice(model: GPT, trial: Trial) -> Choice:
    name = str(model.compute_dtype).removeprefix("torch.")
    other: Literal["float32", "bfloat16"] = "float32" if name == "bfloat16" else "bfloat16"
    machine = trial.recipe.machine
    took = trial.seconds_with(replace(machine, precision=other))
    hardware = _("the hardware multiplies it")
    if name == "float32":
        automatic = machine.precision == "auto"
        hardware = _("the hardware has no bfloat16 products") if automatic else _("as asked")
    why = f"{hardware}: {trial.milliseconds}, {other} {1000 * took:.1f}"
    return Choice(_("precision"), name, why, "--precision float32|bfloat16")


def output_choice(trial: Trial) -> Choice:
    rows, tokens = trial.recipe.training.output_sample, trial.recipe.model.vocab_size
    chosen = _("all of {tokens:,} rows in a step").format(tokens=tokens)
    why = _("a sample pays by the clock, on a CPU, where that layer is half of the net")
    if rows:
        chosen = _("a sample of {rows:,} of {tokens:,} rows in a step").format(
            rows=rows, tokens=tokens
        )
        whole = replace(trial.recipe, training=replace(trial.recipe.training, output_sample=0))
        took = replace(trial, recipe=whole).seconds
        why = _("{milliseconds}; all: {whole:.1f} ms").format(
            milliseconds=trial.milliseconds, whole=1000 * took
        )
    return Choice(_("output layer"), chosen, why, "--set training.output_sample=ROWS")


def backend_choice(trial: Trial) -> Choice:
    machine = trial.recipe.machine
    names = {
        "native": _("native: gradient and passes over memory in C, attention written out"),
        "cuda graph": _("captured: PyTorch's operations as one CUDA graph"),
        "autograd": _("plain: PyTorch's autograd"),
    }
    backend = backend_of(trial.model, machine)
    other: Literal["plain", "native"] = "native" if backend == "autograd" else "plain"
    try:
        took = f"{other} {1000 * trial.seconds_with(replace(machine, backend=other)):.1f} ms"
    except SettingsError as error:
        took = str(error)
    return Choice(
        _("backend"),
        names[backend],
        f"{1000 * trial.seconds:.1f} ms; {took}",
        "--set machine.backend=native|plain",
    )


def threads_choice(trial: Trial) -> Choice:
    before, training = torch.get_num_threads(), trial.recipe.training
    tokens = training.batch_size * trial.recipe.model.context_length
    why = _("{milliseconds}, {speed:,.0f} tokens per second").format(
        milliseconds=trial.milliseconds, speed=tokens / trial.seconds
    )
    try:
        if before != 1:
            one = trial.seconds_with(replace(trial.recipe.machine, threads=1))
            why += f"; 1: {1000 * one:.1f} ms"
    finally:
        torch.set_num_threads(before)
    return Choice(_("threads"), str(before), why, "--set machine.threads=N")


def compile_choice(trial: Trial) -> Choice:
    machine, training = trial.recipe.machine, trial.recipe.training
    force = "--set machine.compile=true|false"
    _steps, seconds = planned(training, trial.recipe.model.context_length, trial.seconds, 0.0)
    pays = "compile" in trial.recipe.rung.auto and auto.compiles(trial.device.type, seconds)
    if machine.compile is None and pays:
        compiled = trial.seconds_with(replace(machine, compile=True))
        why = _(
            "{compiled:.1f} ms per step, {plain:.1f} without; automatic only where minutes end the "
            "run"
        ).format(compiled=1000 * compiled, plain=1000 * trial.seconds)
        value = _("yes") if training.minutes is not None else _("no")
        return Choice(_("compile"), value, why, force)
    why = _(
        "10 to 40 s before the first step; it pays on a GPU from a minute on, and on a CPU the "
        "step in C is faster"
    )
    return Choice(_("compile"), _("yes") if machine.compile else _("no"), why, force)
