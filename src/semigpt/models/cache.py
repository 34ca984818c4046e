"""What a GPT keeps of a sequence while it is continued.

Shapes: B sequences, T new positions, S kept ones, K key and value heads, D head width.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from semigpt.models.base import Cache

if TYPE_CHECKING:
    from semigpt.models.gpt import GPTSettings

__all__ = ["KeyValueCache"]


class KeyValueCache(Cache):
    """Keys and values of each layer, `[B, K, context_length, D]` both, of the newest positions."""

    def __init__(
        self, settings: GPTSettings, batch_size: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.length = 0
        shape = (batch_size, settings.kv_heads, settings.context_length, settings.head_width)
        self.layers = [
            (
                torch.zeros(shape, device=device, dtype=dtype),
                torch.zeros(shape, device=device, dtype=dtype),
            )
            for _ in range(settings.num_layers)
        ]

    def select(self, rows: Sequence[int]) -> KeyValueCache:
        chosen = copy.copy(self)
        index_B = torch.tensor(rows, device=self.layers[0][0].device)
        chosen.layers = [(keys[index_B], values[index_B]) for keys, values in self.layers]
        return chosen

    def recent(self, tokens_BT: Tensor) -> Tensor:
        """The tokens that the output layer may read: the new ones, though this one reads none."""
        return tokens_BT

    def append(self, layer: int, key_BKTD: Tensor, value_BKTD: Tensor) -> tuple[Tensor, Tensor]:
        """Add the new positions of a layer and return all its keys and values, `[B, K, S, D]` both.

        Past `context_length` the oldest positions are overwritten in place. Keys are stored
        rotated and RoPE depends on differences of positions alone, so the order of the slots does
        not matter.
        """
        keys, values = self.layers[layer]
        capacity = keys.shape[2]
        if self.length + key_BKTD.shape[2] <= capacity:
            end = self.length + key_BKTD.shape[2]
            keys[:, :, self.length : end] = key_BKTD
            values[:, :, self.length : end] = value_BKTD
            return keys[:, :, :end], values[:, :, :end]
        slots = (
            torch.arange(self.length, self.length + key_BKTD.shape[2], device=keys.device)
            % capacity
        )
        keys[:, :, slots] = key_BKTD
        values[:, :, slots] = value_BKTD
        return keys, values
