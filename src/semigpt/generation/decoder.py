"""Logits after each of several texts as they grow: the one thing the engine asks of a model.

Two ways to the same numbers: PyTorch, for every rung and device, and `native`, for the `gpt` rung on a CPU.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from semigpt.generation.quantize import Precision, rounded
from semigpt.models.base import Cache, LanguageModel

__all__ = ["Decoder", "Texts", "TorchDecoder", "make_decoder"]

logger = logging.getLogger(__name__)


class Texts(Protocol):
    """What a decoder remembers of B texts."""

    def feed(self, texts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Read more tokens of each text, not as many of each and of some perhaps none, and return the logits `[B, V]`
        after the last it has read. They may be written over by the next call."""
        ...

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """`feed` of one token each."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these texts, in this order; one named twice is continued in two ways. Not more than there is room for."""
        ...


class Decoder(Protocol):
    """Opens texts."""

    def open(self, count: int, room: int = 0) -> Texts:
        """`count` texts of which nothing has been read, and room for more where `keep` is to name one twice."""
        ...


def make_decoder(
    model: LanguageModel, precision: Precision = "float32", native: bool | None = None
) -> Decoder:
    """The fastest decoder there is for a model: `native` True insists on it (NativeUnavailableError), False never uses it."""
    from semigpt.models.gpt import GPT
    from semigpt.native.decode import NativeDecoder, NativeUnavailableError, can_run_natively

    if native is not False and can_run_natively(model):
        assert isinstance(model, GPT)
        try:
            return NativeDecoder(model, precision)
        except NativeUnavailableError as error:
            if native:
                raise
            _say_once(str(error))
    elif native:
        raise NativeUnavailableError(
            f"the {model.kind} rung on {model.device.type} is decoded by PyTorch only"
        )
    return TorchDecoder(rounded(model, precision))


@cache
def _say_once(reason: str) -> None:
    logger.warning("generating with PyTorch alone, some ten times slower: %s", reason)


class TorchDecoder:
    """Any rung on any device."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    def open(self, count: int, room: int = 0) -> TorchTexts:
        return TorchTexts(self.model, count)


class _Group:
    """Texts of equal length, which share a batch: a row each of the cache, or of the tokens where there is none."""

    def __init__(self, cache: Cache | None, tokens_BT: torch.Tensor) -> None:
        self.cache = cache
        self.tokens_BT = tokens_BT  # without a cache: as many as the context holds


class TorchTexts:
    """Texts by groups of equal length: no padding, so no text's numbers depend on another's."""

    def __init__(self, model: LanguageModel, count: int) -> None:
        self._model = model
        self._groups: list[_Group] = []
        self._places: list[tuple[int, int]] = [
            (-1, row) for row in range(count)
        ]  # of each text: group, row in it
        self._logits = np.zeros((count, model.settings.vocab_size), np.float32)

    def feed(self, texts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        device = self._model.device
        alike: dict[tuple[int, int], list[int]] = {}
        for row, tokens in enumerate(texts):
            alike.setdefault((self._places[row][0], len(tokens)), []).append(row)
        groups: list[_Group] = []
        places = list(self._places)
        logits = self._logits.copy()
        for (number, _), rows in alike.items():
            if number < 0:
                group = _Group(
                    self._model.new_cache(len(rows)),
                    torch.empty(len(rows), 0, dtype=torch.int64, device=device),
                )
            else:
                group = self._select(self._groups[number], [self._places[row][1] for row in rows])
            new_BT = torch.tensor(
                [list(texts[row]) for row in rows], dtype=torch.int64, device=device
            )
            if new_BT.shape[1]:
                logits[rows] = self._read(group, new_BT)
            for place, row in enumerate(rows):
                places[row] = (len(groups), place)
            groups.append(group)
        self._groups, self._places, self._logits = groups, places, logits
        return logits

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.feed(tokens[:, None].tolist())

    def keep(self, rows: Sequence[int]) -> None:
        groups: list[_Group] = []
        places: list[tuple[int, tuple[int, int]]] = []
        for number, group in enumerate(self._groups):
            members = [place for place, row in enumerate(rows) if self._places[row][0] == number]
            if members:
                chosen = self._select(group, [self._places[rows[place]][1] for place in members])
                places += [(place, (len(groups), index)) for index, place in enumerate(members)]
                groups.append(chosen)
        self._groups, self._places = groups, [where for _, where in sorted(places)]
        self._logits = self._logits[list(rows)]

    def _select(self, group: _Group, rows: list[int]) -> _Group:
        if rows == list(range(len(group.tokens_BT))):
            return group
        return _Group(
            None if group.cache is None else group.cache.select(rows), group.tokens_BT[rows]
        )

    def _read(self, group: _Group, new_BT: torch.Tensor) -> NDArray[np.float32]:
        model = self._model
        was_training = model.training
        model.eval()
        try:
            with torch.inference_mode():
                if group.cache is None:
                    whole_BT = torch.cat((group.tokens_BT, new_BT), dim=1)[
                        :, -model.settings.context_length :
                    ]
                    group.tokens_BT = whole_BT
                    return model.next_logits(whole_BT, None).cpu().numpy()
                return model.next_logits(new_BT, group.cache).cpu().numpy()
        finally:
            model.train(was_training)
