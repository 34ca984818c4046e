"""Attention of a GPT's training step, between the projection of q, k and v and the output's.

`FusedAttention` is one pass of C over each sequence's heads (attention.h), in float32: 3.9 ms a
layer of `tiny` with AVX2 where the other way takes 6.4. `ProductAttention` has the products of
PyTorch, which may use the hardware's bfloat16, with passes of C between them. Autograd is the
oracle of both (tests/test_gpt_step.py).

Shapes: B sequences, T positions, N = B * T, H heads, D head width, L layers.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from semigpt.native.gpt_weights import GPTShape

__all__ = ["FUSED", "PRODUCTS", "FusedAttention", "Heads", "NormGradients", "ProductAttention"]

_p, _i, _f, _n, _u = (
    ctypes.c_void_p, ctypes.c_int, ctypes.c_float, ctypes.c_int64, ctypes.c_uint64,
)  # fmt: skip
_heads = (_i, _i, _i, _i, _f, _p, _p, _p, _p, _p)
FUSED: dict[str, tuple[Any, ...]] = {
    "attention": (*_heads, _u, _f, _p, _p),
    "attention_backward": (*_heads, _u, _f, _p, _p, _p, _p, _f, _i, _p, _p),
}
PRODUCTS: dict[str, tuple[Any, ...]] = {
    "heads": (*_heads, _p),
    "heads_backward": (*_heads, _p, _p, _p, _f, _i, _p, _p),
    "merge_heads": (_i, _i, _i, _i, _p, _p),
    "split_heads": (_i, _i, _i, _i, _p, _p),
    "causal_softmax": (_i, _i, _i, _p),
    "causal_softmax_backward": (_i, _i, _p, _p),
}


@dataclass(frozen=True)
class Heads:
    """What attention reads in a layer. `seed` is of its dropout mask, where `dropout` > 0."""

    layer: int
    qkv: Tensor  # [N, 3, H, D]
    q_norm: Tensor
    k_norm: Tensor
    dropout: float
    seed: int


@dataclass(frozen=True)
class NormGradients:
    """Where the gradients by the norms' weights go, times `weight`; added where `add`."""

    q_norm: Tensor
    k_norm: Tensor
    weight: float
    add: bool


class _Attention:
    """The sizes of a batch, and what each of the two ways passes to C."""

    def __init__(
        self, c: ctypes.CDLL, shape: GPTShape, rotation: tuple[Tensor, Tensor], B: int, T: int
    ) -> None:
        self._c, self._shape, self._rotation = c, shape, rotation
        self._sizes = (B, T, shape.num_heads, shape.head_width)
        threads = int(c.semigpt_threads())
        self._partial_sums = torch.empty(2 * threads * shape.head_width)

    def _arguments(self, heads: Heads) -> tuple[Any, ...]:
        read = (heads.qkv, heads.q_norm, heads.k_norm, *self._rotation)
        return *self._sizes, self._shape.norm_epsilon, *(tensor.data_ptr() for tensor in read)

    @staticmethod
    def _norms(found: NormGradients) -> tuple[Any, ...]:
        return found.weight, found.add, found.q_norm.data_ptr(), found.k_norm.data_ptr()


class FusedAttention(_Attention):
    """Each head of each sequence in one pass; nothing is kept between forward and backward."""

    def __init__(
        self, c: ctypes.CDLL, shape: GPTShape, rotation: tuple[Tensor, Tensor], B: int, T: int
    ) -> None:
        super().__init__(c, shape, rotation, B, T)
        each = c.semigpt_attention_workspace(T, shape.head_width)
        self._workspace = torch.empty(int(c.semigpt_threads()) * each)

    def forward(self, heads: Heads, mixed: Tensor) -> None:
        """mixed [N, H * D] = attention's output."""
        self._c.semigpt_attention(
            *(*self._arguments(heads), heads.seed, heads.dropout),
            *(self._workspace.data_ptr(), mixed.data_ptr()),
        )

    def backward(
        self, heads: Heads, grad_mixed: Tensor, grad_qkv: Tensor, norms: NormGradients
    ) -> None:
        """grad_qkv and the gradients of the norms, from grad_mixed."""
        self._c.semigpt_attention_backward(
            *(*self._arguments(heads), heads.seed, heads.dropout, self._workspace.data_ptr()),
            *(grad_mixed.data_ptr(), grad_qkv.data_ptr(), self._partial_sums.data_ptr()),
            *self._norms(norms),
        )


class ProductAttention(_Attention):
    """PyTorch's products, with a pass in C between two; the attention weights are kept."""

    def __init__(
        self, c: ctypes.CDLL, shape: GPTShape, rotation: tuple[Tensor, Tensor], B: int, T: int
    ) -> None:
        super().__init__(c, shape, rotation, B, T)
        L, H, D = shape.num_layers, shape.num_heads, shape.head_width

        def buffer(*sizes: int) -> Tensor:
            return torch.empty(sizes, dtype=torch.bfloat16)

        self._heads, self._grad_heads = buffer(L, 3, B * H, T, D), buffer(3, B * H, T, D)
        self._weights, self._grad_weights = buffer(L, B * H, T, T), buffer(B * H, T, T)
        self._outputs = buffer(B * H, T, D)

    def forward(self, heads: Heads, mixed: Tensor) -> None:
        """mixed [N, H * D] = attention's output."""
        c, weights = self._c, self._weights[heads.layer]
        q, k, v = self._heads[heads.layer]
        c.semigpt_heads(*self._arguments(heads), q.data_ptr())
        torch.bmm(q, k.transpose(1, 2), out=weights)
        c.semigpt_causal_softmax(*weights.shape, weights.data_ptr())
        torch.bmm(self._dropped(heads, weights), v, out=self._outputs)
        c.semigpt_merge_heads(*self._sizes, self._outputs.data_ptr(), mixed.data_ptr())

    def backward(
        self, heads: Heads, grad_mixed: Tensor, grad_qkv: Tensor, norms: NormGradients
    ) -> None:
        """grad_qkv and the gradients of the norms, from grad_mixed."""
        c, weights = self._c, self._weights[heads.layer]
        grad_weights, grad_outputs = self._grad_weights, self._outputs
        (q, k, v), (grad_q, grad_k, grad_v) = self._heads[heads.layer], self._grad_heads
        c.semigpt_split_heads(*self._sizes, grad_mixed.data_ptr(), grad_outputs.data_ptr())
        torch.bmm(self._dropped(heads, weights).transpose(1, 2), grad_outputs, out=grad_v)
        torch.bmm(grad_outputs, v.transpose(1, 2), out=grad_weights)
        self._dropped(heads, grad_weights)
        c.semigpt_causal_softmax_backward(
            *weights.shape[:2], weights.data_ptr(), grad_weights.data_ptr()
        )
        torch.bmm(grad_weights, k, out=grad_q)
        torch.bmm(grad_weights.transpose(1, 2), q, out=grad_k)
        c.semigpt_heads_backward(
            *(*self._arguments(heads), grad_q.data_ptr(), grad_qkv.data_ptr()),
            *(self._partial_sums.data_ptr(), *self._norms(norms)),
        )

    def _dropped(self, heads: Heads, x: Tensor) -> Tensor:
        """x with dropout, in the buffer of the weights' gradient; x itself where there is none."""
        if not heads.dropout:
            return x
        self._c.semigpt_dropout(
            *(x.numel(), heads.seed, heads.dropout),
            *(x.data_ptr(), self._grad_weights.data_ptr()),
        )
        return self._grad_weights
