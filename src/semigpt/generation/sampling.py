"""From logits to one drawn token.

The names and meanings are those of transformers' `GenerationConfig` and, for the penalties on frequency and presence
and for `logit_bias`, of OpenAI's API. They act in one order, each on what the one before has left:

    repetition_penalty  frequency_penalty, presence_penalty  logit_bias  no_repeat_ngram_size
    what may not follow (`constraint`)  temperature  top_k  top_p  min_p

All of it is NumPy on one text's row of logits: the same draw on every device, whatever batch the row came from.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from semigpt.errors import SettingsError

__all__ = [
    "History",
    "SamplingSettings",
    "adjusted",
    "choose",
    "log_probabilities",
    "probabilities",
    "uniforms",
]

Row = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How to choose the next token."""

    temperature: float = 1.0  # 0: always the likeliest
    top_k: int | None = None  # only the k likeliest
    top_p: float | None = (
        None  # only the likeliest that together reach p (Holtzman and others 2019, arXiv 1904.09751)
    )
    min_p: float | None = (
        None  # only those at least p times as likely as the likeliest (arXiv 2407.01082)
    )
    repetition_penalty: float = (
        1.0  # divides what prompt and text hold already (Keskar and others 2019, arXiv 1909.05858)
    )
    frequency_penalty: float = 0.0  # taken off a token's logit for each time the new text has it
    presence_penalty: float = 0.0  # taken off a token's logit if the new text has it
    no_repeat_ngram_size: int = 0  # no run of so many tokens comes twice; 0: any may
    logit_bias: Mapping[int, float] = field(
        default_factory=dict
    )  # added to the logits of these ids
    num_beams: int = (
        1  # more than 1: the best text that so many parallel ones find, without drawing
    )
    length_penalty: float = 1.0  # beams are compared by log-probability / tokens ** length_penalty

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise SettingsError(f"temperature must be 0 or more, not {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise SettingsError(f"top_k must be at least 1, not {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise SettingsError(f"top_p must be more than 0 and at most 1, not {self.top_p}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise SettingsError(f"min_p must be from 0 to 1, not {self.min_p}")
        if not 0 < self.repetition_penalty < math.inf:
            raise SettingsError(
                f"repetition_penalty must be more than 0 (1 does nothing), not {self.repetition_penalty}"
            )
        for name in ("frequency_penalty", "presence_penalty", "length_penalty"):
            if not math.isfinite(getattr(self, name)):
                raise SettingsError(f"{name} must be a finite number, not {getattr(self, name)}")
        if self.no_repeat_ngram_size < 0:
            raise SettingsError(
                f"no_repeat_ngram_size must be 0 or more, not {self.no_repeat_ngram_size}"
            )
        if self.num_beams < 1:
            raise SettingsError(f"num_beams must be at least 1, not {self.num_beams}")
        for token, bias in self.logit_bias.items():
            if math.isnan(bias) or bias == math.inf:
                raise SettingsError(
                    f"logit_bias of token {token} must be a finite number or -inf, not {bias}"
                )

    @property
    def looks_back(self) -> bool:
        """Whether the logits are changed by more than temperature and cuts."""
        return bool(
            self.repetition_penalty != 1
            or self.frequency_penalty
            or self.presence_penalty
            or self.no_repeat_ngram_size
            or self.logit_bias
        )

    @property
    def plain(self) -> bool:
        """Whether a draw is softmax(logits / temperature) and nothing else."""
        cuts = (self.top_k, self.min_p or None, None if self.top_p == 1 else self.top_p)
        return not self.looks_back and all(cut is None for cut in cuts)


class History:
    """One text's tokens so far, counted the ways the penalties ask for."""

    def __init__(self, prompt: Sequence[int], vocab_size: int, ngram_size: int = 0) -> None:
        self.counts_V = np.zeros(vocab_size, np.float32)  # in the new text
        self.seen_V = np.zeros(vocab_size, bool)  # in prompt and new text
        self._size = ngram_size
        self._last: tuple[int, ...] = ()
        self._followers: dict[tuple[int, ...], list[int]] = {}
        for token in prompt:
            self._note(token)

    def push(self, token: int) -> None:
        """Take note of a token of the new text."""
        self.counts_V[token] += 1
        self._note(token)

    def _note(self, token: int) -> None:
        self.seen_V[token] = True
        if self._size:
            if len(self._last) == self._size - 1:
                self._followers.setdefault(self._last, []).append(token)
            self._last = (*self._last, token)[1 - self._size :] if self._size > 1 else ()

    def would_repeat(self) -> list[int]:
        """The tokens that would end a run of `ngram_size` tokens that has been there."""
        return (
            self._followers.get(self._last, [])
            if self._size and len(self._last) == self._size - 1
            else []
        )

    def copy(self) -> History:
        """The same history, to go on in another way."""
        twin = History.__new__(History)
        twin.counts_V, twin.seen_V = self.counts_V.copy(), self.seen_V.copy()
        twin._size, twin._last = self._size, self._last
        twin._followers = {run: list(after) for run, after in self._followers.items()}
        return twin


def adjusted(logits_V: Row, settings: SamplingSettings, history: History | None) -> Row:
    """The logits with penalties, bias and forbidden repetitions: a new row."""
    logits_V = logits_V.astype(np.float32, copy=True)
    if history is not None:
        if settings.repetition_penalty != 1:
            seen = logits_V[history.seen_V]
            logits_V[history.seen_V] = np.where(
                seen < 0, seen * settings.repetition_penalty, seen / settings.repetition_penalty
            )
        if settings.frequency_penalty or settings.presence_penalty:
            logits_V -= (
                settings.frequency_penalty * history.counts_V
                + settings.presence_penalty * (history.counts_V > 0)
            )
    for token, bias in settings.logit_bias.items():
        logits_V[token] += bias
    if history is not None and (repeated := history.would_repeat()):
        logits_V[repeated] = -np.inf
    return logits_V


def probabilities(logits_V: Row, settings: SamplingSettings) -> NDArray[np.float64]:
    """The distribution to draw from: temperature, top-k, top-p, min-p. All zeros where every logit is -inf."""
    top = logits_V.max()
    if top == -np.inf:
        return np.zeros(len(logits_V))
    if settings.temperature == 0:
        certain_V = np.zeros(len(logits_V))
        certain_V[logits_V.argmax()] = 1
        return certain_V
    # Against overflow at a tiny temperature: only differences from the largest matter.
    logits_V = (logits_V - top) / np.float32(settings.temperature)
    if settings.top_k is not None and settings.top_k < len(logits_V):
        smallest_kept = np.partition(logits_V, -settings.top_k)[-settings.top_k]
        logits_V = np.where(logits_V < smallest_kept, np.float32(-np.inf), logits_V)
    weights_V: NDArray[np.float64] = np.exp(logits_V).astype(np.float64)
    if settings.top_p is not None and settings.top_p < 1:
        kept = np.flatnonzero(weights_V)
        order = kept[np.argsort(-weights_V[kept], kind="stable")]
        ordered = weights_V[order]
        # A token stays while those likelier than it have not reached p: the first always stays.
        before = np.cumsum(ordered) - ordered
        weights_V[order[before >= settings.top_p * ordered.sum()]] = 0
    if settings.min_p:
        weights_V[weights_V < settings.min_p * weights_V.max()] = 0
    weights_V /= weights_V.sum()
    return weights_V


def choose(probabilities_V: NDArray[np.float64], uniform: float) -> int:
    """The token at which the cumulative sum passes `uniform`, a number in [0, 1); -1 where all is zero."""
    cumulative_V = probabilities_V.cumsum()
    if cumulative_V[-1] == 0:
        return -1
    token = int(np.searchsorted(cumulative_V, uniform * cumulative_V[-1], side="right"))
    # Rounding can leave the number a hair above the sum: then it is the last that can be drawn.
    return token if token < len(cumulative_V) else int(np.flatnonzero(probabilities_V)[-1])


def log_probabilities(logits_V: Row) -> NDArray[np.float64]:
    """Natural logarithms of softmax(logits)."""
    shifted_V: NDArray[np.float64] = logits_V.astype(np.float64) - logits_V.max()
    shifted_V -= math.log(np.exp(shifted_V).sum())
    return shifted_V


def uniforms(seed: int | None, number: int) -> np.random.Generator:
    """The random numbers of one text, a function of (seed, number of the text) alone: a text does not depend on the
    batch it is drawn in. Without a seed, of the system's own randomness."""
    if seed is None:
        return np.random.Generator(np.random.Philox(key=int.from_bytes(os.urandom(16), "little")))
    digest = hashlib.sha256(f"{seed}:{number}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
