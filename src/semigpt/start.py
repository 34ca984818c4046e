"""The model that a run begins from, where it does not begin from random weights.

`--from FOLDER` takes the weights and the tokenizer of a run folder or of a model folder, and
`--from starter` those that come with the package. The optimizer begins afresh. Once the run has
made its first checkpoint, FOLDER is not needed any more.
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
from semigpt.huggingface.folder import load_model
from semigpt.models import model_class, model_settings
from semigpt.models.base import LanguageModel
from semigpt.run_folder import RunFolder
from semigpt.settings import to_table
from semigpt.storage import sha256_file
from semigpt.tokenizers import load_tokenizer
from semigpt.tokenizers.base import Tokenizer

__all__ = [
    "STARTER",
    "STARTER_FOLDER",
    "StartSettings",
    "begin_from",
    "several_tokens",
    "with_model_of",
]

STARTER = "starter"
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


@dataclass(frozen=True, kw_only=True)
class StartSettings:
    """The model that a run begins from; without `folder` it begins from random weights.

    folder: a run folder, a model folder, or `starter`, as it was typed
    sha256: the digest of its model.safetensors
    """

    folder: str | None = None
    sha256: str | None = None

    @property
    def model_folder(self) -> Path:
        """The folder that holds weights and tokenizer. CheckpointError where there is none."""
        assert self.folder is not None
        if self.folder == STARTER:
            return STARTER_FOLDER
        path = Path(self.folder).expanduser()
        if (path / "config.json").is_file():
            return path
        run = RunFolder.open(path)
        if not (run.model_folder / "model.safetensors").is_file():
            raise CheckpointError(f"{path} has no model yet to begin from; train it first")
        return run.model_folder


def with_model_of(tables: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The tables of a recipe with kind, size, shape and tokenizer of the model it begins from.

    Raises SettingsError where they ask for another model or tokenizer than that.
    """
    settings = StartSettings(folder=tables["start"]["folder"])
    folder = settings.model_folder
    source = load_model(folder)
    kind = tables["model"].get("kind", source.kind)
    if not issubclass(model_class(kind), type(source)):
        raise SettingsError(
            f"--model {kind} does not go with --from {settings.folder}, which is a {source.kind}; "
            "leave it out"
        )
    shape = {
        name: value
        for name, value in to_table(source.settings).items()
        if name not in (*FREE, "vocab_size")
    }
    asked = [
        *(f"model.{key}" for key in tables["model"] if key == "size" or key in shape),
        *(f"tokenizer.{key}" for key in tables["tokenizer"]),
    ]
    if asked:
        flag = FLAGS.get(asked[0], f"--set {asked[0]}")
        raise SettingsError(
            f"{flag} does not go with --from {settings.folder}, which brings its own model and "
            "tokenizer; leave it out"
        )
    digest = sha256_file(folder / "model.safetensors")
    return {
        **tables,
        "start": {"folder": settings.folder, "sha256": digest},
        "tokenizer": {"kind": load_tokenizer(folder).kind},
        "model": {**tables["model"], **shape, "kind": kind, "size": _size_of(source)},
    }


def _size_of(model: LanguageModel) -> auto.Size:
    """The size whose shape is nearest to this model's, by its parameters."""

    def distance(size: auto.Size) -> float:
        shape = {**model.defaults(size)["model"], "vocab_size": model.settings.vocab_size}
        settings = model_settings(model.kind, shape, "the sizes")
        return abs(math.log(settings.parameter_count / model.settings.parameter_count))

    return min(auto.SIZES, key=distance)


@torch.no_grad()
def begin_from(model: LanguageModel, settings: StartSettings) -> None:
    """Load the weights that a run begins from; what a larger rung adds to them stays fresh.

    Raises CheckpointError where the folder holds other weights than when the run began.
    """
    folder = settings.model_folder
    if (digest := sha256_file(folder / "model.safetensors")) != settings.sha256:
        raise CheckpointError(
            f"{folder} has changed since the run began from it: the SHA-256 of its weights was "
            f"{str(settings.sha256)[:12]}, is {digest[:12]}; bring them back, or begin another run"
        )
    found = load_model(folder).huggingface_state()
    model.load_huggingface_state({**model.huggingface_state(), **found})


def several_tokens(tokenizer: Tokenizer, corpus: Corpus) -> tuple[int, float]:
    """Characters of the training text that the vocabulary lacks, so that each takes several tokens:
    how many there are, and their fraction of the text.
    """
    counts = corpus.character_counts
    lacking = [character for character in counts if len(tokenizer.encode(character)) > 1]
    return len(lacking), sum(counts[c] for c in lacking) / max(sum(counts.values()), 1)
