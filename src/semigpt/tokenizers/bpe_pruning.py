"""Prune a BPE vocabulary to the tokens that make a text likeliest.

Merging by frequency keeps tokens that are only steps on the way to longer ones, and misses how well
the parts of a token predict each other. So more merges are learnt than are wanted, and those that
the text would miss least are dropped, one after the other: the likelihood is that of tokens drawn
independently by their frequencies, as Unigram's is. Only a token that is no part of another may go,
so every token is still made by its merge.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ["EXTRA", "Pruned", "prune"]

# Tokens learnt for each that is wanted. Film reviews, 8,000 tokens, bits per character by their
# frequencies: 1.0 5.485, 1.5 5.447, 2.0 5.446, Unigram 5.397.
EXTRA = 1.5

Merge = tuple[str, str, int]
"""The texts of two tokens that become one, and how often they do."""


class Pruned(NamedTuple):
    """What is kept, in the order given, and what the text costs then by the tokens' frequencies."""

    nats: float
    characters: list[str]
    merges: list[tuple[str, str]]


def prune(characters: Mapping[str, int], merges: Sequence[Merge], wanted: int) -> Pruned:
    """Keep `wanted` characters and merges in all.

    Args:
        characters: How often each occurs. One that is dropped is spelt in its bytes.
        merges: As they were learnt: each part of one is a character or made by an earlier one.
    """
    vocabulary = _Vocabulary(characters, merges)
    while len(vocabulary.parts) > wanted and vocabulary.drop_cheapest():
        pass
    kept = vocabulary.parts
    return Pruned(
        vocabulary.nats(),
        [character for character in characters if character in kept],
        [(left, right) for left, right, _ in merges if left + right in kept],
    )


class _Vocabulary:
    """Tokens with how often each stands in the text now."""

    def __init__(self, characters: Mapping[str, int], merges: Sequence[Merge]) -> None:
        # What each token falls into where it is dropped: two tokens, or bytes.
        self.parts: dict[str, tuple[str | int, ...]] = {
            character: tuple(character.encode()) for character in characters
        }
        self._counts: Counter[str | int] = Counter(characters)
        self._uses: Counter[str | int] = Counter()  # as a part of another token
        for left, right, count in merges:
            self.parts[left + right] = (left, right)
            self._counts[left + right] = count
            self._counts[left] -= count
            self._counts[right] -= count
            self._uses.update((left, right))
        self._total = sum(self._counts.values())
        self._queue = [(self._loss(token), token) for token in self.parts if not self._uses[token]]
        heapq.heapify(self._queue)

    def nats(self) -> float:
        """What the text costs now."""
        return _entropy(self._total) - sum(map(_entropy, self._counts.values()))

    def drop_cheapest(self) -> bool:
        """Drop the token whose loss costs the text least; False where none may go."""
        while self._queue:
            _, token = heapq.heappop(self._queue)
            loss = self._loss(token)
            if self._queue and loss > self._queue[0][0]:  # its parts have changed meanwhile
                heapq.heappush(self._queue, (loss, token))
                continue
            parts, count = self.parts.pop(token), self._counts.pop(token)
            self._total += (len(parts) - 1) * count
            for part in parts:
                self._counts[part] += count
                if isinstance(part, str):
                    self._uses[part] -= 1
                    if not self._uses[part]:
                        heapq.heappush(self._queue, (self._loss(part), part))
            return True
        return False

    def _loss(self, token: str) -> float:
        """The nats that the text costs more without the token."""
        count = self._counts[token]
        parts = Counter(self.parts[token])
        after = self._total + (sum(parts.values()) - 1) * count
        loss = _entropy(count) - _entropy(self._total) + _entropy(after)
        for part, times in parts.items():
            loss += _entropy(self._counts[part]) - _entropy(self._counts[part] + times * count)
        return loss


def _entropy(count: int) -> float:
    return count * math.log(count) if count > 0 else 0.0
