"""Resuming a run: what it began with, where it stood, and one leg more of it."""

from __future__ import annotations

import contextlib

from semigpt.config import MAY_CHANGE, MOVED, Recipe
from semigpt.errors import CheckpointError, SettingsError
from semigpt.language import _
from semigpt.restoring import progress_of
from semigpt.run_folder import RunFolder
from semigpt.settings import from_table
from semigpt.training.forecast import Forecast, forecast_further
from semigpt.training.settings import More

__all__ = ["no_checkpoint", "resumed_recipe", "saved_forecast"]


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
    with contextlib.suppress(SettingsError, AttributeError):
        return from_table(Forecast, saved, "metadata.json") if saved else None
    return None


def no_checkpoint(run: RunFolder) -> CheckpointError:
    """The error of a run that cannot be trained further."""
    message = _(
        "{path} has no checkpoint left to be trained further from: train from scratch with "
        "another --out"
    )
    if (run.model_folder / "model.safetensors").is_file():
        message = _(
            "{path} has no checkpoint left to be trained further from: begin another run with its "
            "weights: semigpt train --from {path}"
        )
    return CheckpointError(message.format(path=run.path))
