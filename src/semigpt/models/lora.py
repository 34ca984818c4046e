"""LoRA (Hu and others 2021, arXiv 2106.09685): weights that stay, and small matrices beside them.

Beside each product x Wᵀ of a block stands α/r · (x Aᵀ) Bᵀ. A `[r, inputs]` is drawn at random and B
`[outputs, r]` is zero at first, so training begins with the model as it was; it changes A and B
alone.

The adapters are not peft's: it wraps the `forward` of a layer, and attention and feed-forward here
read the weights of several layers in one product. The folder is peft's
(`semigpt.huggingface.adapter`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semigpt.models.base import LanguageModel, ModelSettings
from semigpt.models.layers import Linear

__all__ = ["ALPHA", "AdaptedLinear", "adapt", "adapter_count", "adapters"]

# With α fixed and the product divided by the rank, the best rate hardly depends on the rank.
ALPHA = 32.0


class AdaptedLinear(Linear):
    """A frozen layer and its adapter. Its state is that of the plain layer it amounts to."""

    def __init__(self, frozen: nn.Linear, rank: int) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = frozen.in_features, frozen.out_features
        self.weight, self.bias = frozen.weight, frozen.bias
        self.scale = ALPHA / rank
        self.lora_A = nn.Parameter(self.weight.new_empty(rank, self.in_features))
        self.lora_B = nn.Parameter(self.weight.new_zeros(self.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))  # as peft

    def forward(self, x: Tensor) -> Tensor:
        low = F.linear(x, self.lora_A.to(x.dtype))
        return super().forward(x) + self.scale * F.linear(low, self.lora_B.to(x.dtype))

    @torch.no_grad()
    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        merged = torch.addmm(self.weight, self.lora_B, self.lora_A, alpha=self.scale)
        destination[f"{prefix}weight"] = merged
        if self.bias is not None:
            destination[f"{prefix}bias"] = self.bias.detach()


def adapt(model: LanguageModel, rank: int) -> None:
    """Freeze a model and put an adapter of this rank beside each matrix of its blocks."""
    model.requires_grad_(False)
    for name in model.adapted_names():
        parent, _, own = name.rpartition(".")
        layer = cast(nn.Linear, model.get_submodule(name))
        setattr(model.get_submodule(parent), own, AdaptedLinear(layer, rank))


def adapters(model: nn.Module) -> Iterator[tuple[str, AdaptedLinear]]:
    """The adapted layers of a model by name; none of a plain one."""
    for name, module in model.named_modules():
        if isinstance(module, AdaptedLinear):
            yield name, module


def adapter_count(settings: ModelSettings, rank: int) -> int:
    """How many numbers the adapters of a shape have."""
    return rank * sum(map(sum, settings.adapted_shapes))
