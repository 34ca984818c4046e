"""What is counted of the training text before a run begins: the n-grams of a teacher or a memory,
and the embeddings of a GPT that begins as bigram counts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from semigpt import auto
from semigpt.config import Recipe
from semigpt.dataset import Dataset
from semigpt.errors import SettingsError
from semigpt.evaluation.baselines import COUNTED_TOKENS
from semigpt.language import _
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.native import ngrams as native_ngrams
from semigpt.ngrams.counts import Counts, Ids
from semigpt.ngrams.embeddings import BigramEmbeddings
from semigpt.stages import stage as timed
from semigpt.training.distillation import Teacher
from semigpt.training.settings import Embeddings

__all__ = [
    "NOTHING_COUNTED",
    "Counted",
    "begin_with",
    "count",
    "first_embeddings",
    "has_teacher",
    "may_begin_as_bigrams",
]


class Counted(NamedTuple):
    """What the counts of a text give a run; None what it does not ask for.

    counts:     of the teacher, and for the rung that holds them
    embeddings: with which a fresh model begins
    """

    counts: Counts | None = None
    teacher: Teacher | None = None
    embeddings: BigramEmbeddings | None = None


NOTHING_COUNTED = Counted()


def count(recipe: Recipe, dataset: Dataset, device: torch.device, *, fresh: bool = True) -> Counted:
    """Count the training split, as far as the recipe asks for it.

    fresh: the model is not restored from a checkpoint

    Raises SettingsError for orders of n-grams that contradict each other.
    """
    with timed("counting n-grams"):
        counts = _ngrams(recipe, dataset, device)
        teacher = None
        if counts is not None and has_teacher(recipe):
            stream = dataset.stream("train")
            teacher = Teacher.of(counts, stream, recipe.model.context_length)
        return Counted(counts, teacher, _embeddings(recipe, dataset) if fresh else None)


def has_teacher(recipe: Recipe) -> bool:
    """Whether the n-gram counts teach the model."""
    return recipe.training.teacher == "counts"


def _ngrams(recipe: Recipe, dataset: Dataset, device: torch.device) -> Counts | None:
    """The n-gram counts of the training split, where a teacher or the model wants them."""
    order, own_order = recipe.training.teacher_order, recipe.model.ngram_order
    taught = has_teacher(recipe)
    if own_order is not None:
        if taught and order not in (None, own_order):
            raise SettingsError(
                _(
                    "teacher_order and memory_order must be the same, not {order} and {own_order}"
                ).format(order=order, own_order=own_order)
            )
        order = own_order
    elif not taught:
        return None
    counts = Counts.fit(_ids(dataset), dataset.vocab_size, order or auto.TEACHER_ORDER)
    # A model's own lookups are answered faster by C on the CPU (3 ms for 3,072 contexts) than by
    # PyTorch on a GPU (33).
    return counts if own_order is not None and native_ngrams.available() else counts.to(device)


@torch.no_grad()
def begin_with(model: GPT, embeddings: BigramEmbeddings) -> None:
    """Give a model these embeddings and this output layer, which must be two."""
    rows = slice(model.settings.vocab_size)
    model.model.embed_tokens.weight[rows] = embeddings.inputs
    model.lm_head.weight[rows] = embeddings.outputs


def may_begin_as_bigrams(recipe: Recipe) -> bool:
    """Whether a fresh model of the recipe begins as bigrams of a text that is long enough."""
    if "training.embeddings" not in recipe.defaulted:
        return recipe.training.embeddings == "bigrams"
    # Where it was measured.
    return (
        recipe.start.folder is None
        and recipe.within_law
        and "embeddings" in recipe.rung.auto
        and not getattr(recipe.model, "tie_embeddings", True)
    )


def first_embeddings(recipe: Recipe, tokens: int) -> Embeddings:
    """What a fresh model of the recipe begins with, on a training text of so many tokens."""
    asked = "training.embeddings" not in recipe.defaulted
    enough = asked or auto.begins_as_bigrams(tokens, recipe.model.vocab_size)
    return "bigrams" if enough and may_begin_as_bigrams(recipe) else "random"


def _embeddings(recipe: Recipe, dataset: Dataset) -> BigramEmbeddings | None:
    """The embeddings of `training.embeddings`, where the recipe asks for those of bigrams."""
    training, model = recipe.training, recipe.model
    if training.embeddings != "bigrams":
        return None
    assert isinstance(model, GPTSettings)
    return BigramEmbeddings.of(_ids(dataset), model.vocab_size, model.width, seed=training.seed)


def _ids(dataset: Dataset) -> Ids:
    """The ids `[tokens]` that are counted of the training split."""
    stream = dataset.stream("train")
    return stream.read(0, min(len(stream), COUNTED_TOKENS))
