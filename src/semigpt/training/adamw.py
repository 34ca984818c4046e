"""AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) by PyTorch's fused kernel.

`torch.optim.AdamW(fused=True)` calls the same kernel and gives the same bits; tests compare them.
It imports PyTorch's compiler when it is made, 1.6 s before a first step that does without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["SLOTS", "AdamW", "Group", "check_like"]

SLOTS = ("step", "exp_avg", "exp_avg_sq")  # torch.optim's names, which checkpoints hold


def check_like(name: str, saved: Tensor, own: Tensor) -> None:
    """Raise ValueError where a saved tensor cannot take the place of our own."""
    if saved.shape != own.shape or saved.dtype != own.dtype:
        raise ValueError(
            f"{name} is {saved.dtype} {tuple(saved.shape)}, not {own.dtype} {tuple(own.shape)}"
        )


@dataclass
class Group:
    """Parameters with one weight decay, whose learning rate is `multiple` of AdamW's."""

    parameters: list[nn.Parameter]
    weight_decay: float
    multiple: float = 1.0


class AdamW:
    """AdamW over groups of float32 parameters of one device."""

    def __init__(
        self, groups: Sequence[Group], *, betas: tuple[float, float], epsilon: float
    ) -> None:
        self.groups = [group for group in groups if group.parameters]
        self._betas, self._epsilon = betas, epsilon
        self._numbers = {
            id(parameter): number
            for number, parameter in enumerate(p for group in self.groups for p in group.parameters)
        }
        self._slots: dict[int, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update every parameter that has a gradient, at its group's multiple of the rate."""
        for group in self.groups:
            trained = [p for p in group.parameters if p.grad is not None]
            if not trained:
                continue
            parameters: list[Tensor] = list(trained)
            gradients = [p.grad for p in trained if p.grad is not None]
            slots = [self._slots_of(parameter) for parameter in trained]
            steps, means, squares = ([slot[name] for slot in slots] for name in SLOTS)
            torch._foreach_add_(steps, 1)
            torch._fused_adamw_(
                *(parameters, gradients, means, squares, [], steps),
                lr=rate * group.multiple,
                beta1=self._betas[0],
                beta2=self._betas[1],
                weight_decay=group.weight_decay,
                eps=self._epsilon,
                amsgrad=False,
                maximize=False,
            )

    def _slots_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """A parameter's number of steps and moments, zeros before its first."""
        number = self._numbers[id(parameter)]
        if number not in self._slots:
            steps = torch.zeros((), dtype=torch.float32, device=parameter.device)
            zeros = (torch.zeros_like(parameter) for _ in range(2))
            self._slots[number] = dict(zip(SLOTS, (steps, *zeros), strict=True))
        return self._slots[number]

    def state(self) -> dict[str, Tensor]:
        """`PARAMETER.NAME` to tensor: the moments and steps of those that had a gradient."""
        return {
            f"{number}.{name}": tensor
            for number, slots in sorted(self._slots.items())
            for name, tensor in slots.items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Load what `state` gave, for the same parameters.

        Raises LookupError or ValueError for another state.
        """
        parameters = [p for group in self.groups for p in group.parameters]
        found: dict[int, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            number, name = key.split(".")
            home = parameters[int(number)]
            if name not in SLOTS:
                raise ValueError(f"{key} is no slot of the optimizer")
            check_like(key, tensor, home.new_zeros(()) if name == "step" else home)
            found.setdefault(int(number), {})[name] = tensor.to(home.device, copy=True)
        if any(slots.keys() != set(SLOTS) for slots in found.values()):
            raise ValueError("a slot of the optimizer is missing")
        self._slots = found
