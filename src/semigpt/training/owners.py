"""Tensors of which each process of a replica has some rows, and for a moment one, the owner, all.

What reads a whole gradient, its norm and Muon's Newton-Schulz, is computed once, by the owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from semigpt.parallel import Processes

__all__ = ["Owners", "balanced", "rows_of"]

T = TypeVar("T")


def rows_of(rows: int, rank: int, size: int) -> tuple[int, int]:
    """The first row that a process keeps of a tensor, and the one behind its last: as FSDP2 cuts.

    The last processes of many may have none.
    """
    part = -(-rows // size)
    return min(rank * part, rows), min((rank + 1) * part, rows)


def balanced(weights: Sequence[int], size: int) -> list[int]:
    """An owner for each tensor, so that `size` processes have about the same weight."""
    loads, owners = [0] * size, [0] * len(weights)
    for number in sorted(range(len(weights)), key=lambda n: (-weights[n], n)):
        owners[number] = min(range(size), key=loads.__getitem__)
        loads[owners[number]] += weights[number]
    return owners


class Owners:
    """Moves tensors of these shapes to their owners and back, one all-to-all each way."""

    def __init__(
        self, shapes: Sequence[torch.Size], owners: Sequence[int], group: Processes
    ) -> None:
        self._shapes, self._owners, self._group = shapes, owners, group
        self.own = [number for number, owner in enumerate(owners) if owner == group.part]

    def gather(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """This process's own tensors, whole; `parts` are its rows of every one."""
        nothing = parts[0].new_empty(0)
        sent = [torch.cat([nothing, *(p.flatten() for p in own)]) for own in self._by_owner(parts)]
        sizes = [[self._elements(n, rank) for n in self.own] for rank in range(self._group.shards)]
        taken = self._group.exchange(sent, [sum(own) for own in sizes])
        pieces = [
            torch.split(part, own)
            for part, own in zip(torch.split(taken, [*map(sum, sizes)]), sizes, strict=True)
        ]
        return [
            torch.cat([of_rank[k] for of_rank in pieces]).view(self._shapes[n])
            for k, n in enumerate(self.own)
        ]

    def scatter(self, wholes: Sequence[Tensor], nothing: Tensor) -> list[Tensor]:
        """This process's rows of every tensor; `wholes` are its own, `nothing` an empty one."""
        size, rank = self._group.shards, self._group.part
        sent = [
            torch.cat(
                [
                    nothing,
                    *(whole[slice(*rows_of(len(whole), to, size))].flatten() for whole in wholes),
                ]
            )
            for to in range(size)
        ]
        numbers = list(self._by_owner(range(len(self._shapes))))
        sizes = [[self._elements(n, rank) for n in owned] for owned in numbers]
        taken = self._group.exchange(sent, [sum(owned) for owned in sizes])
        flat = torch.split(taken, [elements for owned in sizes for elements in owned])
        order = [n for owned in numbers for n in owned]
        found = dict(zip(order, flat, strict=True))
        return [
            found[n].view(end - first, *shape[1:])
            for n, shape in enumerate(self._shapes)
            for first, end in [rows_of(shape[0], rank, size)]
        ]

    def _by_owner(self, values: Sequence[T]) -> list[list[T]]:
        """Values of all tensors, those of each owner together."""
        found: list[list[T]] = [[] for _ in range(self._group.shards)]
        for owner, value in zip(self._owners, values, strict=True):
            found[owner].append(value)
        return found

    def _elements(self, number: int, rank: int) -> int:
        """How many numbers a process has of a tensor."""
        shape = self._shapes[number]
        first, end = rows_of(shape[0], rank, self._group.shards)
        return (end - first) * shape[1:].numel()
