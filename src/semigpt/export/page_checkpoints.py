"""The weights that a run had on its way, for the slider of `model.html`: those of its checkpoints.

semigpt train --steps 2000 --set training.save_every=250 --set training.keep=8
semigpt export runs/NAME --to html --checkpoints 8
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import torch

from semigpt.errors import CheckpointError, SettingsError
from semigpt.export.page_file import Exhibit, evenly, exhibit
from semigpt.language import _
from semigpt.models.base import LanguageModel
from semigpt.run_checkpoint import verified
from semigpt.run_folder import RunFolder
from semigpt.tokenizers.base import Tokenizer

__all__ = ["exhibits_of_training"]


def exhibits_of_training(
    name: str, model: LanguageModel, tokenizer: Tokenizer, run: RunFolder | None, most: int
) -> list[Exhibit]:
    """At most `most` checkpoints from before the best weights, evenly apart, and then `model`.

    Raises SettingsError for what is no run or has kept none, CheckpointError for one that is
    damaged.
    """
    if most < 1:
        raise SettingsError(
            _("--checkpoints {count}: give how many, at least 1").format(count=most)
        )
    if run is None:
        raise SettingsError(_("--checkpoints is for a run folder: a model folder has none"))
    last = exhibit(name, model, tokenizer, run)
    end = last.facts.get("steps", 0)
    measured = {
        row["step"]: row["bits_per_character"]
        for row in run.rows("metrics")
        if "bits_per_character" in row
    }
    kept = {int(folder.name.removeprefix("step-")): folder for folder in run.checkpoint_folders()}
    steps = evenly([step for step in kept if step < end], most)
    if not steps:
        raise SettingsError(
            _(
                "{run} has kept no checkpoint from before its best weights, those of step {step}; "
                "train with --set training.save_every=100 --set training.keep=10"
            ).format(run=run.path, step=f"{end:,}")
        )
    found = []
    for step in steps:
        facts = {"steps": step, "checkpoint": step, "bits_per_character": measured.get(step)}
        found.append(
            Exhibit(
                name=_("step {step}").format(step=f"{step:,}"),
                model=_weights_of(kept[step], model, run),
                tokenizer=tokenizer,
                facts=facts,
                samples=last.samples,
            )
        )
    return [*found, replace(last, facts={**last.facts, "checkpoint": end})]


@torch.no_grad()
def _weights_of(folder: Path, model: LanguageModel, run: RunFolder) -> LanguageModel:
    """A copy of the model with the weights of a checkpoint."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    verified(folder, run.logs)
    made = copy.deepcopy(model)
    try:
        weights = load_file(folder / "model.safetensors")
        for name, parameter in made.named_parameters():
            if weights[name].shape != parameter.shape:
                raise ValueError(f"{name} has another shape")
            parameter.copy_(weights[name])
    except (LookupError, ValueError, OSError, SafetensorError) as error:
        raise CheckpointError(
            _("{folder} holds no weights of this model: {reason}").format(
                folder=folder, reason=error
            )
        ) from None
    return made
