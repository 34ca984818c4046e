"""Everything a run needs before its first step: text, tokenizer, counts, teacher, model, forecast.

`semigpt.recipe.train` tells the story; these are its parts.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from semigpt import auto, started_law
from semigpt.config import Recipe, TokenizerSettings
from semigpt.corpus.corpus import Corpus
from semigpt.corpus.spec import located, parse_spec
from semigpt.corpus.staging import StagingProgress, stage
from semigpt.counting import (
    NOTHING_COUNTED,
    Counted,
    begin_with,
    first_embeddings,
    has_teacher,
    may_begin_as_bigrams,
)
from semigpt.dataset import TokenizingProgress, block_starts, tokenize
from semigpt.device import pick_device, pick_precision
from semigpt.errors import CorpusError
from semigpt.evaluation.counting import describe
from semigpt.evaluation.evaluate import check_split
from semigpt.huggingface.folder import load_model
from semigpt.huggingface.open import open_tokenizer
from semigpt.language import _
from semigpt.law import Learner, expected_bits, law_error
from semigpt.measuring import Measurement, Text, measure
from semigpt.models import LATER_SOURCES
from semigpt.models.base import LanguageModel
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.models.lora import adapt
from semigpt.models.memory import MemoryGPT
from semigpt.native.ahead import compile_ahead
from semigpt.output_layer import output_sample, sampler_of
from semigpt.parallel import ALONE, Group
from semigpt.run_folder import RunFolder
from semigpt.stages import stage as timed
from semigpt.start import STARTER, begin_from
from semigpt.started_law import Known
from semigpt.starter import is_korean, known_of
from semigpt.tokenizers import LEARNING_VERSION, CharTokenizer, load_tokenizer, train_tokenizer
from semigpt.tokenizers.base import Tokenizer
from semigpt.training.forecast import Forecast, forecast_run
from semigpt.training.optimizer import Optimizer
from semigpt.training.speed import corrected, measured_speed
from semigpt.training.step import make_step

__all__ = [
    "Preparing",
    "fresh_model",
    "prepare",
    "prepare_tokenizer",
    "rehearse",
    "text_of",
    "ways_to_train",
    "with_outlook",
]

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Preparing:
    """What is done before the first step. Text that is read or turned into tokens, so far, is
    resumed if the run stops here.
    """

    what: str  # "reading: 1,200 documents, 3,400,000 characters"
    fraction: float | None  # of this work, done; None where nobody knows


def prepare(
    recipe: Recipe,
    stop: Callable[[], bool] = lambda: False,
    run: RunFolder | None = None,
    *,
    group: Group = ALONE,
    verified: str = "",
) -> Generator[Preparing, None, tuple[Recipe, Text]]:
    """Text to token shards, all found again at once by a second run; the recipe with what the text
    decides.

    run: the run that is resumed
    group: the processes that share a step
    verified: the stamp of token shards that another process has verified

    Raises CorpusError where a split is too short for a block, CheckpointError where the text is not
    the one that `run` was trained on.
    """
    data = recipe.data
    spec = data.spec if run is None else text_of(run, data.spec)
    with timed("reading"):
        corpus = yield from _until_stopped(
            stage(spec, column=data.column, split=data.split), _reading, stop
        )
    if run is not None:
        run.check_text(corpus.fingerprint)
    for split in ("train", "validation"):
        check_split(corpus, split)
    if recipe.left_open:
        yield Preparing(_("choosing size and tokenizer"), None)
        with timed("choosing"):
            best, *_others = ways_to_train(recipe, corpus, group=group)
            recipe = recipe.with_choice(best)
    if run is None and pick_device(recipe.machine.device).type == "cpu":
        compile_ahead(*LATER_SOURCES.get(recipe.kind, ()))
    yield Preparing(_("learning a tokenizer"), None)
    with timed("learning a tokenizer"):
        if recipe.start.folder is None:
            tokenizer = prepare_tokenizer(recipe.tokenizer, corpus)
        elif run is not None and run.has_checkpoints:  # it has a copy of its own
            tokenizer = load_tokenizer(run.model_folder)
        else:
            tokenizer = open_tokenizer(recipe.start.model_folder)
    recipe = recipe.for_tokenizer(tokenizer)
    if run is None:
        batch_size, characters = recipe.training.batch_size, corpus.characters("train")
        rows = output_sample(recipe, recipe.model, batch_size, characters)
        recipe = replace(recipe, training=replace(recipe.training, output_sample=rows))
    with timed("writing tokens"):
        dataset = yield from _until_stopped(
            tokenize(corpus, tokenizer, verified=verified), _writing, stop
        )
    for split in ("train", "validation"):
        try:
            tokens, context = len(dataset.stream(split)), recipe.model.context_length
            block_starts(tokens, context, 1, order="epoch", seed=0, step=0)
        except CorpusError as error:
            raise CorpusError(
                _("the {split} split of {spec} is too short: {error}").format(
                    split=split, spec=corpus.spec, error=error
                )
            ) from None
    if run is None:
        embeddings = first_embeddings(recipe, len(dataset.stream("train")))
        recipe = replace(recipe, training=replace(recipe.training, embeddings=embeddings))
    yield Preparing(_("counting n-grams, compiling, timing a few steps"), None)  # what comes next
    return recipe, Text(corpus, tokenizer, dataset)


def ways_to_train(
    recipe: Recipe,
    corpus: Corpus,
    minutes: float | None = None,
    *,
    group: Group = ALONE,
    slower: float = 1.0,
) -> list[auto.Candidate]:
    """Every way that the recipe leaves open, the one that the law of learning expects to end lowest
    first.

    minutes: another length than the recipe's
    group: the processes that share a step
    slower: how many times as long as by this machine's speed a step takes
    """
    training, left = recipe.training, recipe.open_choices(corpus.characters("train"))
    left = replace(left, bigrams=may_begin_as_bigrams(recipe))
    minutes = minutes or training.minutes
    text = describe(corpus)  # before the speed, which waits for what is being compiled
    speed = None if minutes is None else measured_speed(recipe.machine)
    models = {size: recipe.of_size(size).model for size in left.shapes}

    def sampled(size: auto.Size, vocab_size: int, batch_size: int) -> int:
        model = replace(models[size], vocab_size=vocab_size)
        return output_sample(recipe, model, batch_size, text.characters)

    def fitting(size: auto.Size, vocab_size: int, batch_size: int) -> float:
        tokens_per_step = batch_size * left.shapes[size].context_length
        if speed is None or minutes is None:
            return training.tokens or (training.steps or 0) * tokens_per_step
        model: Any = replace(models[size], vocab_size=vocab_size)
        seconds = 60 * minutes * (1 - auto.EVALUATION_FRACTION)
        rows = sampled(size, vocab_size, batch_size)
        step = slower * speed.seconds(model, batch_size, group, rows)
        return max(seconds / step, 1.0) * tokens_per_step

    timed = training.minutes is not None
    from_scratch = recipe.start.folder is None  # the law was fitted to such runs
    may_end_early = from_scratch and timed and recipe.within_law
    ways = auto.candidates(
        *(text, left, fitting),
        may_end_early=may_end_early,
        sampled=lambda *way: sampled(*way) > 0,
    )
    if not from_scratch:
        known = starter_knows(recipe, corpus)
        if known is None:
            return ways
        most = fitting(recipe.size, known.vocab_size, training.batch_size)
        has_counts = left.has_counts
        return [
            auto.started(ways[0], text, known, most, has_counts=has_counts, may_end_early=timed)
        ]
    if recipe.may_begin_from_starter and auto.starter_may_help(ways[0]) and is_korean(corpus):
        begun, *_others = ways_to_train(
            recipe.from_starter(), corpus, minutes, group=group, slower=slower
        )
        if begun.start is not None:
            return auto.with_started(ways, begun, has_counts=left.has_counts)
    return ways


def starter_knows(recipe: Recipe, corpus: Corpus) -> Known | None:
    """What the model that a run begins from knows of the text; None where the law of started runs
    does not speak of it.
    """
    start = recipe.start
    within = start.folder == STARTER and start.lora is None and "start" in recipe.rung.auto
    return known_of(corpus) if within else None


def text_of(run: RunFolder, spec: str) -> str:
    """The SPEC of a run's text, as it is written in the current folder.

    Raises CorpusError, with the way out, where nothing is there any more.
    """
    spec = located(spec, run.home)
    try:
        parse_spec(spec)
    except CorpusError as error:
        raise CorpusError(
            _(
                "{error}; where the text of {path} has moved, say where it is now with --data"
            ).format(error=error, path=run.path)
        ) from None
    return spec


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
    return _("reading: {documents:,} documents, {characters:,} characters").format(
        documents=progress.documents, characters=progress.characters
    )


def _writing(progress: TokenizingProgress) -> str:
    return _("writing {tokens:,} tokens").format(tokens=progress.tokens)


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
    # All of it, where rare pairs are to be left out.
    if kind in ("bpe", "char_bpe", "unigram") and settings.min_count == 1:
        every = auto.documents_step(corpus.characters("train"))
    size = settings.vocab_size or "default"
    name = f"tokenizer-{LEARNING_VERSION}-{kind}-{size}-{settings.min_count}-{every}"
    folder = corpus.folder / name
    if not folder.is_dir():
        tokenizer = train_tokenizer(
            kind,
            corpus.documents("train", every=every),
            vocab_size=settings.vocab_size,
            min_count=settings.min_count,
            normalization="NFC",
        )
        with tempfile.TemporaryDirectory(dir=corpus.folder, prefix=".tokenizer-") as temporary:
            tokenizer.save(Path(temporary) / "whole")
            with contextlib.suppress(OSError):  # another process was faster: its folder is the same
                (Path(temporary) / "whole").rename(folder)
    return load_tokenizer(folder)


def fresh_model(
    recipe: Recipe,
    device: torch.device,
    counted: Counted = NOTHING_COUNTED,
    *,
    restored: RunFolder | None = None,
    sharded: bool = False,
) -> LanguageModel:
    """The model that the recipe begins with.

    restored: the run whose checkpoint, where it has one, is going to be loaded into the model
    sharded: it is going to be cut into parts, of which the device holds one
    """
    torch.manual_seed(recipe.training.seed)
    model, start = recipe.build_model(), recipe.start
    if not sharded:
        model = model.to(device)
    if restored is None or not restored.has_checkpoints:
        if start.folder is not None:
            begin_from(model, start)
        elif counted.embeddings is not None:
            assert isinstance(model, GPT)
            begin_with(model, counted.embeddings)
    elif start.lora is not None:  # a checkpoint holds what is trained
        model.load_huggingface_state(load_model(restored.base_folder).huggingface_state())
    if start.lora is not None:
        adapt(model, start.lora)
    if isinstance(model, MemoryGPT) and counted.counts is not None:
        model.set_counts(counted.counts)
    if isinstance(model, GPT):
        model.compute_dtype = pick_precision(device, recipe.machine.precision)
    return model


def rehearse(
    asked: Recipe,
    recipe: Recipe,
    text: Text,
    device: torch.device,
    counted: Counted,
    group: Group = ALONE,
) -> tuple[Recipe, Forecast | None, Measurement | None]:
    """Forecast the run on models that are thrown away, and choose whether to compile. The last is
    the evaluation of a model as the run begins with it.

    asked: the recipe before its choices were made
    """
    begun: list[Measurement] = []

    def rehearsed(tried: Recipe) -> Forecast:
        def evaluate() -> None:
            begun.append(
                measure(fresh_model(tried, device, counted), text, tried.training, tried.sample)
            )

        model = fresh_model(tried, device, counted)
        sampler = sampler_of(tried, text.dataset)
        step = make_step(model, tried.machine, counted.teacher, sampler=sampler)
        optimizer = Optimizer(model, tried.optimizer)
        return forecast_run(
            *(model, step, text.dataset, optimizer, tried.training, evaluate, counted.teacher),
            group=group.rehearsal(),
        )

    forecast, machine = rehearsed(recipe), recipe.machine
    if machine.compile is None:
        # Only where the clock ends the run: no two such runs end in the same bits anyhow.
        pays = "compile" in recipe.rung.auto and recipe.training.minutes is not None
        pays = pays and auto.compiles(device.type, forecast.seconds)
        if pays:
            compiled = replace(recipe, machine=replace(machine, compile=True))
            try:
                forecast = rehearsed(compiled)
            except Exception as error:  # of a compiler that PyTorch calls: training does without it
                told = next(iter(str(error).splitlines()), "")
                logger.warning(_("training without torch.compile: %s"), told)
                pays = False
        recipe = replace(recipe, machine=replace(machine, compile=pays))
    return recipe, with_outlook(asked, recipe, text, forecast, group), begun[0]


LATER = (5.0, 20.0, 60.0)  # minutes, of which the next two are told


def with_outlook(
    asked: Recipe, recipe: Recipe, text: Text, forecast: Forecast, group: Group
) -> Forecast:
    """The forecast with what the law of learning expects of the run at its present speed, and of
    the same command in more minutes.
    """
    if not recipe.within_law:
        return forecast
    training, model, slower = recipe.training, recipe.model, 1.0
    timed_by_clock = training.minutes is not None and recipe.machine.compile is not True
    if timed_by_clock and isinstance(model, GPTSettings) and recipe.start.lora is None:
        rows = training.output_sample
        kept = measured_speed(recipe.machine).seconds(model, training.batch_size, group, rows)
        if group.sharded:  # the exchange is measured with it
            slower = forecast.seconds_per_step / kept
        else:
            corrected(recipe.machine, kept, forecast.seconds_per_step)
    asked = replace(asked, machine=recipe.machine)  # at the same speed
    corpus, tokens = text.corpus, forecast.steps * training.batch_size * model.context_length
    known, from_nothing = starter_knows(recipe, corpus), None
    if known is not None:
        has_counts = model.ngram_order is not None
        expected = started_law.expected_bits(describe(corpus), known, tokens, has_counts=has_counts)
        error = started_law.coefficients()["error"]
        if asked.may_begin_from_starter:
            ways = ways_to_train(asked, corpus, group=group, slower=slower)
            from_nothing = min(way.expected for way in ways if way.start is None)
    elif "tokenizer" not in recipe.rung.auto or recipe.start.folder is not None:
        return forecast
    else:
        expected = expected_bits(describe(corpus), learner_of(recipe, text), tokens)
        error = law_error(describe(corpus))
    longer = [n for n in LATER if training.minutes is not None and n > 1.5 * training.minutes][-2:]
    return replace(
        forecast,
        expected=expected,
        expected_error=error,
        from_nothing=from_nothing,
        later=tuple(
            (n, ways_to_train(asked, corpus, n, group=group, slower=slower)[0].expected)
            for n in longer
        ),
        ends_early=training.most_tokens is not None and tokens >= training.most_tokens,
    )


def learner_of(recipe: Recipe, text: Text) -> Learner:
    """What reads the text, as the law of learning takes it."""
    model, training = recipe.model, recipe.training
    return Learner(
        block_parameters=replace(model, vocab_size=0).parameter_count,
        kind=text.tokenizer.kind,
        vocab_size=text.tokenizer.vocab_size,
        per_character=len(text.dataset.stream("train")) / text.corpus.characters("train"),
        batch_tokens=training.batch_size * model.context_length,
        dropout=float(getattr(model, "dropout", 0.0)),
        weight_decay=recipe.optimizer.weight_decay or 0.0,
        taught=has_teacher(recipe),
        sampled=recipe.training.output_sample > 0,
        bigrams=recipe.training.embeddings == "bigrams",
        memory=model.ngram_order is not None,
    )
