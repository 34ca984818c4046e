"""The layers of a modern GPT: products, RMSNorm, rotary positions, attention and its cache.

Shapes: B sequences, T and S positions, H heads, D the width of a head, C the model's width.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semigpt.models.base import Cache

if TYPE_CHECKING:
    from semigpt.models.gpt import GPTSettings

__all__ = [
    "KeyValueCache",
    "Linear",
    "RMSNorm",
    "attend",
    "attention_weights",
    "rotary_table",
    "rotate",
]


class Linear(nn.Linear):
    """A product without bias in the dtype of its input; the weight itself stays float32."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + ε) times a learned weight, the mean in float32."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.epsilon)


def rotary_table(positions_T: Tensor, head_width: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of RoPE, `[T, D]` both.

    Pair i turns by position * theta^(-2i/D) (arXiv 2104.09864, eq. 15).
    """
    exponents = (
        torch.arange(0, head_width, 2, device=positions_T.device, dtype=torch.float32) / head_width
    )
    angles_TD = torch.outer(positions_T.float(), theta**-exponents).repeat(1, 2)
    return angles_TD.cos(), angles_TD.sin()


def rotate(x_BHTD: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
    """Turn each pair (i, i + D/2) of a head by its position's angle, with transformers' pairing."""
    left, right = x_BHTD.chunk(2, dim=-1)
    return x_BHTD * cos_TD + torch.cat((-right, left), dim=-1) * sin_TD


def attention_weights(q_BHTD: Tensor, k_BHSD: Tensor) -> Tensor:
    """What the last T of S positions attend to, softmax(q kᵀ / √D): `[B, H, T, S]`."""
    T, S = q_BHTD.shape[2], k_BHSD.shape[2]
    scores_BHTS: Tensor = (q_BHTD * q_BHTD.shape[-1] ** -0.5) @ k_BHSD.transpose(-2, -1)
    if T > 1:
        future_TS = torch.ones(T, S, dtype=torch.bool, device=q_BHTD.device).triu(S - T + 1)
        scores_BHTS = scores_BHTS.masked_fill(future_TS, float("-inf"))
    return scores_BHTS.softmax(dim=-1)


def attend(q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor, dropout: float) -> Tensor:
    """Causal attention of the last T of S positions: softmax(q kᵀ / √D) v, `[B, H, T, D]`.

    Written out on a CPU up to 256 positions, where PyTorch's fused bfloat16 kernel takes 4.7 ms to
    0.7, and on a GPU for single tokens, where the kernel prepares itself for each new S;
    docs/choices.md#attention-kernel.
    """
    T, S = q_BHTD.shape[2], k_BHSD.shape[2]
    device = q_BHTD.device.type
    if (device == "cpu" and S <= 256) or (device == "cuda" and T == 1):
        weights_BHTS = attention_weights(q_BHTD, k_BHSD)
        weights_BHTS = F.dropout(weights_BHTS, dropout, training=dropout > 0)
        return weights_BHTS @ v_BHSD
    if T == S or T == 1:
        return F.scaled_dot_product_attention(
            q_BHTD, k_BHSD, v_BHSD, dropout_p=dropout, is_causal=T > 1
        )
    seen_TS = torch.ones(T, S, dtype=torch.bool, device=q_BHTD.device).tril(S - T)
    return F.scaled_dot_product_attention(
        q_BHTD, k_BHSD, v_BHSD, attn_mask=seen_TS, dropout_p=dropout
    )


class KeyValueCache(Cache):
    """Keys and values of each layer, `[B, K, context_length, D]` both, of the newest positions."""

    def __init__(
        self, settings: GPTSettings, batch_size: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.length = 0
        shape = (batch_size, settings.kv_heads, settings.context_length, settings.head_width)
        self.layers = [
            (
                torch.zeros(shape, device=device, dtype=dtype),
                torch.zeros(shape, device=device, dtype=dtype),
            )
            for _ in range(settings.num_layers)
        ]

    def select(self, rows: Sequence[int]) -> KeyValueCache:
        chosen = copy.copy(self)
        index_B = torch.tensor(rows, device=self.layers[0][0].device)
        chosen.layers = [(keys[index_B], values[index_B]) for keys, values in self.layers]
        return chosen

    def recent(self, tokens_BT: Tensor) -> Tensor:
        """The tokens that the output layer may read: the new ones, though this one reads none."""
        return tokens_BT

    def append(self, layer: int, key_BKTD: Tensor, value_BKTD: Tensor) -> tuple[Tensor, Tensor]:
        """Add the new positions of a layer and return all its keys and values, `[B, K, S, D]` both.

        Past `context_length` the oldest positions are overwritten in place. Keys are stored
        rotated and RoPE depends on differences of positions alone, so the order of the slots does
        not matter.
        """
        keys, values = self.layers[layer]
        capacity = keys.shape[2]
        if self.length + key_BKTD.shape[2] <= capacity:
            end = self.length + key_BKTD.shape[2]
            keys[:, :, self.length : end] = key_BKTD
            values[:, :, self.length : end] = value_BKTD
            return keys[:, :, :end], values[:, :, :end]
        slots = (
            torch.arange(self.length, self.length + key_BKTD.shape[2], device=keys.device)
            % capacity
        )
        keys[:, :, slots] = key_BKTD
        values[:, :, slots] = value_BKTD
        return keys, values
