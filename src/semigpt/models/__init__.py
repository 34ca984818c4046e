"""The ladder of models. `build_model` is the one place that turns a rung's name into a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from semigpt.settings import check_choice, from_table

if TYPE_CHECKING:
    from semigpt.models.base import LanguageModel

__all__ = ["RUNGS", "build_model"]

RUNGS = ("bigram", "attention", "multihead", "feedforward", "blocks", "gpt", "memory")


def build_model(rung: str, vocab_size: int, table: Mapping[str, Any]) -> LanguageModel:
    """A fresh model of a rung; `table` holds its settings but for the vocabulary. SettingsError if they cannot be."""
    check_choice("model", rung, RUNGS)
    values = {**table, "vocab_size": vocab_size}
    match rung:
        case "bigram":
            from semigpt.models.base import ModelSettings
            from semigpt.models.bigram import SemiGPT

            return SemiGPT(from_table(ModelSettings, values, "[model]"))
        case "attention":
            from semigpt.models.attention import AttentionModel, AttentionSettings

            return AttentionModel(from_table(AttentionSettings, values, "[model]"))
        case "multihead":
            from semigpt.models.attention import MultiHeadModel, MultiHeadSettings

            return MultiHeadModel(from_table(MultiHeadSettings, values, "[model]"))
        case "feedforward":
            from semigpt.models.attention import FeedForwardModel, FeedForwardSettings

            return FeedForwardModel(from_table(FeedForwardSettings, values, "[model]"))
        case "blocks":
            from semigpt.models.attention import BlocksModel, BlocksSettings

            return BlocksModel(from_table(BlocksSettings, values, "[model]"))
        case "memory":
            from semigpt.models.memory import MemoryGPT, MemorySettings

            return MemoryGPT(from_table(MemorySettings, values, "[model]"))
        case _:
            from semigpt.models.gpt import GPT, GPTSettings

            return GPT(from_table(GPTSettings, values, "[model]"))
