"""The ladder of models: each rung a class under `LanguageModel`, listed here and known nowhere else
by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from semigpt.settings import check_choice, from_table

if TYPE_CHECKING:
    from semigpt.models.base import LanguageModel, ModelSettings

__all__ = ["LADDER", "build_model", "model_class", "model_settings"]

# From the bottom up: `[model] kind` -> module and class, imported when asked for.
LADDER = {
    "bigram": "semigpt.models.bigram:SemiGPT",
    "attention": "semigpt.models.attention:AttentionModel",
    "multihead": "semigpt.models.attention:MultiHeadModel",
    "feedforward": "semigpt.models.attention:FeedForwardModel",
    "blocks": "semigpt.models.attention:BlocksModel",
    "gpt": "semigpt.models.gpt:GPT",
    "memory": "semigpt.models.memory:MemoryGPT",
}


# The C that a run of a rung takes on a CPU, in the order it is wanted. It is compiled before
# a class is there to be asked (`semigpt.native.ahead`); what generation takes later, beside the
# learning of a tokenizer: no step is timed meanwhile.
TEXT_SOURCES = ("ngrams", "tokenize")
SOURCES = {
    "blocks": (*TEXT_SOURCES, "blocks_step", "orthogonal"),
    "gpt": (*TEXT_SOURCES, "gpt_step", "orthogonal"),
    "memory": (*TEXT_SOURCES, "gpt_step", "orthogonal"),
}
LATER_SOURCES = {"gpt": ("decode",)}


def model_class(kind: str) -> type[LanguageModel]:
    """The class of a rung. Raises SettingsError for a name that is none."""
    check_choice("model", kind, LADDER)
    module, name = LADDER[kind].split(":")
    cls: type[LanguageModel] = getattr(import_module(module), name)
    return cls


def model_settings(kind: str, table: Mapping[str, Any], where: str = "[model]") -> ModelSettings:
    """A rung's settings from plain values. Raises SettingsError, naming `where`."""
    return from_table(model_class(kind).Settings, table, where)


def build_model(kind: str, vocab_size: int, table: Mapping[str, Any]) -> LanguageModel:
    """A fresh model of a rung. `table` holds its settings but for the vocabulary; see
    `model_settings`.
    """
    settings = model_settings(kind, {**table, "vocab_size": vocab_size})
    return model_class(kind)(settings)
