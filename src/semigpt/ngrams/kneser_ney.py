"""Interpolated modified Kneser–Ney over n-gram counts: the baseline that matters, counted in seconds.

An n-gram model answers "what comes next?" by looking up what came next before. Long contexts know more but
were seen less, so each order k (k - 1 predecessors and the token) leans on the order below it:

    p_k(w | h) = (c_k(h w) - D_k(c_k(h w))) / S(h)  +  g_k(h) p_{k-1}(w | h')        h': h without its oldest
    g_k(h)     = (D_k(1) N1(h) + D_k(2) N2(h) + D_k(3) N3(h)) / S(h)                 S(h): sum_v c_k(h v)
    p_0(w)     = 1 / vocab_size

- D_k, the discount, is one of three amounts for counts of 1, 2 and 3 or more. What it takes from the tokens
  seen after h is what g_k(h) hands to the order below: N1(h), N2(h), N3(h) are how many different tokens
  followed h once, twice, three times or more. A context never seen leaves p_{k-1} as it is.
- At the highest order c counts occurrences. Below it, c_k counts in how many *different* longer contexts the
  k-gram was seen (its continuation count): the lower orders are asked only when the longer context is a
  stranger, and a token that follows one context alone, however often, is a poor guess after a stranger.
- p_0 gives every token of the vocabulary a share, so no text costs infinitely many bits.

Source: Chen and Goodman, "An empirical study of smoothing techniques for language modeling", Computer Speech
and Language 13 (1999) 359–394, modified Kneser–Ney; the discounts are equation 26 of its technical report,
Harvard TR-10-98.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from semigpt.errors import CorpusError, SettingsError

__all__ = ["CHUNK", "KneserNey", "Packing", "checked_ids", "discounts_of", "run_starts"]

Ids = npt.NDArray[np.unsignedinteger[Any]]
Indices = npt.NDArray[np.signedinteger[Any]]
Floats = npt.NDArray[np.float64]

# Positions looked up at a time: working arrays fit in the cache, and memory does not grow with the text.
CHUNK = 1 << 16
PAIRS = 1 << 26  # pairs of tokens in a table: 64 MB of what occurs, 256 MB of ranks


@dataclass(frozen=True, eq=False)
class KneserNey:
    """The counts of every n-gram up to `order`, as a tree that is read from the newest token to the oldest.

    A node at level k is a k-gram; its parent is the same k-gram without its oldest token. So a node's
    children are the tokens seen before it, and *the number of its children is its continuation count*. Level
    0 is the root, the empty n-gram. A level's nodes lie in the order of their parents, and under one parent
    in the order of tokens.

    The training text is read as a circle, its first token after its last. Documents have no order, so the
    seam is one more border between documents; in return every position has a full context, every k-gram is
    also a context, and no start symbol is needed. A *scored* text is not a circle: its first tokens are given
    what predecessors they have, at the order those allow.
    """

    vocab_size: int
    order: int
    tokens: tuple[Ids, ...]
    """tokens[k] [nodes at level k]: the oldest token of each k-gram (tokens[0] is empty)."""
    first_child: tuple[Indices, ...]
    """first_child[k] [nodes at level k, + 1], k < order: where each node's children begin at level k + 1."""
    counts: npt.NDArray[np.uint32]
    """[nodes at level `order`]: how often each of the longest n-grams occurs."""
    followers: tuple[npt.NDArray[np.uint32], ...]
    """followers[k] [nodes at level k, 4], k < order: of each k-gram as a context h, S, N1, N2, N3."""
    discounts: Floats
    """[order + 1, 4]: discounts[k, c] is D_k(c) for c = 0, 1, 2 and 3 or more, in counts."""

    @classmethod
    def fit(cls, ids: npt.ArrayLike, vocab_size: int, order: int = 5) -> "KneserNey":
        """Count a training text.

        `ids` [tokens]: 0 ≤ id < vocab_size. One sort of one integer a position gives all orders at once:
        22.3 million characters of Korean reviews take 1.6 s on one core, 490 MB while counting and 184 MB to
        keep their 14.6 million n-grams. Scoring runs at 2 million tokens per second.

        Raises CorpusError for a text that is empty or of 2^31 tokens or more; SettingsError for an order
        below 1 or ids outside the vocabulary.
        """
        if order < 1:
            raise SettingsError(
                f"an n-gram model of order {order} cannot be: choose 1 or more, 5 is usual"
            )
        ids = checked_ids(ids, vocab_size)
        if len(ids) == 0:
            raise CorpusError(
                "Kneser–Ney has no text to count: give it at least one token of training text"
            )
        if len(ids) >= 2**31:
            raise CorpusError(
                f"Kneser–Ney counts at most 2,147,483,647 tokens, not {len(ids):,}: count a part"
            )

        keys, packing = Packing.of(ids, vocab_size, order)
        keys.sort()

        starts = run_starts(keys)
        counts = np.diff(starts, append=len(keys)).astype(np.uint32)
        keys = keys[starts]
        tokens, first_child = packing.tree(keys)

        # The context of an n-gram is the n-gram without its newest token. Level by level: the parent's
        # context is known, and the node's own is that context's child by the node's oldest token.
        followers: list[npt.NDArray[np.uint32]] = []
        discounts = np.zeros((order + 1, 4))
        contexts = np.zeros(len(tokens[1]), np.int32)
        for k in range(1, order + 1):
            counts_k = counts if k == order else np.diff(first_child[k])
            discounts[k] = discounts_of(counts_k)
            followers.append(_followers(contexts, counts_k, len(first_child[k - 1]) - 1))
            if k < order:
                parents = np.repeat(contexts, counts_k)
                contexts = np.empty(len(parents), np.int32)
                for begin in range(0, len(parents), CHUNK):
                    part = slice(begin, begin + CHUNK)
                    contexts[part] = _children(
                        first_child[k - 1], tokens[k], parents[part], tokens[k + 1][part]
                    )
        return cls(
            vocab_size,
            order,
            tuple(tokens),
            tuple(first_child),
            counts,
            tuple(followers),
            discounts,
        )

    def log2_probabilities(self, ids: npt.ArrayLike) -> Floats:
        """log2 p of every token given up to order - 1 tokens before it in `ids`. [tokens] → [tokens], ≤ 0.

        Minus its sum is the text's information in bits. Raises SettingsError for ids outside the vocabulary.
        """
        return np.concatenate([np.empty(0), *self._logarithms(ids)])  # a text may be empty

    def bits(self, ids: npt.ArrayLike) -> float:
        """Minus the sum of `log2_probabilities`: the text's information. What it holds meanwhile does not grow with the text."""
        return -math.fsum(float(logs.sum()) for logs in self._logarithms(ids))

    def leave_one_out_log2_probabilities(self, ids: npt.ArrayLike) -> Floats:
        """log2 p of every token of the *training* text, its own occurrence not counted. [tokens] → [tokens].

        What the counts would say of this text had they not seen it: the training-time stand-in for
        `log2_probabilities` on unseen text. Exact: the one n-gram that ends at the token is taken out of its
        count; if it was the only one, out of the continuation count below, and so on down, and out of the
        contexts' sums at the same orders. Only the discounts stay those of the whole text.

        `ids` must be what `fit` was given, read as the same circle. Raises SettingsError if it cannot be.
        """
        ids = checked_ids(ids, self.vocab_size)
        if len(ids) != int(self.counts.sum(dtype=np.int64)):
            raise SettingsError(
                f"leave-one-out needs the training text itself, {self.counts.sum(dtype=np.int64):,} tokens, "
                f"not another of {len(ids):,}: use log2_probabilities for text that was not counted"
            )
        circle = np.take(ids, np.arange(1 - self.order, len(ids)), mode="wrap")
        return np.concatenate(list(self._logarithms(circle, self.order - 1, leave_one_out=True)))

    def distribution(self, context_ids: npt.ArrayLike) -> Floats:
        """p of every token after a context. [context tokens, any number] → [vocab_size], sums to 1.

        The last order - 1 tokens of the context are used; 1 ms a call for V = 4,430.
        Raises SettingsError for ids outside the vocabulary.
        """
        context = checked_ids(context_ids, self.vocab_size)
        context = context[max(0, len(context) - (self.order - 1)) :]
        vocabulary = np.arange(self.vocab_size).astype(context.dtype)
        nodes = [np.zeros(self.vocab_size, np.int32)]
        contexts = [np.zeros(1, np.int32)]
        nodes.append(self._descend(0, nodes[0], vocabulary))
        for k, token in enumerate(context[::-1], start=1):
            nodes.append(self._descend(k, nodes[k], np.full(self.vocab_size, token)))
            contexts.append(self._descend(k - 1, contexts[k - 1], np.array([token])))
        return self._interpolate(nodes[1:], contexts, leave_one_out=False)

    def _logarithms(
        self, ids: npt.ArrayLike, begin: int = 0, *, leave_one_out: bool = False
    ) -> Iterator[Floats]:
        """log2 p of ids[begin:], a chunk at a time, each with the order - 1 tokens before it."""
        ids = checked_ids(ids, self.vocab_size)
        for start in range(begin, len(ids), CHUNK):
            oldest = max(0, start - (self.order - 1))
            window = ids[oldest : start + CHUNK]
            # nodes[k][i]: the k-gram that ends at i. Order k's context is the (k - 1)-gram one step back.
            nodes = [np.zeros(len(window), np.int32)]
            for k in range(self.order):
                node = np.full(len(window), -1, np.int32)
                node[k:] = self._descend(k, nodes[k][k:], window[: max(0, len(window) - k)])
                nodes.append(node)
            contexts = [nodes[0], *(np.append(np.int32(-1), node[:-1]) for node in nodes[1:-1])]
            skip = start - oldest
            p = self._interpolate(
                [node[skip:] for node in nodes[1:]],
                [context[skip:] for context in contexts],
                leave_one_out=leave_one_out,
            )
            yield np.log2(p)

    def _descend(self, level: int, nodes: Indices, oldest: Ids) -> Indices:
        """The n-grams one token longer. Nodes at `level` [n], the token before each [n] → [n], -1: unseen."""
        return _children(self.first_child[level], self.tokens[level + 1], nodes, oldest)

    def _interpolate(
        self, nodes: Sequence[Indices], contexts: Sequence[Indices], *, leave_one_out: bool
    ) -> Floats:
        """The recursion at the top of this file, from order 1 up.

        nodes[k - 1] [n], at level k, and contexts[k - 1] [n or 1], at level k - 1: the k-grams and their
        contexts, -1 where unseen. → p [n].
        """
        counts = []
        for k, node in enumerate(nodes, start=1):
            if k == self.order:
                count = self.counts[node].astype(np.int64)
            else:
                count = (self.first_child[k][node + 1] - self.first_child[k][node]).astype(np.int64)
            counts.append(np.where(node < 0, 0, count))

        # Taking out a count of one leaves one longer context fewer for the order below; else it stops there.
        taken = [np.zeros(len(count), bool) for count in counts]
        if leave_one_out:
            taken[-1][:] = True
            for k in reversed(range(1, len(counts))):
                taken[k - 1] = taken[k] & (counts[k] == 1)

        p = np.full(len(counts[0]), 1 / self.vocab_size)
        for k, (count, own, context) in enumerate(
            zip(counts, taken, contexts, strict=True), start=1
        ):
            follower = np.where(
                context[:, None] < 0, 0, self.followers[k - 1][context].astype(np.int64)
            )
            if leave_one_out:
                rows = np.flatnonzero(own)
                follower[rows, 0] -= 1
                follower[rows, np.minimum(count[rows], 3)] -= 1
                count = count - own
                rows = rows[count[rows] > 0]
                follower[rows, np.minimum(count[rows], 3)] += 1
            discount = self.discounts[k]
            total = follower[:, 0]
            mass = count - discount[np.minimum(count, 3)] + (follower[:, 1:] @ discount[1:]) * p
            p = np.where(total > 0, mass / np.maximum(total, 1), p)
        return p


