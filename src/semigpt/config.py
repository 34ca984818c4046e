"""The recipe of a run: everything that reproduces it, as typed tables to and from TOML."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args

from semigpt import auto
from semigpt.corpus.staging import in_one_string
from semigpt.device import MachineSettings
from semigpt.errors import SettingsError
from semigpt.generation.sampling import SamplingSettings
from semigpt.language import _
from semigpt.law import AS_UNIGRAM
from semigpt.models import model_class, model_settings
from semigpt.models.base import LanguageModel, ModelSettings
from semigpt.settings import (
    check_at_most,
    check_choice,
    check_positive,
    from_table,
    nearest,
    to_table,
)
from semigpt.start import STARTER, StartSettings, check_embeddings, check_lora, with_model_of
from semigpt.tokenizers import Tokenizer
from semigpt.tokenizers.base import AnyKind
from semigpt.training.optimizer import OptimizerSettings, learning_rate_scale
from semigpt.training.progress import Progress
from semigpt.training.settings import LENGTHS, LegSettings, More, TrainingSettings

__all__ = ["DataSettings", "Recipe", "SampleSettings", "TokenizerSettings", "shape_of"]

# Settings that an automatic choice of `semigpt.auto` fills in once the text or the length is known.
AUTOMATIC = (
    *("machine.backend", "machine.compile", "model.dropout", "optimizer.weight_decay"),
    *("tokenizer.kind", "tokenizer.vocab_size", "training.most_tokens"),
    *("training.output_sample", "training.embeddings"),
)
# The settings that hold the answers of the law of learning.
LAW_CHOICES: Mapping[auto.Choice, str] = {
    "size": "model.size",
    "tokenizer": "tokenizer.kind",
    "batch_size": "training.batch_size",
    "dropout": "model.dropout",
    "weight_decay": "optimizer.weight_decay",
}
RATES = {"optimizer.learning_rate", "optimizer.muon_learning_rate"}
# What a resumed run may have another value of: nothing that its weights depend on, but for the
# steps it skips.
MAY_CHANGE = {"training.keep", "training.save_every", "training.on_nonfinite", "machine.device"}
RENAMED = {
    ("model", "rung"): "kind",
    ("model", "guesses"): "ngram_top_k",
    ("machine", "step"): "backend",
}
# Where the text lies: it is known by its fingerprint.
MOVED = {"data.spec", "data.column", "data.split"}
# And what it may have besides, where it begins a leg more.
LEG_MAY_CHANGE = {
    *MAY_CHANGE,
    *MOVED,
    "training.eval_every",
    *(
        f"optimizer.{name}"
        for name in ("learning_rate", "muon_learning_rate", "weight_decay", "schedule", "warmup")
    ),
    *(f"optimizer.{name}" for name in ("decay", "final_rate", "rewarm", "clip")),
}


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where the text comes from; `semigpt.corpus.spec` has the grammar of `spec` and `split`.

    Several SPECs, which are one corpus, are a list in a config and lines of one string here.
    """

    spec: str = "news"
    column: str | None = None
    split: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "spec", in_one_string(self.spec))


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings:
    """The kind of tokenizer, trained on the training split; or a folder that holds one."""

    # None: chosen by `semigpt.auto`; foreign: another's, of `folder` or the model begun from
    kind: AnyKind | None = None
    vocab_size: int | None = (
        None  # None: every character for char and jamo, 8,000 for bpe, char_bpe and unigram
    )
    min_count: int = 1  # rarer characters (pairs, for bpe and char_bpe) are spelt in bytes
    folder: str | None = None

    def __post_init__(self) -> None:
        if self.kind is not None:
            check_choice("tokenizer", self.kind, get_args(AnyKind))
        check_positive(self, "vocab_size", "min_count")
        if self.min_count > 1 and self.kind in ("byte", "unigram"):
            raise SettingsError(
                _(
                    "tokenizer.min_count means nothing to {kind}; leave it out, or choose char, "
                    "jamo, bpe or char_bpe"
                ).format(kind=self.kind)
            )


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """What is written at each evaluation, to see the model learn."""

    prompt: str = ""
    max_new_tokens: int = 160
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 0:
            raise SettingsError(
                _("max_new_tokens must be 0 or more, not {max_new_tokens}").format(
                    max_new_tokens=self.max_new_tokens
                )
            )
        check_at_most(self, max_new_tokens=1_000_000)

    def sampling(self) -> SamplingSettings:
        """How the samples are drawn. Raises SettingsError for what cannot be."""
        return SamplingSettings(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that reproduces a run; `config.toml` is its tables.

    `model` is the shape of the rung `kind`. Its vocabulary is 0 until the tokenizer is known
    (`for_tokenizer`).
    """

    data: DataSettings
    tokenizer: TokenizerSettings
    kind: str
    size: auto.Size
    model: ModelSettings
    optimizer: OptimizerSettings
    training: TrainingSettings
    machine: MachineSettings
    sample: SampleSettings
    # The model that the run begins from, and where the leg at hand of it begins.
    start: StartSettings = field(default_factory=StartSettings)
    leg: LegSettings = field(default_factory=LegSettings)
    # TABLE.KEY of what was not asked for, but set by the size or left to `semigpt.auto`.
    defaulted: frozenset[str] = field(default=frozenset(), compare=False)

    @classmethod
    def from_tables(cls, tables: Mapping[str, Mapping[str, Any]], where: str = "") -> Recipe:
        """A recipe from tables of plain values; the size sets what they leave open.

        Raises SettingsError for an unknown table, key or value, naming `where` they stand.
        """
        where = where or _("the settings")

        def place(table: str) -> str:
            return _("[{table}] of {where}").format(table=table, where=where)

        given = _checked_tables(tables, where)
        # Who asks for a model or a tokenizer leaves no choice of where the run begins.
        defaulted = set()
        if not (given["start"] or given["tokenizer"] or given["model"].keys() - {"kind"}):
            defaulted.add("start.folder")
        if "folder" in given["start"] and "sha256" not in given["start"]:
            given = with_model_of(given)
        kind: str = given["model"].pop("kind", "gpt")
        size: Any = given["model"].pop("size", None)
        rung = model_class(kind)
        if size is None:
            defaulted.add("model.size")
            size = "tiny"  # until the text is known
        check_choice("size", size, rung.sizes)
        for name, table in rung.defaults(size).items():
            defaulted |= {f"{name}.{key}" for key in table.keys() - given[name].keys()}
            given[name] = {**table, **given[name]}
        defaulted |= {name for name in RATES if not _has(given, name)}
        for name in defaulted & RATES if given["start"] else ():
            key = name.removeprefix("optimizer.")
            rate = given["optimizer"].get(key, getattr(OptimizerSettings, key))
            given["optimizer"][key] = auto.started_rate(rate)
        defaulted |= {name for name in AUTOMATIC if not _has(given, name)}
        if not any(name in given["training"] for name in LENGTHS):
            given["training"]["minutes"] = 2.0

        def parsed(settings: type[Any], name: str) -> Any:
            return from_table(settings, given[name], place(name))

        recipe = cls(
            data=parsed(DataSettings, "data"),
            tokenizer=parsed(TokenizerSettings, "tokenizer"),
            kind=kind,
            size=size,
            model=model_settings(kind, given["model"], place("model")),
            optimizer=parsed(OptimizerSettings, "optimizer"),
            training=parsed(TrainingSettings, "training"),
            machine=parsed(MachineSettings, "machine"),
            sample=parsed(SampleSettings, "sample"),
            start=parsed(StartSettings, "start"),
            leg=parsed(LegSettings, "leg"),
            defaulted=frozenset(defaulted),
        )
        recipe.sample.sampling()
        check_lora(recipe.start, kind, recipe.model)
        check_embeddings(recipe.training, recipe.start, recipe.model)
        return recipe

    @property
    def rung(self) -> type[LanguageModel]:
        """The class of the model."""
        return model_class(self.kind)

    @property
    def within_law(self) -> bool:
        """Whether the law of learning speaks of this size."""
        return self.size not in auto.LARGER_SIZES

    def build_model(self) -> LanguageModel:
        """A fresh model, its vocabulary known."""
        return self.rung(self.model)

    def tables(self) -> dict[str, dict[str, Any]]:
        """The recipe as tables of plain values, without what is still left to `semigpt.auto`."""
        tables = {name: to_table(getattr(self, name)) for name in TABLES}
        del tables["model"]["vocab_size"]
        if "model.dropout" in self.defaulted and "dropout" in self.rung.auto:
            del tables["model"]["dropout"]
        if self.start == StartSettings():
            del tables["start"]
        if self.leg == LegSettings():
            del tables["leg"]
        tables["model"] = {"kind": self.kind, "size": self.size, **tables["model"]}
        return tables

    # Choices that are made on the way: `semigpt.auto` says what, these put it into the recipe.

    @property
    def left_open(self) -> bool:
        """Whether any choice is left to the law of learning."""
        vocabulary = self.tokenizer.kind in AS_UNIGRAM and self.tokenizer.vocab_size is None
        return (
            self.training.teacher == "auto"
            or (vocabulary and self.tokenizer.folder is None and "tokenizer" in self.rung.auto)
            or any(
                name in self.defaulted and choice in self.rung.auto
                for choice, name in LAW_CHOICES.items()
            )
        )

    def of_size(self, size: auto.Size) -> Recipe:
        """This recipe with the shape, batch and rates of another size where none were asked for."""
        tables = self._asked_tables()
        tables["model"]["size"] = size
        resized = Recipe.from_tables(tables)
        return replace(resized, defaulted=resized.defaulted | {"model.size"})

    @property
    def may_begin_from_starter(self) -> bool:
        """Whether the starter is a candidate: nothing that was asked for speaks against it."""
        return "start.folder" in self.defaulted and "start" in self.rung.auto

    def from_starter(self) -> Recipe:
        """This recipe, begun from the starter."""
        tables = self._asked_tables()
        tables |= {"model": {"kind": self.kind}, "tokenizer": {}, "start": {"folder": STARTER}}
        return Recipe.from_tables(tables)

    def _asked_tables(self) -> dict[str, dict[str, Any]]:
        """The tables without what was not asked for."""
        tables = self.tables()
        for table, key in (name.split(".") for name in self.defaulted):
            tables.get(table, {}).pop(key, None)
        return tables

    def open_choices(self, characters: int) -> auto.Open:
        """What the law of learning chooses from, for a training text of so many characters."""

        # The law was fitted to small runs that begin from random weights: what it chooses for them
        # makes a run that begins from a trained model worse. docs/choices.md#started-rate.
        within = self.start.folder is None and self.within_law
        choosing = self.rung.auto if within else frozenset()

        def chosen(choice: auto.Choice) -> bool:
            return choice in choosing and LAW_CHOICES[choice] in self.defaulted

        # Minutes alone say how large a model there is time for; a shape that is asked for is it.
        shape = {f"model.{key}" for key in self.rung.defaults(self.size).get("model", ())}
        sized = chosen("size") and self.training.minutes is not None and shape <= self.defaulted
        sizes = auto.sizes(characters) if sized else (self.size,)
        timed = self.training.minutes is not None
        batches = None if chosen("batch_size") and timed else (self.training.batch_size,)
        teacher = self.training.teacher
        return auto.Open(
            shapes={size: shape_of(self.of_size(size) if sized else self) for size in sizes},
            tokenizers=self._open_tokenizers(characters),
            batches=batches,
            dropouts=auto.DROPOUTS if chosen("dropout") else (getattr(self.model, "dropout", 0.0),),
            weight_decays=auto.WEIGHT_DECAYS
            if self.optimizer.weight_decay is None and "weight_decay" in choosing
            else (0.1 if self.optimizer.weight_decay is None else self.optimizer.weight_decay,),
            teachers=(False, True)
            if teacher == "auto" and "teacher" in choosing
            else (teacher == "counts",),
            has_counts=self.model.ngram_order is not None,
        )

    def _open_tokenizers(self, characters: int) -> tuple[tuple[str, int | None], ...]:
        settings, vocab_size = self.tokenizer, self.tokenizer.vocab_size
        if settings.folder is not None or self.start.folder is not None:
            return ((auto.LONG_TOKENS, None),)  # the nearest that was measured
        if "tokenizer" not in self.rung.auto or settings.kind not in (None, *AS_UNIGRAM):
            return ((settings.kind or "char", vocab_size),)
        longer = settings.kind or auto.LONG_TOKENS
        sizes = auto.vocabularies(characters, self.size) if vocab_size is None else (vocab_size,)
        found = tuple((longer, size) for size in sizes)
        if settings.kind is not None or not self.within_law:
            return found or ((settings.kind or "char", None),)
        return (("char", vocab_size), *found)

    def with_choice(self, choice: auto.Candidate) -> Recipe:
        """This recipe with every choice made."""
        if choice.start is not None and self.may_begin_from_starter:
            return self.from_starter().with_choice(choice)
        recipe = self.of_size(choice.size) if choice.size != self.size else self
        settings, model, optimizer = recipe.tokenizer, recipe.model, recipe.optimizer
        if settings.folder is None and recipe.start.folder is None:
            kind: Any = choice.tokenizer
            settings = replace(settings, kind=kind, vocab_size=choice.vocab_size)
        if hasattr(model, "dropout"):
            changed: Any = model
            model = replace(changed, dropout=choice.dropout)
        training = replace(
            recipe.training,
            batch_size=choice.batch_size,
            most_tokens=choice.tokens if choice.early else recipe.training.most_tokens,
        )
        if training.teacher == "auto":
            training = replace(training, teacher="counts" if choice.taught else "none")
        return replace(
            recipe,
            tokenizer=settings,
            model=model,
            training=training,
            optimizer=replace(optimizer, weight_decay=choice.weight_decay),
            defaulted=recipe.defaulted - {"model.dropout", "start.folder"},
        )

    def for_tokenizer(self, tokenizer: Tokenizer) -> Recipe:
        """Take the tokenizer's vocabulary."""
        return replace(
            self,
            tokenizer=replace(self.tokenizer, kind=tokenizer.kind),
            model=replace(self.model, vocab_size=tokenizer.vocab_size),
        )

    # Resuming

    def resumed_from(
        self, saved: Recipe, folder: Path, may_change: Collection[str] = MAY_CHANGE
    ) -> Recipe:
        """This recipe for the run that began as `saved`: what it does not ask for stays as it was
        chosen then.

        Raises SettingsError, showing the difference, where it asks for something else.
        """
        if self.may_begin_from_starter and saved.start.folder == STARTER:
            return self.from_starter().resumed_from(saved, folder, may_change)
        tables, before = self.tables(), saved.tables()
        left = {"training.teacher"} if self.training.teacher == "auto" else set()
        for name in self.defaulted | left:
            if _has(before, name) and name != "start.folder":
                table, key = name.split(".")
                tables[table][key] = before[table][key]
        resumed = replace(Recipe.from_tables(tables), defaulted=frozenset())
        resumed.check_same(saved, folder, may_change)
        return resumed

    def further(self, saved: Recipe, folder: Path, progress: Progress, more: More) -> Recipe:
        """This recipe for one leg more of the run `saved`, which stands at `progress`.

        A leg in which no step was saved yet is begun again with the new length. Raises
        SettingsError as `resumed_from` does, but for rates and schedule, which a leg may change.
        """
        recipe = self.resumed_from(saved, folder, LEG_MAY_CHANGE)
        leg = saved.leg
        if progress.step > leg.step:
            fraction = progress.fraction(saved.training, leg)
            leg = LegSettings(
                number=leg.number + 1,
                step=progress.step,
                tokens=progress.tokens_seen,
                seconds=progress.seconds,
                rate=learning_rate_scale(fraction, saved.optimizer, leg),
            )
        length: dict[str, Any] = dict.fromkeys(LENGTHS)
        if more.steps is not None:
            length["steps"] = leg.step + more.steps
        elif more.tokens is not None:
            length["tokens"] = leg.tokens + more.tokens
        else:
            length["minutes"] = leg.seconds / 60 + (more.minutes or 0.0)
        return replace(recipe, training=replace(recipe.training, **length), leg=leg)

    def check_same(
        self, saved: Recipe, folder: Path, may_change: Collection[str] = MAY_CHANGE
    ) -> None:
        """Raise SettingsError, showing the difference, where the run `saved` in `folder` began
        otherwise.
        """
        was, now = (
            {f"{t}.{k}": v for t, table in recipe.tables().items() for k, v in table.items()}
            for recipe in (saved, self)
        )
        names = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
        if changed := [name for name in names if name not in may_change]:
            difference = ", ".join(
                _("{name} was {before}, is {now}").format(
                    name=name, before=was.get(name), now=now.get(name)
                )
                for name in changed
            )
            lengths = {f"training.{name}" for name in LENGTHS}
            way_out = (
                _("to train it further: semigpt train --resume {folder} --minutes +10").format(
                    folder=folder
                )
                if lengths.issuperset(changed)
                else _("leave them, or train from scratch with another --out")
            )
            raise SettingsError(
                _(
                    "the run {folder} exists already, begun with other settings: {difference}; "
                    "{way_out}"
                ).format(folder=folder, difference=difference, way_out=way_out)
            )


TABLES = [f.name for f in fields(Recipe) if f.name not in ("kind", "size", "defaulted")]


def shape_of(recipe: Recipe) -> auto.Shape:
    """A recipe's shape as the law takes it."""
    return auto.Shape(
        block_parameters=replace(recipe.model, vocab_size=0).parameter_count,
        context_length=recipe.model.context_length,
        batch_size=recipe.training.batch_size,
    )


def _checked_tables(
    tables: Mapping[str, Mapping[str, Any]], where: str
) -> dict[str, dict[str, Any]]:
    """A copy with every table there. Raises SettingsError for an unknown table or a key of another
    place.
    """
    for name, table in tables.items():
        if name not in TABLES or not isinstance(table, Mapping):
            raise SettingsError(
                _("unknown table [{name}] in {where}: {hint}").format(
                    name=name, where=where, hint=nearest(name, TABLES)
                )
            )
        for key in table:
            if (name, key) in RENAMED:
                raise SettingsError(
                    _("[{name}] {key} in {where} is called {renamed} now; rename it").format(
                        name=name, key=key, where=where, renamed=RENAMED[name, key]
                    )
                )
    if "vocab_size" in tables.get("model", {}):
        raise SettingsError(
            _("[model] vocab_size in {where} is the tokenizer's; set tokenizer.vocab_size").format(
                where=where
            )
        )
    copies = {name: dict(tables.get(name, {})) for name in TABLES}
    specs = copies["data"].get("spec")
    if isinstance(specs, (list, tuple)) and all(isinstance(spec, str) for spec in specs):
        copies["data"]["spec"] = in_one_string(specs)
    return copies


def _has(tables: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    table, key = name.split(".")
    return key in tables.get(table, {})
