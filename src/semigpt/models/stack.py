"""The blocks of rung five with their gradient written out: the same numbers as `attention.Block`, fewer operations.

At the book's size a step does little arithmetic and starts some thousand operations, and autograd's own book-keeping
costs as much as they do. Here all layers are one operation to autograd. The softmax runs over the columns of transposed
scores, where eight neighbours at once are different queries: 30 µs where rows of eight take 104. Dropout's coins for
all layers are tossed in one go, a byte each: 0.1 ms where a Bernoulli draw for each of eight branches takes 0.3.

`attention.Block` is what this means; tests/test_stack.py holds the two equal, loss and every gradient.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from semigpt.models.attention import Block

__all__ = ["run_blocks"]

WEIGHTS = 11  # of a block, in the order of `block_weights`


def block_weights(block: Block) -> list[Tensor]:
    """The eleven tensors of a block, in the order in which they are used."""
    attention_norm, feedforward_norm, network = (
        block.attention_norm,
        block.feedforward_norm,
        block.feedforward,
    )
    return [
        *(attention_norm.weight, attention_norm.bias, block.heads.query_key_value.weight),
        *(block.projection.weight, block.projection.bias, feedforward_norm.weight, feedforward_norm.bias),
        *(network.expand.weight, network.expand.bias, network.contract.weight, network.contract.bias),
    ]


def run_blocks(
    blocks: nn.ModuleList, x_BTC: Tensor, *, num_heads: int, epsilon: float, dropout: float
) -> Tensor:
    """`for block in blocks: x = block(x)`, `[B, T, C]` to `[B, T, C]`; `dropout` is 0 when not training."""
    keep = dropout_masks(2 * len(blocks), x_BTC, dropout)
    weights = [weight for block in blocks for weight in block_weights(block)]  # type: ignore[arg-type]
    return _Blocks.apply(x_BTC, keep, num_heads, epsilon, *weights)  # type: ignore[no-any-return, no-untyped-call]


def dropout_masks(count: int, x_BTC: Tensor, dropout: float) -> Tensor | None:
    """`[count, B * T, C]` of 0, with probability `dropout` to the nearest 256th, and else of what keeps the mean."""
    if not dropout:
        return None
    B, T, C = x_BTC.shape
    dropped = min(round(256 * dropout), 255)  # of 256
    numbers = (count * B * T * C + 7) // 8
    words = torch.empty(numbers, dtype=torch.int64, device=x_BTC.device).random_(-(2**63), None)
    coins = words.view(torch.uint8)[: count * B * T * C].view(count, B * T, C)
    return (coins >= dropped).to(x_BTC.dtype).mul_(256 / (256 - dropped))


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_BTC: Tensor, keep: Tensor | None, num_heads: int, epsilon: float, *weights: Tensor
    ) -> Tensor:
        B, T, C = x_BTC.shape
        H, D = num_heads, C // num_heads
        future_ST = torch.full((T, T), -math.inf, dtype=x_BTC.dtype, device=x_BTC.device).tril_(-1)
        x_NC, kept = x_BTC.reshape(B * T, C), []
        for first in range(0, len(weights), WEIGHTS):
            (
                norm_1,
                shift_1,
                qkv,
                project,
                project_bias,
                norm_2,
                shift_2,
                expand,
                expand_bias,
                contract,
                contract_bias,
            ) = weights[first : first + WEIGHTS]
            branch = 2 * first // WEIGHTS
            y_NC, mean_1, rstd_1 = torch.native_layer_norm(x_NC, (C,), norm_1, shift_1, epsilon)
            heads = torch.mm(y_NC, qkv.t()).view(B, T, 3, H, D).permute(2, 0, 3, 1, 4).reshape(3, B * H, T, D)
            q, k, v = heads.unbind(0)
            shares_ST = torch.baddbmm(future_ST, k, q.transpose(1, 2), alpha=D**-0.5).softmax(dim=1)
            mixed_NC = (
                torch.bmm(shares_ST.transpose(1, 2), v).view(B, H, T, D).transpose(1, 2).reshape(B * T, C)
            )
            found_NC = torch.addmm(project_bias, mixed_NC, project.t())
            middle_NC = x_NC + (found_NC if keep is None else found_NC.mul_(keep[branch]))
            z_NC, mean_2, rstd_2 = torch.native_layer_norm(middle_NC, (C,), norm_2, shift_2, epsilon)
            hidden_NF = torch.addmm(expand_bias, z_NC, expand.t()).relu_()
            found_NC = torch.addmm(contract_bias, hidden_NF, contract.t())
            kept += [
                x_NC,
                mean_1,
                rstd_1,
                y_NC,
                heads,
                shares_ST,
                mixed_NC,
                middle_NC,
                mean_2,
                rstd_2,
                z_NC,
                hidden_NF,
            ]
            x_NC = middle_NC + (found_NC if keep is None else found_NC.mul_(keep[branch + 1]))
        ctx.save_for_backward(*weights, *kept)
        ctx.keep, ctx.weights, ctx.num_heads = keep, len(weights), num_heads
        return x_NC.view(B, T, C)

    @staticmethod
    def backward(ctx: Any, by_x_BTC: Tensor) -> tuple[Tensor | None, ...]:
        weights, kept, keep = ctx.saved_tensors[: ctx.weights], ctx.saved_tensors[ctx.weights :], ctx.keep
        B, T, C = by_x_BTC.shape
        H, D = ctx.num_heads, C // ctx.num_heads
        normalized = torch.ops.aten.native_layer_norm_backward
        by_x = by_x_BTC.reshape(B * T, C)
        gradients: list[Tensor] = []
        for layer in reversed(range(len(weights) // WEIGHTS)):
            norm_1, shift_1, qkv, project, _, norm_2, shift_2, expand, _, contract, _ = weights[
                layer * WEIGHTS : (layer + 1) * WEIGHTS
            ]
            x, mean_1, rstd_1, y, heads, shares, mixed, middle, mean_2, rstd_2, z, hidden = kept[
                12 * layer : 12 * layer + 12
            ]
            q, k, v = heads.unbind(0)
            # Feed-forward
            by_found = by_x if keep is None else by_x * keep[2 * layer + 1]
            by_contract, by_contract_bias = by_found.t() @ hidden, by_found.sum(0)
            by_hidden = torch.ops.aten.threshold_backward(by_found @ contract, hidden, 0)
            by_expand, by_expand_bias = by_hidden.t() @ z, by_hidden.sum(0)
            by_middle, by_norm_2, by_shift_2 = normalized(
                by_hidden @ expand, middle, (C,), mean_2, rstd_2, norm_2, shift_2, (True, True, True)
            )
            by_middle += by_x
            # Attention
            by_found = by_middle if keep is None else by_middle * keep[2 * layer]
            by_project, by_project_bias = by_found.t() @ mixed, by_found.sum(0)
            by_mixed = (by_found @ project).view(B, T, H, D).transpose(1, 2).reshape(B * H, T, D)
            by_shares = torch.bmm(v, by_mixed.transpose(1, 2))
            by_scores = torch._softmax_backward_data(by_shares, shares, 1, shares.dtype).mul_(D**-0.5)
            by_heads = torch.stack(
                (
                    torch.bmm(by_scores.transpose(1, 2), k),
                    torch.bmm(by_scores, q),
                    torch.bmm(shares, by_mixed),
                )
            )
            by_qkv_out = by_heads.view(3, B, H, T, D).permute(1, 3, 0, 2, 4).reshape(B * T, 3 * C)
            by_qkv = by_qkv_out.t() @ y
            by_x, by_norm_1, by_shift_1 = normalized(
                by_qkv_out @ qkv, x, (C,), mean_1, rstd_1, norm_1, shift_1, (True, True, True)
            )
            by_x += by_middle
            gradients[:0] = [
                *(by_norm_1, by_shift_1, by_qkv, by_project, by_project_bias, by_norm_2, by_shift_2),
                *(by_expand, by_expand_bias, by_contract, by_contract_bias),
            ]
        return (by_x.view(B, T, C), None, None, None, *gradients)
