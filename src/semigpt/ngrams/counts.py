"""The counts of n-grams as a model's teacher and its memory: what they say of every token after a context, at once.

`kneser_ney` answers how probable a given text is; here the same counts lie the other way round, each context with what
followed it, so that whole distributions come out, some 1,000 additions each where the counts of 22 million characters are
asked. On a CPU with a compiler `step.c` does it (2 µs a distribution on two cores); the PyTorch below is its oracle, and the
way on every other device.

N positions, B texts of T, V vocabulary. A context of k tokens is a node of a tree that is read from the newest token to
the oldest; level 0 is its root, the empty context.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semigpt.errors import SettingsError
from semigpt.native.gpt_step import library_or_none
from semigpt.ngrams.kneser_ney import Packing, checked_ids, discounts_of, run_starts

__all__ = ["Counts"]

LEVELS = 8  # as in step.c
# Sums over what followed a context are kept for contexts shorter than this. Longer ones are a hundred times as many, with
# few followers each, and are added up when asked: of film reviews they were two fifths of all that was kept.
SUMMED = 3
TABLES = ("first_child", "oldest", "first_follower", "follower", "count")


class _Counts(ctypes.Structure):
    _fields_ = (
        ("order", ctypes.c_int32),
        ("vocab", ctypes.c_int32),
        ("discount", ctypes.c_float * (4 * (LEVELS + 1))),
        *((name, ctypes.c_void_p * LEVELS) for name in (*TABLES, "totals")),
        ("unigram", ctypes.c_void_p),
    )


@dataclass(frozen=True, eq=False)
class Counts:
    """The n-grams of a text up to an order, and what interpolated modified Kneser-Ney makes of them."""

    vocab_size: int
    order: int
    discounts: Tensor
    """[order + 1, 4]: of order k, for counts of 0, 1, 2 and 3 or more."""
    first_child: tuple[Tensor, ...]
    """Level k [contexts of k tokens, + 1]: where each one's children begin at level k + 1; k < order - 1."""
    oldest: tuple[Tensor, ...]
    """Level k [contexts of k tokens]: the oldest token of each; level 0 is empty."""
    first_follower: tuple[Tensor, ...]
    """Level k [contexts of k tokens, + 1]: where what followed each begins."""
    follower: tuple[Tensor, ...]
    """Level k [n-grams of k + 1 tokens]: the tokens that followed, ascending in a context."""
    count: tuple[Tensor, ...]
    """And how often: occurrences at the highest order, below it in how many longer contexts."""
    totals: tuple[Tensor, ...] = field(init=False)
    """Level k < SUMMED [contexts of k tokens, 4]: counts in all; followers seen once, twice, three times or more."""
    unigram: Tensor = field(init=False)
    """[vocab_size]: p without a context."""
    _struct: _Counts | None = field(init=False)
    _keys: dict[int, Tensor] = field(init=False)
    """Of each table that was searched, by its id, what `_find` searches in."""

    @classmethod
    def fit(cls, ids: NDArray[Any], vocab_size: int, order: int = 5) -> Counts:
        """Count a training text, `ids` [tokens]: 22 million characters take 1.3 s and leave 250 MB, 11 million byte pairs 4 s."""
        if not 2 <= order <= LEVELS:
            raise SettingsError(
                f"counts of order {order} cannot be; choose 2 to {LEVELS}, 5 is usual"
            )
        ids = checked_ids(ids, vocab_size)
        # The text is read as a circle, as `KneserNey` reads it. Each place's context and its token as one number: sorted,
        # contexts lie as a tree, each with its followers, ascending.
        radix = np.uint64(vocab_size)
        keys, packing = Packing.of(np.roll(ids, 1), vocab_size, order - 1, room=vocab_size)
        ranks: NDArray[np.uint64] | None = None
        if packing.span * vocab_size > 2**64:
            ranks, places = np.unique(keys, return_inverse=True)
            keys = places.astype(np.uint64)
        whole, follower, counts = _counted(keys, ids, radix)
        del keys
        starts = run_starts(whole)
        nodes = whole[starts] if ranks is None else ranks[whole[starts]]
        oldest, first_child = packing.tree(nodes)
        context = np.repeat(np.arange(len(nodes)), np.diff(starts, append=len(whole)))
        del whole, nodes, ranks
        # From the longest contexts up: an n-gram of fewer tokens counts as often as it was seen in different longer ones.
        levels = [(np.append(starts, len(follower)), follower, counts)]
        for level in reversed(range(order - 1)):
            parents = np.repeat(np.arange(len(first_child[level]) - 1), np.diff(first_child[level]))
            whole, follower, counts = _counted(parents[context].astype(np.uint64), follower, radix)
            context = whole.astype(np.int64)
            levels.insert(0, (np.append(run_starts(whole), len(whole)), follower, counts))
        discounts = np.stack([np.zeros(4), *(discounts_of(counts) for _, _, counts in levels)])
        first_follower, followers, how_often = (
            tuple(_tensor(part) for part in table) for table in zip(*levels, strict=True)
        )
        return cls(
            vocab_size,
            order,
            torch.from_numpy(discounts.astype(np.float32)),
            tuple(_tensor(children) for children in first_child),
            tuple(_tensor(tokens) for tokens in oldest),
            first_follower,
            followers,
            how_often,
        )

    def __post_init__(self) -> None:
        every = [
            torch.arange(len(self.first_follower[level]) - 1)
            for level in range(min(SUMMED, self.order))
        ]
        sums = tuple(
            self._added_up(level, nodes.to(self.device)) for level, nodes in enumerate(every)
        )
        object.__setattr__(self, "totals", sums)
        object.__setattr__(self, "_keys", {})
        object.__setattr__(self, "unigram", self._unigram())
        object.__setattr__(
            self, "_struct", self._for_c() if self.discounts.device.type == "cpu" else None
        )

    @property
    def device(self) -> torch.device:
        return self.discounts.device

    @property
    def features(self) -> int:
        """How many numbers `recall` tells of a position's contexts."""
        return 2 * (self.order - 1)

    def tensors(self) -> dict[str, Tensor]:
        """Everything, by name, each table in the smallest whole numbers that hold it: what is saved."""
        found = {"discounts": self.discounts}
        for name in TABLES:
            found |= {
                f"{name}.{level}": _smallest(tensor)
                for level, tensor in enumerate(getattr(self, name))
            }
        return found

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], vocab_size: int) -> Counts:
        """What `tensors` gave. ValueError or LookupError where they do not fit together."""
        order = len(tensors["discounts"]) - 1
        if not 2 <= order <= LEVELS or tensors["discounts"].shape != (order + 1, 4):
            raise ValueError("discounts of no order")

        def levels(name: str) -> tuple[Tensor, ...]:
            number = order - 1 if name == "first_child" else order
            tables = tuple(
                tensors[f"{name}.{level}"].to(torch.int32).contiguous() for level in range(number)
            )
            if any(table.dim() != 1 for table in tables):
                raise ValueError("a level with a table of another shape")
            return tables

        tables = {name: levels(name) for name in TABLES}
        _check(tables, vocab_size, order)
        return cls(vocab_size, order, tensors["discounts"].float(), **tables)

    def to(self, device: torch.device) -> Counts:
        """The same on another device."""
        if device == self.device:
            return self
        moved = {name: tensor.to(device) for name, tensor in self.tensors().items()}
        return Counts.from_tensors(moved, self.vocab_size)

    def distribution(
        self,
        inputs_BT: Tensor,
        left_out_BT: Tensor | None = None,
        weights_BTK: Tensor | None = None,
    ) -> Tensor:
        """p of every token after each position of each text: `[B, T]` to `[B, T, V]`, on the counts' device.

        With `weights_BTK`, `[B, T, order]`, it is the sum over k of weight k times what the last k tokens alone say.

        `left_out_BT` are the tokens that came next in the counted text itself: each one's own occurrence is taken out
        again, out of its longest n-gram and, where that was the only one, out of the shorter one's count. So the counts say
        of their own text what they would had they not seen the token at hand.
        """
        B, T = inputs_BT.shape
        learns = weights_BTK is not None and weights_BTK.requires_grad and torch.is_grad_enabled()
        c = None if learns else self._library()  # the C leaves no trace for autograd to follow
        if c is not None:
            q_BTV = torch.empty(B, T, self.vocab_size)
            with _addresses(inputs_BT, left_out_BT, weights_BTK) as (inputs, left_out, weights):
                c.semigpt_successors(
                    self.pointer, B * T, T, inputs, left_out, weights, q_BTV.data_ptr()
                )
            return q_BTV
        contexts = self._contexts(inputs_BT)
        wanted_NK = torch.zeros(B * T, self.order, device=self.device)
        if weights_BTK is None:
            wanted_NK[:, -1] = 1.0
        else:
            wanted_NK += weights_BTK.flatten(0, 1)
        left_N = torch.zeros(B * T, device=self.device)
        levels = self._left_out(contexts, None if left_out_BT is None else left_out_BT.flatten())
        shares: list[Tensor] = []
        for level in range(self.order - 1, -1, -1):
            totals_N4 = levels[level][0]
            known_N = (contexts[level] >= 0) & (totals_N4[:, 0] > 0)
            left_N = left_N + wanted_NK[:, level]
            shares.insert(0, torch.where(known_N, left_N / totals_N4[:, 0].clamp(min=1), 0.0))
            if level:
                left_N = torch.where(known_N, left_N * self._rest(level, totals_N4), left_N)
        # Level 0 is `unigram`, its shares stretched over what is left of the total.
        whole_14, left_out_N4 = self.totals[0], levels[0][0]
        stretch_N = whole_14[:, 0] / left_out_N4[:, 0].clamp(min=1)
        shift_N = self._rest(0, left_out_N4) - self._rest(0, whole_14) * stretch_N
        nothing_N = left_out_N4[:, 0] == 0
        stretch_N, shift_N = (
            torch.where(nothing_N, 0.0, stretch_N),
            torch.where(nothing_N, 1.0, shift_N) / self.vocab_size,
        )
        q_NV = (left_N * stretch_N)[:, None] * self.unigram + (left_N * shift_N)[:, None]
        for level, weight_N in enumerate(shares):
            if left_out_BT is not None:
                _, count_N, taken_N = levels[level]
                lost_N = taken_N * (self._share(level, count_N) - self._share(level, count_N - 1))
                q_NV.scatter_add_(1, left_out_BT.reshape(-1, 1), -(weight_N * lost_N)[:, None])
            if not level:
                continue
            rows, places = self._followers(level, contexts[level])
            share = self._share(level, self.count[level][places])
            q_NV.view(-1).index_add_(
                0, rows * self.vocab_size + self.follower[level][places], weight_N[rows] * share
            )
        found_BTV: Tensor = q_NV.view(B, T, -1)
        return found_BTV

    def guesses(
        self, inputs_BT: Tensor, number: int, left_out_BT: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The likeliest tokens after each position and their p, likeliest first: `[B, T, number]` both.

        `left_out_BT` as in `distribution`.
        """
        B, T = inputs_BT.shape
        c = self._library()
        if c is None:
            p_BTK, tokens_BTK = self.distribution(inputs_BT, left_out_BT).topk(number, dim=-1)
            return tokens_BTK, p_BTK
        tokens_BTK, p_BTK = torch.empty(B, T, number, dtype=torch.int64), torch.empty(B, T, number)
        with _addresses(inputs_BT, left_out_BT) as (inputs, left_out):
            c.semigpt_guesses(
                *(self.pointer, B * T, T, inputs, left_out, number),
                *(tokens_BTK.data_ptr(), p_BTK.data_ptr()),
            )
        return tokens_BTK, p_BTK

    def recall(
        self, inputs_BT: Tensor, targets_BT: Tensor | None, *, leave_one_out: bool = False
    ) -> tuple[Tensor, Tensor]:
        """p of each target (of token 0 where there are none) after the last 0, 1 … order - 1 tokens, `[B, T, order]`, and
        what is known of its contexts, `[B, T, features]`: of each length ln(1 + its counts in all) and the share left to shorter ones.

        With `leave_one_out` the text is the counted one, and each target is left out of the counts as in `distribution`.
        """
        B, T = inputs_BT.shape
        targets_BT = torch.zeros_like(inputs_BT) if targets_BT is None else targets_BT
        c = self._library()
        if c is not None:
            p_BTK, features_BTF = torch.empty(B, T, self.order), torch.empty(B, T, self.features)
            with _addresses(inputs_BT, targets_BT) as (inputs, targets):
                c.semigpt_recall(
                    *(self.pointer, B * T, T, inputs, targets, leave_one_out),
                    *(p_BTK.data_ptr(), features_BTF.data_ptr()),
                )
            return p_BTK, features_BTF
        contexts = self._contexts(inputs_BT)
        levels = self._left_out(contexts, targets_BT.flatten(), really=leave_one_out)
        p_N = torch.full((B * T,), 1 / self.vocab_size, device=self.device)
        said, features = [], []
        for level, (totals_N4, count_N, taken_N) in enumerate(levels):
            known_N = (contexts[level] >= 0) & (totals_N4[:, 0] > 0)
            share_N = self._share(level, count_N - taken_N.to(count_N.dtype)) / totals_N4[
                :, 0
            ].clamp(min=1)
            rest_N = torch.where(known_N, self._rest(level, totals_N4), 1.0)
            p_N = torch.where(known_N, share_N + rest_N * p_N, p_N)
            said.append(p_N)
            if level:
                features += [torch.where(known_N, totals_N4[:, 0], 0).log1p(), rest_N]
        return torch.stack(said, dim=1).view(B, T, -1), torch.stack(features, dim=1).view(B, T, -1)

    def _left_out(
        self, contexts: list[Tensor], targets_N: Tensor | None, *, really: bool = True
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each level: the contexts' totals `[N, 4]` without the targets' own occurrences, how often each target was
        counted, own occurrence and all, and whether that was taken out. Not `really`: nothing is."""
        if targets_N is None:
            none_N = torch.zeros_like(contexts[0])
            return [
                (self._totals(level, nodes), none_N, none_N > 0)
                for level, nodes in enumerate(contexts)
            ]
        own_N = torch.full_like(targets_N, really, dtype=torch.bool)
        levels: list[tuple[Tensor, Tensor, Tensor]] = []
        for level in range(self.order - 1, -1, -1):
            known_N = contexts[level] >= 0
            followers = self.first_follower[level], self.follower[level]
            at_N = self._find(*followers, contexts[level], targets_N)
            count_N = torch.where(at_N >= 0, self.count[level][at_N.clamp(min=0)], 0)
            taken_N = own_N & (count_N > 0) & known_N
            own_N = torch.where(known_N, taken_N & (count_N == 1), own_N)
            totals_N4 = self._totals(level, contexts[level]).clone()
            rows = torch.nonzero(taken_N).flatten()
            totals_N4[rows, 0] -= 1
            totals_N4[rows, count_N[rows].clamp(max=3).long()] -= 1
            rows = rows[count_N[rows] > 1]
            totals_N4[rows, (count_N[rows] - 1).clamp(max=3).long()] += 1
            levels.insert(0, (totals_N4, count_N, taken_N))
        return levels

    def _share(self, level: int, count: Tensor) -> Tensor:
        """Counts less their discount; nothing of nothing."""
        return count - self.discounts[level + 1][count.clamp(min=0, max=3).long()]

    @property
    def pointer(self) -> Any:
        """To the same for C; on a CPU."""
        assert self._struct is not None
        return ctypes.byref(self._struct)

    def _library(self) -> ctypes.CDLL | None:
        return library_or_none(torch.float32) if self.device.type == "cpu" else None

    def __deepcopy__(self, memo: dict[int, Any]) -> Counts:
        """Itself: nothing in it changes, and the C holds pointers into it."""
        return self

    def _contexts(self, inputs_BT: Tensor) -> list[Tensor]:
        """The node of each level that ends at each position, `[N]` each, -1 where it was not counted."""
        nodes = [torch.zeros(inputs_BT.numel(), dtype=torch.int64, device=self.device)]
        for level in range(self.order - 1):
            token_BT = torch.full_like(inputs_BT, -1)
            token_BT[:, level:] = inputs_BT[:, : max(inputs_BT.shape[1] - level, 0)]
            children = self.first_child[level], self.oldest[level + 1]
            nodes.append(self._find(*children, nodes[-1], token_BT.flatten()))
        return nodes

    def _find(self, first: Tensor, tokens: Tensor, nodes_N: Tensor, wanted_N: Tensor) -> Tensor:
        """The place of each wanted token in its node's stretch of `tokens`, -1 where it is not or either is -1."""
        if not len(tokens):
            return torch.full_like(nodes_N, -1)
        keys = self._keys.get(id(tokens))
        if keys is None:  # node and token as one number: ascending, so that one search finds both
            nodes = torch.arange(len(first) - 1, device=self.device).repeat_interleave(first.diff())
            self._keys[id(tokens)] = keys = nodes * self.vocab_size + tokens
        wanted = nodes_N * self.vocab_size + wanted_N.long()
        at_N = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        found_N = (keys[at_N] == wanted) & (wanted_N >= 0)  # a node of -1 has no key
        return torch.where(found_N, at_N, -1)

    def _followers(self, level: int, nodes_N: Tensor) -> tuple[Tensor, Tensor]:
        """Of all that followed the contexts: whose, from 0 to N - 1, and its place in `follower` and `count`."""
        rows = torch.nonzero(nodes_N >= 0).flatten()
        nodes = nodes_N[rows]
        first = self.first_follower[level][nodes].long()
        sizes = self.first_follower[level][nodes + 1].long() - first
        places = torch.arange(int(sizes.sum()), device=self.device)
        places += (first - (sizes.cumsum(0) - sizes)).repeat_interleave(sizes)
        return rows.repeat_interleave(sizes), places

    def _totals(self, level: int, nodes_N: Tensor) -> Tensor:
        """Counts in all; followers seen once, twice, three times or more: `[N, 4]`; nothing true of contexts not counted."""
        return (
            self.totals[level][nodes_N.clamp(min=0)]
            if level < SUMMED
            else self._added_up(level, nodes_N)
        )

    def _added_up(self, level: int, nodes_N: Tensor) -> Tensor:
        rows, places = self._followers(level, nodes_N)
        count = self.count[level][places]
        totals_N4 = torch.zeros(len(nodes_N), 4, dtype=torch.int32, device=self.device)
        totals_N4[:, 0].index_add_(0, rows, count)
        times_seen = rows * 4 + count.clamp(max=3)
        totals_N4.view(-1).index_add_(0, times_seen, torch.ones_like(count))
        return totals_N4

    def _rest(self, level: int, totals_N4: Tensor) -> Tensor:
        """The share that the contexts leave to shorter ones."""
        return (totals_N4[:, 1:] * self.discounts[level + 1][1:]).sum(dim=1) / totals_N4[
            :, 0
        ].clamp(min=1)

    def _unigram(self) -> Tensor:
        shares = self.count[0] - self.discounts[1][self.count[0].clamp(max=3).long()]
        unigram_V = torch.zeros(self.vocab_size, device=self.device)
        unigram_V[self.follower[0].long()] = shares / self.totals[0][0, 0]
        return unigram_V + self._rest(0, self.totals[0]) / self.vocab_size

    def _for_c(self) -> _Counts:
        struct = _Counts(order=self.order, vocab=self.vocab_size, unigram=self.unigram.data_ptr())
        struct.discount[: 4 * len(self.discounts)] = self.discounts.flatten().tolist()
        for name in (*TABLES, "totals"):
            for level, tensor in enumerate(getattr(self, name)):
                getattr(struct, name)[level] = tensor.data_ptr()
        return struct


def _counted(
    contexts: NDArray[np.uint64], followers: NDArray[Any], radix: np.uint64
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]:
    """The distinct pairs of a context and its follower, ascending, and how often each occurs; `contexts` is worked in."""
    contexts *= radix
    contexts += followers
    contexts.sort()
    starts = run_starts(contexts)
    context, follower = np.divmod(contexts[starts], radix)
    return context, follower, np.diff(starts, append=len(contexts))


@contextlib.contextmanager
def _addresses(*tensors: Tensor | None) -> Iterator[list[int | None]]:
    """Where the numbers of each lie in one piece, for as long as they are looked at."""
    whole = [None if tensor is None else tensor.contiguous() for tensor in tensors]
    yield [None if tensor is None else tensor.data_ptr() for tensor in whole]


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int32))


