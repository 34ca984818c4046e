"""The story of a run: text, tokenizer, blocks, model, training, evaluation, samples.

`train` is an iterator of events. It computes, writes the run folder and yields what happened;
whoever iterates decides what to show.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeVar

import torch

from semigpt import auto
from semigpt.config import DataSettings, Recipe, SampleSettings, TokenizerSettings
from semigpt.corpus.corpus import Corpus
from semigpt.corpus.staging import StagingProgress, stage
from semigpt.dataset import Dataset, TokenizingProgress, block_starts, tokenize
from semigpt.device import pick_device, pick_precision
from semigpt.errors import CorpusError, SettingsError, TrainingError
from semigpt.evaluation.baselines import COUNTED_TOKENS
from semigpt.evaluation.evaluate import check_split
from semigpt.huggingface.open import open_run
from semigpt.models.base import LanguageModel
from semigpt.models.gpt import GPT
from semigpt.models.memory import MemoryGPT
from semigpt.native import ngrams as native_ngrams
from semigpt.ngrams.counts import Counts
from semigpt.run import Evaluated, Finished, Prepared, Text, TrainingRun, measure
from semigpt.run_folder import RunFolder
from semigpt.tokenizers import CharTokenizer, load_tokenizer, train_tokenizer
from semigpt.tokenizers.base import Tokenizer
from semigpt.training.distillation import Teacher
from semigpt.training.forecast import Forecast, check_resources, forecast_run
from semigpt.training.optimizer import Optimizer
from semigpt.training.progress import StepReport
from semigpt.training.step import make_step
from semigpt.training.trainer import training_steps

__all__ = [
    "DataSettings",
    "Evaluated",
    "Event",
    "Finished",
    "Forecasted",
    "Prepared",
    "Preparing",
    "Recipe",
    "SampleSettings",
    "Stepped",
    "TokenizerSettings",
    "open_run",
    "train",
]

logger = logging.getLogger(__name__)
T = TypeVar("T")


# What happens in a run


@dataclass(frozen=True)
class Preparing:
    """Text is being read, or turned into tokens; what is written so far is resumed if the run stops
    here.
    """

    what: str  # "reading: 1,200 documents, 3,400,000 characters"
    fraction: float | None  # of this work, done; None where nobody knows


@dataclass(frozen=True)
class Forecasted:
    """What a new run is going to take; `advice` is how to have it in ten minutes, where it takes
    longer.
    """

    forecast: Forecast
    advice: str
    dropout: float  # as asked for, or as chosen for so many epochs


@dataclass(frozen=True)
class Stepped:
    """One update of the weights."""

    report: StepReport


Event: TypeAlias = Preparing | Prepared | Forecasted | Stepped | Evaluated | Finished


# The story


def train(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Run a recipe into a run folder; if this very run was left there unfinished, resume it.

    With `resume` there must be a run to resume. `stop` is asked after each step, and after each
    event of the preparation. Where it says yes the run is saved and ends, ready to be resumed; in
    the preparation that is a KeyboardInterrupt.

    Raises what its parts raise: CorpusError, SettingsError, CheckpointError, TrainingError.
    """
    asked = recipe
    with contextlib.ExitStack() as held:
        run = open_to_resume(folder, resume, held)
        if run is not None:  # every choice was made when the run began
            recipe = recipe.resumed_from(Recipe.from_tables(run.config()), folder)
            run.check_unfinished()
        device = pick_device(recipe.machine.device)
        # The text decides the tokenizer, and its vocabulary the batch size.
        recipe, text = yield from prepare(recipe, stop)
        check_resources(recipe.model, recipe.training, folder, device)
        if recipe.machine.threads is not None:
            torch.set_num_threads(recipe.machine.threads)
        counts = count_ngrams(recipe, text.dataset, device)
        teacher = make_teacher(recipe, text.dataset, counts)
        new, forecast = run is None, saved_forecast(run)
        if run is None:  # its length decides dropout, weight decay and whether to compile
            recipe, forecast = rehearse(recipe, text, device, counts, teacher)
            run = RunFolder.create(folder, recipe.tables())
            held.callback(run.unlock)
        model = fresh_model(recipe, device, counts)
        optimizer = Optimizer(model, recipe.optimizer)
        step = make_step(model, recipe.machine, teacher)
        training = TrainingRun(run, recipe, text, model, optimizer, forecast)
        checkpoint = None if new else training.restore_newest()
        progress = training.progress
        yield training.prepared(None if new else progress.step)
        if new and forecast is not None:
            yield Forecasted(forecast, advice(asked, recipe, forecast), dropout_of(recipe))
        run.write_metadata(training.metadata)
        if checkpoint is None:
            yield training.evaluate()
        stopped = False
        with naming_the_last_good(run):
            for report in training_steps(
                model,
                text.dataset,
                optimizer,
                recipe.training,
                progress,
                step=step,
                teacher=teacher,
            ):
                training.log(report)
                yield Stepped(report)
                if training.evaluation_due(report):
                    yield training.evaluate()
                stopped = stop() and report.fraction < 1
                if stopped or training.save_due(report):
                    training.save()
                if stopped:
                    break
        yield training.finish(complete=not stopped)


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


