"""The model's own log-probabilities of tokens: drawn ones, and ones that are known already.

V is the size of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semigpt.generation.decoder import Decoder, Sequences
from semigpt.generation.sampling import log_probabilities
from semigpt.generation.stream import TokenScore
from semigpt.tokenizers.base import Tokenizer

__all__ = ["ROWS", "Scorer", "likeliest"]

ROWS = 64  # positions scored by one step


class Scorer:
    """Scores tokens, each beside the likeliest alternatives."""

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer, context_length: int) -> None:
        self._decoder, self._tokenizer = decoder, tokenizer
        self._context_length = context_length

    def score(self, logits_V: NDArray[np.float32], token: int, alternatives: int) -> TokenScore:
        """The score of `token`, beside so many alternatives."""
        log_V = log_probabilities(logits_V)
        best = likeliest(log_V, alternatives)
        return TokenScore(
            token,
            self._text(token),
            float(log_V[token]),
            tuple((self._text(other), float(log_V[other])) for other in best),
            tuple(best),
        )

    def _text(self, token: int) -> str:
        known = token < self._tokenizer.vocab_size  # a model may have more tokens
        return self._tokenizer.token_text(token) if known else f"<{token}>"

    def score_known(
        self, before: Sequence[int], tokens: Sequence[int], alternatives: int
    ) -> Iterator[TokenScore]:
        """The scores of `tokens` after `before`, of the last ones that the context holds."""
        if not tokens:
            return
        start = max(0, len(before) + len(tokens) - self._context_length)
        whole = [*before, *tokens][start:]
        sequence = Sequences.open(self._decoder, 1)
        first = max(1, len(before) - start)
        for begin in range(0, len(whole) - 1, ROWS):
            part = whole[begin : min(begin + ROWS, len(whole) - 1)]
            logits = sequence.feed([part], wanted=len(part))
            for place, row_V in enumerate(logits, begin + 1):
                if place >= first:
                    yield self.score(row_V, whole[place], alternatives)


def likeliest(log_V: NDArray[np.floating[Any]], count: int) -> list[int]:
    """The `count` likeliest tokens, likeliest first; of equal ones the first."""
    if not count:
        return []
    least = np.partition(log_V, -min(count, len(log_V)))[-min(count, len(log_V))]
    enough = np.flatnonzero(log_V >= least)
    found: list[int] = enough[np.argsort(-log_V[enough], kind="stable")][:count].tolist()
    return found
