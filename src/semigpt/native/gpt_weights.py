"""What a GPT's step in C is given: sizes, parameters, and a mixture's other experts.

Shapes: N positions of a batch, C width, D head width, V vocabulary; E experts of a mixture,
X = E - 1 of them without the net.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["GPTShape", "GPTWeights", "LayerWeights", "Mixture", "repeated", "summed"]


@dataclass(frozen=True)
class GPTShape:
    """The sizes of a GPT."""

    vocab_size: int
    context_length: int
    num_layers: int
    width: int
    num_heads: int
    kv_heads: int
    head_width: int
    hidden_width: int
    norm_epsilon: float
    dropout: float


@dataclass(frozen=True)
class LayerWeights:
    """One layer's parameters, matrices as [outputs, inputs]."""

    attention_norm: Tensor
    qkv: tuple[Tensor, ...]
    q_norm: Tensor
    k_norm: Tensor
    o: Tensor
    feedforward_norm: Tensor
    gate_up: tuple[Tensor, ...]
    down: Tensor


@dataclass(frozen=True)
class GPTWeights:
    """A GPT's parameters, float32, and its rotary table."""

    embedding: Tensor  # [rows, C], rows at least V
    layers: tuple[LayerWeights, ...]
    final_norm: Tensor
    head: Tensor  # [rows, C]; may be the embedding itself
    cos_TD: Tensor
    sin_TD: Tensor
    gate: Tensor | None = None  # of a mixture: [E, C + context features + 1], the net's row first


@dataclass(frozen=True)
class Mixture:
    """What the other experts of a mixture bring to a batch: see `semigpt.models.memory`."""

    p_NX: Tensor  # the probability that each other expert gives each target
    context_NF: Tensor  # what the gate reads beside the hidden state
    own_loss: float  # weight of the net's own loss beside the mixture's
    added_NC: Tensor  # added to the token embeddings


def repeated(parts: tuple[Tensor, ...], shape: GPTShape) -> tuple[Tensor, ...]:
    """Queries, keys and values, each key and value head once for every query head that reads it.

    The net is the same function; the gradient of a head is the sum over its copies (`summed`).
    """
    group = shape.num_heads // shape.kv_heads
    if group == 1:
        return parts
    q, *shared = parts
    heads = (part.view(shape.kv_heads, 1, -1) for part in shared)
    return q, *(head.expand(-1, group, -1).reshape(len(q), -1) for head in heads)


def summed(grad: Tensor, part: Tensor, shape: GPTShape) -> Tensor:
    """The gradient of `part` from that of its copies, `[len(part) * group, C]`."""
    group = len(grad) // len(part)
    if group == 1:
        return grad
    return grad.view(shape.kv_heads, group, shape.head_width, -1).sum(1).view_as(part)
