"""Distillation from n-gram counts: targets that are partly what the counts predict.

Hinton and others 2015, "Distilling the knowledge in a neural network", arXiv 1503.02531, with
counts in the place of the larger net.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from semigpt.dataset import TokenStream, as_block
from semigpt.ngrams.counts import Counts
from semigpt.training.progress import Progress

__all__ = ["Teacher", "distillation_loss", "teacher_probabilities"]

# Nats per token that the counts must be ahead of the model to have the whole weight.
FULL_LEAD = 0.35
MEASURED_TOKENS = 100_000


@dataclass(frozen=True)
class Teacher:
    """The n-gram counts of the training text, and their own loss on it."""

    counts: Counts
    loss: float  # nats per token, leave-one-out

    @classmethod
    def of(cls, counts: Counts, stream: TokenStream, context_length: int) -> Teacher:
        """Measure the counts' loss over the stream's first blocks, some 100,000 tokens."""
        blocks = min(max(MEASURED_TOKENS // context_length, 1), (len(stream) - 1) // context_length)
        starts = np.arange(blocks, dtype=np.int64) * context_length
        inputs_BT, targets_BT = as_block(stream.windows(starts, context_length + 1))
        p_BTK, _ = counts.lookup(
            inputs_BT.to(counts.device), targets_BT.to(counts.device), leave_one_out=True
        )
        return cls(counts, -p_BTK[..., -1].double().log().mean().item())

    def distillation_weight(self, progress: Progress) -> float:
        """The teacher's fraction of the targets, 0 to 1.

        1 while the model's loss is `FULL_LEAD` above the counts', falling to 0 where it has
        caught up.
        """
        if not progress.step:
            return 1.0
        return min(max((progress.loss_mean - self.loss) / FULL_LEAD, 0.0), 1.0)


def teacher_probabilities(
    counts: Counts | None, distillation_weight: float, inputs_BT: Tensor
) -> Tensor | None:
    """The counts' distribution after each position, `[B, T, V]`; None where it has no weight."""
    if counts is None or not distillation_weight:
        return None
    return counts.distribution(inputs_BT.to(counts.device)).to(inputs_BT.device)


def distillation_loss(
    logits_BTV: Tensor,
    loss: Tensor,
    teacher_BTV: Tensor | None,
    distillation_weight: float | Tensor,
) -> Tensor:
    """`loss`, with a fraction of `distillation_weight` replaced by the teacher's, in nats.

    The teacher's is the cross-entropy with its distribution.
    """
    if teacher_BTV is None:
        return loss
    soft_loss = -(teacher_BTV * logits_BTV.float().log_softmax(dim=-1)).sum(dim=-1).mean()
    return (1 - distillation_weight) * loss + distillation_weight * soft_loss
