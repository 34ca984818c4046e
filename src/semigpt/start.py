"""The model that a run begins from, where it does not begin from random weights.

`--from FOLDER` takes the weights and the tokenizer of a run folder or of a model folder, of others
too where the shape is one that semigpt builds, and `--from starter` those that come with the
package. The optimizer begins afresh. Once the run has made its first checkpoint, FOLDER is not
needed any more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from semigpt import auto
from semigpt.corpus.corpus import Corpus
from semigpt.errors import CheckpointError, SettingsError
from semigpt.huggingface.folder import load_model, read_weights, weight_files, weights_digest
from semigpt.huggingface.hub import local_folder
from semigpt.huggingface.open import open_tokenizer
from semigpt.language import _
from semigpt.models import LADDER, model_class, model_settings
from semigpt.models.base import LanguageModel, ModelSettings
from semigpt.models.gpt import GPTSettings
from semigpt.run_folder import RunFolder
from semigpt.settings import check_positive, from_table, to_table
from semigpt.tokenizers.base import Tokenizer
from semigpt.training.settings import TrainingSettings

__all__ = [
    "NOTHING",
    "STARTER",
    "STARTER_FOLDER",
    "StartSettings",
    "begin_from",
    "check_embeddings",
    "check_lora",
    "several_tokens",
    "with_model_of",
]

STARTER, NOTHING = "starter", "none"  # what --from takes beside folders
STARTER_FOLDER = Path(__file__).parent / "data" / "starter"
FLAGS = {
    "model.size": "--size",
    "model.kind": "--model",
    "tokenizer.kind": "--tokenizer",
    "tokenizer.folder": "--tokenizer",
    "tokenizer.vocab_size": "--vocab-size",
}
# Keys of [model] that are not a shape of weights.
FREE = {"kind", "dropout"}
# Of a model that others trained: its context takes too much memory, and its vocabulary makes the
# logits the largest thing there is.
FOREIGN_CONTEXT = 512
FOREIGN_BATCH = 8
# AdamW's rate times the width, of all weights and of LoRA's; docs/choices.md#started-rate.
FOREIGN_RATE, LORA_RATE = 0.2, 0.6
LOGITS = 100_000_000  # numbers, of a micro-batch


@dataclass(frozen=True, kw_only=True)
class StartSettings:
    """The model that a run begins from; without `folder` it begins from random weights.

    folder: a run folder, a model folder, hf:USER/NAME, or `starter`, as it was typed
    sha256: the digest of its weights
    lora: the rank of the adapters that are trained instead of the weights; None trains the weights
    """

    folder: str | None = None
    sha256: str | None = None
    lora: int | None = None

    def __post_init__(self) -> None:
        check_positive(self, "lora")
        if self.lora is not None and self.folder is None:
            raise SettingsError(
                _("--lora trains a little beside the weights of a model: name it with --from")
            )

    @property
    def facts(self) -> dict[str, str]:
        """What the card of a model that began from another says of that."""
        facts = {"began from": f"`{self.folder}`, SHA-256 `{self.sha256}`"}
        if self.lora is not None:
            facts["trained"] = f"LoRA of rank {self.lora}, merged into the weights"
        return facts

    @property
    def base_card(self) -> str:
        """The card of base/, from which LoRA goes on."""
        return f"The model that this run began from: `{self.folder}`\n"

    @property
    def model_folder(self) -> Path:
        """The folder that holds weights and tokenizer. CheckpointError where there is none."""
        assert self.folder is not None
        if self.folder == STARTER:
            return STARTER_FOLDER
        path = local_folder(Path(self.folder).expanduser())
        if (path / "config.json").is_file():
            return path
        run = RunFolder.open(path)
        if not all(file.is_file() for file in weight_files(run.model_folder)):
            raise CheckpointError(
                _("{path} has no model yet to begin from; train it first").format(path=path)
            )
        return run.model_folder


def with_model_of(tables: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The tables of a recipe with kind, size, shape and tokenizer of the model it begins from; as
    they are where that is `none`.

    Raises SettingsError where they ask for another model or tokenizer than that.
    """
    if tables["start"]["folder"] == NOTHING:
        start = {key: value for key, value in tables["start"].items() if key != "folder"}
        return {**tables, "start": start}
    settings = from_table(StartSettings, tables["start"], "[start]")
    folder = settings.model_folder
    source, tokenizer = load_model(folder), open_tokenizer(folder)
    kind = tables["model"].get("kind", source.kind)
    if not issubclass(model_class(kind), type(source)):
        raise SettingsError(
            _(
                "--model {kind} does not go with --from {folder}, which is a {own_kind}; leave it "
                "out"
            ).format(kind=kind, folder=settings.folder, own_kind=source.kind)
        )
    shape = {
        name: value
        for name, value in to_table(source.settings).items()
        if name not in (*FREE, "vocab_size")
    }
    free = {"context_length"} if source.cuts_context else set()
    asked = [
        *(f"model.{key}" for key in tables["model"] if key in {"size", *shape} - free),
        *(f"tokenizer.{key}" for key in tables["tokenizer"]),
    ]
    if asked:
        flag = FLAGS.get(asked[0], f"--set {asked[0]}")
        raise SettingsError(
            _(
                "{flag} does not go with --from {folder}, which brings its own model and "
                "tokenizer; leave it out"
            ).format(flag=flag, folder=settings.folder)
        )
    context = source.settings.context_length
    if tables["model"].get("context_length", context) > context:
        raise SettingsError(
            _(
                "model.context_length is {context_length}, more than the {context} "
                "of {folder}; leave it out or ask for less"
            ).format(
                context_length=tables["model"]["context_length"],
                context=context,
                folder=settings.folder,
            )
        )
    if tokenizer.kind == "foreign":
        shape["context_length"] = min(context, FOREIGN_CONTEXT)
    shape |= {key: tables["model"][key] for key in free & tables["model"].keys()}
    found = {
        **tables,
        "start": {**tables["start"], "sha256": weights_digest(folder)},
        "tokenizer": {"kind": tokenizer.kind},
        "model": {**tables["model"], **shape, "kind": kind, "size": _size_of(source, tokenizer)},
    }
    if "width" in shape and (settings.lora is not None or tokenizer.kind == "foreign"):
        rate = (FOREIGN_RATE if settings.lora is None else LORA_RATE) / shape["width"]
        adamw = {"optimizer": "adamw", "learning_rate": float(f"{rate:.2g}"), "weight_decay": 0.0}
        found["optimizer"] = {**adamw, **tables["optimizer"]}
    if tokenizer.kind == "foreign":
        logits = shape["context_length"] * tokenizer.vocab_size
        found["training"] = {**_batch(logits, tables["training"]), **tables["training"]}
    return found


