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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semigpt.generation.constraint import DEAD, START, Constraint
from semigpt.generation.decoder import DecoderState
from semigpt.generation.sampling import SamplingSettings, choose, log_probabilities, probabilities
from semigpt.tokenizers.base import Tokenizer

__all__ = ["MOST_TOKENS_BACK", "HealingPoint", "Prompt", "healing_points", "read_prompts"]

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
        self, logits: NDArray[np.float32], sampling: SamplingSettings, random: np.random.Generator
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


def read_prompts(state: DecoderState, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
    """Read each prompt once, and keep a sequence for each of its last `most_back` tokens.

    Returns the logits `[sum of most_back + 1, V]`: of each prompt, before each token that may be
    taken back, in order, and at its end. The state then holds those sequences.
    """
    logits = state.feed([prompt.kept(prompt.points[-1]) for prompt in prompts])
    if not any(prompt.most_back for prompt in prompts):
        return logits
    state.keep([row for row, prompt in enumerate(prompts) for _ in range(prompt.most_back + 1)])
    return state.feed(
        [
            prompt.tokens[len(prompt.tokens) - prompt.most_back :][:length]
            for prompt in prompts
            for length in range(prompt.most_back + 1)
        ]
    )
