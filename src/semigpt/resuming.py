"""Resuming a run: what it began with, where it stood, and one leg more of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from semigpt.config import MAY_CHANGE, MOVED, Recipe
from semigpt.errors import CheckpointError
from semigpt.models.base import LanguageModel
from semigpt.run_folder import Checkpoint, RunFolder
from semigpt.training.forecast import Forecast, forecast_further
from semigpt.training.optimizer import Optimizer
from semigpt.training.progress import Progress
from semigpt.training.settings import More

__all__ = [
    "check_same",
    "no_checkpoint",
    "progress_of",
    "random_state",
    "restore",
    "resumed_recipe",
    "saved_forecast",
]


def resumed_recipe(
    recipe: Recipe, run: RunFolder, more: More | None, *, moved: bool
) -> tuple[Recipe, Forecast | None]:
    """The recipe with which a run goes on, and the forecast to its end; with `more`, to a new one.

    moved: its text may lie somewhere else than when it began

    Raises SettingsError where the recipe asks for something else than the run began with, and
    CheckpointError for a run that is finished, or that has no checkpoint to be trained further
    from.
    """
    saved, forecast = Recipe.from_tables(run.config()), saved_forecast(run)
    if more is None:
        may_change = MAY_CHANGE | MOVED if moved else MAY_CHANGE
        recipe = recipe.resumed_from(saved, run.path, may_change)
        run.check_unfinished()
        return recipe, forecast
    checkpoint = run.newest()
    if checkpoint is None:
        raise no_checkpoint(run)
    progress = progress_of(checkpoint)
    recipe = recipe.further(saved, run.path, progress, more)
    tokens_per_step = recipe.training.batch_size * recipe.model.context_length
    return recipe, forecast_further(forecast, progress, recipe.training, tokens_per_step)


def saved_forecast(run: RunFolder) -> Forecast | None:
    """The forecast that a run to resume began with, where this version can read it."""
    saved = run.metadata().get("forecast")
    with contextlib.suppress(TypeError):
        return Forecast(**saved) if saved else None
    return None


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of every generator that training draws from (dropout's: the order of data needs
    none).
    """
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def progress_of(checkpoint: Checkpoint) -> Progress:
    """How far the run had come. Raises LookupError or TypeError for another version's progress."""
    return Progress(**checkpoint.metadata["progress"])


def no_checkpoint(run: RunFolder) -> CheckpointError:
    """The error of a run that cannot be trained further."""
    begin = (
        f": begin another run with its weights: semigpt train --from {run.path}"
        if (run.model_folder / "model.safetensors").is_file()
        else ": train from scratch with another --out"
    )
    return CheckpointError(f"{run.path} has no checkpoint left to be trained further from{begin}")


@torch.no_grad()
def restore(model: LanguageModel, optimizer: Optimizer, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's numbers in place, bit for bit."""
    for name, parameter in model.named_parameters():
        parameter.copy_(checkpoint.tensors["model"][name])
    optimizer.load_state(checkpoint.tensors["optimizer"])
    torch.set_rng_state(checkpoint.tensors["random"]["cpu"])
    if model.device.type == "cuda" and "cuda" in checkpoint.tensors["random"]:
        torch.cuda.set_rng_state(checkpoint.tensors["random"]["cuda"], model.device)


def check_same(checkpoint: Checkpoint, identity: Mapping[str, Any]) -> None:
    """Raise CheckpointError, showing the difference, where resuming would be with other text, ids
    or shapes.
    """
    for what, now in identity.items():
        before = checkpoint.metadata.get(what)
        if before == now:
            continue
        if isinstance(now, dict) and isinstance(before, dict):
            names = [
                name
                for name in sorted(now.keys() | before.keys())
                if now.get(name) != before.get(name)
            ]
            difference = ", ".join(
                f"{name} was {before.get(name)}, is {now.get(name)}" for name in names
            )
        else:
            difference = f"its fingerprint was {str(before)[:12]}, is {str(now)[:12]}"
        raise CheckpointError(
            f"{checkpoint.folder} was trained with another {what}: {difference}; bring back the "
            "old one, or train from scratch "
            "with another --out"
        )