@dataclass(frozen=True)
class Packing:
    """How n-grams are written as numbers of 64 bits, newest token first: sorted, those that share their newest k tokens are
    neighbours, for every k.

    A token is a digit. Where these would not fit (order 5 over more than 7,131 tokens, order 6 over more than 1,625) a digit is
    the rank of two tokens among the pairs that occur: of film reviews, 4,420 tokens, half a million of twenty. And where that
    does not help, or a table of all pairs would be large, the number so far gives way to its rank among the distinct ones,
    which costs as much again as all the rest.
    """

    vocab_size: int
    order: int
    dtype: np.dtype[Any]
    span: int  # all numbers are less
    base: int  # of a digit that is a pair
    pairs: Indices | None
    """[pairs that occur]: newer token * vocab_size + older one, ascending; None where a digit is a token."""
    ranked: dict[int, npt.NDArray[np.uint64]]
    """Before the token of that age was added: the numbers so far, [distinct], ascending, which their ranks stand for."""

    @classmethod
    def of(
        cls, ids: Ids, vocab_size: int, order: int, *, room: int = 1
    ) -> "tuple[npt.NDArray[np.uint64], Packing]":
        """The number of the n-gram that ends at each place of `ids` [tokens], read as a circle; times `room` they fit, too."""
        pairs: npt.NDArray[np.intp] | None = None
        digits, base, most = ids, vocab_size, 2**64 // room
        if vocab_size**order > most and vocab_size**2 <= PAIRS:
            both = ids.astype(np.int64) * vocab_size + np.roll(ids, 1)
            occurs = np.zeros(vocab_size**2, bool)
            occurs[both] = True
            pairs = np.flatnonzero(occurs)
            digits = (np.cumsum(occurs, dtype=np.uint32) - np.uint32(1))[both]
            base = max(len(pairs), vocab_size)
            del both, occurs
        keys, span = np.zeros(len(ids), np.uint64), 1
        ranked: dict[int, npt.NDArray[np.uint64]] = {}
        for age in range(0, order, 1 if pairs is None else 2):
            last = age == order - 1
            digit, radix = (ids, vocab_size) if last else (digits, base)
            if span * radix > most:
                ranked[age], ranks = np.unique(keys, return_inverse=True)
                keys, span = ranks.astype(np.uint64), len(ranked[age])
            keys *= np.uint64(radix)
            keys += np.roll(digit, age)
            span *= radix
        return keys, cls(vocab_size, order, ids.dtype, span, base, pairs, ranked)

    def tree(self, keys: npt.NDArray[np.uint64]) -> tuple[list[Ids], list[Indices]]:
        """The distinct n-grams, ascending, as `KneserNey.tokens` and `KneserNey.first_child`."""
        tokens: list[Ids] = [np.zeros(0, self.dtype)]
        first_child: list[Indices] = []
        for age in reversed(range(self.order)):
            if self.pairs is not None and age % 2:
                keys, digit = np.divmod(keys, np.uint64(self.base))
                newer, oldest = np.divmod(self.pairs[digit], self.vocab_size)
                keys *= np.uint64(self.vocab_size)
                keys += newer.astype(np.uint64)
            else:
                keys, oldest = np.divmod(keys, np.uint64(self.vocab_size))
            tokens.insert(1, oldest.astype(self.dtype))
            if age in self.ranked:
                keys = self.ranked[age][keys]
            starts = run_starts(keys)
            first_child.insert(0, np.append(starts, len(keys)).astype(np.int32))
            keys = keys[starts]
        return tokens, first_child


