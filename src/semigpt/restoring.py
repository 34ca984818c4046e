"""A checkpoint's numbers put back in place, and what must be the same for that."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from semigpt.errors import CheckpointError
from semigpt.language import _
from semigpt.models.base import LanguageModel
from semigpt.run_folder import Checkpoint
from semigpt.settings import from_table
from semigpt.training.adamw import check_like
from semigpt.training.optimizer import Optimizer
from semigpt.training.progress import Progress

__all__ = ["check_arithmetic", "check_same", "progress_of", "restore", "trained"]

logger = logging.getLogger(__name__)


def progress_of(checkpoint: Checkpoint) -> Progress:
    """How far the run had come.

    Raises LookupError, ValueError or SettingsError for what no version of ours has saved.
    """
    progress = from_table(Progress, checkpoint.metadata["progress"], "progress.json")
    if min(progress.step, progress.tokens_seen, progress.skipped, progress.seconds) < 0:
        raise ValueError("progress of less than nothing")
    return progress


def trained(model: LanguageModel) -> dict[str, nn.Parameter]:
    """What a checkpoint holds of a model: all its parameters, or LoRA's."""
    return {name: own for name, own in model.named_parameters() if own.requires_grad}


@torch.no_grad()
def restore(model: LanguageModel, optimizer: Optimizer, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's numbers in place, bit for bit. Raises LookupError, ValueError or
    RuntimeError for those of another model.
    """
    for name, parameter in trained(model).items():
        check_like(name, checkpoint.tensors["model"][name], parameter)
        parameter.copy_(checkpoint.tensors["model"][name])
    optimizer.load_state(checkpoint.tensors["optimizer"])


def check_same(checkpoint: Checkpoint, identity: Mapping[str, Any]) -> None:
    """Raise CheckpointError, showing the difference, where resuming would be with other text, ids
    or shapes.
    """
    for what, now in identity.items():
        before = checkpoint.metadata.get(what)
        if before == now:
            continue
        if isinstance(now, dict) and isinstance(before, dict):
            difference = _differences(before, now)
        else:
            difference = _("its fingerprint was {before}, is {now}").format(
                before=str(before)[:12], now=str(now)[:12]
            )
        raise CheckpointError(
            _(
                "{folder} was trained with another {what}: {difference}; bring back the "
                "old one, or train from scratch "
                "with another --out"
            ).format(folder=checkpoint.folder, what=what, difference=difference)
        )


def check_arithmetic(
    checkpoint: Checkpoint, now: Mapping[str, str], *, forgiven: bool = False
) -> None:
    """Raise CheckpointError, showing the difference, where this machine rounds otherwise than the
    one that saved; a warning where that is forgiven. Older checkpoints do not say.
    """
    before = checkpoint.metadata.get("arithmetic")
    if not isinstance(before, dict) or before == now:
        return
    difference = _differences(before, now)
    if forgiven:
        logger.warning(_("resuming with other bits than the run had so far: %s"), difference)
        return
    raise CheckpointError(
        _(
            "{folder} was computed otherwise than this machine would: {difference}; "
            "resumed here, the run ends with other bits than without the "
            "stop: bring the old back, or "
            "resume all the same with --other-bits"
        ).format(folder=checkpoint.folder, difference=difference)
    )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return ", ".join(
        _("{name} was {before}, is {now}").format(
            name=name, before=before.get(name), now=now.get(name)
        )
        for name in sorted(now.keys() | before.keys())
        if now.get(name) != before.get(name)
    )
