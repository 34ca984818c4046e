"""Embeddings with which a GPT begins as the bigram counts of its text, as far as its width reaches.

Kneser and Ney's bigram says p(j | i) = (c_ij - D) / c_i + b_i p(j). Its logarithm is log b_i, which
softmax takes away, log p(j), and

    s_ij = log(1 + (c_ij - D) / (c_i b_i p(j))),

which is 0 for a pair that does not occur. So s is a sparse matrix, a pointwise mutual information
shifted by each token's backing off, and its best approximation of a lower rank is a product of two
embeddings (Levy and Goldberg 2014, "Neural word embedding as implicit matrix factorization"): of
the token that is read and of the token that follows. A truncated singular value decomposition finds
it, by random projection (Halko, Martinsson and Tropp 2011, arXiv 0909.4061).

V vocabulary, C width, R rank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy.typing as npt
import torch
from torch import Tensor

from semigpt.device import one_thread
from semigpt.ngrams.counts import Counts

__all__ = ["BigramEmbeddings"]

# Rows and columns are weighted by this power of their tokens' counts, so that frequent pairs are
# approximated better. 0.25: 3.757 bits per character, 0.5: 3.761; docs/choices.md#embeddings.
WEIGHT = 0.25
SCALE = 0.35  # root mean square of the input embeddings; 0.1: 3.763 bits, 0.35: 3.757, 1: 3.771
OVERSAMPLED, ITERATIONS = 10, 2
# The norm of all input embeddings, beside that which 97 % of them have anyhow; longer ones are cut.
COMMON, ROOM = 0.97, 1.1
CONSTANT = 0.3  # of that norm, the part that reads each token's frequency from the output layer


@dataclass(frozen=True)
class BigramEmbeddings:
    """The rows with which a GPT of RMSNorm begins.

    inputs:  `[V, C]`, of its embedding table, all of one norm
    outputs: `[V, C]`, of its output layer
    """

    inputs: Tensor
    outputs: Tensor

    @classmethod
    def of(
        cls, ids: npt.ArrayLike, vocab_size: int, width: int, *, seed: int = 0
    ) -> BigramEmbeddings:
        """From the token ids `[tokens]` of a training text.

        The same bits with any number of threads: one thread computes.

        Raises what `Counts.fit` raises.
        """
        counts = Counts.fit(ids, vocab_size, 2)
        generator = torch.Generator().manual_seed(seed)
        with one_thread():
            factors = _factors(counts, width, generator)
            return cls(*_rows(*factors, counts.unigram, width, generator))


def _factors(counts: Counts, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Embeddings `[V, R]` of tokens that are read, and that follow, whose products come near s."""
    V, rank = counts.vocab_size, min(width - 2, counts.vocab_size)
    begins, count_N = counts.first_follower[1].long(), counts.count[1].float()
    read_N = counts.oldest[1].long().repeat_interleave(begins.diff())
    next_N = counts.follower[1].long()
    discount_N = counts.discounts[2][count_N.clamp(max=3).long()]
    backed_off_V = torch.zeros(V).index_add_(0, read_N, discount_N)  # c_i b_i
    s_N = torch.log1p(
        (count_N - discount_N)
        / (backed_off_V[read_N] * counts.unigram[next_N]).clamp(min=torch.finfo().tiny)
    )
    row_weight_V = (torch.zeros(V).index_add_(0, read_N, count_N) + 1) ** WEIGHT
    column_weight_V = (torch.zeros(V).index_add_(0, next_N, count_N) + 1) ** WEIGHT
    weighted_N = s_N * row_weight_V[read_N] * column_weight_V[next_N]
    s_VV = torch.sparse_coo_tensor(
        torch.stack((read_N, next_N)), weighted_N, (V, V), check_invariants=False
    ).coalesce()
    s_transposed_VV = s_VV.t().coalesce()

    drawn_VR = torch.randn(V, min(rank + OVERSAMPLED, V), generator=generator)
    base_VR = torch.linalg.qr(s_VV @ drawn_VR).Q
    for _ in range(ITERATIONS):
        base_VR = torch.linalg.qr(s_transposed_VV @ base_VR).Q
        base_VR = torch.linalg.qr(s_VV @ base_VR).Q
    left_RR, values_R, right_RV = torch.linalg.svd(
        (s_transposed_VV @ base_VR).T, full_matrices=False
    )
    root_R = values_R[:rank].sqrt()
    inputs_VR = (base_VR @ left_RR)[:, :rank] * root_R / row_weight_V[:, None]
    return inputs_VR, right_RV[:rank].T * root_R / column_weight_V[:, None]


def _rows(
    inputs_VR: Tensor,
    outputs_VR: Tensor,
    frequency_V: Tensor,
    width: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Both tables, `[V, C]`, so that the products behind an RMSNorm are log p(j) + s_ij.

    Two columns more: one the same in every input, with which an output reads log p(j), and one that
    fills each input up to the common norm. All columns are then turned into each other, since AdamW
    steps alike in each.
    """
    V, rank = inputs_VR.shape
    norm_V = inputs_VR.norm(dim=1)
    norm = max(ROOM * float(norm_V.quantile(COMMON)), 1.0)
    constant = CONSTANT * norm
    longest = math.sqrt(norm**2 - constant**2)
    inputs_VR = inputs_VR * (longest / norm_V.clamp(min=longest))[:, None]
    rest_V = (longest**2 - inputs_VR.square().sum(1)).clamp(min=0).sqrt()
    root = norm / math.sqrt(width)  # what RMSNorm divides by
    log_p_V = frequency_V.clamp(min=torch.finfo().tiny).log()
    log_p_V = (log_p_V - log_p_V.mean()).float()
    inputs_VC, outputs_VC = torch.zeros(2, V, width)
    inputs_VC[:, 0], inputs_VC[:, 1], inputs_VC[:, 2 : rank + 2] = constant, rest_V, inputs_VR
    outputs_VC[:, 0], outputs_VC[:, 2 : rank + 2] = log_p_V * (root / constant), outputs_VR * root
    turned_CC = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    return inputs_VC @ turned_CC * (SCALE / root), outputs_VC @ turned_CC
