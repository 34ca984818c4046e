"""Logits after tokens of several growing sequences: the one thing the engine asks of a model.

There are two ways to the same logits: PyTorch, for every model on every device, and C
(`semigpt.native.decode`), for the GPT on a CPU.

Shapes: B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semigpt.errors import SettingsError
from semigpt.evaluation.evaluate import eval_mode
from semigpt.generation.quantize import PRECISIONS, Precision, quantize, rounded, rounded_rows
from semigpt.language import _
from semigpt.models.base import Cache, LanguageModel
from semigpt.models.gpt import GPT
from semigpt.models.lora import adapters
from semigpt.native.decode import NativeDecoder, NativeUnavailableError, library
from semigpt.native.decode_weights import DecoderWeights, LayerWeights, Matrix, interleave, pack
from semigpt.settings import check_choice

__all__ = [
    "Decoder",
    "Part",
    "Pool",
    "Sequences",
    "TorchDecoder",
    "check_ids",
    "make_decoder",
    "native_decoder",
]

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Part = tuple[int, Sequence[int], int]
"""Tokens that a sequence reads: its slot, the tokens, and how many of the last ones' logits are
wanted."""


class Pool(Protocol):
    """What a decoder keeps of some sequences: their caches, one a slot.

    Every slot is read alone or with others, to the same logits.
    """

    @property
    def free_slots(self) -> int:
        """How many slots nobody has."""
        ...

    def take(self) -> int:
        """An empty sequence's slot. Raises IndexError where none is free."""
        ...

    def free(self, slot: int) -> None:
        """Give a slot back."""
        ...

    def fork(self, slot: int) -> int:
        """A new slot with a copy of a sequence. Raises IndexError where none is free."""
        ...

    def snapshot(self, slot: int) -> Any:
        """A copy of a sequence, for `restore`."""
        ...

    def restore(self, slot: int, snapshot: Any) -> None:
        """Make a slot's sequence that of the snapshot."""
        ...

    def can_rewind(self, slot: int, ahead: int) -> bool:
        """Whether, `ahead` tokens further on, those can be taken back."""
        ...

    def rewind(self, slot: int, count: int) -> None:
        """Take back the last `count` tokens."""
        ...

    def most_tokens(self, slot: int) -> int:
        """How many tokens one `read` may give a sequence."""
        ...

    def read(
        self, slots: Sequence[int], tokens: Sequence[int], parts: Sequence[Part] = ()
    ) -> Floats:
        """Read a token of each of some sequences, and parts of others.

        A part has at most `most_tokens`. Returns the logits after each of the tokens, then those
        that the parts want, in order, `[B, V]`; they may be overwritten by the next call. Raises
        SettingsError for an id outside the vocabulary; then nothing is read.
        """
        ...


class Decoder(Protocol):
    """Makes pools."""

    @property
    def vocab_size(self) -> int: ...

    def pool(self, slots: int) -> Pool:
        """Room for so many sequences."""
        ...


