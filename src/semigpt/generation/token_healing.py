"""Token healing: a prompt is a text, so its last tokens may give way to one longer token.

Behind "대한민" the tokens 대한 and 민 would make "대한민국" unlikely to a model that has always
read it as one token. Behind a lone " " everything is unlikely, because words are read with the
space before them. So the new text may also begin before the prompt's end, with a token that spells
the prompt's last tokens and goes on. Where it begins is drawn by the model's probability of each
way.

V is the size of the vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semigpt.generation.constraint import DEAD, START, Constraint
from semigpt.generation.decoder import Part, Pool
from semigpt.generation.sampling import SamplingSettings, choose, log_probabilities, probabilities
from semigpt.tokenizers.base import Tokenizer

__all__ = ["MOST_TOKENS_BACK", "HealingPoint", "Prompt", "Reading", "healing_points"]

MOST_TOKENS_BACK = 8
"""Tokens of a prompt that one token may replace; a Unigram token has at most ten bytes."""


class HealingPoint(NamedTuple):
    """A place in a prompt where the new text may begin.

    back: how many of the prompt's last tokens are taken back; 0 at the prompt's end
    covered: the text of those tokens, with which the first new token begins
    next_states_V: the constraint's state after each first token; DEAD where the token cannot be it
    """

    back: int
    covered: str
    next_states_V: NDArray[np.int32]


def healing_points(
    tokenizer: Tokenizer, constraint: Constraint, tokens: Sequence[int]
) -> list[HealingPoint]:
    """The prompt's end, and each place before it from which a longer token reaches over the end.

    tokens: those of the prompt that may be taken back
    """
    points = [HealingPoint(0, "", constraint.transitions(START))]
    covered = b""
    for back, token in enumerate(reversed(tokens[-MOST_TOKENS_BACK:]), start=1):
        data = tokenizer.token_bytes(token)
        if not data:
            break
        covered = data + covered
        if len(covered) >= constraint.longest:
            break
        try:
            text = covered.decode()
        except UnicodeDecodeError:  # the place is inside a character
            continue
        next_states_V = constraint.healing_transitions(covered)
        if next_states_V.any():
            points.append(HealingPoint(back, text, next_states_V))
    return points


@dataclass(frozen=True)
class Prompt:
    """A prompt as the model reads it.

    points: where the new text may begin, at the prompt's end first
    """

    text: str
    tokens: list[int]
    points: list[HealingPoint]

    @property
    def most_back(self) -> int:
        """The most tokens that any point takes back."""
        return self.points[-1].back

    def kept(self, point: HealingPoint) -> list[int]:
        """The tokens that stay where the new text begins at `point`."""
        return self.tokens[: len(self.tokens) - point.back]

    def choose_point(
        self,
        logits: Sequence[NDArray[np.float32]],
        sampling: SamplingSettings,
        random: np.random.Generator,
    ) -> HealingPoint:
        """Draw a point, as a token is drawn.

        A point's probability is that of the prompt's tokens up to it, times that of all tokens it
        allows.

        logits: `[most_back + 1, V]`, before each token that may be taken back, and at the end
        """
        if len(self.points) == 1:
            return self.points[0]
        rows = [log_probabilities(row) for row in logits]
        last = self.tokens[len(self.tokens) - self.most_back :]
        steps = (row[token] for row, token in zip(rows[:-1], last, strict=True))
        reached = [0.0, *itertools.accumulate(steps)]
        scores = []
        for point in self.points:
            place = self.most_back - point.back
            allowed = rows[place][point.next_states_V != DEAD]
            scores.append(reached[place] + np.logaddexp.reduce(allowed, initial=-np.inf))
        index = choose(probabilities(np.array(scores, np.float32), sampling), random.random())
        return self.points[max(index, 0)]  # -1: no token may follow, and the text will end here


class Reading:
    """A prompt while it is read into a slot, a part at a time.

    logits: of the places where the new text may begin, `[most_back + 1, V]` once all is read
    slot: the sequence, which `begin` copies or takes over
    """

    def __init__(
        self, pool: Pool, prompt: Prompt, *, slot: int | None = None, every_row: bool = False
    ) -> None:
        """slot: a sequence to continue; None for a new one. every_row: see `take`."""
        self._pool, self._prompt, self._every_row = pool, prompt, every_row
        self.slot = pool.take() if slot is None else slot
        self.logits: list[NDArray[np.float32]] = []
        self.place = 0  # tokens read
        back, length = prompt.most_back, len(prompt.tokens)
        # Where tokens cannot be taken back, the sequence is copied before the first of them.
        copies = back and not pool.can_rewind(self.slot, length)
        self._copy_at = length - back if copies else None
        self._snapshot: Any = None

    @property
    def done(self) -> bool:
        return self.place == len(self._prompt.tokens)

    def part(self, most: int) -> Part:
        """At most so many tokens to read next, as `Pool.read` takes them."""
        if self.place == self._copy_at:
            self._snapshot = self._pool.snapshot(self.slot)
        end = self.place + min(most, self._pool.most_tokens(self.slot))
        if self._copy_at is not None and self.place < self._copy_at:
            end = min(end, self._copy_at)
        tokens = self._prompt.tokens[self.place : end]
        first = len(self._prompt.tokens) - 1 - self._prompt.most_back
        wanted = len(tokens) if self._every_row else self.place + len(tokens) - first
        return self.slot, tokens, max(0, min(wanted, len(tokens)))

    def take(self, count: int, logits: NDArray[np.float32]) -> None:
        """Take the logits of a part of `count` tokens, which the pool may overwrite afterwards."""
        self.place += count
        keep = self._prompt.most_back + 1
        self.logits = [*self.logits, *logits[-keep:].copy()][-keep:]

    def begin(self, point: HealingPoint, *, copy: bool) -> int:
        """The slot of a sequence whose new text begins at `point`.

        copy: others are to begin too; otherwise the sequence itself is taken
        """
        slot = self._pool.fork(self.slot) if copy else self.slot
        if point.back and self._copy_at is None:
            self._pool.rewind(slot, point.back)
        elif point.back:
            self._pool.restore(slot, self._snapshot)
            for token in self._prompt.kept(point)[self._copy_at :]:
                self._pool.read([slot], [token])
        return slot
