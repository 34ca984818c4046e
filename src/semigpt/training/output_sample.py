"""A sampled softmax: training steps that multiply a part of the output layer.

The tokens that come in the batch are always among the rows of a step. Of the others some are drawn,
frequent ones rather than rare ones, and each stands for as many as the inverse of the probability
that it is drawn (Horvitz and Thompson 1952): whatever is summed over the vocabulary has the right
expectation. Evaluation and generation read the whole layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from semigpt.dataset import TokenStream
from semigpt.native.gpt_weights import SampledRows

__all__ = ["OutputSampler"]

MULTIPLE = 64  # of the rows of a product, which runs at half the speed otherwise
# A token is drawn in proportion to this power of its frequency: docs/choices.md#output-layer.
POWER = 0.75
COUNTED = 20_000_000  # tokens at the beginning of the training text that say how frequent each is
ROOM = 1 / 8  # of the tokens that are no targets, at least so many are drawn


class OutputSampler:
    """Draws the rows of the output layer that a step computes.

    rows: how many, rounded up to a multiple of 64; more where a batch has so many distinct targets
    """

    def __init__(self, rows: int, frequency_V: Tensor) -> None:
        self.rows, self.vocab_size = rows, len(frequency_V)
        # From the most frequent: neighbours are alike, so a draw at even distances has some of all.
        frequency_V, self._order_V = frequency_V.double().sort(descending=True, stable=True)
        self._share_V = (frequency_V + 1).pow(POWER)

    @classmethod
    def of(cls, rows: int, stream: TokenStream, vocab_size: int) -> OutputSampler:
        """With the frequencies of the training text."""
        ids = torch.from_numpy(stream.read(0, COUNTED).astype("int64"))
        return cls(rows, torch.bincount(ids, minlength=vocab_size))

    def draw(self, targets_BT: Tensor) -> SampledRows | None:
        """The rows of a step with these targets; None for all of them.

        Draws one number from PyTorch's generator, which each micro-batch sets anew.
        """
        start = torch.rand((), dtype=torch.float64)
        is_target_V = torch.zeros(self.vocab_size, dtype=torch.bool)
        is_target_V[targets_BT.flatten()] = True
        certain = is_target_V.nonzero().flatten()
        free = ~is_target_V[self._order_V]
        others, share = self._order_V[free], self._share_V[free]
        least = len(certain) + int(ROOM * len(others))
        rows = -(-max(self.rows, least) // MULTIPLE) * MULTIPLE
        if rows >= self.vocab_size:
            return None
        p = inclusion(share, rows - len(certain))
        certain = torch.cat((certain, others[p == 1]))
        others, p = others[p < 1], p[p < 1]
        # One draw, then even distances over the sum of p: each p is less than a distance.
        ticks = torch.arange(rows - len(certain)) + start
        drawn = torch.searchsorted(p.cumsum(0), ticks, right=True).clamp_(max=len(others) - 1)
        ids_S = torch.cat((certain, others[drawn]))
        weight_S = torch.cat((torch.ones(len(certain), dtype=p.dtype), 1 / p[drawn]))
        place_V = torch.full((self.vocab_size,), -1)
        place_V[ids_S] = torch.arange(rows)
        return SampledRows(ids_S, weight_S.float(), place_V)


def inclusion(share: Tensor, count: int) -> Tensor:
    """The probability to be drawn, for `count` to be drawn in all: in proportion to `share`, and 1
    for those that have more than one.
    """
    p = torch.ones_like(share)
    free = torch.ones_like(share, dtype=torch.bool)
    while (left := count - int((~free).sum())) > 0:
        p[free] = share[free] * (left / share[free].sum())
        over = free & (p >= 1)
        if not over.any():
            break
        p[over] = 1
        free &= ~over
    return p