def _smallest(table: Tensor) -> Tensor:
    """The same numbers, none below 0, in the smallest kind of whole number."""
    top = int(table.max()) if len(table) else 0
    return table.to(torch.uint8 if top < 2**8 else torch.int16 if top < 2**15 else torch.int32)


def _check(tables: dict[str, tuple[Tensor, ...]], vocab_size: int, order: int) -> None:
    """ValueError where an index would lead outside: the C trusts them."""
    size = 1
    for level in range(order):
        oldest, follower, count = (tables[name][level] for name in ("oldest", "follower", "count"))
        if level and not _inside(oldest, vocab_size):
            raise ValueError(f"tokens of level {level} outside the vocabulary")
        # Something followed every context.
        starts = [(tables["first_follower"][level], len(follower), torch.gt)]
        if level < order - 1:
            starts.append(
                (tables["first_child"][level], len(tables["oldest"][level + 1]), torch.ge)
            )
        for first, end, above in starts:
            steps_up = len(first) == size + 1 and bool(above(first[1:], first[:-1]).all())
            if not steps_up or int(first[0]) != 0 or int(first[-1]) != end:
                raise ValueError(f"level {level} does not add up")
        if len(count) != len(follower):
            raise ValueError(f"level {level} has tables of other lengths")
        if not _inside(follower, vocab_size) or bool((count < 1).any()):
            raise ValueError(
                f"followers of level {level} outside the vocabulary, or counted less than once"
            )
        size = len(tables["oldest"][level + 1]) if level < order - 1 else 0


def _inside(tokens: Tensor, vocab_size: int) -> bool:
    return not len(tokens) or bool((tokens.min() >= 0) & (tokens.max() < vocab_size))
