"""The whole story on one page: corpus → tokenizer → dataset → model → training → evaluation → sample.

`train` is an iterator of events: it computes, writes the run folder and yields what happened; who runs it decides what
to show.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, get_args

import torch

from semigpt.auto import (
    SIZES,
    batch_size_for,
    dial,
    dropout_for,
    pieces_for,
    size_for,
    tokenizer_for,
    tokens_per_minute,
    weight_decay_for,
)
from semigpt.corpus.staging import Corpus, prepare_corpus
from semigpt.dataset import Dataset, TokenizingProgress, block_starts, tokenize
from semigpt.device import MachineSettings, gigaflops, pick_device, pick_precision
from semigpt.errors import CheckpointError, CorpusError, SettingsError, TrainingError
from semigpt.evaluation.baselines import COUNTED_TOKENS, Baselines
from semigpt.evaluation.evaluate import check_split
from semigpt.huggingface.open import open_run
from semigpt.models import RUNGS, build_model
from semigpt.models.attention import BlocksModel
from semigpt.models.base import LanguageModel
from semigpt.models.gpt import GPT
from semigpt.models.memory import MemoryGPT, MemorySettings
from semigpt.native.gpt_step import library_or_none
from semigpt.ngrams.counts import Counts
from semigpt.run import Evaluated, Record, SampleSettings, measure
from semigpt.run_folder import RunFolder
from semigpt.settings import check_choice, check_positive, from_table, nearest, to_table
from semigpt.tokenizers import CharTokenizer, Kind, load_tokenizer, train_tokenizer
from semigpt.tokenizers.base import Tokenizer
from semigpt.training.forecast import EVALUATIONS, Forecast, check_room, forecast_run, peak_memory
from semigpt.training.optimizer import Optimizer, OptimizerSettings
from semigpt.training.trainer import StepReport, Teacher, TrainingSettings, training_steps

__all__ = [
    "DataSettings",
    "Evaluated",
    "Event",
    "Finished",
    "Forecasted",
    "Prepared",
    "Recipe",
    "SampleSettings",
    "Stepped",
    "TokenizerSettings",
    "check_unchanged",
    "open_run",
    "train",
]

logger = logging.getLogger(__name__)

# What a run may go on with another value of: nothing that its weights depend on (but for the steps that it skips).
MAY_CHANGE = {"training.keep", "training.save_every", "training.on_nonfinite", "machine.device"}
# Chosen when a run begins, where they are not asked for.
CHOSEN = (
    "machine.compile",
    "model.dropout",
    "optimizer.weight_decay",
    "tokenizer.kind",
    "tokenizer.vocab_size",
)
TEACHER_ORDER = 5
COMPILED_SECONDS = 60
# Byte pairs of all 22 million characters of film reviews take 11.2 s to learn and cut unseen ones into 0.4967 tokens per character,
# those of every fourth document 3.1 s and 0.4973, of every twelfth 1.4 s and 0.4999 (two cores with AVX-512 alone).
LEARNT_CHARACTERS = 6_000_000
TAUGHT_TOKENS = 1_200_000  # of a training split, from which on `teacher = "auto"` is the counts


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where the text comes from: see `semigpt.corpus.sources` for the grammar of `spec` and `split`."""

    spec: str = "news"
    column: str | None = None
    split: str = "auto"


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings:
    """The kind of tokenizer, trained on the training split; or a folder that holds a trained one."""

    kind: Kind | None = (
        None  # None: the one that `semigpt.auto.tokenizer_for` names, and a run's config keeps
    )
    vocab_size: int | None = (
        None  # all of it; default: every character for char and jamo, 8,000 for bpe and unigram
    )
    min_count: int = 1  # rarer characters (pairs, for bpe) are spelt in bytes
    folder: str | None = None

    def __post_init__(self) -> None:
        if self.kind is not None:
            check_choice("tokenizer", self.kind, get_args(Kind))
        check_positive(self, "vocab_size", "min_count")
        if self.min_count > 1 and self.kind in ("byte", "unigram"):
            raise SettingsError(
                f"tokenizer.min_count means nothing to {self.kind}; leave it out, or choose char, jamo or bpe"
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that reproduces a run; `config.toml` is its tables.

    `model` holds the rung, the size, and the fields of the rung's settings but for the vocabulary, which the tokenizer
    brings.
    """

    data: DataSettings
    tokenizer: TokenizerSettings
    model: dict[str, Any]
    optimizer: OptimizerSettings
    training: TrainingSettings
    machine: MachineSettings
    sample: SampleSettings
    # TABLE.KEY of all that was not asked for and that the dial gave, `model.size` among it where the minutes chose it.
    dialled: frozenset[str] = field(default=frozenset(), compare=False)

    @classmethod
    def from_tables(
        cls, tables: Mapping[str, Mapping[str, Any]], where: str = "the settings"
    ) -> Recipe:
        """A recipe from tables of plain values, the size's own values under what is given.

        Raises SettingsError for an unknown table, key or value, naming `where`.
        """
        known = {field.name for field in fields(cls)} - {"dialled"}
        for name, table in tables.items():
            if name not in known or not isinstance(table, Mapping):
                raise SettingsError(f"unknown table [{name}] in {where}: {nearest(name, known)}")
        given = {name: dict(tables.get(name, {})) for name in known}
        machine = from_table(MachineSettings, given["machine"], f"[machine] of {where}")
        rung: str = given["model"].get("rung", "gpt")
        size: Any = given["model"].get("size")
        check_choice("model", rung, RUNGS)
        dialled = set()
        if size is None:
            dialled.add("model.size")
            size, minutes = "tiny", given["training"].get("minutes")
            if rung in ("gpt", "memory") and isinstance(minutes, (int, float)):
                size = size_for(minutes, gigaflops(machine))
        for name, table in dial(rung, size).items():
            dialled |= {f"{name}.{key}" for key in table.keys() - given[name].keys()}
            given[name] = {**table, **given[name]}
        length = given["training"]
        if not any(key in length for key in ("steps", "tokens", "minutes")):
            length["minutes"] = 2.0
        recipe = cls(
            data=from_table(DataSettings, given["data"], f"[data] of {where}"),
            tokenizer=from_table(TokenizerSettings, given["tokenizer"], f"[tokenizer] of {where}"),
            model={
                "rung": rung,
                "size": size,
                **{k: v for k, v in given["model"].items() if k not in ("rung", "size")},
            },
            optimizer=from_table(OptimizerSettings, given["optimizer"], f"[optimizer] of {where}"),
            training=from_table(TrainingSettings, given["training"], f"[training] of {where}"),
            machine=machine,
            sample=from_table(SampleSettings, given["sample"], f"[sample] of {where}"),
            dialled=frozenset(dialled),
        )
        recipe.build_model(
            vocab_size=1, shape_only=True
        )  # an impossible shape is refused before any text is read
        recipe.sample.sampling()
        return recipe

    def tables(self) -> dict[str, dict[str, Any]]:
        """The recipe as tables of plain values."""
        return {
            field.name: dict(self.model)
            if field.name == "model"
            else to_table(getattr(self, field.name))
            for field in fields(self)
            if field.name != "dialled"
        }

    def as_begun(self, begun: Recipe) -> Recipe:
        """This recipe, with what it does not ask for as it was when the run `begun` began: what the dial said then, here and
        on that machine, and what was chosen once the text was seen."""
        tables, before = self.tables(), begun.tables()
        for name in self.dialled | {name for name in CHOSEN if not _has(tables, name)}:
            if _has(before, name):
                table, key = name.split(".")
                tables[table][key] = before[table][key]
        return replace(Recipe.from_tables(tables), dialled=self.dialled)

    def build_model(self, vocab_size: int, *, shape_only: bool = False) -> LanguageModel:
        """A fresh model; on the meta device, where nothing is allocated, when only its shape is asked about."""
        table = {key: value for key, value in self.model.items() if key not in ("rung", "size")}
        with torch.device("meta") if shape_only else contextlib.nullcontext():
            return build_model(self.model["rung"], vocab_size, table)


# What happens in a run


@dataclass(frozen=True)
class Prepared:
    """Text, tokenizer and model are there; training is about to begin, or to go on."""

    corpus: Corpus
    tokenizer: Tokenizer
    dataset: Dataset
    model: LanguageModel
    device: torch.device
    baselines: Baselines
    source_entropy: float | None
    run: RunFolder
    resumed_at: int | None


@dataclass(frozen=True)
class Forecasted:
    """What the run is going to take; `advice` is how to have it in ten minutes, where it takes longer."""

    forecast: Forecast
    advice: str
    dropout: float  # as asked for, or as chosen for so many epochs


@dataclass(frozen=True)
class Stepped:
    """One update of the weights."""

    report: StepReport


@dataclass(frozen=True)
class Finished:
    """The end of a run, reached or asked for."""

    run: RunFolder
    step: int
    tokens_seen: int
    seconds: float
    best: Evaluated
    complete: bool
    skipped: int  # steps without an update, their loss or gradient not finite
    saving_share: float  # of the run's time, spent on checkpoints and model/
    forecast: Forecast | None  # None where a run of before goes on without one
    memory: int  # bytes, the most that were held
    disk: int  # bytes of checkpoints and model/, at the end


Event: TypeAlias = Prepared | Forecasted | Stepped | Evaluated | Finished


def prepare(
    recipe: Recipe,
    progress: Callable[[int, int], None] | None = None,
    tokens: Callable[[int], None] | None = None,
    share: Callable[[float], None] | None = None,
) -> tuple[Corpus, Tokenizer, Dataset]:
    """Text to token shards; all of it found again at once by a second run.

    `progress` is told the documents and characters read, `tokens` the tokens written, `share` how much of the one and
    then of the other is done. Raises CorpusError where a split is too short for a block.
    """
    corpus = prepare_corpus(
        recipe.data.spec,
        column=recipe.data.column,
        split=recipe.data.split,
        progress=progress,
        share=share,
    )
    for split in ("train", "validation"):
        check_split(corpus, split)
    context_length = recipe.build_model(1, shape_only=True).settings.context_length
    tokenizer = prepare_tokenizer(chosen_tokenizer(recipe, corpus), corpus)
    dataset = _told(tokenize(corpus, tokenizer), tokens, share)
    for split in ("train", "validation"):
        try:
            block_starts(
                len(dataset.stream(split)), context_length, 1, order="epoch", seed=0, step=0
            )
        except CorpusError as error:
            raise CorpusError(f"the {split} split of {corpus.spec} is too short: {error}") from None
    return corpus, tokenizer, dataset


def _told(
    events: Generator[TokenizingProgress, None, Dataset],
    tokens: Callable[[int], None] | None,
    share: Callable[[float], None] | None,
) -> Dataset:
    while True:
        try:
            event = next(events)
            try:
                if tokens is not None:
                    tokens(event.tokens)
            except KeyboardInterrupt as stop:
                events.throw(stop)
            if share is not None:
                share(event.fraction)
        except StopIteration as end:
            dataset: Dataset = end.value
            return dataset


def chosen_tokenizer(recipe: Recipe, corpus: Corpus) -> TokenizerSettings:
    """The tokenizer's settings; where no kind is named, and no folder, with what learns most from this text."""
    settings = recipe.tokenizer
    if settings.kind is not None or settings.folder is not None:
        return settings
    characters = corpus.characters("train")
    kind: Kind = tokenizer_for(recipe.model["rung"], characters, pieces_to_read(recipe, characters))
    if kind == "unigram" and settings.min_count > 1:
        return replace(settings, kind="bpe")  # which can leave out what is rare
    vocab_size = settings.vocab_size or (pieces_for(characters) if kind == "unigram" else None)
    return replace(settings, kind=kind, vocab_size=vocab_size)


def pieces_to_read(recipe: Recipe, characters: int) -> float:
    """How many tokens the run is going to read of a text so long, were they unigram's pieces."""
    length = recipe.training
    shape = recipe.build_model(
        recipe.tokenizer.vocab_size or pieces_for(characters), shape_only=True
    )
    if length.minutes is not None:
        return length.minutes * pace(recipe, shape)
    return length.tokens or (length.steps or 0) * length.batch_size * shape.settings.context_length


def pace(recipe: Recipe, shape: LanguageModel) -> float:
    """The tokens per minute that a model of this shape reads on this machine, about."""
    gpu = pick_device(recipe.machine.device).type == "cuda"
    return tokens_per_minute(shape.parameter_count(), gigaflops(recipe.machine), gpu=gpu)


def fitted(recipe: Recipe, corpus: Corpus, tokenizer: Tokenizer) -> Recipe:
    """The recipe with what it leaves to the text: the kind of tokenizer, and how many texts a step learns from."""
    recipe = replace(
        recipe, tokenizer=replace(chosen_tokenizer(recipe, corpus), kind=tokenizer.kind)
    )
    training = recipe.training
    if training.minutes is None or "training.batch_size" not in recipe.dialled:
        return recipe
    shape = recipe.build_model(tokenizer.vocab_size, shape_only=True)
    steps = (
        training.minutes
        * pace(recipe, shape)
        / (training.batch_size * shape.settings.context_length)
    )
    texts = batch_size_for(shape.rung, training.batch_size, steps, corpus.characters("train"))
    return replace(recipe, training=replace(training, batch_size=texts))


def prepare_tokenizer(settings: TokenizerSettings, corpus: Corpus) -> Tokenizer:
    """The tokenizer of the settings, trained on the corpus once and kept beside it; `char` where no kind is named.

    Byte pairs and unigram's pieces are learnt from every n-th document, about LEARNT_CHARACTERS in all, unless rare pairs are
    to be left out.
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
    if kind in ("bpe", "unigram") and settings.min_count == 1:
        every = max(-(-corpus.characters("train") // LEARNT_CHARACTERS), 1)
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


def train(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] | None = None,
    tokens: Callable[[int], None] | None = None,
    share: Callable[[float], None] | None = None,
) -> Iterator[Event]:
    """Run a recipe into a run folder; where this very run was left there unfinished, go on with it.

    `resume` demands that there be one to go on with. `stop` is asked after each step; where it says yes the run is
    saved and ends, ready to be resumed. Asked while text or tokens are being written, it ends in KeyboardInterrupt, and
    what is written is gone on with. For `progress`, `tokens` and `share` see `prepare`. Raises what its parts raise: CorpusError, SettingsError, CheckpointError,
    TrainingError.
    """
    with contextlib.ExitStack() as held:
        heeding = partial(_heeding, stop)
        yield from _train(
            recipe, folder, resume, stop, heeding(progress), heeding(tokens), share, held
        )


def _heeding(stop: Callable[[], bool], tell: Callable[..., None] | None) -> Callable[..., None]:
    def heeded(*so_far: int) -> None:
        if tell is not None:
            tell(*so_far)
        if stop():
            raise KeyboardInterrupt

    return heeded


def _train(
    recipe: Recipe,
    folder: Path,
    resume: bool,
    stop: Callable[[], bool],
    progress: Callable[[int, int], None],
    tokens: Callable[[int], None],
    share: Callable[[float], None] | None,
    held: contextlib.ExitStack,
) -> Iterator[Event]:
    run: RunFolder | None = None
    asked = recipe
    if resume or (folder / "config.toml").is_file():
        run = RunFolder.open(folder)
        saved = Recipe.from_tables(run.config())
        recipe = recipe.as_begun(saved)
        if not resume:
            check_unchanged(saved, recipe, folder)
        run.lock()
        held.callback(run.unlock)
        if run.facts().get("complete"):
            raise CheckpointError(
                f"{folder} is finished; write with it: semigpt generate {folder}, or train anew with another --out"
            )
    else:
        RunFolder.check_free(folder)
    device = pick_device(recipe.machine.device)
    corpus, tokenizer, dataset = prepare(recipe, progress, tokens, share)
    # A run that goes on has its own.
    recipe = fitted(
        recipe if run is None else replace(recipe, dialled=frozenset()), corpus, tokenizer
    )
    settings = recipe.training
    shape = recipe.build_model(tokenizer.vocab_size, shape_only=True)
    check_room(
        shape.parameter_count(),
        tokenizer.vocab_size,
        shape.settings.context_length,
        settings,
        folder,
        device,
    )

    if recipe.machine.threads is not None:
        torch.set_num_threads(recipe.machine.threads)
    counts = count_ngrams(recipe, dataset, device)
    teacher = make_teacher(recipe, dataset, counts)

    forecast: Forecast | None = None
    if run is None:

        def rehearse(recipe: Recipe) -> Forecast:
            # What it learns is thrown away.
            twin = fresh_model(recipe, tokenizer.vocab_size, device, counts)
            look = partial(measure, twin, tokenizer, dataset, settings, recipe.sample)
            return forecast_run(twin, dataset, recipe.optimizer, settings, look, teacher)

        forecast = rehearse(recipe)
        if recipe.machine.compile is None:
            # Where the clock decides how many steps there are, no two runs end in the same bits anyhow.
            pays = settings.minutes is not None and pays_to_compile(
                shape.rung, device, forecast.seconds
            )
            if pays:
                machine = replace(recipe.machine, compile=True)
                try:
                    forecast = rehearse(replace(settled(recipe, forecast.epochs), machine=machine))
                except (
                    Exception
                ) as error:  # of a compiler that PyTorch calls: training goes on without it
                    told = next(iter(str(error).splitlines()), "")
                    logger.warning("training without torch.compile: %s", told)
                    pays = False
            recipe = replace(recipe, machine=replace(recipe.machine, compile=pays))
        recipe = settled(recipe, forecast.epochs)
        gc.collect()
    else:
        kept = run.facts().get("forecast")
        with contextlib.suppress(TypeError):
            forecast = Forecast(**kept) if kept else None
    model = fresh_model(recipe, tokenizer.vocab_size, device, counts)
    optimizer = Optimizer(model, recipe.optimizer)
    going_on = run is not None
    if run is None:
        run = RunFolder.create(folder, recipe.tables())
        held.callback(run.unlock)
    record = Record(
        run, settings, recipe.sample, corpus, tokenizer, dataset, model, optimizer, forecast
    )
    checkpoint = run.newest() if going_on else None
    if checkpoint is not None:
        record.go_on(checkpoint)
    if going_on:
        run.rewind(
            checkpoint
        )  # to the run's birth, where it was killed before its first checkpoint
        if run.config() != recipe.tables():
            run.write_config(recipe.tables())
    position = record.position
    yield Prepared(
        corpus,
        tokenizer,
        dataset,
        model,
        device,
        record.baselines,
        record.source_entropy,
        run,
        position.step if going_on else None,
    )
    if forecast is not None and not going_on:
        dropout = float(recipe.model.get("dropout", 0.0))
        yield Forecasted(forecast, advice(asked, forecast, tokenizer.vocab_size), dropout)
    run.write_facts(record.facts)
    if checkpoint is None:
        yield record.evaluate()
    parts = EVALUATIONS if forecast is None else forecast.evaluations
    stopped, done = False, int(position.share(settings) * parts)
    try:
        for report in training_steps(
            model, dataset, optimizer, settings, position, teacher=teacher
        ):
            record.log(report)
            yield Stepped(report)
            every = settings.eval_every
            due = int(report.share * parts) > done if every is None else report.step % every == 0
            done = int(report.share * parts)
            if due or report.share >= 1:
                yield record.evaluate()
            stopped = stop() and report.share < 1
            if stopped or report.share >= 1 or record.save_due(report):
                record.save()
            if stopped:
                break
    except TrainingError as error:
        raise TrainingError(
            f"{error}; {run.last_good()}. Go on without these blocks: semigpt train --resume {folder} --on-nonfinite "
            "skip; or train anew with a lower learning_rate"
        ) from None
    best = record.close(complete=not stopped)
    yield Finished(
        run,
        position.step,
        position.tokens_seen,
        position.seconds,
        best,
        complete=not stopped,
        skipped=position.skipped,
        saving_share=record.saving_seconds / position.seconds if position.seconds else 0.0,
        forecast=forecast,
        memory=peak_memory(device),
        disk=run.size(),
    )


def fresh_model(
    recipe: Recipe, vocab_size: int, device: torch.device, counts: Counts | None
) -> LanguageModel:
    """The model that the recipe begins with; `counts` are for its memory, where it has one."""
    torch.manual_seed(recipe.training.seed)
    model = recipe.build_model(vocab_size).to(device)
    if isinstance(model, MemoryGPT) and counts is not None:
        model.remember(counts)
    if isinstance(model, GPT):
        model.compute_dtype = pick_precision(device, recipe.machine.precision)
        model.checkpoint_activations = recipe.machine.checkpoint_activations
    if isinstance(model, GPT | BlocksModel):
        model.native = {"auto": None, "native": True, "plain": False}[recipe.machine.step]
    if recipe.machine.compile:
        model.compile_steps()  # a second model of the same shape costs nothing more
    return model


def settled(recipe: Recipe, epochs: float) -> Recipe:
    """The recipe with what it leaves to how often the text is going to be read."""
    rung = recipe.model["rung"]
    if "dropout" not in recipe.model and (dropout := dropout_for(rung, epochs)):
        recipe = replace(recipe, model={**recipe.model, "dropout": dropout})
    if recipe.optimizer.weight_decay is None:
        decay = weight_decay_for(rung, epochs)
        recipe = replace(recipe, optimizer=replace(recipe.optimizer, weight_decay=decay))
    return recipe


def pays_to_compile(rung: str, device: torch.device, seconds: float) -> bool:
    """Whether a run of so many seconds learns more compiled: one of a `gpt` on an NVIDIA GPU, from a minute on.

    On an H100 a step of `base` on 64 texts takes 16.1 to 18.1 ms as it is and 11.1 to 11.3 compiled, after 17 s of compiling. On a CPU the
    step in C is past what it gives; a memory gains an eighth (38 and 33 ms), and its bits differ from process to process.
    """
    return rung == "gpt" and device.type == "cuda" and seconds >= COMPILED_SECONDS


def has_teacher(recipe: Recipe, dataset: Dataset) -> bool:
    """Whether the counts teach: they help a model that will not read much of a long text itself.

    One minute of film reviews (22 million characters, 4 x 256, two cores with AMX) ends at 3.90 bits per character with them
    and at 4.15 without; one of the bundled news (1 million, read three times over; 4 x 128) at 1.35 with and 1.29 without.
    Five minutes of 5 million characters of the reviews, 2.5 million byte pairs, end at 3.675 with and 3.703 without; one minute
    of 2.5 million, 1.35 million pieces, at 4.085 with and 4.258 without (five, 3.7 times over: 3.937 and 3.903); of one million,
    0.6 million pieces, at 4.232 with and 4.215 without.
    The memory has the counts themselves and learns nothing more from them (3.580 and 3.583).
    """
    long = len(dataset.stream("train")) >= TAUGHT_TOKENS and recipe.model["rung"] != "memory"
    return recipe.training.teacher == "counts" or (recipe.training.teacher == "auto" and long)


def make_teacher(recipe: Recipe, dataset: Dataset, counts: Counts | None) -> Teacher | None:
    """The counts of `count_ngrams` as the teacher that the recipe asks for."""
    if counts is None or not has_teacher(recipe, dataset):
        return None
    context_length = recipe.build_model(1, shape_only=True).settings.context_length
    return Teacher.of(counts, dataset.stream("train"), context_length)


def count_ngrams(recipe: Recipe, dataset: Dataset, device: torch.device) -> Counts | None:
    """The n-grams of the training split, where a teacher or a memory wants them; of its first part, where it is long."""
    taught = has_teacher(recipe, dataset)
    order = recipe.training.teacher_order
    settings = recipe.build_model(1, shape_only=True).settings
    if isinstance(settings, MemorySettings):
        if taught and order not in (None, settings.memory_order):
            raise SettingsError(
                f"teacher_order and memory_order must be the same, not {order} and {settings.memory_order}"
            )
        order = settings.memory_order
    elif not taught:
        return None
    stream = dataset.stream("train")
    ids = stream.read(0, min(len(stream), COUNTED_TOKENS))
    counts = Counts.fit(ids, dataset.vocab_size, order or TEACHER_ORDER)
    # What a memory asks of 3,072 contexts the C answers in 3 ms on 16 cores; PyTorch on an H200 took 33. Whole distributions,
    # which a teacher gives, are 98 MB to carry over: 22 ms, and 9 there.
    if isinstance(settings, MemorySettings) and library_or_none(torch.float32) is not None:
        return counts
    return counts.to(device)


def advice(recipe: Recipe, forecast: Forecast, vocab_size: int) -> str:
    """How to have a model in ten minutes, where this run takes longer; empty where it does not.

    A smaller size's time is reckoned from its parameters and its tokens per step, to which time is about proportional.
    """
    if forecast.seconds <= 600 or recipe.training.minutes is not None:
        return ""
    rung, size = recipe.model["rung"], recipe.model["size"]
    dialled = {"rung": rung, "size": size, **dial(rung, size).get("model", {})}

    def work(asked: Recipe) -> float:
        shape = asked.build_model(vocab_size, shape_only=True)
        return float(
            shape.parameter_count() * asked.training.batch_size * shape.settings.context_length
        )

    if recipe.model == dialled and recipe.training.steps is not None:
        length = {"steps": recipe.training.steps}
        for smaller in reversed(SIZES[: SIZES.index(size)]):
            other = Recipe.from_tables(
                {"model": {"rung": rung, "size": smaller}, "training": length}
            )
            if forecast.seconds * work(other) / work(recipe) <= 600:
                return f"for ten minutes use --size {smaller}"
    return "for ten minutes use --minutes 10"


def check_unchanged(begun: Recipe, asked: Recipe, folder: Path) -> None:
    """Going on with other settings would be another run: raise SettingsError showing the difference."""
    was, now = (
        {f"{t}.{k}": v for t, table in recipe.tables().items() for k, v in table.items()}
        for recipe in (begun, asked)
    )
    names = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
    if changed := [name for name in names if name not in MAY_CHANGE]:
        difference = ", ".join(
            f"{name} was {was.get(name)}, is {now.get(name)}" for name in changed
        )
        raise SettingsError(
            f"the run {folder} exists already, begun with other settings: {difference}; leave them, or train anew with "
            "another --out"
        )


def _has(tables: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    table, key = name.split(".")
    return key in tables[table]
