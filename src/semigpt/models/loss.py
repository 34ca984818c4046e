"""Losses: the mean cross-entropy, and output layers fused with it, whole or in chunks.

Shapes: B sequences, T positions, C width, V vocabulary; N positions of any batch, B * T; R rows
of logits.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["chunked_loss", "linear_loss", "loss_and_gradient", "token_loss", "too_large"]

# Logits of a micro-batch beyond which they are computed in chunks of so many: 512 MiB in float32,
# of which autograd holds several copies at once.
LARGEST_LOGITS = 1 << 27

CACHED_ELEMENTS = 1 << 18  # of a chunk of logits that stays in a second-level cache: 1 MiB


def token_loss(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """The mean cross-entropy in nats: -ln of the probability of each target, averaged over B * T.

    `F.cross_entropy` takes one row per prediction, so `[B, T, V]` is flattened to `[B * T, V]` and
    `[B, T]` to `[B * T]`.
    """
    return F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten())


def linear_loss(
    x_BTC: Tensor, weight_VC: Tensor, bias_V: Tensor | None, targets_BT: Tensor
) -> tuple[Tensor, Tensor]:
    """An output layer and `token_loss` in one: logits `[B, T, V]` and the mean loss, in float32.

    The gradient of the loss with respect to the logits, (softmax - one-hot) / (B * T), is known
    as soon as the logits are. It is multiplied through at once, a chunk of rows at a time, while
    it lies in the cache: 2.0 ms where autograd takes 2.6 to 3.0;
    docs/choices.md#fused-output-layer.
    """
    logits_NV, loss = _LinearLoss.apply(  # type: ignore[no-untyped-call]
        x_BTC.flatten(0, 1), weight_VC, bias_V, targets_BT.flatten()
    )
    return logits_NV.view(*targets_BT.shape, -1), loss


class _LinearLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_NC: Tensor, weight_VC: Tensor, bias_V: Tensor | None, targets_N: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        N, V = len(x_NC), len(weight_VC)
        logits_NV = F.linear(x_NC, weight_VC, bias_V)
        grad_x_NC = torch.empty_like(x_NC)
        grad_weight_VC = torch.zeros_like(weight_VC) if ctx.needs_input_grad[1] else None
        grad_bias_V = None if bias_V is None else torch.zeros_like(bias_V)
        loss = torch.zeros((), dtype=x_NC.dtype, device=x_NC.device)
        rows = max(CACHED_ELEMENTS // V, 16) if x_NC.device.type == "cpu" else N
        for first in range(0, N, rows):
            chunk = slice(first, first + rows)
            chunk_loss, grad_logits_RV = loss_and_gradient(logits_NV[chunk], targets_N[chunk])
            loss += chunk_loss * len(grad_logits_RV)
            if any(ctx.needs_input_grad):
                torch.mm(grad_logits_RV, weight_VC, out=grad_x_NC[chunk])
                if grad_weight_VC is not None:
                    grad_weight_VC.addmm_(grad_logits_RV.t(), x_NC[chunk])
                if grad_bias_V is not None:
                    grad_bias_V += grad_logits_RV.sum(dim=0)
        loss /= N
        ctx.save_for_backward(x_NC, weight_VC, grad_x_NC, grad_weight_VC, grad_bias_V)
        return logits_NV, loss

    @staticmethod
    def backward(
        ctx: Any, grad_logits_NV: Tensor | None, grad_loss: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        x_NC, weight_VC, *saved = ctx.saved_tensors
        gradients = [
            g if g is None or grad_loss is None else g * (grad_loss / len(x_NC)) for g in saved
        ]
        if grad_logits_NV is not None:  # the logits themselves are differentiated
            direct = (
                grad_logits_NV @ weight_VC,
                grad_logits_NV.t() @ x_NC,
                grad_logits_NV.sum(dim=0),
            )
            gradients = [
                g if g is None else d if grad_loss is None else g + d
                for g, d in zip(gradients, direct, strict=True)
            ]
        elif grad_loss is None:
            gradients = [None, None, None]
        return (*gradients, None)


def too_large(positions: int, vocab_size: int) -> bool:
    """Whether so many positions' logits are computed in chunks."""
    return positions * vocab_size > LARGEST_LOGITS