def _batch(logits: int, asked: Mapping[str, Any]) -> dict[str, int]:
    """Sequences per step, and micro-batches whose logits memory holds; `logits` of a sequence."""
    size = asked.get("batch_size", FOREIGN_BATCH)
    if not isinstance(size, int) or size < 1:
        return {}
    cuts = (cut for cut in range(1, size + 1) if size % cut == 0)
    fitting = (cut for cut in cuts if size // cut * logits <= LOGITS)
    return {"batch_size": size, "gradient_accumulation": next(fitting, size)}


def _size_of(model: LanguageModel, tokenizer: Tokenizer) -> auto.Size:
    """The size whose shape is nearest to this model's, by its parameters; of a model of others,
    which has its own context and batch, one of the measured sizes.
    """

    def distance(size: auto.Size) -> float:
        shape = {**model.defaults(size)["model"], "vocab_size": model.settings.vocab_size}
        settings = model_settings(model.kind, shape, "the sizes")
        return abs(math.log(settings.parameter_count / model.settings.parameter_count))

    return min(auto.SIZES if tokenizer.kind == "foreign" else model.sizes, key=distance)


def check_lora(settings: StartSettings, kind: str, model: ModelSettings) -> None:
    """Raise SettingsError where the adapters that are asked for do not go with a model."""
    if settings.lora is None:
        return
    if not model.adapted_shapes:
        small = {name: model_settings(name, model_class(name).small) for name in LADDER}
        serves = [name for name, settings in small.items() if settings.adapted_shapes]
        raise SettingsError(
            _("--lora does not go with a {kind}: it serves {known}; leave it out").format(
                kind=kind, known=", ".join(serves)
            )
        )
    smallest = min(map(min, model.adapted_shapes))
    if settings.lora > smallest:
        raise SettingsError(
            _(
                "--lora {rank} is more than the {smallest} rows or columns of a matrix of "
                "{folder}; ask for less, such as --lora {advised}"
            ).format(
                rank=settings.lora,
                smallest=smallest,
                folder=settings.folder,
                advised=min(16, smallest),
            )
        )


def check_embeddings(
    training: TrainingSettings, start: StartSettings, model: ModelSettings
) -> None:
    """Raise SettingsError where a model cannot begin with the embeddings that are asked for."""
    if training.embeddings == "random":
        return
    fresh = start.folder is None
    if not fresh or not isinstance(model, GPTSettings) or model.tie_embeddings:
        raise SettingsError(
            _(
                "training.embeddings=bigrams is of a fresh gpt or memory whose output layer is its "
                "own; leave it out"
            )
        )


@torch.no_grad()
def begin_from(model: LanguageModel, settings: StartSettings) -> None:
    """Load the weights that a run begins from; what a larger rung adds to them stays fresh.

    Raises CheckpointError where the folder holds other weights than when the run began.
    """
    folder = settings.model_folder
    if (digest := weights_digest(folder)) != settings.sha256:
        raise CheckpointError(
            _(
                "{folder} has changed since the run began from it: the SHA-256 of its weights was "
                "{sha256}, is {digest}; bring them back, or begin another run"
            ).format(folder=folder, sha256=str(settings.sha256)[:12], digest=digest[:12])
        )
    model.load_huggingface_state({**model.huggingface_state(), **read_weights(folder, model)})


def several_tokens(tokenizer: Tokenizer, corpus: Corpus) -> tuple[int, float]:
    """Characters of the training text that the vocabulary lacks, so that each takes several tokens:
    how many there are, and their fraction of the text.
    """

    def tokens(character: str) -> int:
        # SentencePiece puts a space before a text.
        return sum(tokenizer.token_bytes(i) != b" " for i in tokenizer.encode(character).tolist())

    counts = corpus.character_counts
    lacking = [character for character in counts if tokens(character) > 1]
    return len(lacking), sum(counts[c] for c in lacking) / max(sum(counts.values()), 1)
