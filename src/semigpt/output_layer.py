"""Whether the steps of a run compute all of the output layer, or a sample of it."""

from __future__ import annotations

from dataclasses import replace

import torch

from semigpt import auto
from semigpt.config import Recipe
from semigpt.dataset import Dataset
from semigpt.device import pick_device, pick_precision
from semigpt.models.base import ModelSettings
from semigpt.models.gpt import GPTSettings
from semigpt.training.output_sample import OutputSampler

__all__ = ["output_sample", "sampler_of"]


def output_sample(recipe: Recipe, model: ModelSettings, batch_size: int, characters: int) -> int:
    """How many rows of the output layer a step of the recipe computes, with this model and batch
    size in the place of its own, on so many characters; 0 for all of them.
    """
    training, machine = recipe.training, recipe.machine
    if "training.output_sample" not in recipe.defaulted:
        return training.output_sample
    # It costs bits at equal steps, and gains where the clock leaves no time for more of them.
    hurries = training.minutes is not None and training.most_tokens is None
    device, scratch = pick_device(machine.device), recipe.start.folder is None
    # Where it was measured.
    if not (
        isinstance(model, GPTSettings)
        and hurries
        and characters >= auto.SAMPLED_TEXT
        and "output_sample" in recipe.rung.auto
        and recipe.within_law
        and (device.type, machine.backend) in (("cpu", "auto"), ("cpu", "native"))
        and pick_precision(device, machine.precision) == torch.float32
        and scratch
    ):
        return 0
    tokens = batch_size // training.gradient_accumulation * model.context_length
    blocks = replace(model, vocab_size=0).parameter_count
    return auto.output_rows(model.vocab_size, tokens, model.width, blocks)


def sampler_of(recipe: Recipe, dataset: Dataset) -> OutputSampler | None:
    """What draws the rows of the output layer; None where each step computes all of them."""
    rows = recipe.training.output_sample
    if not rows:
        return None
    return OutputSampler.of(rows, dataset.stream("train"), dataset.vocab_size)