class Sequences:
    """B sequences that are read in step: those of some slots of a pool."""

    def __init__(self, pool: Pool, slots: Sequence[int]) -> None:
        self._pool, self.slots = pool, list(slots)

    @classmethod
    def open(cls, decoder: Decoder, count: int, capacity: int = 0) -> Sequences:
        """`count` empty sequences, of which `keep` may make up to `capacity`."""
        pool = decoder.pool(max(count, capacity))
        return cls(pool, [pool.take() for _ in range(count)])

    def feed(self, sequences: Sequence[Sequence[int]], wanted: int = 1) -> Floats:
        """Read more tokens of each, at least one; the logits after the last `wanted` of each."""
        logits = []
        for slot, tokens in zip(self.slots, sequences, strict=True):
            place, found = 0, []
            while place < len(tokens):
                part = tokens[place : place + self._pool.most_tokens(slot)]
                place += len(part)
                rows = max(0, min(len(part), place - (len(tokens) - wanted)))
                found.append(self._pool.read([], [], [(slot, part, rows)]).copy())
            logits += found
        return np.concatenate(logits)

    def step(self, tokens: NDArray[np.int64]) -> Floats:
        """`feed` of one token each, `[B]`."""
        return self._pool.read(self.slots, tokens.tolist())

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these sequences, in this order; one named twice is copied (`capacity`)."""
        chosen = [self.slots[row] for row in rows]
        for slot in set(self.slots) - set(chosen):
            self._pool.free(slot)
        self.slots = []
        for slot in chosen:
            self.slots.append(self._pool.fork(slot) if slot in self.slots else slot)


def check_ids(name: str, ids: Sequence[int], vocab_size: int) -> None:
    """Raise SettingsError, naming the id, for one outside the vocabulary."""
    for token in ids:
        if not 0 <= token < vocab_size:
            raise SettingsError(
                _("{name} {token} is outside the vocabulary of {vocab_size} tokens").format(
                    name=name, token=token, vocab_size=vocab_size
                )
            )


def make_decoder(
    model: LanguageModel, precision: Precision = "float32", native: bool | None = None
) -> Decoder:
    """The fastest decoder there is for a model.

    native: True insists on C and raises NativeUnavailableError where there is none; False never
        uses it
    """
    check_choice("precision", precision, PRECISIONS)
    plain = type(model) is GPT and model.settings.in_c and not any(adapters(model))
    runs_natively = plain and model.device.type == "cpu"
    if native and not runs_natively:
        raise NativeUnavailableError(
            _("a {kind} of this shape on {type} is decoded by PyTorch only").format(
                kind=model.kind, type=model.device.type
            )
        )
    if native is not False and runs_natively:
        assert isinstance(model, GPT)
        try:
            return native_decoder(model, precision)
        except NativeUnavailableError as error:
            if native:
                raise
            _warn_once(str(error))
    return TorchDecoder(rounded(model, precision))


@cache
def _warn_once(reason: str) -> None:
    logger.warning(_("generating with PyTorch alone, some ten times slower: %s"), reason)


def native_decoder(
    model: GPT, precision: Precision = "float32", threads: int | None = None
) -> NativeDecoder:
    """A decoder in C with the model's weights as they are now. Raises NativeUnavailableError.

    threads: None for one per 4 MB of weights, at most PyTorch's
    """
    library()  # raises before the weights are packed
    weights = _native_weights(model, precision)
    if threads is None:
        # Threads wait for each other five times per layer: below 4 MB each they gain a tenth on an
        # idle machine, and on a busy one a step takes ten times as long.
        threads = max(1, min(torch.get_num_threads(), weights.nbytes >> 22))
    return NativeDecoder(weights, threads)


def _native_weights(model: GPT, precision: Precision) -> DecoderWeights:
    settings = model.settings

    def matrix(*weights: Tensor) -> Matrix:
        return pack(*quantize(np.concatenate([_array(weight) for weight in weights]), precision))

    layers = []
    blocks: Any = model.model.layers
    for block in blocks:
        attention, mlp = block.self_attn, block.mlp
        gate_up = interleave(_array(mlp.gate_proj.weight), _array(mlp.up_proj.weight))
        layers.append(
            LayerWeights(
                qkv=matrix(
                    attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight
                ),
                o=matrix(attention.o_proj.weight),
                gate_up=pack(*quantize(gate_up, precision)),
                down=matrix(mlp.down_proj.weight),
                input_norm=_array(block.input_layernorm.weight),
                post_norm=_array(block.post_attention_layernorm.weight),
                q_norm=_array(attention.q_norm.weight),
                k_norm=_array(attention.k_norm.weight),
            )
        )
    return DecoderWeights(
        width=settings.width,
        num_heads=settings.num_heads,
        num_kv_heads=settings.kv_heads,
        head_width=settings.head_width,
        hidden_width=settings.feedforward_width,
        vocab_size=settings.vocab_size,
        context_length=settings.context_length,
        epsilon=settings.norm_epsilon,
        frequencies=_array(model.inverse_frequencies_P),
        embedding=rounded_rows(_array(model.model.embed_tokens.weight), precision),
        final_norm=_array(model.model.norm.weight),
        output=matrix(model.lm_head.weight[: settings.vocab_size]),
        layers=layers,
    )


def _array(tensor: Tensor) -> Floats:
    """A copy as float32, so that training the model on does not change a decoder made before."""
    return np.array(tensor.detach().float().numpy())


class TorchDecoder:
    """Any model on any device.

    together: sequences forked from one share a batch for as long as they are read in step. Their
        logits then depend, in the last bits, on how many there are.
    """

    def __init__(self, model: LanguageModel, *, together: bool = True) -> None:
        self.model, self.together = model, together
        self.vocab_size = model.settings.vocab_size

    def pool(self, slots: int) -> TorchPool:
        return TorchPool(self.model, slots, self.together)


class _Group:
    """Sequences of equal length, which share a batch.

    cache: a row for each; None for a model without a cache
    tokens_BT: without a cache, the newest tokens, as many as the context holds
    """

    def __init__(self, cache: Cache | None, tokens_BT: Tensor) -> None:
        self.cache = cache
        self.tokens_BT = tokens_BT

    def __len__(self) -> int:
        return len(self.tokens_BT)

    def select(self, rows: list[int]) -> _Group:
        """A copy with these rows."""
        cache = None if self.cache is None else self.cache.select(rows)
        return _Group(cache, self.tokens_BT[rows])


class TorchPool:
    """Sequences in groups of equal length: there is no padding, so none depends on another."""

    def __init__(self, model: LanguageModel, slots: int, together: bool) -> None:
        self._model, self._together = model, together
        self._free = list(range(slots - 1, -1, -1))
        self._places: dict[int, tuple[_Group, int]] = {}  # of each slot: its group, its row there
        self._lengths: dict[int, int] = {}

    @property
    def free_slots(self) -> int:
        return len(self._free)

    def take(self) -> int:
        slot = self._free.pop()
        nothing_BT = torch.empty(1, 0, dtype=torch.int64, device=self._model.device)
        self._places[slot] = _Group(self._model.new_cache(1), nothing_BT), 0
        self._lengths[slot] = 0
        return slot

    def free(self, slot: int) -> None:
        del self._places[slot]
        self._free.append(slot)

    def fork(self, slot: int) -> int:
        copy = self.take()
        group, row = self._places[slot]
        self._places[copy] = (group, row) if self._together else (group.select([row]), 0)
        self._lengths[copy] = self._lengths[slot]
        return copy

    def snapshot(self, slot: int) -> tuple[_Group, int]:
        group, row = self._places[slot]
        return group.select([row]), self._lengths[slot]

    def restore(self, slot: int, snapshot: tuple[_Group, int]) -> None:
        group, self._lengths[slot] = snapshot
        self._places[slot] = group.select([0]), 0

    def can_rewind(self, slot: int, ahead: int) -> bool:
        return False

    def rewind(self, slot: int, count: int) -> None:
        raise NotImplementedError("a cache of PyTorch's cannot take tokens back")

    def most_tokens(self, slot: int) -> int:
        return max(1, self._model.settings.context_length - self._lengths[slot])

    def read(
        self, slots: Sequence[int], tokens: Sequence[int], parts: Sequence[Part] = ()
    ) -> Floats:
        vocab_size = self._model.settings.vocab_size
        alone = zip(slots, tokens, strict=True)
        parts = [*((slot, [token], 1) for slot, token in alone), *parts]
        for _row, part, _wanted in parts:
            check_ids("token", part, vocab_size)
        logits: list[Sequence[Floats]] = [()] * len(parts)
        alike: dict[tuple[int, int], list[int]] = {}
        for index, (slot, part, wanted) in enumerate(parts):
            if wanted > 1:
                logits[index] = self._read_each(slot, part, wanted)
            else:
                group, _ = self._places[slot]
                alike.setdefault((id(group), len(part)), []).append(index)
        for indices in alike.values():
            found = self._read([parts[i][0] for i in indices], [parts[i][1] for i in indices])
            for index, row in zip(indices, found, strict=True):
                logits[index] = [row] * parts[index][2]
        rows = [row for found in logits for row in found]
        return np.stack(rows) if rows else np.empty((0, vocab_size), np.float32)

    def _read_each(self, slot: int, tokens: Sequence[int], wanted: int) -> list[Floats]:
        """The logits after each of the last `wanted` tokens."""
        if wanted == len(tokens) and not self._lengths[slot]:
            with eval_mode(self._model), torch.inference_mode():
                logits_TV = self._model(torch.tensor([list(tokens)], device=self._model.device))[0]
            self._read([slot], [tokens])
            return list(logits_TV[0].float().cpu().numpy())
        first = len(tokens) - wanted + 1
        found = [self._read([slot], [tokens[:first]])[0]]
        return found + [self._read([slot], [[token]])[0] for token in tokens[first:]]

    def _read(self, slots: Sequence[int], tokens: Sequence[Sequence[int]]) -> Floats:
        """The logits after equally many tokens of sequences of one group, `[B, V]`."""
        group, _ = self._places[slots[0]]
        rows = [self._places[slot][1] for slot in slots]
        shared = sum(other is group for other, _ in self._places.values()) > len(slots)
        if shared or rows != list(range(len(group))):
            group = group.select(rows)
        for row, slot in enumerate(slots):
            self._places[slot] = group, row
            self._lengths[slot] += len(tokens[0])
        model = self._model
        new_BT = torch.tensor([list(row) for row in tokens], dtype=torch.int64, device=model.device)
        with eval_mode(model), torch.inference_mode():
            if group.cache is not None:
                return model.next_logits(new_BT, group.cache).cpu().numpy()
            context = model.settings.context_length
            group.tokens_BT = torch.cat((group.tokens_BT, new_BT), dim=1)[:, -context:]
            return model.next_logits(group.tokens_BT, None).cpu().numpy()
