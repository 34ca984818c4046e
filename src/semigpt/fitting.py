"""Whether memory and disk hold a run, and whether its processes cut the model among them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from semigpt import auto
from semigpt.config import Recipe
from semigpt.errors import SettingsError
from semigpt.language import _
from semigpt.parallel import Group, Processes, check_lanes
from semigpt.run_events import Sharded
from semigpt.training.forecast import available_memory, check_resources, process_memory
from semigpt.training.sharding import check_sharded, is_plain

__all__ = ["LARGER", "fitted", "larger_step"]

LARGER = 1.5  # times a size's own step, from which its tokens teach visibly less


def fitted(
    recipe: Recipe, folder: Path, device: torch.device, group: Group, *, new: bool
) -> tuple[Recipe, Sharded | None]:
    """The recipe as it can be computed here, and the group's `shards`: as few as fit in memory, of
    those that are asked for. What was found, where memory asks for several.

    Asked twice: before the text is read, of what is known then, and after.

    new: the run begins, and how its steps are computed may still be chosen

    Raises SettingsError where memory or disk do not hold the run, or it is not computed so.
    """
    ways = group.ways(recipe.training.gradient_accumulation)
    if group.shard is None and not can_be_cut(recipe, group, new=new):
        ways = [1]
    free, sharing = available_memory(device), _sharing(device, group)
    needed = {n: _memory(recipe, device, group, n) for n in ways}
    group.shards = auto.shards({n: sharing * memory for n, memory in needed.items()}, free)
    if group.sharded:
        if new:
            recipe = computed_plainly(recipe)
        check_sharded(
            recipe.machine, lora=recipe.start.lora, output_sample=recipe.training.output_sample
        )
        check_lanes(recipe.training.gradient_accumulation, group.size, group.shards)
    check_resources(
        *(recipe.model, recipe.training, recipe.optimizer, folder, device),
        machine=recipe.machine,
        from_model=recipe.start.folder is not None,
        lora=recipe.start.lora,
        processes=group.size,
        on_this_machine=sharing,
        shards=group.shards,
        fitting=lambda: ", ".join(what_fits(recipe, device, group)),
    )
    if group.shard or not group.sharded or free is None:
        return recipe, None
    return recipe, Sharded(group.shards, needed[1], needed[group.shards], free)


def can_be_cut(recipe: Recipe, group: Group, *, new: bool) -> bool:
    """Whether a sharded model ends in the bits of this run."""
    if new and not recipe.machine.compile:
        recipe = computed_plainly(recipe)
    if recipe.start.lora is not None or not recipe.rung.shares_steps:
        return False
    try:
        check_lanes(recipe.training.gradient_accumulation, group.size, group.size)
    except SettingsError:
        return False
    return group.size > 1 and is_plain(recipe.machine)


def computed_plainly(recipe: Recipe) -> Recipe:
    """The recipe with what a sharded model needs where it is not asked for otherwise."""
    machine = recipe.machine
    backend = "plain" if machine.backend == "auto" else machine.backend
    return replace(
        recipe,
        machine=replace(machine, backend=backend, compile=bool(machine.compile)),
        defaulted=recipe.defaulted - {"machine.backend", "machine.compile"},
    )


def what_fits(recipe: Recipe, device: torch.device, group: Group) -> Iterator[str]:
    """What to choose instead of a run that does not fit: a size, a number of GPUs."""
    if recipe.start.folder is not None:
        return
    free = available_memory(device) or 0
    vocab_size, sizes = recipe.model.vocab_size, recipe.rung.sizes
    for size in reversed(sizes[: sizes.index(recipe.size)]):
        smaller = recipe.of_size(size)
        smaller = replace(smaller, model=replace(smaller.model, vocab_size=vocab_size))
        if least_memory(smaller, device, group) * _sharing(device, group) <= free:
            yield f"--size {size}"
            break
    processes = 2 * group.size
    while device.type == "cuda" and recipe.training.batch_size % processes == 0:
        if least_memory(recipe, device, Group(processes)) <= free:
            yield _("{processes} GPUs").format(processes=processes)
            break
        processes *= 2


def least_memory(recipe: Recipe, device: torch.device, group: Group) -> float:
    """Bytes that each process of a new run needs, whole or cut among all; infinite where so many
    cannot share a step.
    """
    training = recipe.training
    lanes = max(training.gradient_accumulation, group.size)
    if training.batch_size % lanes:
        return math.inf
    recipe = replace(recipe, training=replace(training, gradient_accumulation=lanes))
    ways = {1, group.size} if can_be_cut(recipe, group, new=True) else {1}
    return min(_memory(recipe, device, group, n) for n in ways)


def larger_step(tokens: int, own: int) -> str:
    """What to say of a step of more tokens than its size's own, where it is so large because many
    GPUs share it; empty where it is not.
    """
    if tokens <= LARGER * own:
        return ""
    return _(
        "a step of {tokens:,} tokens is larger than the size's own of {own:,}: fewer GPUs "
        "learn more from each token"
    ).format(tokens=tokens, own=own)


def _memory(recipe: Recipe, device: torch.device, group: Group, shards: int) -> int:
    """Bytes that each process needs."""
    return process_memory(
        *(recipe.model, recipe.training, recipe.optimizer, recipe.machine, device),
        from_model=recipe.start.folder is not None,
        lora=recipe.start.lora,
        processes=group.size,
        shards=shards,
    )


def _sharing(device: torch.device, group: Group) -> int:
    """Processes that share the memory of a device."""
    return group.place.local_size if device.type == "cpu" and isinstance(group, Processes) else 1