def checked_ids(ids: npt.ArrayLike, vocab_size: int) -> Ids:
    """The ids as a flat array of the smallest unsigned type that holds the vocabulary, or SettingsError."""
    array = np.asarray(ids)
    if array.size == 0:
        array = array.astype(np.uint8)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise SettingsError(
            f"token ids must be one row of whole numbers, not {array.dtype} of shape {array.shape}: "
            "encode the text with the tokenizer first"
        )
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < vocab_size:
        raise SettingsError(
            f"token ids from {array.min()} to {array.max()} do not fit a vocabulary of {vocab_size}: "
            "use the tokenizer that made them"
        )
    return array.astype(np.min_scalar_type(max(vocab_size - 1, 0)), copy=False)


def run_starts(ordered: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
    """Where each run of equal values begins. Sorted [n] → [runs]."""
    changed = np.empty(len(ordered), bool)
    changed[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=changed[1:])
    return np.flatnonzero(changed)


def _children(first_child: Indices, tokens: Ids, nodes: Indices, wanted: Ids) -> Indices:
    """Each node's child by a token, -1 where it has none or is itself -1. [n], [n] → [n].

    A binary search in all the nodes' children at once; as quick as one `searchsorted` over 64-bit keys of the
    whole level, which would need four times the memory to keep.
    """
    low = first_child[nodes]
    size = first_child[nodes + 1] - low
    low[nodes < 0] = 0
    size[nodes < 0] = 0
    for _ in range(int(size.max(initial=1) - 1).bit_length()):
        half = size >> 1
        low += half * (tokens[low + half] <= wanted)
        size -= half
    return np.where((size > 0) & (tokens[low] == wanted), low, np.int32(-1))


def _followers(
    contexts: Indices, counts: npt.NDArray[Any], num_contexts: int
) -> npt.NDArray[np.uint32]:
    """Per context: its n-grams' counts summed, and how many of them are 1, 2, 3 or more. → [contexts, 4]."""
    cells = contexts.astype(np.int64) * 4
    cells += np.minimum(counts, 3)
    table = (
        np.bincount(cells, minlength=4 * num_contexts).astype(np.uint32).reshape(num_contexts, 4)
    )
    # No n-gram has a count of 0, so that column is free to hold the sum (in doubles: exact below 2^53).
    table[:, 0] = np.bincount(contexts, weights=counts, minlength=num_contexts)
    return table


def discounts_of(counts: npt.NDArray[Any]) -> Floats:
    """D(0) to D(3+) from the counts of counts n1 to n4 (Chen and Goodman, TR-10-98, equation 26). → [4].

    A text too small for the estimate (a count of counts is 0, or the discount not positive) falls back on the
    one discount of plain Kneser–Ney, n1 / (n1 + 2 n2), and where nothing was seen once, on one half.
    """
    n1, n2, n3, n4 = (int(n) for n in np.bincount(np.minimum(counts, 5), minlength=6)[1:5])
    y = n1 / (n1 + 2 * n2) if n1 else 0.5
    pairs = ((1, n1, n2), (2, n2, n3), (3, n3, n4))
    estimates = [c - (c + 1) * y * following / n if n else 0.0 for c, n, following in pairs]
    return np.array([0.0, *(d if d > 0 else y for d in estimates)])
