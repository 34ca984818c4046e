"""Loss and gradients of the `gpt` rung on a CPU with the backward pass written out: `GPT.forward` and autograd, in less.

The products are PyTorch's; everything between them is `step.c`, compiled on first use. A step of 4 x 128 on 12 x 128
tokens starts some 150 operations where autograd starts 2,000, and every buffer is kept for the next step: to fault 27 MB
of logits in anew takes this kernel longer than all the arithmetic on them.

`GPT` is what this means; tests/test_step.py holds the two equal, loss and every gradient.
"""

from __future__ import annotations

import ctypes
import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from semigpt.native.compiler import NativeUnavailableError, check_memory, compiled

if TYPE_CHECKING:
    from semigpt.models.gpt import GPT
    from semigpt.ngrams.counts import Counts

__all__ = ["NativeStep", "Recalled", "can_step_natively"]

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("gpt_step.c")
LANES = 16
LONGEST = (
    512  # positions: past it, scores written out take more memory and time than a fused kernel
)


@cache
def library(dtype: torch.dtype) -> ctypes.CDLL:
    """step.c for these numbers. Raises NativeUnavailableError, saying why."""
    loaded = compiled(SOURCE, *(["BFLOAT16"] if dtype == torch.bfloat16 else []))
    p, i, f = ctypes.c_void_p, ctypes.c_int, ctypes.c_float
    n, u = ctypes.c_int64, ctypes.c_uint64
    for name, arguments in {
        "cast": (n, p, p),
        "accumulate": (n, p, f, i, p),
        "dropout": (n, u, f, p, p),
        "embed": (i, i, p, p, p),
        "embed_backward": (i, i, p, p, f, p),
        "add_norm": (i, i, f, p, p, p, p, p, p),
        "norm_backward": (i, i, p, p, p, p, i, p, p, p, f, i, p),
        "heads": (i, i, i, i, f, p, p, p, p, p, p),
        "heads_backward": (i, i, i, i, f, p, p, p, p, p, p, p, p, f, i, p, p),
        "merge_heads": (i, i, i, i, p, p),
        "split_heads": (i, i, i, i, p, p),
        "causal_softmax": (i, i, p),
        "causal_softmax_backward": (i, i, p, p),
        "swiglu": (i, i, p, p),
        "swiglu_backward": (i, i, p, p, p),
    }.items():
        function = getattr(loaded, f"semigpt_{name}")
        function.argtypes, function.restype = arguments, None
    loaded.semigpt_cross_entropy.argtypes = (i, i, i, p, p, f, p, p, f, i, p, p, p, f)
    loaded.semigpt_cross_entropy.restype = i
    loaded.semigpt_cross_entropy.errcheck = check_memory
    loaded.semigpt_threads.argtypes, loaded.semigpt_threads.restype = (), i
    return loaded


@cache
def library_or_none(dtype: torch.dtype) -> ctypes.CDLL | None:
    """`library`, or None after one line that says why there is none; asked, and tried, once."""
    try:
        return library(dtype)
    except NativeUnavailableError as error:
        logger.warning("training with PyTorch alone, two to three times slower: %s", error)
        return None


def can_step_natively(model: GPT) -> bool:
    """Whether step.c knows this shape: whole vectors, a head of keys for each head of queries; and float32 weights all of
    which learn."""
    settings = model.settings
    return (
        model.device.type == "cpu"
        and all(p.dtype == torch.float32 and p.requires_grad for p in model.parameters())
        and model.compute_dtype in (torch.float32, torch.bfloat16)
        and settings.width % LANES == settings.feedforward_width % LANES == 0
        and settings.head_width % (2 * LANES) == 0
        and settings.kv_heads == settings.num_heads
        and settings.context_length <= LONGEST
    )


def draw_seed() -> int:
    """A step's own seed for its coins, from PyTorch's generator: a run that goes on tosses what it would have tossed."""
    return int(torch.randint(2**63 - 1, ()))


def site_seed(seed: int, site: int) -> int:
    """That of the coins at one place in the net: 3 i after the attention's softmax of layer i, 3 i + 1 after its branch,
    3 i + 2 after the feed-forward's."""
    return (seed + site * 0x9E3779B97F4A7C15) % 2**64


@dataclass(frozen=True)
class Recalled:
    """What the `memory` rung brings to a step: see `semigpt.models.memory`."""

    gate: Tensor  # [E, C + F + 1], its weights; the net is the first of E experts
    p_NX: Tensor  # what each of the E - 1 others gives each target
    features_NF: Tensor
    own: float  # the weight of the net's own loss
    hints_NC: Tensor | None = None  # added to the embedding


