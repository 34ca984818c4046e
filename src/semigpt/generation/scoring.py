"""The model's own log-probabilities of tokens: drawn ones, and ones that are known already.

V is the size of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from semigpt.generation.decoder import Decoder
from semigpt.generation.sampling import log_probabilities
from semigpt.generation.stream import Chunk, TokenScore
from semigpt.generation.token_healing import HealingPoint, Prompt
from semigpt.tokenizers.base import Tokenizer

__all__ = ["Scorer"]


class Scorer:
    """Scores tokens, each beside the likeliest alternatives."""

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer, context_length: int) -> None:
        self._decoder, self._tokenizer = decoder, tokenizer
        self._context_length = context_length

    def score(self, logits_V: NDArray[np.float32], token: int, alternatives: int) -> TokenScore:
        """The score of `token`, beside so many alternatives."""
        log_V = log_probabilities(logits_V)
        likeliest = np.argsort(-log_V, kind="stable")[:alternatives].tolist()
        return TokenScore(
            token,
            self._text(token),
            float(log_V[token]),
            tuple((self._text(other), float(log_V[other])) for other in likeliest),
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
        state = self._decoder.open(1)
        first = max(1, len(before) - start)
        logits = state.feed([whole[:first]])
        for place in range(first, len(whole)):
            yield self.score(logits[0], whole[place], alternatives)
            if place + 1 < len(whole):
                logits = state.step(np.array(whole[place : place + 1]))

    def echo(
        self, sample: int, prompt: Prompt, point: HealingPoint, alternatives: int | None
    ) -> Chunk:
        """The prompt as the first chunk of a sequence, with the scores of its tokens up to `point`.

        alternatives: None for no scores
        """
        if alternatives is None:
            return Chunk(sample, prompt.text)
        tokens = prompt.kept(point)
        scores = tuple(self.score_known(tokens[:1], tokens[1:], alternatives))
        return Chunk(sample, prompt.text, None, scores)
