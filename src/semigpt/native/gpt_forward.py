"""A GPT's forward pass on a CPU and the losses of its targets: what evaluation needs.

`FusedForward` is one call of C, `gpt_forward.c`, with products of its own, in float32: 4.5 s where
the other way takes 6.2 (130,000 characters by a `memory` of 4 x 128, two cores with AVX2).
`ProductForward` has the products of PyTorch, which may use the hardware's bfloat16, with passes of
`gpt_step.c` between them. Nothing is kept for a backward pass, and the last layer computes only the
positions that are scored. Shapes are those of `semigpt.native.gpt_step`; P positions are scored.
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from semigpt.native.ahead import compiled
from semigpt.native.gpt_step import library
from semigpt.native.gpt_weights import GPTShape, GPTWeights, LayerWeights, repeated

__all__ = ["GPTForward", "gpt_forward"]

SOURCE = Path(__file__).with_name("gpt_forward.c")
LOGITS = 1_000_000  # of one product with the output layer: 4 MB stay in the cache
PANEL = 16  # outputs, as in tiles.h

_p, _i = ctypes.c_void_p, ctypes.c_int32


class GPTForward(ABC):
    """A GPT as its weights are now."""

    @abstractmethod
    def scored(
        self,
        ids_BT: Tensor,
        targets_BT: Tensor,
        scored_BT: Tensor,
        added_BTC: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What the output layer reads where `scored_BT` marks it, `[P, C]`, and the losses there in
        nats, `[P]`.

        added_BTC: added to the embeddings
        """


def gpt_forward(shape: GPTShape, weights: GPTWeights, dtype: torch.dtype) -> GPTForward:
    """The way that suits the dtype. Raises NativeUnavailableError without a compiler."""
    if dtype == torch.float32:
        return FusedForward(shape, weights)
    return ProductForward(shape, weights, dtype)


class _Layer(ctypes.Structure):
    """`Layer` of gpt_forward.c."""

    _fields_ = tuple(
        (name, _p)
        for name in (
            *("attention_norm", "q_norm", "k_norm", "feedforward_norm"),
            *("qkv", "o", "gate_up", "down"),
        )
    )


class _Net(ctypes.Structure):
    """`Net` of gpt_forward.c."""

    _fields_ = (
        *((name, _i) for name in ("layers", "C", "H", "D", "F", "V")),
        ("epsilon", ctypes.c_float),
        ("layer", ctypes.POINTER(_Layer)),
        *((name, _p) for name in ("embedding", "cosine", "sine", "final_norm", "head")),
    )


@cache
def fused_library() -> ctypes.CDLL:
    """gpt_forward.c. Raises NativeUnavailableError, saying why."""
    loaded = compiled(SOURCE)
    net = ctypes.POINTER(_Net)
    loaded.semigpt_forward.argtypes = (net, ctypes.c_int, ctypes.c_int, *(_p,) * 7)
    loaded.semigpt_forward.restype = None
    workspace = loaded.semigpt_forward_workspace
    workspace.argtypes, workspace.restype = (net, ctypes.c_int), ctypes.c_int64
    loaded.semigpt_threads.argtypes, loaded.semigpt_threads.restype = (), ctypes.c_int
    return loaded