@contextlib.contextmanager
def naming_the_last_good(run: RunFolder) -> Iterator[None]:
    """Add to a TrainingError which checkpoint is intact, and how to resume from it."""
    try:
        yield
    except TrainingError as error:
        raise TrainingError(
            f"{error}; {run.last_good()}. Resume without these blocks: semigpt train --resume "
            f"{run.path} --set training.on_nonfinite=skip; or train from scratch with a lower "
            "learning_rate"
        ) from None


def prepare(
    recipe: Recipe, stop: Callable[[], bool] = lambda: False
) -> Generator[Preparing, None, tuple[Recipe, Text]]:
    """Text to token shards, all found again at once by a second run; the recipe with what the text
    decides.

    Raises CorpusError where a split is too short for a block.
    """
    data = recipe.data
    corpus = yield from _until_stopped(
        stage(data.spec, column=data.column, split=data.split), _reading, stop
    )
    for split in ("train", "validation"):
        check_split(corpus, split)
    characters = corpus.characters("train")
    recipe = recipe.for_text(characters)
    tokenizer = prepare_tokenizer(recipe.tokenizer, corpus)
    recipe = recipe.for_tokenizer(tokenizer, characters)
    dataset = yield from _until_stopped(tokenize(corpus, tokenizer), _writing, stop)
    for split in ("train", "validation"):
        try:
            tokens, context = len(dataset.stream(split)), recipe.model.context_length
            block_starts(tokens, context, 1, order="epoch", seed=0, step=0)
        except CorpusError as error:
            raise CorpusError(f"the {split} split of {corpus.spec} is too short: {error}") from None
    return recipe, Text(corpus, tokenizer, dataset)


P = TypeVar("P", StagingProgress, TokenizingProgress)


def _until_stopped(
    work: Generator[P, None, T], tell: Callable[[P], str], stop: Callable[[], bool]
) -> Generator[Preparing, None, T]:
    """What `work` returns, its progress as events; interrupted, and so ready to be resumed, where
    `stop` says yes.
    """
    with contextlib.closing(work):
        while True:
            try:
                progress = work.throw(KeyboardInterrupt()) if stop() else next(work)
            except StopIteration as end:
                result: T = end.value
                return result
            yield Preparing(tell(progress), progress.fraction)


def _reading(progress: StagingProgress) -> str:
    return f"reading: {progress.documents:,} documents, {progress.characters:,} characters"


def _writing(progress: TokenizingProgress) -> str:
    return f"writing {progress.tokens:,} tokens"


def prepare_tokenizer(settings: TokenizerSettings, corpus: Corpus) -> Tokenizer:
    """The tokenizer of the settings, trained on the corpus once and kept beside it; `char` where no
    kind is named.
    """
    if settings.folder is not None:
        return load_tokenizer(Path(settings.folder))
    kind = settings.kind or "char"
    if kind == "char":  # its counts came with the corpus
        return CharTokenizer.from_counts(
            corpus.character_counts,
            min_count=settings.min_count,
            max_vocab_size=settings.vocab_size,
            normalization="NFC",
        )
    every = 1
    if (
        kind in ("bpe", "unigram") and settings.min_count == 1
    ):  # all of it, where rare pairs are to be left out
        every = auto.documents_step(corpus.characters("train"))
    name = f"tokenizer-{kind}-{settings.vocab_size or 'default'}-{settings.min_count}"
    folder = corpus.folder / (name if every == 1 else f"{name}-{every}")
    if not folder.is_dir():
        tokenizer = train_tokenizer(
            kind,
            islice(corpus.documents("train"), 0, None, every),
            vocab_size=settings.vocab_size,
            min_count=settings.min_count,
            normalization="NFC",
        )
        with tempfile.TemporaryDirectory(dir=corpus.folder, prefix=".tokenizer-") as temporary:
            tokenizer.save(Path(temporary) / "whole")
            with contextlib.suppress(OSError):  # another process was faster: its folder is the same
                (Path(temporary) / "whole").rename(folder)
    return load_tokenizer(folder)


