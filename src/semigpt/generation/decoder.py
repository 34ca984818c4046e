"""Logits after each of several growing sequences: the one thing the engine asks of a model.

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
from semigpt.generation.quantize import PRECISIONS, Precision, quantize, rounded, rounded_rows
from semigpt.models.base import Cache, LanguageModel
from semigpt.models.gpt import GPT
from semigpt.native.decode import NativeDecoder, NativeUnavailableError, library
from semigpt.native.decode_weights import DecoderWeights, LayerWeights, Matrix, interleave, pack
from semigpt.settings import check_choice

__all__ = [
    "Decoder",
    "DecoderState",
    "TorchDecoder",
    "check_ids",
    "make_decoder",
    "native_decoder",
]

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]


class DecoderState(Protocol):
    """What a decoder keeps of B sequences: their caches, and the logits after each."""

    def feed(self, sequences: Sequence[Sequence[int]]) -> Floats:
        """Read more tokens of each sequence, and return the logits `[B, V]` after the last of each.

        The sequences may get different numbers of tokens, some perhaps none. The array may be
        overwritten by the next call. Raises SettingsError for an id outside the vocabulary.
        """
        ...

    def step(self, tokens: NDArray[np.int64]) -> Floats:
        """`feed` of one token each, `[B]`."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these sequences, in this order; one named twice is copied (`capacity`)."""
        ...


class Decoder(Protocol):
    """Opens sequences."""

    def open(self, count: int, capacity: int = 0) -> DecoderState:
        """`count` empty sequences, of which `keep` may make up to `capacity`."""
        ...


def check_ids(name: str, ids: Sequence[int], vocab_size: int) -> None:
    """Raise SettingsError, naming the id, for one outside the vocabulary."""
    for token in ids:
        if not 0 <= token < vocab_size:
            raise SettingsError(f"{name} {token} is outside the vocabulary of {vocab_size} tokens")


def make_decoder(
    model: LanguageModel, precision: Precision = "float32", native: bool | None = None
) -> Decoder:
    """The fastest decoder there is for a model.

    native: True insists on C and raises NativeUnavailableError where there is none; False never
        uses it
    """
    check_choice("precision", precision, PRECISIONS)
    runs_natively = type(model) is GPT and model.device.type == "cpu"
    if native and not runs_natively:
        raise NativeUnavailableError(
            f"the {model.kind} rung on {model.device.type} is decoded by PyTorch only"
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
    logger.warning("generating with PyTorch alone, some ten times slower: %s", reason)


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
    exponents = torch.arange(0, settings.head_width, 2, dtype=torch.float32) / settings.head_width
    return DecoderWeights(
        width=settings.width,
        num_heads=settings.num_heads,
        num_kv_heads=settings.kv_heads,
        head_width=settings.head_width,
        hidden_width=settings.feedforward_width,
        vocab_size=settings.vocab_size,
        context_length=settings.context_length,
        epsilon=settings.norm_epsilon,
        frequencies=_array(settings.rope_theta**-exponents),
        embedding=rounded_rows(_array(model.model.embed_tokens.weight), precision),
        final_norm=_array(model.model.norm.weight),
        output=matrix(model.lm_head.weight[: settings.vocab_size]),
        layers=layers,
    )


def _array(tensor: Tensor) -> Floats:
    """A copy as float32, so that training the model on does not change a decoder made before."""
    return np.array(tensor.detach().float().numpy())


class TorchDecoder:
    """Any model on any device."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    def open(self, count: int, capacity: int = 0) -> TorchState:
        return TorchState(self.model, count)


class _Group:
    """Sequences of equal length, which share a batch.

    cache: a row for each; None for a model without a cache
    tokens_BT: without a cache, the newest tokens, as many as the context holds
    """

    def __init__(self, cache: Cache | None, tokens_BT: Tensor) -> None:
        self.cache = cache
        self.tokens_BT = tokens_BT

    def select(self, rows: list[int]) -> _Group:
        if rows == list(range(len(self.tokens_BT))):
            return self
        cache = None if self.cache is None else self.cache.select(rows)
        return _Group(cache, self.tokens_BT[rows])


class TorchState:
    """Sequences in groups of equal length: there is no padding, so none depends on another."""

    def __init__(self, model: LanguageModel, count: int) -> None:
        self._model = model
        self._groups: list[_Group] = []
        self._places = [
            (-1, row) for row in range(count)
        ]  # of each sequence: its group, its row there
        self._logits = np.zeros((count, model.settings.vocab_size), np.float32)

    def feed(self, sequences: Sequence[Sequence[int]]) -> Floats:
        device, vocab_size = self._model.device, self._model.settings.vocab_size
        alike: dict[tuple[int, int], list[int]] = {}
        for row, tokens in enumerate(sequences):
            check_ids("token", tokens, vocab_size)
            alike.setdefault((self._places[row][0], len(tokens)), []).append(row)
        groups: list[_Group] = []
        places = list(self._places)
        logits = self._logits.copy()
        for (index, _), rows in alike.items():
            group = self._group(index, rows)
            new_BT = torch.tensor(
                [list(sequences[row]) for row in rows], dtype=torch.int64, device=device
            )
            if new_BT.shape[1]:
                logits[rows] = self._read(group, new_BT)
            for place, row in enumerate(rows):
                places[row] = (len(groups), place)
            groups.append(group)
        self._groups, self._places, self._logits = groups, places, logits
        return logits

    def _group(self, index: int, rows: list[int]) -> _Group:
        """These sequences out of group `index`, or a new group if that is -1."""
        if index >= 0:
            return self._groups[index].select([self._places[row][1] for row in rows])
        nothing_BT = torch.empty(len(rows), 0, dtype=torch.int64, device=self._model.device)
        return _Group(self._model.new_cache(len(rows)), nothing_BT)

    def step(self, tokens: NDArray[np.int64]) -> Floats:
        return self.feed(tokens[:, None].tolist())

    def keep(self, rows: Sequence[int]) -> None:
        groups: list[_Group] = []
        places: list[tuple[int, tuple[int, int]]] = []
        for index, group in enumerate(self._groups):
            members = [place for place, row in enumerate(rows) if self._places[row][0] == index]
            if members:
                chosen = group.select([self._places[rows[place]][1] for place in members])
                places += [(place, (len(groups), at)) for at, place in enumerate(members)]
                groups.append(chosen)
        self._groups, self._places = groups, [place for _, place in sorted(places)]
        self._logits = self._logits[list(rows)]

    def _read(self, group: _Group, new_BT: Tensor) -> Floats:
        model = self._model
        was_training = model.training
        model.eval()
        try:
            with torch.inference_mode():
                if group.cache is not None:
                    return model.next_logits(new_BT, group.cache).cpu().numpy()
                context = model.settings.context_length
                group.tokens_BT = torch.cat((group.tokens_BT, new_BT), dim=1)[:, -context:]
                return model.next_logits(group.tokens_BT, None).cpu().numpy()
        finally:
            model.train(was_training)