class FusedForward(GPTForward):
    """A thread takes whole windows from the ids to the losses."""

    def __init__(self, shape: GPTShape, weights: GPTWeights) -> None:
        self._c = fused_library()
        self._kept: list[Tensor] = []
        half = shape.head_width // 2
        layers = (_Layer * shape.num_layers)(*(self._layer(x, shape) for x in weights.layers))
        self._net = _Net(
            *(shape.num_layers, shape.width, shape.num_heads, shape.head_width),
            *(shape.hidden_width, shape.vocab_size, shape.norm_epsilon, layers),
            *map(self._address, (weights.embedding, weights.cos_TD[:, :half])),
            *map(self._address, (weights.sin_TD[:, :half], weights.final_norm)),
            self._panels(weights.head),
        )
        self._width = shape.width

    def _layer(self, layer: LayerWeights, shape: GPTShape) -> _Layer:
        norms = layer.attention_norm, layer.q_norm, layer.k_norm, layer.feedforward_norm
        return _Layer(
            *map(self._address, norms),
            *(self._panels(*repeated(layer.qkv, shape)), self._panels(layer.o)),
            *(self._panels(*layer.gate_up), self._panels(layer.down)),
        )

    def _panels(self, *parts: Tensor) -> int:
        """Matrices `[outputs, inputs]` below each other as C reads them."""
        matrix = torch.cat(parts).detach()
        return self._address(matrix.view(-1, PANEL, matrix.shape[1]).transpose(1, 2))

    def _address(self, tensor: Tensor) -> int:
        """Of the tensor's numbers one after the other, kept as long as this object."""
        self._kept.append(tensor.detach().contiguous())
        return int(self._kept[-1].data_ptr())

    @torch.no_grad()
    def scored(
        self,
        ids_BT: Tensor,
        targets_BT: Tensor,
        scored_BT: Tensor,
        added_BTC: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        B, T = ids_BT.shape
        first_B = scored_BT.int().argmax(dim=1)
        each = self._c.semigpt_forward_workspace(self._net, T)
        workspace = torch.empty(int(self._c.semigpt_threads()) * each)
        hidden_BTC, losses_BT = torch.empty(B, T, self._width), torch.empty(B, T)
        read = [ids_BT.contiguous(), targets_BT.contiguous(), first_B]
        added = None if added_BTC is None else added_BTC.contiguous()
        self._c.semigpt_forward(
            *(self._net, B, T, *(tensor.data_ptr() for tensor in read)),
            *(None if added is None else added.data_ptr(), workspace.data_ptr()),
            *(hidden_BTC.data_ptr(), losses_BT.data_ptr()),
        )
        return hidden_BTC[scored_BT], losses_BT[scored_BT]


class ProductForward(GPTForward):
    """PyTorch's products; all layers share one set of buffers."""

    def __init__(self, shape: GPTShape, weights: GPTWeights, dtype: torch.dtype) -> None:
        self.shape, self.weights, self.dtype = shape, weights, dtype
        self._c = library(dtype)
        half = shape.head_width // 2
        self._cos, self._sin = (
            table_TD[:, :half].contiguous() for table_TD in (weights.cos_TD, weights.sin_TD)
        )

        def transposed(*parts: Tensor) -> Tensor:
            return torch.cat(parts).detach().to(dtype).t()

        self._matrices = [
            {
                "qkv": transposed(*repeated(layer.qkv, shape)),
                "o": transposed(layer.o),
                "gate_up": transposed(*layer.gate_up),
                "down": transposed(layer.down),
            }
            for layer in weights.layers
        ]
        self._head = transposed(weights.head)
        self._buffers: dict[str, Tensor] = {}

    @torch.no_grad()
    def scored(
        self,
        ids_BT: Tensor,
        targets_BT: Tensor,
        scored_BT: Tensor,
        added_BTC: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        first = int(scored_BT.any(dim=0).int().argmax())
        added_NC = None if added_BTC is None else added_BTC.flatten(0, 1)
        hidden_NC = self._hidden(ids_BT, added_NC, first)[scored_BT[:, first:].flatten()]
        return hidden_NC, self._losses(hidden_NC, targets_BT[scored_BT])

    def _hidden(self, ids_BT: Tensor, added_NC: Tensor | None, first: int) -> Tensor:
        """What the output layer reads at the positions from `first` on, `[B * (T - first), C]`;
        overwritten by the next call.

        added_NC: added to the embeddings
        """
        (B, T), C = ids_BT.shape, self.shape.width
        ids_BT = ids_BT.contiguous()
        x_NC = self._buffer("x", B * T, C, torch.float32)
        self._c.semigpt_embed(
            *(B * T, C, ids_BT.data_ptr(), self.weights.embedding.data_ptr(), x_NC.data_ptr())
        )
        if added_NC is not None:
            x_NC += added_NC
        branch_NC, rows = None, T
        for i, layer in enumerate(self.weights.layers):
            normed_NC = self._normed(x_NC, branch_NC, layer.attention_norm)
            if i == self.shape.num_layers - 1 and first:
                rows = T - first
                x_NC = x_NC.view(B, T, C)[:, first:].contiguous().view(B * rows, C)
            branch_NC = self._attention(i, B, T, rows, normed_NC)
            normed_NC = self._normed(x_NC, branch_NC, layer.feedforward_norm)
            branch_NC = self._feedforward(i, normed_NC)
        return self._normed(x_NC, branch_NC, self.weights.final_norm)

    def _losses(self, hidden_NC: Tensor, targets_N: Tensor) -> Tensor:
        """The cross-entropy of each target in nats, `[N]`, from what the output layer reads."""
        columns = self._head.shape[1]
        losses_N, targets_N = torch.empty(len(targets_N)), targets_N.contiguous()
        rows = max(LOGITS // columns, 1)
        for begin in range(0, len(hidden_NC), rows):
            part = hidden_NC[begin : begin + rows]
            logits_NV = self._buffer("logits", len(part), columns)
            torch.mm(part, self._head, out=logits_NV)
            self._c.semigpt_losses(
                *(len(part), self.shape.vocab_size, columns, logits_NV.data_ptr()),
                *(targets_N[begin:].data_ptr(), losses_N[begin:].data_ptr()),
            )
        return losses_N

    def _buffer(
        self, name: str, rows: int, columns: int, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Memory of this name, kept for the next call."""
        size = rows * columns
        if name not in self._buffers or self._buffers[name].numel() < size:
            self._buffers[name] = torch.empty(size, dtype=dtype or self.dtype)
        return self._buffers[name][:size].view(rows, columns)

    def _normed(self, x_NC: Tensor, branch_NC: Tensor | None, weight_C: Tensor) -> Tensor:
        """The norm of x, to which `branch_NC` is added first."""
        N, C = x_NC.shape
        normed_NC = self._buffer("normed", N, C)
        self._c.semigpt_add_norm(
            *(N, C, self.shape.norm_epsilon, x_NC.data_ptr()),
            *(None if branch_NC is None else branch_NC.data_ptr(), weight_C.data_ptr()),
            *(x_NC.data_ptr(), normed_NC.data_ptr()),
            self._buffer("scale", N, 1, torch.float32).data_ptr(),
        )
        return normed_NC

    def _attention(self, i: int, B: int, T: int, rows: int, normed_NC: Tensor) -> Tensor:
        """What the last `rows` of T positions see: layer i's attention, `[B * rows, C]`."""
        c, weights, matrices = self._c, self.weights.layers[i], self._matrices[i]
        H, D, C = self.shape.num_heads, self.shape.head_width, self.shape.width
        qkv = self._buffer("wide", B * T, 3 * H * D)
        torch.mm(normed_NC, matrices["qkv"], out=qkv)
        heads = self._buffer("heads", 3 * B * H * T, D)
        c.semigpt_heads(
            *(B, T, H, D, self.shape.norm_epsilon, qkv.data_ptr()),
            *(weights.q_norm.data_ptr(), weights.k_norm.data_ptr()),
            *(self._cos.data_ptr(), self._sin.data_ptr(), heads.data_ptr()),
        )
        q, k, v = heads.view(3, B * H, T, D)
        scores = self._buffer("scores", B * H * rows, T).view(B * H, rows, T)
        torch.bmm(q[:, T - rows :], k.transpose(1, 2), out=scores)
        c.semigpt_causal_softmax(B * H, rows, T, scores.data_ptr())
        outputs = self._buffer("outputs", B * H * rows, D)
        torch.bmm(scores, v, out=outputs.view(B * H, rows, D))
        mixed = self._buffer("mixed", B * rows, H * D)
        c.semigpt_merge_heads(B, rows, H, D, outputs.data_ptr(), mixed.data_ptr())
        return torch.mm(mixed, matrices["o"], out=self._buffer("branch", B * rows, C))

    def _feedforward(self, i: int, normed_NC: Tensor) -> Tensor:
        """Layer i's feed-forward of each position, `[N, C]`."""
        (N, C), F = normed_NC.shape, self.shape.hidden_width
        gate_up = self._buffer("wide", N, 2 * F)
        torch.mm(normed_NC, self._matrices[i]["gate_up"], out=gate_up)
        hidden = self._buffer("hidden", N, F)
        self._c.semigpt_swiglu(N, F, gate_up.data_ptr(), hidden.data_ptr())
        return torch.mm(hidden, self._matrices[i]["down"], out=self._buffer("branch", N, C))
