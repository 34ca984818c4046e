"""How many of a machine's GPUs share a step, where the command does not say."""

from __future__ import annotations

from semigpt import auto
from semigpt.cli.output import note
from semigpt.config import Recipe
from semigpt.errors import SettingsError
from semigpt.language import _
from semigpt.parallel import check_lanes

__all__ = ["check_gpus", "gpu_processes", "lanes_of"]


def gpu_processes(recipe: Recipe, *, fixed: bool, sharded: bool | None = None) -> int:
    """A process for each of the machine's GPUs, or for as many as can share the recipe's steps.

    fixed: the number of micro-batches is asked for, or is that of a run that has begun
    sharded: a sharded model is asked for

    Says so in a line where there are several GPUs.
    """
    import torch

    gpus = torch.cuda.device_count() if recipe.machine.device in ("auto", "cuda") else 0
    if gpus < 2:
        return 1
    fitting = (
        n for n in range(gpus, 1, -1) if can_share(recipe, n, fixed=fixed, sharded=bool(sharded))
    )
    processes = next(fitting, 1)
    if processes > 1:
        told = _("{gpus} GPUs: {processes} processes share each step (--processes 1: one alone)")
    else:
        told = _("{gpus} GPUs, and one is used: the steps of this run cannot be shared")
    note(told.format(gpus=gpus, processes=processes))
    return processes


def can_share(recipe: Recipe, processes: int, *, fixed: bool, sharded: bool = False) -> bool:
    """Whether so many processes can compute the recipe's steps, whatever size is chosen yet."""
    if not recipe.rung.shares_steps:
        return False
    lanes = recipe.training.gradient_accumulation if fixed else lanes_of(recipe, processes)
    try:
        check_lanes(lanes, processes, processes if sharded else 1)
    except SettingsError:
        return False
    return all(batch % lanes == 0 for batch in batch_sizes(recipe))


def lanes_of(recipe: Recipe, processes: int) -> int:
    """The micro-batches of a run that so many processes begin: the size's own, or one for each."""
    return max(recipe.training.gradient_accumulation, processes)


def batch_sizes(recipe: Recipe) -> list[int]:
    """Those that the run may have, but for multiples of them: the text may choose the size."""
    batch, size = "training.batch_size", "model.size"
    if not {batch, size} <= recipe.defaulted:
        return [recipe.training.batch_size]
    return [recipe.of_size(name).training.batch_size for name in auto.SMALLEST_TEXT]


def check_gpus(processes: int, device: str) -> None:
    """Raise SettingsError for more processes than GPUs on this machine."""
    import torch

    gpus = torch.cuda.device_count()
    if device in ("auto", "cuda") and 0 < gpus < processes:
        raise SettingsError(
            _(
                "{processes} processes and {gpus} GPUs: start at most one process per GPU, or say "
                "--device cpu"
            ).format(processes=processes, gpus=gpus)
        )
