"""What a GPT's step in C is given: sizes, parameters, and a mixture's other experts.

Shapes: N positions of a batch, C width, D head width, V vocabulary; E experts of a mixture,
X = E - 1 of them without the net.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

__all__ = ["GPTShape", "GPTWeights", "LayerWeights", "Mixture", "SampledRows", "repeated", "summed"]


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


@dataclass(frozen=True)
class SampledRows:
    """The S rows of an output layer that stand for all V in one training step."""

    ids_S: Tensor  # int64, each once; every target of the batch is among them
    weight_S: Tensor  # float32, how many rows each stands for: 1 for a target
    place_V: Tensor  # int64, where a token is in `ids_S`, -1 for those that are not

    def places(self, targets_BT: Tensor) -> Tensor:
        """The targets as columns of the sampled logits."""
        return self.place_V[targets_BT]

    def logits(self, hidden_BTC: Tensor, weight_VC: Tensor) -> Tensor:
        """`[B, T, S]`, each with the logarithm of how many rows it stands for."""
        weight_SC = weight_VC[self.ids_S].to(hidden_BTC.dtype)
        return F.linear(hidden_BTC, weight_SC, self.weight_S.log().to(hidden_BTC.dtype))

    def distribution(self, p_BTV: Tensor) -> Tensor:
        """A distribution over the vocabulary as one over the sample, `[B, T, S]`."""
        weighted_BTS = p_BTV[..., self.ids_S] * self.weight_S
        return weighted_BTS / weighted_BTS.sum(dim=-1, keepdim=True)


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
