"""A GPT's forward pass on a CPU and the losses of its targets: what evaluation needs of
`gpt_step.c`.

Nothing is kept for a backward pass, so all layers share one set of buffers, and the last layer
computes only the positions that are scored. Shapes are those of `semigpt.native.gpt_step`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from semigpt.native.gpt_step import library
from semigpt.native.gpt_weights import GPTShape, GPTWeights, repeated

__all__ = ["GPTForward"]

LOGITS = 1_000_000  # of one product with the output layer: 4 MB stay in the cache


class GPTForward:
    """A GPT as its weights are now. Raises NativeUnavailableError without a compiler."""

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
    def hidden(self, ids_BT: Tensor, added_NC: Tensor | None = None, first: int = 0) -> Tensor:
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

    @torch.no_grad()
    def losses(self, hidden_NC: Tensor, targets_N: Tensor) -> Tensor:
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
