"""The layers of a modern GPT: products, RMSNorm, rotary positions, attention and its cache.

Shapes: B sequences, T and S positions, H query heads, K key and value heads, D the width of a head,
C the model's width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "Linear",
    "RMSNorm",
    "RopeScaling",
    "attend",
    "attention_weights",
    "inverse_frequencies",
    "joined",
    "repeated",
    "rotary_table",
    "rotate",
]

# Positions from which grouped keys are not repeated; below, a gradient would have other bits.
LONG = 1024
# Llama 3's: factor, low and high frequency factor, and the context before it. A context of 0
# divides every frequency by the factor.
RopeScaling = tuple[float, float, float, float]


class Linear(nn.Linear):
    """A product in the dtype of its input, without bias unless asked; the weight stays float32."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        super().__init__(inputs, outputs, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


def joined(x: Tensor, parts: Sequence[Linear]) -> Tensor:
    """The outputs of several layers that read the same input, side by side.

    Plain ones in one product: a CPU is faster at fewer, larger products.
    """
    if any(type(part) is not Linear for part in parts):
        return torch.cat([part(x) for part in parts], dim=-1)
    bias = None
    if parts[0].bias is not None:
        bias = torch.cat([part.bias for part in parts]).to(x.dtype)
    return F.linear(x, torch.cat([part.weight for part in parts]).to(x.dtype), bias)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + ε) times a learned weight, the mean in float32."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.epsilon)


def inverse_frequencies(
    head_width: int, theta: float, scaling: RopeScaling | None = None
) -> Tensor:
    """The angle by which each pair of a head turns per position, `[D / 2]`.

    Pair i turns by theta^(-2i/D) (arXiv 2104.09864, eq. 15). With Llama 3's scaling, pairs that
    turn fewer than `low` times in the context before it are slowed by `factor`, those that turn
    more than `high` times are not, and between them the slowing fades.
    """
    exponents = torch.arange(0, head_width, 2, dtype=torch.float32) / head_width
    angles_P = theta**-exponents
    if scaling is None:
        return angles_P
    factor, low, high, context = scaling
    if not context:
        return angles_P / factor
    turns_P = context * angles_P / (2 * math.pi)
    kept_P = ((turns_P - low) / (high - low)).clamp(0, 1)
    return angles_P * kept_P + angles_P / factor * (1 - kept_P)


def rotary_table(positions_T: Tensor, inverse_frequencies_P: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of RoPE, `[T, D]` both."""
    angles_TD = torch.outer(
        positions_T.float(), inverse_frequencies_P.to(positions_T.device)
    ).repeat(1, 2)
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


def repeated(x_BKSD: Tensor, heads: int) -> Tensor:
    """Keys or values as each query head reads them, `[B, H, S, D]`."""
    group = heads // x_BKSD.shape[1]
    return x_BKSD if group == 1 else x_BKSD.repeat_interleave(group, dim=1)


def attend(q_BHTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, dropout: float) -> Tensor:
    """Causal attention of the last T of S positions: softmax(q kᵀ / √D) v, `[B, H, T, D]`.

    Keys and values may have fewer heads, each read by as many query heads. From `LONG` positions on
    the kernel reads them as they are: repeated, they would be the largest tensors of a block.
    Written out on a CPU up to 256 positions, where PyTorch's fused bfloat16 kernel takes 4.7 ms to
    0.7, and on a GPU for single tokens, where the kernel prepares itself for each new S;
    docs/choices.md#attention-kernel.
    """
    T, S = q_BHTD.shape[2], k_BKSD.shape[2]
    grouped = q_BHTD.shape[1] != k_BKSD.shape[1]
    if grouped and T == S >= LONG:
        return F.scaled_dot_product_attention(
            q_BHTD, k_BKSD, v_BKSD, dropout_p=dropout, is_causal=True, enable_gqa=True
        )
    k_BHSD, v_BHSD = (repeated(x_BKSD, q_BHTD.shape[1]) for x_BKSD in (k_BKSD, v_BKSD))
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