def count_ngrams(recipe: Recipe, dataset: Dataset, device: torch.device) -> Counts | None:
    """The n-gram counts of the training split, where a teacher or the model wants them."""
    order, own_order = recipe.training.teacher_order, recipe.model.ngram_order
    taught = has_teacher(recipe, dataset)
    if own_order is not None:
        if taught and order not in (None, own_order):
            raise SettingsError(
                f"teacher_order and memory_order must be the same, not {order} and {own_order}"
            )
        order = own_order
    elif not taught:
        return None
    stream = dataset.stream("train")
    ids = stream.read(0, min(len(stream), COUNTED_TOKENS))
    counts = Counts.fit(ids, dataset.vocab_size, order or auto.TEACHER_ORDER)
    # A model's own lookups are answered faster by C on the CPU (3 ms for 3,072 contexts) than by
    # PyTorch on a GPU (33).
    return counts if own_order is not None and native_ngrams.available() else counts.to(device)


def has_teacher(recipe: Recipe, dataset: Dataset) -> bool:
    """Whether the n-gram counts teach the model."""
    if recipe.training.teacher != "auto":
        return recipe.training.teacher == "counts"
    return "teacher" in recipe.rung.auto and auto.teaches(len(dataset.stream("train")))


def make_teacher(recipe: Recipe, dataset: Dataset, counts: Counts | None) -> Teacher | None:
    """The counts of `count_ngrams` as the teacher that the recipe asks for."""
    if counts is None or not has_teacher(recipe, dataset):
        return None
    return Teacher.of(counts, dataset.stream("train"), recipe.model.context_length)


def fresh_model(recipe: Recipe, device: torch.device, counts: Counts | None) -> LanguageModel:
    """The model that the recipe begins with; `counts` are for the rung that holds them."""
    torch.manual_seed(recipe.training.seed)
    model = recipe.build_model().to(device)
    if isinstance(model, MemoryGPT) and counts is not None:
        model.set_counts(counts)
    if isinstance(model, GPT):
        model.compute_dtype = pick_precision(device, recipe.machine.precision)
    return model


def rehearse(
    recipe: Recipe,
    text: Text,
    device: torch.device,
    counts: Counts | None,
    teacher: Teacher | None,
) -> tuple[Recipe, Forecast]:
    """Forecast the run on models that are thrown away, and make the choices that depend on its
    length.
    """

    def rehearsed(tried: Recipe) -> Forecast:
        model = fresh_model(tried, device, counts)
        step = make_step(model, tried.machine, teacher)
        evaluate = partial(measure, model, text, tried.training, tried.sample)
        return forecast_run(
            model, step, text.dataset, tried.optimizer, tried.training, evaluate, teacher
        )

    forecast, machine = rehearsed(recipe), recipe.machine
    if machine.compile is None:
        # Only where the clock ends the run: no two such runs end in the same bits anyhow.
        pays = "compile" in recipe.rung.auto and recipe.training.minutes is not None
        pays = pays and auto.compiles(device.type, forecast.seconds)
        if pays:
            compiled = replace(
                recipe.for_length(forecast.epochs), machine=replace(machine, compile=True)
            )
            try:
                forecast = rehearsed(compiled)
            except Exception as error:  # of a compiler that PyTorch calls: training does without it
                told = next(iter(str(error).splitlines()), "")
                logger.warning("training without torch.compile: %s", told)
                pays = False
        recipe = replace(recipe, machine=replace(machine, compile=pays))
    gc.collect()
    return recipe.for_length(forecast.epochs), forecast


def saved_forecast(run: RunFolder | None) -> Forecast | None:
    """The forecast that a run to resume began with, where this version can read it."""
    saved = None if run is None else run.metadata().get("forecast")
    with contextlib.suppress(TypeError):
        return Forecast(**saved) if saved else None
    return None


def dropout_of(recipe: Recipe) -> float:
    """The dropout while training; 0 for a rung that has none."""
    return float(getattr(recipe.model, "dropout", 0.0))


def advice(asked: Recipe, recipe: Recipe, forecast: Forecast) -> str:
    """How to have a model in ten minutes, where this run takes longer; empty where it does not.

    A smaller size's time is reckoned from its parameters and its tokens per step, to which time is
    about proportional.
    """
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

    if recipe.training.steps is not None and asked.model == of_size(recipe.size).model:
        for smaller in reversed(auto.SIZES[: auto.SIZES.index(recipe.size)]):
            if forecast.seconds * work(of_size(smaller)) / work(recipe) <= 600:
                return f"for ten minutes use --size {smaller}"
    return "for ten minutes use --minutes 10"
