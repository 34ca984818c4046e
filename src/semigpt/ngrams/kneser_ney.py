"""Interpolated modified Kneser-Ney: what n-gram counts say of the next token.

An n-gram model answers "what comes next?" by what came next before. Long contexts know more but
were seen less, so each order k (k - 1 tokens of context and the next one) leans on the order below
it:

    p_k(w | h) = (c_k(h w) - D_k(c_k(h w))) / S(h)  +  g_k(h) p_{k-1}(w | h')
    g_k(h)     = (D_k(1) N1(h) + D_k(2) N2(h) + D_k(3) N3(h)) / S(h)
    p_0(w)     = 1 / vocab_size

- h' is h without its oldest token, and S(h) the sum of c_k(h v) over all v.
- D_k, the discount, is one of three amounts for counts of 1, 2 and 3 or more. g_k(h), the backoff,
  hands what it takes from the tokens seen after h to the order below: N1(h), N2(h) and N3(h) are
  how many different tokens followed h once, twice, three times or more. A context never seen leaves
  p_{k-1} as it is.
- At the highest order c counts occurrences. Below it, c_k counts in how many *different* longer
  contexts the k-gram was seen (its continuation count). The lower orders are asked only when the
  longer context is unknown, and a token that follows one context alone, however often, is a poor
  guess after an unknown one.
- p_0 gives every token of the vocabulary some probability, so no text costs infinitely many bits.

Source: Chen and Goodman, "An empirical study of smoothing techniques for language modeling",
Computer Speech and Language 13 (1999) 359-394, modified Kneser-Ney; the discounts are equation 26
of its technical report, Harvard TR-10-98.

The functions here are PyTorch's way to these numbers, on any device. They are the oracle of
ngrams.c, which `Counts` calls on a CPU. N positions, B sequences of T, V vocabulary. A context of k
tokens is a node at level k, and -1 stands for a context that was never counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from semigpt.ngrams.counts import Counts

__all__ = ["discounts_of", "distribution", "lookup", "summed_totals", "unigram"]


def discounts_of(counts: NDArray[Any]) -> NDArray[np.float64]:
    """D(0) to D(3+) from the counts of counts n1 to n4, equation 26 of TR-10-98: `[4]`.

    A text too small for the estimate (a count of counts is 0, or a discount not positive) falls
    back on the one discount of plain Kneser-Ney, n1 / (n1 + 2 n2), and where nothing was seen once,
    on 1/2.
    """
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == often)) for often in (1, 2, 3, 4))
    y = n1 / (n1 + 2 * n2) if n1 else 0.5
    pairs = ((1, n1, n2), (2, n2, n3), (3, n3, n4))
    estimates = [c - (c + 1) * y * following / n if n else 0.0 for c, n, following in pairs]
    return np.array([0.0, *(d if d > 0 else y for d in estimates)])


def distribution(
    counts: Counts, inputs_BT: Tensor, left_out_BT: Tensor | None, weights_BTK: Tensor | None
) -> Tensor:
    """`Counts.distribution`, `[B, T, V]`. Gradients reach `weights_BTK`."""
    B, T = inputs_BT.shape
    order, device = counts.order, counts.device
    contexts = _contexts(counts, inputs_BT)
    wanted_NK = torch.zeros(B * T, order, device=device)
    if weights_BTK is None:
        wanted_NK[:, -1] = 1.0
    else:
        wanted_NK += weights_BTK.flatten(0, 1)
    left_N = torch.zeros(B * T, device=device)
    targets_N = None if left_out_BT is None else left_out_BT.flatten()
    levels = _leave_out(counts, contexts, targets_N)
    # From the longest context down: the factor of each level's counts, and what is left below.
    scales: list[Tensor] = []
    for level in range(order - 1, -1, -1):
        totals_N4 = levels[level][0]
        known_N = (contexts[level] >= 0) & (totals_N4[:, 0] > 0)
        left_N = left_N + wanted_NK[:, level]
        scales.insert(0, torch.where(known_N, left_N / totals_N4[:, 0].clamp(min=1), 0.0))
        if level:
            left_N = torch.where(known_N, left_N * _backoff(counts, level, totals_N4), left_N)
    # Level 0 is `unigram`: its counts stretched to the total without the target, and its backoff.
    whole_14, left_out_N4 = counts.totals[0], levels[0][0]
    stretch_N = whole_14[:, 0] / left_out_N4[:, 0].clamp(min=1)
    shift_N = _backoff(counts, 0, left_out_N4) - _backoff(counts, 0, whole_14) * stretch_N
    nothing_N = left_out_N4[:, 0] == 0
    stretch_N = torch.where(nothing_N, 0.0, stretch_N)
    shift_N = torch.where(nothing_N, 1.0, shift_N) / counts.vocab_size
    q_NV = (left_N * stretch_N)[:, None] * counts.unigram + (left_N * shift_N)[:, None]
    # Each context's followers on top of it, less what the targets lose.
    for level, scale_N in enumerate(scales):
        if left_out_BT is not None:
            _, count_N, taken_N = levels[level]
            lost_N = taken_N * (
                _discounted(counts, level, count_N) - _discounted(counts, level, count_N - 1)
            )
            q_NV.scatter_add_(1, left_out_BT.reshape(-1, 1), -(scale_N * lost_N)[:, None])
        if not level:
            continue
        rows, places = _followers(counts, level, contexts[level])
        added = scale_N[rows] * _discounted(counts, level, counts.count[level][places])
        q_NV.view(-1).index_add_(
            0, rows * counts.vocab_size + counts.follower[level][places], added
        )
    found_BTV: Tensor = q_NV.view(B, T, -1)
    return found_BTV


def lookup(
    counts: Counts, inputs_BT: Tensor, targets_BT: Tensor, *, leave_one_out: bool
) -> tuple[Tensor, Tensor]:
    """`Counts.lookup`: `[B, T, order]` and `[B, T, features]`."""
    B, T = inputs_BT.shape
    contexts = _contexts(counts, inputs_BT)
    levels = _leave_out(counts, contexts, targets_BT.flatten(), take=leave_one_out)
    p_N = torch.full((B * T,), 1 / counts.vocab_size, device=counts.device)
    p, features = [], []
    for level, (totals_N4, count_N, taken_N) in enumerate(levels):
        total_N = totals_N4[:, 0]
        known_N = (contexts[level] >= 0) & (total_N > 0)
        own_N = _discounted(counts, level, count_N - taken_N.to(count_N.dtype))
        backoff_N = torch.where(known_N, _backoff(counts, level, totals_N4), 1.0)
        p_N = torch.where(known_N, own_N / total_N.clamp(min=1) + backoff_N * p_N, p_N)
        p.append(p_N)
        if level:
            features += [torch.where(known_N, total_N, 0).log1p(), backoff_N]
    return torch.stack(p, dim=1).view(B, T, -1), torch.stack(features, dim=1).view(B, T, -1)


def summed_totals(counts: Counts, level: int, nodes_N: Tensor) -> Tensor:
    """Each context's counts in all, and how many followers have counts of 1, 2, 3 or more: `[N,
    4]`."""
    rows, places = _followers(counts, level, nodes_N)
    count = counts.count[level][places]
    totals_N4 = torch.zeros(len(nodes_N), 4, dtype=torch.int32, device=counts.device)
    totals_N4[:, 0].index_add_(0, rows, count)
    totals_N4.view(-1).index_add_(0, rows * 4 + count.clamp(max=3), torch.ones_like(count))
    return totals_N4


def unigram(counts: Counts) -> Tensor:
    """p of every token without a context: `[V]`."""
    unigram_V = torch.zeros(counts.vocab_size, device=counts.device)
    own = _discounted(counts, 0, counts.count[0])
    unigram_V[counts.follower[0].long()] = own / counts.totals[0][0, 0]
    return unigram_V + _backoff(counts, 0, counts.totals[0]) / counts.vocab_size


def _contexts(counts: Counts, inputs_BT: Tensor) -> list[Tensor]:
    """The node of each level that ends at each position, `[N]` each."""
    nodes = [torch.zeros(inputs_BT.numel(), dtype=torch.int64, device=counts.device)]
    for level in range(counts.order - 1):
        token_BT = torch.full_like(inputs_BT, -1)
        token_BT[:, level:] = inputs_BT[:, : max(inputs_BT.shape[1] - level, 0)]
        children = counts.first_child[level], counts.oldest[level + 1]
        nodes.append(_find(counts, *children, nodes[-1], token_BT.flatten()))
    return nodes


def _leave_out(
    counts: Counts, contexts: list[Tensor], targets_N: Tensor | None, *, take: bool = True
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Of each level: the contexts' totals `[N, 4]` without the targets' own occurrences, how often
    each target was counted with them, and whether its own was taken out; never where not `take`."""
    if targets_N is None:
        none_N = torch.zeros_like(contexts[0])
        return [
            (_totals(counts, level, nodes), none_N, none_N > 0)
            for level, nodes in enumerate(contexts)
        ]
    own_N = torch.full_like(targets_N, take, dtype=torch.bool)
    levels: list[tuple[Tensor, Tensor, Tensor]] = []
    for level in range(counts.order - 1, -1, -1):
        known_N = contexts[level] >= 0
        followers = counts.first_follower[level], counts.follower[level]
        at_N = _find(counts, *followers, contexts[level], targets_N)
        count_N = torch.where(at_N >= 0, counts.count[level][at_N.clamp(min=0)], 0)
        taken_N = own_N & (count_N > 0) & known_N
        # Only where the one occurrence was the last does the shorter n-gram lose one too.
        own_N = torch.where(known_N, taken_N & (count_N == 1), own_N)
        totals_N4 = _totals(counts, level, contexts[level]).clone()
        rows = torch.nonzero(taken_N).flatten()
        totals_N4[rows, 0] -= 1
        totals_N4[rows, count_N[rows].clamp(max=3).long()] -= 1
        rows = rows[count_N[rows] > 1]
        totals_N4[rows, (count_N[rows] - 1).clamp(max=3).long()] += 1
        levels.insert(0, (totals_N4, count_N, taken_N))
    return levels


def _discounted(counts: Counts, level: int, count: Tensor) -> Tensor:
    """Counts less their discount; 0 for 0."""
    return count - counts.discounts[level + 1][count.clamp(min=0, max=3).long()]


def _backoff(counts: Counts, level: int, totals_N4: Tensor) -> Tensor:
    """g: the probability that the contexts leave to shorter ones, `[N]`."""
    discounted_N = (totals_N4[:, 1:] * counts.discounts[level + 1][1:]).sum(dim=1)
    return discounted_N / totals_N4[:, 0].clamp(min=1)


def _totals(counts: Counts, level: int, nodes_N: Tensor) -> Tensor:
    """`summed_totals`, kept or summed now; meaningless for -1."""
    if level < len(counts.totals):
        return counts.totals[level][nodes_N.clamp(min=0)]
    return summed_totals(counts, level, nodes_N)


def _find(
    counts: Counts, first: Tensor, tokens: Tensor, nodes_N: Tensor, wanted_N: Tensor
) -> Tensor:
    """The index of each wanted token in its node's part of `tokens`; -1 without one, or where
    either is -1."""
    if not len(tokens):
        return torch.full_like(nodes_N, -1)
    keys = counts.search_keys.get(id(tokens))
    if keys is None:  # node and token as one number, ascending: one search finds both
        nodes = torch.arange(len(first) - 1, device=counts.device).repeat_interleave(first.diff())
        counts.search_keys[id(tokens)] = keys = nodes * counts.vocab_size + tokens
    wanted = nodes_N * counts.vocab_size + wanted_N.long()
    at_N = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    found_N = (keys[at_N] == wanted) & (wanted_N >= 0)  # a node of -1 has no key
    return torch.where(found_N, at_N, -1)


def _followers(counts: Counts, level: int, nodes_N: Tensor) -> tuple[Tensor, Tensor]:
    """All followers of the contexts: whose each is, from 0 to N - 1, and its index in the
    tables."""
    rows = torch.nonzero(nodes_N >= 0).flatten()
    nodes = nodes_N[rows]
    first = counts.first_follower[level][nodes].long()
    sizes = counts.first_follower[level][nodes + 1].long() - first
    places = torch.arange(int(sizes.sum()), device=counts.device)
    places += (first - (sizes.cumsum(0) - sizes)).repeat_interleave(sizes)
    return rows.repeat_interleave(sizes), places
