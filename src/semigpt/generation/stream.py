"""What the engine yields: chunks of whole characters, with their tokens' scores if asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from semigpt.tokenizers.base import Tokenizer

__all__ = ["Chunk", "TokenScore", "Writer"]


@dataclass(frozen=True)
class TokenScore:
    """A token with the model's own log-probability, before temperature, penalties and constraints.

    text: the token as `Tokenizer.token_text` shows it
    log_probability: natural
    alternatives: the likeliest tokens and their log-probabilities, likeliest first
    likeliest: the ids of those tokens
    """

    token: int
    text: str
    log_probability: float
    alternatives: tuple[tuple[str, float], ...]
    likeliest: tuple[int, ...] = ()


class Chunk(NamedTuple):  # one per character; a frozen dataclass takes three times as long to make
    """A chunk of one sequence's text. The last one says why the sequence ended.

    sample: index of the prompt x num_samples + index of the sample
    finish_reason: "stop" (a stop string, a stop token or the end of the text), "length"
        (max_new_tokens) or None
    scores: of the tokens that spell the chunk, where log-probabilities were asked for
    """

    sample: int
    text: str
    finish_reason: str | None = None
    scores: tuple[TokenScore, ...] = ()


class Writer:
    """The text of one sequence as its tokens come.

    Held back are the bytes of an unfinished character, and characters that may be the beginning of
    a stop string. `finished` is the reason why the text ended, None until then.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self._decoder = tokenizer.stream()
        self._stop = stop
        self._held = ""
        self.finished: str | None = None

    def push(self, token: int, covered: int = 0) -> str:
        """The text that can be shown after `token`, without its first `covered` characters."""
        self._held += self._decoder.push(token)[covered:]
        return self._release()

    def finish(self, reason: str) -> str:
        """The rest of the text, which ends here for this reason."""
        # The jamo decoder still holds a syllable that another letter could have changed. The bytes
        # of a character that max_new_tokens cut off are dropped.
        self._held += self._decoder.finish().rstrip("\ufffd")
        text = self._release()
        if self.finished is None:
            self.finished, text, self._held = reason, text + self._held, ""
        return text

    def _release(self) -> str:
        if not self._stop:
            text, self._held = self._held, ""
            return text
        places = [self._held.find(stop) for stop in self._stop if stop in self._held]
        if places:
            self.finished, text, self._held = "stop", self._held[: min(places)], ""
            return text
        end = len(self._held) - max(self._overlap(stop) for stop in self._stop)
        text, self._held = self._held[:end], self._held[end:]
        return text

    def _overlap(self, stop: str) -> int:
        """How many of the last characters held could be the beginning of `stop`."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)
