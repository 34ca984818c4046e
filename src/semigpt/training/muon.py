"""Muon: momentum made orthogonal, for the hidden matrices.

Jordan and others 2024, "Muon: An optimizer for hidden layers in neural networks".
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from semigpt.device import pick_precision
from semigpt.native import orthogonal as newton_schulz
from semigpt.parallel import ALONE, Group
from semigpt.training.adamw import check_like

__all__ = ["Muon"]


class Muon:
    """Each hidden matrix moves by U Vᵀ of its momentum's U S Vᵀ, approximately.

    What `torch.optim.Muon` computes (its oracle in tests/test_training.py), but the n matrices of
    one shape are made orthogonal together, as stacks: 2.5 ms a step where one by one takes 12.3;
    docs/choices.md#muon. In float32 on a CPU that is one call of C, in half the time of stacks.
    """

    # Newton-Schulz: X ← aX + (bA + cA²)X with A = XXᵀ brings every singular value to about 1. It
    # tolerates rounding, so it runs in bfloat16 where the hardware multiplies that. Elsewhere
    # float32 is faster, 106 ms to 379 a step; docs/choices.md#muon.
    STEPS, A, B, C = 5, 3.4445, -4.7750, 2.0315

    def __init__(
        self,
        parameters: list[nn.Parameter],
        momentum: float,
        weight_decay: float,
        replicas: Group = ALONE,
    ) -> None:
        """replicas: processes that hold the same, each of which makes some matrices orthogonal"""
        self.momentum, self.weight_decay, self._replicas = momentum, weight_decay, replicas
        self.groups: dict[tuple[int, int], list[Tensor]] = {}
        for parameter in parameters:
            self.groups.setdefault((parameter.shape[0], parameter.shape[1]), []).append(parameter)
        self.momenta = {
            shape: torch.zeros(len(group), *shape, device=group[0].device)
            for shape, group in self.groups.items()
        }
        # Kept from step to step: mapping memory anew takes longer than filling it.
        self._gradients = {
            shape: torch.empty_like(momentum) for shape, momentum in self.momenta.items()
        }

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update every matrix; all must have a gradient."""
        directions = [
            self.directions(shape, [cast(Tensor, parameter.grad) for parameter in group])
            for shape, group in self.groups.items()
        ]
        updates = self._orthogonal_by_replicas(directions)
        for (shape, group), found in zip(self.groups.items(), updates, strict=True):
            self.move(shape, group, list(found.to(group[0].dtype).unbind()), learning_rate)

    def updates(self, shape: tuple[int, int], gradients: list[Tensor]) -> Tensor:
        """The `directions`, orthogonal."""
        return self.orthogonal(self.directions(shape, gradients))

    def _orthogonal_by_replicas(self, stacks: list[Tensor]) -> list[Tensor]:
        """The `orthogonal` matrices of some stacks. Each replica computes neighbours of each stack,
        which have the same bits alone and in it.
        """
        replicas, size = self._replicas, self._replicas.size
        if size == 1:
            return [self.orthogonal(stack_nRC) for stack_nRC in stacks]
        cuts = [[len(stack) * rank // size for rank in range(size + 1)] for stack in stacks]
        by_rank = [
            [stack[slice(*cut[rank : rank + 2])] for cut, stack in zip(cuts, stacks, strict=True)]
            for rank in range(size)
        ]
        lengths = [[part.numel() for part in of_rank] for of_rank in by_rank]
        own = [self.orthogonal(part).flatten() for part in by_rank[replicas.rank]]
        padding = max(map(sum, lengths)) - sum(lengths[replicas.rank])
        rows = replicas.gather(torch.cat([*own, own[0].new_zeros(padding)]))
        parts = [
            row[: sum(of_rank)].split(of_rank) for row, of_rank in zip(rows, lengths, strict=True)
        ]
        return [
            torch.cat(pieces).view_as(stack)
            for stack, pieces in zip(stacks, zip(*parts, strict=True), strict=True)
        ]

    def directions(self, shape: tuple[int, int], gradients: list[Tensor]) -> Tensor:
        """The directions `[n, R, C]` of the matrices of one shape, from the gradients that the
        momenta take up.
        """
        momentum_nRC, update_nRC = self.momenta[shape], self._gradients[shape]
        torch.stack(gradients, out=update_nRC)
        momentum_nRC.lerp_(update_nRC, 1 - self.momentum)
        return update_nRC.lerp_(momentum_nRC, self.momentum)  # Nesterov's

    def move(
        self,
        shape: tuple[int, int],
        parameters: list[Tensor],
        updates: list[Tensor],
        learning_rate: float,
    ) -> None:
        """Move matrices of a shape, or the same rows of each, by their `updates`."""
        rows, columns = shape
        if self.weight_decay:
            torch._foreach_mul_(parameters, 1 - learning_rate * self.weight_decay)
        rate = learning_rate * math.sqrt(max(1.0, rows / columns))
        torch._foreach_add_(parameters, updates, alpha=-rate)

    @classmethod
    def orthogonal(cls, matrices_nRC: Tensor) -> Tensor:
        """The nearest half-orthogonal matrices, `[n, R, C]`, approximately.

        Singular values end between 0.7 and 1.2. The result has the dtype that the hardware
        multiplies.
        """
        dtype = pick_precision(matrices_nRC.device, "auto")
        if dtype == torch.float32 and newton_schulz.fits(matrices_nRC):
            return newton_schulz.orthogonal(matrices_nRC, cls.STEPS, cls.A, cls.B, cls.C)
        tall = matrices_nRC.shape[1] > matrices_nRC.shape[2]
        x = (
            (matrices_nRC.transpose(1, 2) if tall else matrices_nRC)
            .to(dtype, copy=True)  # scaled in place below
            .contiguous()
        )
        x /= x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
        gram = x.new_empty(len(x), x.shape[1], x.shape[1])
        polynomial, other = torch.empty_like(gram), torch.empty_like(x)
        for _ in range(cls.STEPS):
            torch.bmm(x, x.transpose(1, 2), out=gram)
            torch.baddbmm(gram, gram, gram, beta=cls.B, alpha=cls.C, out=polynomial)
            torch.baddbmm(x, polynomial, x, beta=cls.A, out=other)
            x, other = other, x
        return x.transpose(1, 2) if tall else x

    def state(self) -> dict[str, Tensor]:
        """The momenta, as `ROWSxCOLUMNS` → `[n, R, C]`."""
        return {f"{rows}x{columns}": momentum for (rows, columns), momentum in self.momenta.items()}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Load what `state` gave. Raises LookupError or ValueError for another state."""
        for name, momentum in self.state().items():
            check_like(name, state[name], momentum)
            momentum.copy_(state[name])