class NativeStep:
    """The training step of one model, with the memory it works in. Raises NativeUnavailableError without a compiler."""

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """A copy of a model makes a step of its own when it learns: this one's memory is not shared."""

    def __init__(self, model: GPT) -> None:
        self.model, self.dtype = model, model.compute_dtype
        self._c = library(self.dtype)
        self._shape = (0, 0, 0)
        settings = model.settings
        # Row i of the rotation is an angle for each of D / 2 pairs.
        half = settings.head_width // 2
        self._cos, self._sin = (
            model.cos_TD[:, :half].contiguous(),
            model.sin_TD[:, :half].contiguous(),
        )
        blocks: Any = model.model.layers
        self._weights: list[dict[str, tuple[Tensor, ...]]] = [
            {
                "qkv": tuple(getattr(block.self_attn, f"{name}_proj").weight for name in "qkv"),
                "o": (block.self_attn.o_proj.weight,),
                "gate_up": (block.mlp.gate_proj.weight, block.mlp.up_proj.weight),
                "down": (block.mlp.down_proj.weight,),
            }
            for block in blocks
        ]
        self._head = (model.lm_head.weight,)
        # The weights as numbers of the products, those that read the same input one below the other.
        self._rounded = [
            {name: self._room(parts) for name, parts in layer.items()} for layer in self._weights
        ]
        self._rounded_head = self._room(self._head)
        self._by_weight = torch.empty(
            max(
                w.numel() for layer in self._rounded for w in (*layer.values(), self._rounded_head)
            ),
            dtype=self.dtype,
        )
        self._gradients = {id(p): torch.empty_like(p) for p in model.parameters()}

    def _room(self, parts: tuple[Tensor, ...]) -> Tensor:
        return torch.empty(sum(len(part) for part in parts), parts[0].shape[1], dtype=self.dtype)

    def _make_room(self, B: int, T: int, threads: int) -> None:
        settings = self.model.settings
        L, C, H, D, F = (
            settings.num_layers,
            settings.width,
            settings.num_heads,
            settings.head_width,
            settings.feedforward_width,
        )
        N, A = B * T, H * D

        def numbers(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=self.dtype)

        def floats(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=torch.float32)

        self._shape = (B, T, threads)
        self.x, self.scale = floats(2 * L + 1, N, C), floats(2 * L + 1, N)
        self.normed = numbers(2 * L + 1, N, C)
        self.qkv, self.heads, self.shares = (
            numbers(L, N, 3 * A),
            numbers(L, 3, B * H, T, D),
            numbers(L, B * H, T, T),
        )
        self.mixed, self.gate_up, self.hidden = (
            numbers(L, N, A),
            numbers(L, N, 2 * F),
            numbers(L, N, F),
        )
        self.delta, self.out_heads = numbers(N, C), numbers(B * H, T, D)
        self.logits, self.losses = numbers(N, len(self._rounded_head)), floats(N)
        self.by_x, self.by_x_number = floats(N, C), numbers(N, C)
        self.by_wide, self.by_hidden, self.by_normed = (
            numbers(N, max(2 * F, 3 * A)),
            numbers(N, max(F, A)),
            numbers(N, C),
        )
        self.by_heads, self.by_shares = numbers(3, B * H, T, D), numbers(B * H, T, T)
        self.parts = floats(2 * threads * max(C, D))

    @torch.no_grad()
    def __call__(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        weight: float = 1.0,
        teacher: Counts | None = None,
        taught: float = 0.0,
        memory: Recalled | None = None,
    ) -> Tensor:
        """The mean loss in nats, and `weight` times its gradients, written to or added to `.grad` of every parameter.

        `teacher` and `taught` as in `LanguageModel.learn`; `memory` is what the `memory` rung recalls. The gradient by what
        the first block reads, without `weight`, is left in `by_x`: whoever brings hints goes on from there.
        """
        model, c = self.model, self._c
        settings = model.settings
        B, T = inputs_BT.shape
        # Asked of the C: its OpenMP need not be PyTorch's, and the number may change from step to step.
        threads = c.semigpt_threads()
        if self._shape != (B, T, threads):
            self._make_room(B, T, threads)
        N, L, C, H, D, F = (
            B * T,
            settings.num_layers,
            settings.width,
            settings.num_heads,
            settings.head_width,
            settings.feedforward_width,
        )
        A, epsilon = H * D, settings.norm_epsilon
        rate = settings.dropout if model.training else 0.0
        seed = draw_seed() if rate else 0

        def drop(site: int, x: Tensor, y: Tensor) -> Tensor:
            if not rate:
                return x
            c.semigpt_dropout(x.numel(), site_seed(seed, site), rate, x.data_ptr(), y.data_ptr())
            return y

        ids, targets = inputs_BT.contiguous(), targets_BT.contiguous()
        cos, sin = self._cos.data_ptr(), self._sin.data_ptr()
        for weights, rounded in zip(self._weights, self._rounded, strict=True):
            for name, parts in weights.items():
                self._round(parts, rounded[name])
        self._round(self._head, self._rounded_head)

        blocks: Any = model.model.layers
        x, scale, normed = self.x, self.scale, self.normed
        c.semigpt_embed(
            N, C, ids.data_ptr(), model.model.embed_tokens.weight.data_ptr(), x[0].data_ptr()
        )
        if memory is not None and memory.hints_NC is not None:
            x[0] += memory.hints_NC
        for i in range(2 * L + 1):
            norm = self._norm(blocks, i)
            # x[i] is the stream where norm i reads it: the first is the embedding, each other adds what a branch found.
            c.semigpt_add_norm(
                N, C, epsilon,
                x[max(i - 1, 0)].data_ptr(), self.delta.data_ptr() if i else None, norm.data_ptr(),
                x[i].data_ptr(), normed[i].data_ptr(), scale[i].data_ptr(),
            )  # fmt: skip
            if i == 2 * L:
                break
            layer, w = i // 2, self._rounded[i // 2]
            if i % 2 == 0:
                attention = blocks[layer].self_attn
                torch.mm(normed[i], w["qkv"].t(), out=self.qkv[layer])
                q, k, v = self.heads[layer]
                c.semigpt_heads(
                    B, T, H, D, epsilon, self.qkv[layer].data_ptr(), attention.q_norm.weight.data_ptr(),
                    attention.k_norm.weight.data_ptr(), cos, sin, q.data_ptr(),
                )  # fmt: skip
                torch.bmm(q, k.transpose(1, 2), out=self.shares[layer])
                c.semigpt_causal_softmax(B * H, T, self.shares[layer].data_ptr())
                torch.bmm(
                    drop(3 * layer, self.shares[layer], self.by_shares), v, out=self.out_heads
                )
                c.semigpt_merge_heads(
                    B, T, H, D, self.out_heads.data_ptr(), self.mixed[layer].data_ptr()
                )
                torch.mm(self.mixed[layer], w["o"].t(), out=self.delta)
                drop(3 * layer + 1, self.delta, self.delta)
            else:
                torch.mm(normed[i], w["gate_up"].t(), out=self.gate_up[layer])
                c.semigpt_swiglu(
                    N, F, self.gate_up[layer].data_ptr(), self.hidden[layer].data_ptr()
                )
                torch.mm(self.hidden[layer], w["down"].t(), out=self.delta)
                drop(3 * layer + 2, self.delta, self.delta)
        torch.mm(normed[2 * L], self._rounded_head.t(), out=self.logits)
        gates: tuple[Any, ...] = (None, None, 0.0)
        if memory is not None:
            hidden, gate = normed[2 * L].float(), memory.gate
            features = torch.cat((hidden, memory.features_NF, torch.ones(N, 1)), dim=1)
            shares_NE = torch.mm(features, gate.t()).softmax(dim=1)
            by_others_NX = shares_NE[:, 1:] * memory.p_NX
            net_N, others_N = shares_NE[:, 0].contiguous(), by_others_NX.sum(dim=1)
            gates = net_N.data_ptr(), others_N.data_ptr(), memory.own
        c.semigpt_cross_entropy(
            *(
                N,
                settings.vocab_size,
                self.logits.shape[1],
                self.logits.data_ptr(),
                targets.data_ptr(),
                1 / N,
            ),
            *(
                self.losses.data_ptr(),
                None if teacher is None else teacher.pointer,
                taught,
                T,
                ids.data_ptr(),
            ),
            *gates,
        )
        loss = self.losses.mean()

        # Backward. Gradients of weights are multiplied by `weight` where they are gathered.
        by_normed, by_x, by_x_number = self.by_normed, self.by_x, self.by_x_number
        torch.mm(self.logits, self._rounded_head, out=by_normed)
        self._gather(self.logits, normed[2 * L], self._head, weight)
        if memory is not None:
            # By the logits of the shares: each share less the part of p that came from its expert.
            by_others_NX *= self.losses.exp()[:, None]
            by_net_N1 = 1 - by_others_NX.sum(dim=1, keepdim=True)
            by_gate_NE = (shares_NE - torch.cat((by_net_N1, by_others_NX), dim=1)) / N
            by_normed += torch.mm(by_gate_NE, gate[:, :C]).to(self.dtype)
            by_gate, add = self._gradient(gate)
            if not add:
                by_gate.zero_()
            by_gate.add_(torch.mm(by_gate_NE.t(), features), alpha=weight)
        for i in range(2 * L, -1, -1):
            if i < 2 * L:
                layer, w = i // 2, self._rounded[i // 2]
                # The stream's own gradient is in by_x; what is left here goes into the branch.
                drop(3 * layer + 1 + i % 2, by_x_number, by_x_number)
                if i % 2:
                    by_hidden, by_wide = (
                        self.by_hidden.view(-1)[: N * F].view(N, F),
                        self.by_wide.view(-1)[: N * 2 * F].view(N, 2 * F),
                    )
                    torch.mm(by_x_number, w["down"], out=by_hidden)
                    self._gather(
                        by_x_number, self.hidden[layer], self._weights[layer]["down"], weight
                    )
                    c.semigpt_swiglu_backward(
                        N,
                        F,
                        self.gate_up[layer].data_ptr(),
                        by_hidden.data_ptr(),
                        by_wide.data_ptr(),
                    )
                    name = "gate_up"
                else:
                    attention = blocks[layer].self_attn
                    by_mixed, by_wide = (
                        self.by_hidden.view(-1)[: N * A].view(N, A),
                        self.by_wide.view(-1)[: N * 3 * A].view(N, 3 * A),
                    )
                    torch.mm(by_x_number, w["o"], out=by_mixed)
                    self._gather(by_x_number, self.mixed[layer], self._weights[layer]["o"], weight)
                    c.semigpt_split_heads(
                        B, T, H, D, by_mixed.data_ptr(), self.out_heads.data_ptr()
                    )
                    q, k, v = self.heads[layer]
                    by_q, by_k, by_v = self.by_heads
                    dropped = drop(3 * layer, self.shares[layer], self.by_shares)
                    torch.bmm(dropped.transpose(1, 2), self.out_heads, out=by_v)
                    torch.bmm(self.out_heads, v.transpose(1, 2), out=self.by_shares)
                    drop(3 * layer, self.by_shares, self.by_shares)
                    c.semigpt_causal_softmax_backward(
                        B * H, T, self.shares[layer].data_ptr(), self.by_shares.data_ptr()
                    )
                    torch.bmm(self.by_shares, k, out=by_q)
                    torch.bmm(self.by_shares.transpose(1, 2), q, out=by_k)
                    q_norm, k_norm = attention.q_norm.weight, attention.k_norm.weight
                    by_q_norm, add = self._gradient(q_norm)
                    by_k_norm, _ = self._gradient(k_norm)
                    c.semigpt_heads_backward(
                        B, T, H, D, epsilon, self.qkv[layer].data_ptr(), q_norm.data_ptr(), k_norm.data_ptr(), cos, sin,
                        by_q.data_ptr(), by_wide.data_ptr(), self.parts.data_ptr(), weight, add,
                        by_q_norm.data_ptr(), by_k_norm.data_ptr(),
                    )  # fmt: skip
                    name = "qkv"
                torch.mm(by_wide, w[name], out=by_normed)
                self._gather(by_wide, normed[i], self._weights[layer][name], weight)
            norm = self._norm(blocks, i)
            by_norm, add = self._gradient(norm)
            c.semigpt_norm_backward(
                N, C, x[i].data_ptr(), scale[i].data_ptr(), norm.data_ptr(), by_normed.data_ptr(), i == 2 * L,
                by_x.data_ptr(), by_x_number.data_ptr(), self.parts.data_ptr(), weight, add, by_norm.data_ptr(),
            )  # fmt: skip
        table = model.model.embed_tokens.weight
        by_table, add = self._gradient(table)
        if not add:
            by_table.zero_()
        c.semigpt_embed_backward(N, C, ids.data_ptr(), by_x.data_ptr(), weight, by_table.data_ptr())
        return loss

    def _norm(self, blocks: Any, i: int) -> Tensor:
        if i == 2 * len(blocks):
            return self.model.model.norm.weight
        block = blocks[i // 2]
        weight: Tensor = (block.post_attention_layernorm if i % 2 else block.input_layernorm).weight
        return weight

    def _round(self, parts: tuple[Tensor, ...], whole: Tensor) -> None:
        first = 0
        for part in parts:
            self._c.semigpt_cast(part.numel(), part.data_ptr(), whole[first:].data_ptr())
            first += len(part)

    def _gradient(self, parameter: Tensor) -> tuple[Tensor, bool]:
        """Where its gradient goes, and whether there is one to add to."""
        if parameter.grad is not None:
            return parameter.grad, True
        parameter.grad = self._gradients[id(parameter)]
        return parameter.grad, False

    def _gather(self, by_y: Tensor, x: Tensor, parts: tuple[Tensor, ...], weight: float) -> None:
        """The gradient of y = x Wᵀ by the parts of W."""
        by_weight = self._by_weight[: by_y.shape[1] * x.shape[1]].view(by_y.shape[1], x.shape[1])
        torch.mm(by_y.t(), x, out=by_weight)
        first = 0
        for part in parts:
            gradient, add = self._gradient(part)
            self._c.semigpt_accumulate(
                part.numel(), by_weight[first:].data_ptr(), weight, add, gradient.data_ptr()
            )
            first += len(part)
