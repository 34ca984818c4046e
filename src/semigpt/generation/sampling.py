"""From a row of logits to one drawn token.

Names and meanings are those of transformers' `GenerationConfig`; `frequency_penalty`,
`presence_penalty` and `logit_bias` are those of OpenAI's API. They apply in this order:

    repetition_penalty  frequency_penalty, presence_penalty  logit_bias  no_repeat_ngram_size
    the constraint (`constraint`)  temperature  top_k  top_p  min_p

Everything is NumPy on the logits of one sequence, so a draw is the same on every device and in
every batch. V is the size of the vocabulary.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from semigpt.errors import CheckpointError, SettingsError
from semigpt.language import _

__all__ = [
    "History",
    "SamplingSettings",
    "adjusted",
    "choose",
    "log_probabilities",
    "not_finite",
    "probabilities",
    "random_generator",
]

Row = NDArray[np.float32]

SMALLEST_TEMPERATURE = 1e-6
"""Below it the draw is greedy: differences of logits over it would leave float32."""
LARGEST = 1e6
"""Of temperatures, penalties and biases: sums and products of logits with them stay finite."""


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How the next token is chosen.

    temperature: divides the logits; 0 always takes the likeliest token
    top_k: keep only the k likeliest tokens
    top_p: keep only the likeliest tokens that together reach p (Holtzman and others 2019, arXiv
        1904.09751)
    min_p: keep only tokens at least p times as likely as the likeliest (Nguyen and others 2024,
        arXiv 2407.01082)
    repetition_penalty: divides positive logits, and multiplies negative ones, of tokens that are in
        the prompt or the new text (Keskar and others 2019, arXiv 1909.05858); 1 does nothing
    frequency_penalty: subtracted from a token's logit once for each time it is in the new text
    presence_penalty: subtracted from a token's logit if it is in the new text
    no_repeat_ngram_size: no run of this many tokens occurs twice; 0 allows any
    logit_bias: added to the logits of these ids; -inf forbids one
    num_beams: more than 1 searches for the likeliest text with so many beams, and draws nothing
    length_penalty: beams are compared by log-probability / tokens ** length_penalty

    Raises SettingsError for a value out of its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    num_beams: int = 1
    length_penalty: float = 1.0

    def __post_init__(self) -> None:
        def require(name: str, in_range: bool, range_: str) -> None:
            if not in_range:
                raise SettingsError(
                    _("{name} must be {range_}, not {value}").format(
                        name=name, range_=range_, value=getattr(self, name)
                    )
                )

        top_k, top_p, min_p = self.top_k, self.top_p, self.min_p
        in_range = 0 <= self.temperature <= LARGEST
        require(
            "temperature", in_range, _("0 or more, at most {largest:,.0f}").format(largest=LARGEST)
        )
        require("top_k", top_k is None or top_k >= 1, _("at least 1"))
        require("top_p", top_p is None or 0 < top_p <= 1, _("more than 0 and at most 1"))
        require("min_p", min_p is None or 0 <= min_p <= 1, "from 0 to 1")
        positive = 1 / LARGEST <= self.repetition_penalty <= LARGEST
        require(
            "repetition_penalty",
            positive,
            _("more than 0, at most {largest:,.0f} (1 does nothing)").format(largest=LARGEST),
        )
        limits = {"frequency_penalty": LARGEST, "presence_penalty": LARGEST, "length_penalty": 10.0}
        for name, limit in limits.items():
            in_range = abs(getattr(self, name)) <= limit
            require(
                name,
                in_range,
                _("a finite number, at most {limit:,.0f} in size").format(limit=limit),
            )
        require("no_repeat_ngram_size", self.no_repeat_ngram_size >= 0, _("0 or more"))
        require("num_beams", self.num_beams >= 1, _("at least 1"))
        for token, bias in self.logit_bias.items():
            if not (abs(bias) <= LARGEST or bias == -math.inf):
                raise SettingsError(
                    _(
                        "logit_bias of token {token} must be a finite number, "
                        "at most {largest:,.0f} "
                        "in size, or -inf, not {bias}"
                    ).format(token=token, largest=LARGEST, bias=bias)
                )

    @property
    def adjusts_logits(self) -> bool:
        """Whether penalties, a bias or forbidden repetitions change the logits (`adjusted`)."""
        return bool(
            self.repetition_penalty != 1
            or self.frequency_penalty
            or self.presence_penalty
            or self.no_repeat_ngram_size
            or self.logit_bias
        )

    @property
    def greedy(self) -> bool:
        """Whether a draw is the likeliest token."""
        return self.temperature < SMALLEST_TEMPERATURE

    @property
    def cuts(self) -> tuple[float, int, float, float]:
        """Temperature, top_k, top_p and min_p as `semigpt.native.decode` takes them."""
        temperature = 0.0 if self.greedy else self.temperature
        return (temperature, min(self.top_k or 0, 2**31 - 1), self.top_p or 1.0, self.min_p or 0.0)


class History:
    """The tokens of one sequence so far, counted as the penalties need them.

    counts_V: how often each token is in the new text
    seen_V: whether each token is in the prompt or the new text
    """

    def __init__(self, prompt: Sequence[int], vocab_size: int, ngram_size: int = 0) -> None:
        self.counts_V = np.zeros(vocab_size, np.float32)
        self.seen_V = np.zeros(vocab_size, bool)
        self._ngram_size = ngram_size
        self._last: tuple[int, ...] = ()  # the newest ngram_size - 1 tokens
        self._followers: dict[tuple[int, ...], list[int]] = {}
        for token in prompt:
            self._see(token)

    def push(self, token: int) -> None:
        """Add a token of the new text."""
        self.counts_V[token] += 1
        self._see(token)

    def _see(self, token: int) -> None:
        self.seen_V[token] = True
        size = self._ngram_size
        if size:
            if len(self._last) == size - 1:
                self._followers.setdefault(self._last, []).append(token)
            self._last = (*self._last, token)[1 - size :] if size > 1 else ()

    def would_repeat(self) -> list[int]:
        """The tokens that would complete an n-gram which has occurred before."""
        if not self._ngram_size or len(self._last) < self._ngram_size - 1:
            return []
        return self._followers.get(self._last, [])

    def copy(self) -> History:
        """An independent copy, for a beam that splits."""
        twin = History.__new__(History)
        twin.counts_V, twin.seen_V = self.counts_V.copy(), self.seen_V.copy()
        twin._ngram_size, twin._last = self._ngram_size, self._last
        twin._followers = {ngram: list(tokens) for ngram, tokens in self._followers.items()}
        return twin


def adjusted(logits_V: Row, settings: SamplingSettings, history: History | None) -> Row:
    """A new row of logits `[V]` with penalties, bias and forbidden repetitions applied."""
    logits_V = logits_V.astype(np.float32, copy=True)
    if history is not None:
        penalty = settings.repetition_penalty
        if penalty != 1:
            seen = logits_V[history.seen_V]
            logits_V[history.seen_V] = np.where(seen < 0, seen * penalty, seen / penalty)
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
    """The distribution to draw from, `[V]`: temperature, then top-k, top-p and min-p.

    All zeros where every logit is -inf. Raises CheckpointError for NaN or +inf.
    """
    top = logits_V.max()
    if not top < math.inf:
        raise not_finite()
    if top == -np.inf:
        return np.zeros(len(logits_V))
    if settings.greedy:
        certain_V = np.zeros(len(logits_V))
        certain_V[logits_V.argmax()] = 1
        return certain_V
    # The largest becomes 0, so that a small temperature does not overflow.
    logits_V = (logits_V - top) / np.float32(settings.temperature)
    if settings.top_k is not None and settings.top_k < len(logits_V):
        smallest_kept = np.partition(logits_V, -settings.top_k)[-settings.top_k]
        logits_V = np.where(logits_V < smallest_kept, np.float32(-np.inf), logits_V)
    weights_V: NDArray[np.float64] = np.exp(logits_V).astype(np.float64)
    if settings.top_p is not None and settings.top_p < 1:
        _truncate_to_top_p(weights_V, settings.top_p)
    if settings.min_p:  # the largest weight is 1
        weights_V[weights_V < settings.min_p] = 0
    weights_V /= weights_V.sum()
    return weights_V


def _truncate_to_top_p(weights_V: NDArray[np.float64], top_p: float) -> None:
    """Zero, in place, each weight for which the larger ones reach `top_p` of the total already."""
    kept = np.flatnonzero(weights_V)
    order = kept[np.argsort(-weights_V[kept], kind="stable")]
    ordered = weights_V[order]
    larger = np.cumsum(ordered) - ordered
    weights_V[order[larger >= top_p * ordered.sum()]] = 0


def choose(probabilities_V: NDArray[np.float64], uniform: float) -> int:
    """The token at which the cumulative sum passes `uniform`; -1 where every probability is 0.

    uniform: in [0, 1)
    """
    cumulative_V = probabilities_V.cumsum()
    if cumulative_V[-1] == 0:
        return -1
    token = int(np.searchsorted(cumulative_V, uniform * cumulative_V[-1], side="right"))
    # Rounding can put the number just above the sum; then it is the last token that can be drawn.
    return token if token < len(cumulative_V) else int(np.flatnonzero(probabilities_V)[-1])


def log_probabilities(logits_V: Row) -> NDArray[np.float64]:
    """Natural logarithms of softmax(logits), `[V]`. Raises CheckpointError for NaN or +inf."""
    top = logits_V.max()
    if not top < math.inf:
        raise not_finite()
    shifted_V: NDArray[np.float64] = logits_V.astype(np.float64) - top
    shifted_V -= math.log(np.exp(shifted_V).sum())
    return shifted_V


def not_finite() -> CheckpointError:
    """The error for logits from which nothing can be drawn."""
    return CheckpointError(
        _(
            "no token can be drawn: the model's logits are not finite (NaN "
            "or +inf). Its weights are "
            "damaged, or a penalty overflows; load an earlier checkpoint, or use a smaller penalty"
        )
    )


def random_generator(seed: int | None, sample: int) -> np.random.Generator:
    """The random numbers of one sequence, a function of the seed and the sample's number alone.

    A sequence therefore does not depend on the batch it is drawn in. None seeds from the operating
    system.
    """
    if seed is None:
        return np.random.Generator(np.random.Philox(key=int.from_bytes(os.urandom(16), "little")))
    digest = hashlib.sha256(f"{seed}:{sample}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
