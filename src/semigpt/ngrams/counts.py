"""The n-grams of a text, counted: a baseline, a model's teacher and its memory.

`kneser_ney` says what the counts mean. On a CPU with a compiler ngrams.c looks them up; PyTorch
does on every other device.

N positions, B sequences of T, V vocabulary. A context of k tokens is a node at level k of a tree
that is read from the newest token to the oldest; level 0 is its root, the empty context.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.typing import NDArray
from torch import Tensor

from semigpt.errors import CorpusError, SettingsError
from semigpt.language import _
from semigpt.native import ngrams as native
from semigpt.native.ngrams import LEVELS
from semigpt.ngrams import kneser_ney
from semigpt.ngrams.packing import count_in_numpy

__all__ = ["CHUNK", "LEVELS", "Counts", "checked_ids"]

Ids = NDArray[np.unsignedinteger[Any]]

# Positions priced at a time: what is held meanwhile does not grow with the text.
CHUNK = 1 << 16
# Totals are kept for contexts shorter than this. Longer ones are a hundred times as many, with few
# followers each, and are summed on demand (docs/choices.md#totals).
SUMMED = 3
INTEGERS = (torch.uint8, torch.int16, torch.int32)
TABLES = ("first_child", "oldest", "first_follower", "follower", "count")


@dataclass(frozen=True, eq=False)
class Counts:
    """The n-grams of a text up to an order, and what Kneser-Ney makes of them. Immutable."""

    vocab_size: int
    order: int
    discounts: Tensor
    """[order + 1, 4]: D_k of order k, for counts of 0, 1, 2 and 3 or more."""
    first_child: tuple[Tensor, ...]
    """Level k < order - 1 [contexts, + 1]: where each context's children begin at level k + 1."""
    oldest: tuple[Tensor, ...]
    """Level k [contexts]: the oldest token of each; level 0 is empty."""
    first_follower: tuple[Tensor, ...]
    """Level k [contexts, + 1]: where each context's followers begin."""
    follower: tuple[Tensor, ...]
    """Level k [n-grams of k + 1 tokens]: the tokens that followed, ascending in a context."""
    count: tuple[Tensor, ...]
    """Level k [n-grams]: how often at the highest order, in how many longer contexts below it."""
    totals: tuple[Tensor, ...] = field(init=False)
    """Level k < SUMMED [contexts, 4]: counts in all; followers with counts of 1, 2, 3 or more."""
    unigram: Tensor = field(init=False)
    """[V]: p without a context."""
    search_keys: dict[int, Tensor] = field(init=False)
    """PyTorch's search keys of each table, by its id, made when it is first searched."""
    _tables: native.Tables | None = field(init=False)

    @classmethod
    def fit(cls, ids: npt.ArrayLike, vocab_size: int, order: int = 5) -> Counts:
        """Count a training text.

        The text is read as a circle, its first token after its last. Documents have no order, so
        the seam is one more border between documents. In return every position has a full context,
        every k-gram is also a context, and no start symbol is needed.

        Args:
            ids: [tokens], 0 <= id < vocab_size.
            order: The tokens of the longest n-gram, 2 to 8.

        Raises CorpusError for a text that is empty or of 2^31 tokens or more, SettingsError for
        another order or ids outside the vocabulary.
        """
        if not 2 <= order <= LEVELS:
            raise SettingsError(
                _("counts of order {order} cannot be; choose 2 to {levels}, 5 is usual").format(
                    order=order, levels=LEVELS
                )
            )
        ids = checked_ids(ids, vocab_size)
        if len(ids) == 0:
            raise CorpusError(_("there is no text to count: give at least one token"))
        if len(ids) >= 2**31:
            raise CorpusError(
                _("at most 2,147,483,647 tokens are counted, not {count:,}").format(count=len(ids))
            )
        in_c = native.available() and native.counts_fit(vocab_size, order)
        found = (native.count if in_c else count_in_numpy)(ids, vocab_size, order)
        discounts = [kneser_ney.discounts_of(counts) for counts in found.counts]
        stacked = np.stack([np.zeros(4), *discounts]).astype(np.float32)
        levels = (tuple(map(torch.from_numpy, table)) for table in found)
        return cls(vocab_size, order, torch.from_numpy(stacked), *levels)

    def __post_init__(self) -> None:
        totals = tuple(self._totals(level) for level in range(min(SUMMED, self.order)))
        object.__setattr__(self, "totals", totals)
        object.__setattr__(self, "search_keys", {})
        object.__setattr__(self, "unigram", kneser_ney.unigram(self))
        tables = self._native_tables() if self.device.type == "cpu" else None
        object.__setattr__(self, "_tables", tables)

    @property
    def device(self) -> torch.device:
        return self.discounts.device

    @property
    def features(self) -> int:
        """How many features `lookup` gives for a position."""
        return 2 * (self.order - 1)

    @property
    def pointer(self) -> Any:
        """The counts for C, on a CPU."""
        assert self._tables is not None
        return self._tables.pointer

    def tensors(self) -> dict[str, Tensor]:
        """All tables by name, each in the smallest integer type that holds it: what is saved."""
        found = {"discounts": self.discounts}
        for name in TABLES:
            for level, tensor in enumerate(getattr(self, name)):
                found[f"{name}.{level}"] = _smallest(tensor)
        return found

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], vocab_size: int) -> Counts:
        """What `tensors` gave. Raises ValueError or LookupError where they do not fit together."""
        discounts = tensors["discounts"].float()
        if discounts.dim() != 2:
            raise ValueError("discounts of no order")
        order = len(discounts) - 1
        if not 2 <= order <= LEVELS or discounts.shape != (order + 1, 4):
            raise ValueError("discounts of no order")
        if not bool(((discounts >= 0) & (discounts <= torch.arange(4))).all()):
            raise ValueError("discounts that are not between 0 and their counts")

        def levels(name: str) -> tuple[Tensor, ...]:
            number = order - 1 if name == "first_child" else order
            tables = [tensors[f"{name}.{level}"] for level in range(number)]
            if any(table.dim() != 1 or table.dtype not in INTEGERS for table in tables):
                raise ValueError("a level with a table of another shape or type")
            return tuple(table.to(torch.int32).contiguous() for table in tables)

        tables = {name: levels(name) for name in TABLES}
        _check(tables, vocab_size, order)
        return cls(vocab_size, order, discounts, **tables)

    def to(self, device: torch.device) -> Counts:
        """The same counts on another device."""
        if device == self.device:
            return self
        moved = {name: [table.to(device) for table in getattr(self, name)] for name in TABLES}
        tables = {name: tuple(levels) for name, levels in moved.items()}
        return Counts(self.vocab_size, self.order, self.discounts.to(device), **tables)

    def __deepcopy__(self, memo: dict[int, Any]) -> Counts:
        """Itself: nothing in it changes, and the C holds addresses in it."""
        return self

    def distribution(
        self,
        inputs_BT: Tensor,
        left_out_BT: Tensor | None = None,
        weights_BTK: Tensor | None = None,
    ) -> Tensor:
        """p of every token after each position: `[B, T]` to `[B, T, V]`, on the counts' device.

        Args:
            left_out_BT: The tokens that came next where the inputs are the counted text itself.
                Each one's own occurrence is taken out: of its longest n-gram's count and, where
                that was the only one, of the shorter one's. So the counts say of their own text
                what they would had they not seen that token (leave-one-out).
            weights_BTK: `[B, T, order]`. The result is the sum over k of weight k times the p that
                the last k tokens alone give.
        """
        learns = weights_BTK is not None and weights_BTK.requires_grad and torch.is_grad_enabled()
        tables = None if learns else self._for_native()  # autograd cannot follow the C
        if tables is None:
            return kneser_ney.distribution(self, inputs_BT, left_out_BT, weights_BTK)
        weights = None if weights_BTK is None else weights_BTK.detach().numpy()
        return torch.from_numpy(
            native.distribution(tables, inputs_BT.numpy(), _array(left_out_BT), weights)
        )

    def top_k(
        self, inputs_BT: Tensor, k: int, left_out_BT: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The k likeliest tokens after each position and their p, likeliest first: `[B, T, k]`
        both.

        `left_out_BT` as in `distribution`. Raises SettingsError where k is more than the
        vocabulary.
        """
        if not 1 <= k <= self.vocab_size:
            raise SettingsError(
                _(
                    "the {k} likeliest of {vocab_size} tokens cannot be; choose 1 to {vocab_size}"
                ).format(k=k, vocab_size=self.vocab_size)
            )
        tables = self._for_native()
        if tables is None:
            p_BTK, tokens_BTK = self.distribution(inputs_BT, left_out_BT).topk(k, dim=-1)
            return tokens_BTK, p_BTK
        tokens, p = native.top_k(tables, inputs_BT.numpy(), k, _array(left_out_BT))
        return torch.from_numpy(tokens), torch.from_numpy(p)

    def lookup(
        self, inputs_BT: Tensor, targets_BT: Tensor | None, *, leave_one_out: bool = False
    ) -> tuple[Tensor, Tensor]:
        """p of each target, and features of its contexts.

        The first `[B, T, order]`: p of the target (of token 0 without targets) after the last 0, 1
        ... order - 1 tokens alone. The second `[B, T, features]`: of each context but the empty one
        ln(1 + its counts in all) and its backoff, 0 and 1 where it was not counted.

        With `leave_one_out` the inputs are the counted text itself, and each target is left out as
        in `distribution`.
        """
        targets_BT = torch.zeros_like(inputs_BT) if targets_BT is None else targets_BT
        tables = self._for_native()
        if tables is None:
            return kneser_ney.lookup(self, inputs_BT, targets_BT, leave_one_out=leave_one_out)
        p, features = native.lookup(
            tables, inputs_BT.numpy(), targets_BT.numpy(), leave_one_out=leave_one_out
        )
        return torch.from_numpy(p), torch.from_numpy(features)

    def bits(self, ids: npt.ArrayLike) -> float:
        """The information of a text, `ids` [tokens]: minus the sum of log2 p.

        The text is not a circle: its first tokens have the contexts there are. The memory that this
        takes does not grow with it. Raises SettingsError for ids outside the vocabulary.
        """
        ids = checked_ids(ids, self.vocab_size)
        logs = [math.log2(self.unigram[int(token)]) for token in ids[:1]]
        for start in range(1, len(ids), CHUNK):
            oldest = max(0, start - (self.order - 1))
            window_1T = torch.from_numpy(ids[None, oldest : start + CHUNK].astype(np.int64))
            window_1T = window_1T.to(self.device)
            p_1TK, _ = self.lookup(window_1T[:, :-1], window_1T[:, 1:])
            p_T = p_1TK[0, start - 1 - oldest :, -1].cpu().double().numpy()
            logs.append(float(np.log2(p_T).sum()))
        return -math.fsum(logs)

    def _totals(self, level: int) -> Tensor:
        first, count = self.first_follower[level], self.count[level]
        if self.device.type == "cpu" and native.available():
            return torch.from_numpy(native.totals(first.numpy(), count.numpy()))
        return kneser_ney.summed_totals(self, level, torch.arange(len(first) - 1).to(self.device))

    def _for_native(self) -> native.Tables | None:
        return self._tables if self._tables is not None and native.available() else None

    def _native_tables(self) -> native.Tables:
        levels = {
            name: [table.numpy() for table in getattr(self, name)] for name in (*TABLES, "totals")
        }
        return native.Tables(self.discounts.numpy(), self.unigram.numpy(), levels)


def checked_ids(ids: npt.ArrayLike, vocab_size: int) -> Ids:
    """The ids as a flat array of the smallest unsigned type for the vocabulary, or
    SettingsError."""
    array = np.asarray(ids)
    if array.size == 0:
        array = array.astype(np.uint8)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise SettingsError(
            _(
                "token ids must be one row of whole numbers, not {dtype} of shape "
                "{shape}: encode the text with the tokenizer first"
            ).format(dtype=array.dtype, shape=array.shape)
        )
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < vocab_size:
        raise SettingsError(
            _(
                "token ids from {first} to {last} do not fit a vocabulary of "
                "{vocab_size}: use the tokenizer that made them"
            ).format(first=array.min(), last=array.max(), vocab_size=vocab_size)
        )
    return array.astype(np.min_scalar_type(max(vocab_size - 1, 0)), copy=False)


def _array(ids_BT: Tensor | None) -> NDArray[np.int64] | None:
    return None if ids_BT is None else ids_BT.numpy()


def _smallest(table: Tensor) -> Tensor:
    """The same numbers, none below 0, in the smallest integer type that safetensors has."""
    top = int(table.max()) if len(table) else 0
    return table.to(torch.uint8 if top < 2**8 else torch.int16 if top < 2**15 else torch.int32)


def _check(tables: dict[str, tuple[Tensor, ...]], vocab_size: int, order: int) -> None:
    """Raise ValueError where an index would lead outside: the C trusts them."""
    size = 1
    for level in range(order):
        oldest, follower, count = (tables[name][level] for name in ("oldest", "follower", "count"))
        if level and not _inside(oldest, vocab_size):
            raise ValueError(f"tokens of level {level} outside the vocabulary")
        # Something followed every context; not every one has children.
        starts = [(tables["first_follower"][level], len(follower), torch.gt)]
        if level < order - 1:
            children = len(tables["oldest"][level + 1])
            starts.append((tables["first_child"][level], children, torch.ge))
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
        if int(count.sum(dtype=torch.int64)) >= 2**31:
            raise ValueError(f"level {level} counts more than a text can hold")
        # Followers ascend in each context: the C looks them up by halves.
        falls = follower[1:] <= follower[:-1]
        falls[tables["first_follower"][level][1:-1].long() - 1] = False
        if bool(falls.any()):
            raise ValueError(f"followers of level {level} do not ascend")
        size = len(tables["oldest"][level + 1]) if level < order - 1 else 0


def _inside(tokens: Tensor, vocab_size: int) -> bool:
    return not len(tokens) or bool((tokens.min() >= 0) & (tokens.max() < vocab_size))