def chunked_loss(x_BTC: Tensor, weight_VC: Tensor, targets_BT: Tensor, vocab_size: int) -> Tensor:
    """`token_loss` of an output layer's logits, of which a chunk of `LARGEST_LOGITS` is held.

    x_BTC: what the layer reads, in the dtype of the products. weight_VC: float32, of which the rows
    from `vocab_size` on are padding. The gradient of the weight is added up in float32, where whole
    logits leave it to one product in the dtype of x: equal in float32 within rounding, 1e-6 of the
    largest.
    """
    loss: Tensor = _ChunkedLoss.apply(  # type: ignore[no-untyped-call]  # torch's has no types
        x_BTC.flatten(0, 1), weight_VC, targets_BT.flatten(), vocab_size
    )
    return loss


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_NC: Tensor, weight_VC: Tensor, targets_N: Tensor, vocab_size: int
    ) -> Tensor:
        N, differentiates = len(x_NC), any(ctx.needs_input_grad)
        cast_VC = weight_VC[:vocab_size].to(x_NC.dtype)
        grad_x_NC = torch.empty_like(x_NC) if differentiates else None
        grad_weight_VC = torch.zeros_like(weight_VC) if differentiates else None
        loss = x_NC.new_zeros((), dtype=torch.float32)
        rows = max(LARGEST_LOGITS // vocab_size, 1)
        for first in range(0, N, rows):
            chunk = slice(first, first + rows)
            logits_RV, targets_R1 = (x_NC[chunk] @ cast_VC.t()).float(), targets_N[chunk, None]
            normalizer_R1 = logits_RV.logsumexp(dim=-1, keepdim=True)
            loss += (normalizer_R1 - logits_RV.gather(1, targets_R1)).sum()
            if grad_x_NC is None or grad_weight_VC is None:
                continue
            p_RV = logits_RV.sub_(normalizer_R1).exp_()
            p_RV.scatter_add_(1, targets_R1, p_RV.new_full(targets_R1.shape, -1.0))
            grad_RV = p_RV.div_(N).to(x_NC.dtype)
            grad_x_NC[chunk] = grad_RV @ cast_VC
            grad_weight_VC[:vocab_size] += grad_RV.t() @ x_NC[chunk]
        ctx.save_for_backward(grad_x_NC, grad_weight_VC)
        return loss / N

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        # In place: a second copy of them is what there is no room for. Autograd refuses to come
        # here twice, since what was saved has changed.
        grad_x_NC, grad_weight_VC = (saved.mul_(grad_loss) for saved in ctx.saved_tensors)
        return grad_x_NC, grad_weight_VC, None, None


def loss_and_gradient(
    logits_RV: Tensor, targets_N: Tensor, row_of_N: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The mean cross-entropy of N predictions in nats, and N times its gradient `[R, V]`.

    Row i predicts target i; with `row_of_N`, row `row_of_N[i]` does, and a row may have many
    targets. The gradient of a row is (its targets * softmax - their counts) / N. The division by
    N is left to the caller, who has fewer numbers to divide.
    """
    p_RV = logits_RV.softmax(dim=-1)
    rows_N = torch.arange(len(targets_N), device=targets_N.device) if row_of_N is None else row_of_N
    p_N = p_RV[rows_N, targets_N]
    if bool((p_N > 1e-30).all()):
        loss = -p_N.log().mean()
    else:  # Too small for float32: ln Σ exp(logits) from the largest, at least 1 / V.
        normalizer_R = logits_RV.amax(dim=-1) - p_RV.amax(dim=-1).log()
        loss = (normalizer_R[rows_N] - logits_RV[rows_N, targets_N]).mean()
    if row_of_N is not None:
        p_RV.mul_(torch.bincount(row_of_N, minlength=len(logits_RV))[:, None])
    minus_one = p_RV.new_full((), -1.0)
    return loss, p_RV.index_put_((rows_N, targets_N), minus_one, accumulate=True)
