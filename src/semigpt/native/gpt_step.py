"""Loss and gradients of a GPT on a CPU, with the backward pass written out: `gpt_step.c`.

The products are PyTorch's, attention's in float32 excepted (`semigpt.native.gpt_attention`);
everything between them is C, compiled on first use. A step of 4 x 128 on 12 x 128 tokens starts
some 150 operations where autograd starts 2,000, and every buffer is kept for the next step: mapping
27 MB of logits anew takes longer than the arithmetic on them.

Nothing here knows a model: a step takes weights and plain sizes. `semigpt.training.native_step`
collects them from `semigpt.models.gpt`, which with autograd is the oracle (tests/test_gpt_step.py).

Shapes: B sequences, T positions, N = B * T, C width, H heads, D head width, A = H * D, F hidden
width, L layers, V vocabulary, S sampled rows of the output layer; E experts of a mixture, X = E - 1
of them without the net.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semigpt.language import _
from semigpt.native.ahead import compiled
from semigpt.native.compiler import NativeUnavailableError, check_memory
from semigpt.native.gpt_attention import (
    FUSED,
    PRODUCTS,
    FusedAttention,
    Heads,
    NormGradients,
    ProductAttention,
)
from semigpt.native.gpt_weights import (
    GPTShape,
    GPTWeights,
    Mixture,
    SampledRows,
    repeated,
    summed,
)
from semigpt.native.gpt_workspace import Batch, Gate, Output, Workspace

__all__ = ["GPTStep", "fits", "library", "library_or_none"]

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("gpt_step.c")
LANES = 16
# Positions. Past it, attention written out takes more memory and time than a fused kernel.
LONGEST = 512

_p, _i, _f, _n, _u = (
    ctypes.c_void_p, ctypes.c_int, ctypes.c_float, ctypes.c_int64, ctypes.c_uint64,
)  # fmt: skip
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cast": (_n, _p, _p),
    "accumulate": (_n, _p, _f, _i, _p),
    "dropout": (_n, _u, _f, _p, _p),
    "embed": (_i, _i, _p, _p, _p),
    "embed_backward": (_i, _i, _p, _p, _f, _p),
    "add_norm": (_i, _i, _f, _p, _p, _p, _p, _p, _p),
    "norm_backward": (_i, _i, _p, _p, _p, _p, _i, _p, _p, _p, _f, _i, _p),
    "losses": (_i, _i, _i, _p, _p, _p),
    "swiglu": (_i, _i, _p, _p),
    "swiglu_backward": (_i, _i, _p, _p, _p),
}


@cache
def library(dtype: torch.dtype) -> ctypes.CDLL:
    """gpt_step.c for products in this dtype. Raises NativeUnavailableError, saying why."""
    loaded = compiled(SOURCE, *(["BFLOAT16"] if dtype == torch.bfloat16 else []))
    fused = FUSED if dtype == torch.float32 else {}
    for name, arguments in (FUNCTIONS | PRODUCTS | fused).items():
        function = getattr(loaded, f"semigpt_{name}")
        function.argtypes, function.restype = arguments, None
    cross_entropy = loaded.semigpt_cross_entropy
    cross_entropy.argtypes = (
        *(_i, _i, _i, _p, _p, _f, _p, _p, _f, _i, _p, _p, _p, _f),
        *(_p, _p),
    )
    cross_entropy.restype, cross_entropy.errcheck = _i, check_memory
    loaded.semigpt_threads.argtypes, loaded.semigpt_threads.restype = (), _i
    if fused:
        workspace = loaded.semigpt_attention_workspace
        workspace.argtypes, workspace.restype = (_i, _i), _n
    return loaded


@cache
def library_or_none(dtype: torch.dtype) -> ctypes.CDLL | None:
    """`library`, or None after one line in the log that says why; tried once."""
    try:
        return library(dtype)
    except NativeUnavailableError as error:
        logger.warning(_("training with PyTorch alone, two to three times slower: %s"), error)
        return None


def fits(shape: GPTShape, dtype: torch.dtype, parameters: Iterable[Tensor]) -> bool:
    """Whether gpt_step.c can run this GPT.

    It needs a CPU, sizes that fill vectors, and float32 parameters all of which are trained.
    """
    return (
        all(
            p.device.type == "cpu" and p.dtype == torch.float32 and p.requires_grad
            for p in parameters
        )
        and dtype in (torch.float32, torch.bfloat16)
        and shape.width % LANES == shape.hidden_width % LANES == 0
        and shape.head_width % (2 * LANES) == 0
        and shape.context_length <= LONGEST
    )


def draw_seed() -> int:
    """The seed of a step's dropout masks, from PyTorch's generator, which a checkpoint keeps."""
    return int(torch.randint(2**63 - 1, ()))


def site_seed(seed: int, site: int) -> int:
    """The seed of the dropout mask at one site of the net.

    Sites of layer i: 3 i after the attention's softmax, 3 i + 1 after attention, 3 i + 2 after the
    feed-forward.
    """
    return (seed + site * 0x9E3779B97F4A7C15) % 2**64


class GPTStep:
    """The training step of one GPT, with the memory it works in.

    Raises NativeUnavailableError without a compiler.
    """

    def __init__(self, shape: GPTShape, weights: GPTWeights, dtype: torch.dtype) -> None:
        self.shape, self.weights, self.dtype = shape, weights, dtype
        self._c = library(dtype)
        # Row i of the rotation has an angle for each of D / 2 pairs.
        half = shape.head_width // 2
        self._rotation = (
            weights.cos_TD[:, :half].contiguous(),
            weights.sin_TD[:, :half].contiguous(),
        )
        # The matrices in the products' dtype, those that read the same input stacked.
        self._matrices = [
            {
                "qkv": self._stacked(repeated(layer.qkv, shape)),
                "o": self._stacked((layer.o,)),
                "gate_up": self._stacked(layer.gate_up),
                "down": self._stacked((layer.down,)),
            }
            for layer in weights.layers
        ]
        self._head = self._stacked((weights.head,))
        largest = max(m.numel() for layer in self._matrices for m in (*layer.values(), self._head))
        self._grad_matrix = torch.empty(largest, dtype=dtype)
        self._gradients: dict[int, Tensor] = {}
        self._work = Workspace(shape, len(self._head), dtype, 0, 0, 1)
        self._way = ProductAttention if dtype == torch.bfloat16 else FusedAttention
        self._heads = self._way(self._c, shape, self._rotation, 0, 0)

    @torch.no_grad()
    def __call__(
        self,
        ids_BT: Tensor,
        targets_BT: Tensor,
        weight: float = 1.0,
        *,
        training: bool = True,
        teacher: Any = None,
        distillation_weight: float = 0.0,
        mixture: Mixture | None = None,
        rows: SampledRows | None = None,
    ) -> Tensor:
        """The mean loss in nats; `weight` times its gradients are added to every `.grad`.

        Ids and targets must lie in the vocabulary. Dropout acts where `training`. `teacher`
        points to the counts whose distribution takes `distillation_weight` of each target
        (`Counts.pointer`); the loss returned is the text's. With a `mixture` loss and gradients
        are the mixture's. With `rows` the output layer is these rows alone.

        `grad_x` then holds the gradient of what the first layer read, without `weight`.
        """
        self._work_on(*ids_BT.shape)
        dropout = self.shape.dropout if training else 0.0
        batch = Batch(
            *(ids_BT.contiguous(), targets_BT.contiguous(), weight),
            *(dropout, draw_seed() if dropout else 0),
        )
        self._cast_weights()
        self._forward(batch, None if mixture is None else mixture.added_NC)
        output = self._output(rows)
        gate = None if mixture is None else self._mix(mixture)
        loss = self._loss(batch, output, teacher, distillation_weight, mixture, gate)
        self._output_backward(output, weight)
        self._backward(batch, gate)
        return loss

    def _work_on(self, B: int, T: int) -> None:
        """Have buffers for batches of this shape."""
        # Asked of the C: its OpenMP need not be PyTorch's, and the number may change between steps.
        threads = self._c.semigpt_threads()
        if self._work.key != (B, T, threads):
            self._work = Workspace(self.shape, len(self._head), self.dtype, B, T, threads)
            self._heads = self._way(self._c, self.shape, self._rotation, B, T)

    @property
    def grad_x(self) -> Tensor:
        """The gradient of what the first layer read in the last call, `[N, C]`."""
        return self._work.grad_x

    def _forward(self, batch: Batch, added_NC: Tensor | None) -> None:
        """From the ids to what the output layer reads."""
        work, c, L, C = self._work, self._c, self.shape.num_layers, self.shape.width
        N = batch.ids_BT.numel()
        c.semigpt_embed(
            *(N, C, batch.ids_BT.data_ptr(), self.weights.embedding.data_ptr()),
            work.x[0].data_ptr(),
        )
        if added_NC is not None:
            work.x[0] += added_NC
        for i in range(2 * L + 1):
            # x[0] is the embedding; each other x[i] is the one before plus its branch.
            c.semigpt_add_norm(
                *(N, C, self.shape.norm_epsilon, work.x[max(i - 1, 0)].data_ptr()),
                *(work.branch.data_ptr() if i else None, self._norm(i).data_ptr()),
                *(work.x[i].data_ptr(), work.normed[i].data_ptr(), work.scale[i].data_ptr()),
            )
            if i < 2 * L:
                (self._feedforward if i % 2 else self._attention)(batch, i // 2)

    def _attention(self, batch: Batch, layer: int) -> None:
        """branch = attention of normed[2 layer]."""
        work, matrices = self._work, self._matrices[layer]
        torch.mm(work.normed[2 * layer], matrices["qkv"].t(), out=work.qkv[layer])
        self._heads.forward(self._read(batch, layer), work.mixed[layer])
        torch.mm(work.mixed[layer], matrices["o"].t(), out=work.branch)
        self._dropout(batch, 3 * layer + 1, work.branch, work.branch)

    def _feedforward(self, batch: Batch, layer: int) -> None:
        """branch = feed-forward of normed[2 layer + 1]."""
        work, matrices, N = self._work, self._matrices[layer], batch.ids_BT.numel()
        torch.mm(work.normed[2 * layer + 1], matrices["gate_up"].t(), out=work.gate_up[layer])
        self._c.semigpt_swiglu(
            *(N, self.shape.hidden_width),
            *(work.gate_up[layer].data_ptr(), work.hidden[layer].data_ptr()),
        )
        torch.mm(work.hidden[layer], matrices["down"].t(), out=work.branch)
        self._dropout(batch, 3 * layer + 2, work.branch, work.branch)

    def _output(self, rows: SampledRows | None) -> Output:
        """The output layer's product with what it reads."""
        work, normed_NC = self._work, self._work.normed[-1]
        if rows is None:
            self._cast((self.weights.head,), self._head)
            torch.mm(normed_NC, self._head.t(), out=work.logits)
            return Output(self._head, work.logits, None)
        N, S = len(normed_NC), len(rows.ids_S)
        head_SC = self.weights.head.index_select(0, rows.ids_S).to(self.dtype)
        logits_NS = work.logits.view(-1)[: N * S].view(N, S)
        bias_S = rows.weight_S.log().to(self.dtype)
        torch.addmm(bias_S, normed_NC, head_SC.t(), out=logits_NS)
        return Output(head_SC, logits_NS, rows)

    def _mix(self, mixture: Mixture) -> Gate:
        """The mixture weights at each position."""
        assert self.weights.gate is not None
        hidden_NC = self._work.normed[-1].float()
        ones_N1 = torch.ones(len(hidden_NC), 1)
        inputs_NI = torch.cat((hidden_NC, mixture.context_NF, ones_N1), dim=1)
        weights_NE = torch.mm(inputs_NI, self.weights.gate.t()).softmax(dim=1)
        others_NX = weights_NE[:, 1:] * mixture.p_NX
        net_N, others_N = weights_NE[:, 0].contiguous(), others_NX.sum(dim=1)
        return Gate(inputs_NI, weights_NE, others_NX, net_N, others_N)

    def _loss(
        self,
        batch: Batch,
        output: Output,
        teacher: Any,
        distillation_weight: float,
        mixture: Mixture | None,
        gate: Gate | None,
    ) -> Tensor:
        """The mean loss; the logits become their own gradient."""
        work, N = self._work, batch.ids_BT.numel()
        mixed: tuple[Any, ...] = (None, None, 0.0)
        if mixture is not None and gate is not None:
            mixed = gate.net_N.data_ptr(), gate.others_N.data_ptr(), mixture.own_loss
        V, targets = self.shape.vocab_size, batch.targets_BT
        sample: tuple[int | None, int | None] = (None, None)
        if output.rows is not None:
            V, targets = len(output.rows.ids_S), output.rows.places(targets)
            sample = output.rows.ids_S.data_ptr(), output.rows.weight_S.data_ptr()
        self._c.semigpt_cross_entropy(
            *(N, V, output.logits.shape[1], output.logits.data_ptr()),
            *(targets.data_ptr(), 1 / N, work.losses.data_ptr()),
            *(teacher, distillation_weight, batch.ids_BT.shape[1], batch.ids_BT.data_ptr()),
            *(*mixed, *sample),
        )
        return work.losses.mean()

    def _output_backward(self, output: Output, weight: float) -> None:
        """From the gradient of the logits to the output layer's and grad_normed."""
        work, normed_NC = self._work, self._work.normed[-1]
        torch.mm(output.logits, output.head, out=work.grad_normed)
        if output.rows is None:
            self._grad_product(output.logits, normed_NC, (self.weights.head,), weight)
            return
        found_SC = self._grad_matrix[: output.head.numel()].view_as(output.head)
        torch.mm(output.logits.t(), normed_NC, out=found_SC)
        gradient, add = self._gradient(self.weights.head)
        if not add:
            gradient.zero_()
        gradient.index_add_(0, output.rows.ids_S, found_SC.float(), alpha=weight)

    def _backward(self, batch: Batch, gate: Gate | None) -> None:
        """From grad_normed of the output layer to the gradients of all before it."""
        work, c, L, C = self._work, self._c, self.shape.num_layers, self.shape.width
        N, weight = batch.ids_BT.numel(), batch.weight
        if gate is not None:
            self._mix_backward(gate, weight)
        for i in range(2 * L, -1, -1):
            if i < 2 * L:
                # grad_x is the residual stream's; its copy in grad_branch goes into the branch.
                site = 3 * (i // 2) + 1 + i % 2
                self._dropout(batch, site, work.grad_branch, work.grad_branch)
                (self._feedforward_backward if i % 2 else self._attention_backward)(batch, i // 2)
            norm = self._norm(i)
            grad_norm, add = self._gradient(norm)
            c.semigpt_norm_backward(
                *(N, C, work.x[i].data_ptr(), work.scale[i].data_ptr(), norm.data_ptr()),
                *(work.grad_normed.data_ptr(), i == 2 * L),
                *(work.grad_x.data_ptr(), work.grad_branch.data_ptr()),
                *(work.partial_sums.data_ptr(), weight, add, grad_norm.data_ptr()),
            )
        grad_embedding, add = self._gradient(self.weights.embedding)
        if not add:
            grad_embedding.zero_()
        c.semigpt_embed_backward(
            *(N, C, batch.ids_BT.data_ptr(), work.grad_x.data_ptr()),
            *(weight, grad_embedding.data_ptr()),
        )

    def _mix_backward(self, gate: Gate, weight: float) -> None:
        """The gate's gradient: a weight less the part of p that its expert contributed."""
        assert self.weights.gate is not None
        work, N = self._work, len(gate.weights_NE)
        share_NX = gate.others_NX.mul_(work.losses.exp()[:, None])
        net_N1 = 1 - share_NX.sum(dim=1, keepdim=True)
        grad_NE = (gate.weights_NE - torch.cat((net_N1, share_NX), dim=1)) / N
        hidden_weights_EC = self.weights.gate[:, : self.shape.width]
        work.grad_normed += torch.mm(grad_NE, hidden_weights_EC).to(self.dtype)
        grad_gate, add = self._gradient(self.weights.gate)
        if not add:
            grad_gate.zero_()
        grad_gate.add_(torch.mm(grad_NE.t(), gate.inputs_NI), alpha=weight)

    def _feedforward_backward(self, batch: Batch, layer: int) -> None:
        """grad_normed of the feed-forward, from grad_branch."""
        work, weights, matrices = self._work, self.weights.layers[layer], self._matrices[layer]
        torch.mm(work.grad_branch, matrices["down"], out=work.grad_hidden)
        self._grad_product(work.grad_branch, work.hidden[layer], (weights.down,), batch.weight)
        self._c.semigpt_swiglu_backward(
            *(batch.ids_BT.numel(), self.shape.hidden_width, work.gate_up[layer].data_ptr()),
            *(work.grad_hidden.data_ptr(), work.grad_gate_up.data_ptr()),
        )
        torch.mm(work.grad_gate_up, matrices["gate_up"], out=work.grad_normed)
        normed = work.normed[2 * layer + 1]
        self._grad_product(work.grad_gate_up, normed, weights.gate_up, batch.weight)

    def _attention_backward(self, batch: Batch, layer: int) -> None:
        """grad_normed of the attention, from grad_branch."""
        work, weights, matrices = self._work, self.weights.layers[layer], self._matrices[layer]
        torch.mm(work.grad_branch, matrices["o"], out=work.grad_mixed)
        self._grad_product(work.grad_branch, work.mixed[layer], (weights.o,), batch.weight)
        grad_q_norm, add = self._gradient(weights.q_norm)
        grad_k_norm, _ = self._gradient(weights.k_norm)
        norms = NormGradients(grad_q_norm, grad_k_norm, batch.weight, add)
        self._heads.backward(self._read(batch, layer), work.grad_mixed, work.grad_qkv, norms)
        torch.mm(work.grad_qkv, matrices["qkv"], out=work.grad_normed)
        self._grad_product(work.grad_qkv, work.normed[2 * layer], weights.qkv, batch.weight)

    def _read(self, batch: Batch, layer: int) -> Heads:
        weights, seed = self.weights.layers[layer], site_seed(batch.seed, 3 * layer)
        norms = weights.q_norm, weights.k_norm
        return Heads(layer, self._work.qkv[layer], *norms, batch.dropout, seed)

    def _norm(self, i: int) -> Tensor:
        if i == 2 * self.shape.num_layers:
            return self.weights.final_norm
        layer = self.weights.layers[i // 2]
        return layer.feedforward_norm if i % 2 else layer.attention_norm

    def _dropout(self, batch: Batch, site: int, x: Tensor, out: Tensor) -> Tensor:
        """x with dropout, in `out`; x itself where there is none."""
        if not batch.dropout:
            return x
        seed = site_seed(batch.seed, site)
        self._c.semigpt_dropout(x.numel(), seed, batch.dropout, x.data_ptr(), out.data_ptr())
        return out

    def _stacked(self, parts: tuple[Tensor, ...]) -> Tensor:
        """An empty matrix for these, one below the other."""
        return torch.empty(sum(len(part) for part in parts), parts[0].shape[1], dtype=self.dtype)

    def _cast_weights(self) -> None:
        """Bring the matrices up to date with the parameters."""
        for layer, matrices in zip(self.weights.layers, self._matrices, strict=True):
            self._cast(repeated(layer.qkv, self.shape), matrices["qkv"])
            self._cast((layer.o,), matrices["o"])
            self._cast(layer.gate_up, matrices["gate_up"])
            self._cast((layer.down,), matrices["down"])

    def _cast(self, parts: tuple[Tensor, ...], matrix: Tensor) -> None:
        first = 0
        for part in parts:
            self._c.semigpt_cast(part.numel(), part.data_ptr(), matrix[first:].data_ptr())
            first += len(part)

    def _gradient(self, parameter: Tensor) -> tuple[Tensor, bool]:
        """The tensor of its gradient, and whether it holds one to add to."""
        if parameter.grad is not None:
            return parameter.grad, True
        if id(parameter) not in self._gradients:
            self._gradients[id(parameter)] = torch.empty_like(parameter)
        parameter.grad = self._gradients[id(parameter)]
        return parameter.grad, False

    def _grad_product(
        self, grad_y: Tensor, x: Tensor, parts: tuple[Tensor, ...], weight: float
    ) -> None:
        """The gradient of y = x Wᵀ for the parts of W, times `weight`."""
        outputs, inputs = grad_y.shape[1], x.shape[1]
        grad_matrix = self._grad_matrix[: outputs * inputs].view(outputs, inputs)
        torch.mm(grad_y.t(), x, out=grad_matrix)
        for part, of_copies in zip(parts, grad_matrix.chunk(len(parts)), strict=True):
            gradient, add = self._gradient(part)
            found = summed(of_copies, part, self.shape)
            self._c.semigpt_accumulate(
                part.numel(), found.data_ptr(), weight, add, gradient.data_ptr()
            )
