"""What a GPT's step in C works on: buffers kept from one step to the next, and one batch's.

Shapes: B sequences, T positions, N = B * T, C width, H heads, D head width, A = H * D, F hidden
width, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from semigpt.native.gpt_weights import GPTShape, SampledRows

__all__ = ["Batch", "Gate", "Output", "Workspace"]


class Workspace:
    """Every buffer for batches of one shape. Norm i, two a layer and a last one, reads x[i]."""

    def __init__(
        self, shape: GPTShape, rows: int, dtype: torch.dtype, B: int, T: int, threads: int
    ) -> None:
        def buffer(*sizes: int) -> Tensor:
            return torch.empty(sizes, dtype=dtype)

        def floats(*sizes: int) -> Tensor:
            return torch.empty(sizes, dtype=torch.float32)

        L, C, H, D, F = (
            *(shape.num_layers, shape.width, shape.num_heads),
            *(shape.head_width, shape.hidden_width),
        )
        N, A = B * T, H * D
        self.key = (B, T, threads)
        self.x, self.scale = floats(2 * L + 1, N, C), floats(2 * L + 1, N)
        self.normed = buffer(2 * L + 1, N, C)
        self.qkv, self.mixed = buffer(L, N, 3 * A), buffer(L, N, A)
        self.gate_up, self.hidden = buffer(L, N, 2 * F), buffer(L, N, F)
        self.branch = buffer(N, C)
        self.logits, self.losses = buffer(N, rows), floats(N)
        self.grad_x, self.grad_branch = floats(N, C), buffer(N, C)
        self.grad_normed = buffer(N, C)
        self.partial_sums = floats(threads * C)
        # The attention's and the feed-forward's in turn.
        wide, inner = buffer(N, max(2 * F, 3 * A)).view(-1), buffer(N, max(F, A)).view(-1)
        self.grad_qkv, self.grad_mixed = wide[: N * 3 * A].view(N, 3 * A), inner[: N * A].view(N, A)
        self.grad_gate_up = wide[: N * 2 * F].view(N, 2 * F)
        self.grad_hidden = inner[: N * F].view(N, F)


@dataclass(frozen=True)
class Batch:
    """One call's arguments. `weight` multiplies gradients of weights where they are stored."""

    ids_BT: Tensor
    targets_BT: Tensor
    weight: float
    dropout: float
    seed: int


@dataclass(frozen=True)
class Output:
    """The output layer's matrix as multiplied, its logits, and whose rows they are (None: all)."""

    head: Tensor
    logits: Tensor  # become their gradient
    rows: SampledRows | None


@dataclass(frozen=True)
class Gate:
    """The mixture at each position, kept from the forward to the backward pass."""

    inputs_NI: Tensor
    weights_NE: Tensor
    others_NX: Tensor  # weight times p of each expert but the net
    net_N: Tensor  # the net's weight
    others_N: Tensor  # the sum of others_NX
