"""The sequences of one request side by side: how they start, and one step of the loop.

Shapes: B sequences, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from semigpt.errors import SettingsError
from semigpt.generation.constraint import START, Allowed, Constraint
from semigpt.generation.decoder import Decoder, DecoderState
from semigpt.generation.sampling import (
    History,
    SamplingSettings,
    adjusted,
    choose,
    not_finite,
    probabilities,
    random_generator,
)
from semigpt.generation.scoring import Scorer
from semigpt.generation.stream import Chunk, TokenScore, Writer
from semigpt.generation.token_healing import MOST_TOKENS_BACK, HealingPoint, Prompt, read_prompts
from semigpt.native.decode import NativeState
from semigpt.tokenizers.base import Tokenizer

__all__ = ["Conversation", "Request", "draw", "next_tokens"]


class Conversation:
    """One sequence that calls of `Engine.stream` continue in turn, reading each token once.

    state: the sequence, with capacity for each healing point; None before the first call
    unread: the tokens that belong to it but have not been read
    """

    def __init__(self) -> None:
        self.state: DecoderState | None = None
        self.unread: list[int] = []


@dataclass(frozen=True)
class Request:
    """What `Engine.stream` was asked for, encoded; see there for the fields.

    Raises SettingsError for what cannot be met.
    """

    prompts: list[Prompt]
    max_new_tokens: int
    sampling: SamplingSettings
    seed: int | None
    num_samples: int
    stop: list[str]
    end_tokens: frozenset[int]
    constraint: Constraint
    logprobs: int | None
    echo: bool
    conversation: Conversation | None

    def __post_init__(self) -> None:
        samples, beams = self.num_samples, self.sampling.num_beams
        if self.max_new_tokens < 0:
            raise SettingsError(f"max_new_tokens must be 0 or more, not {self.max_new_tokens}")
        if samples < 1:
            raise SettingsError(f"num_samples must be at least 1, not {samples}")
        if self.logprobs is not None and self.logprobs < 0:
            raise SettingsError(f"logprobs must be 0 or more, not {self.logprobs}")
        if not all(self.stop):
            raise SettingsError("a stop string must not be empty")
        if 1 < beams < samples:
            raise SettingsError(
                f"num_samples {samples} is more than num_beams {beams}; "
                "search with more beams or ask for fewer samples"
            )
        if self.conversation is not None and (len(self.prompts), samples, beams) != (1, 1, 1):
            raise SettingsError(
                "a conversation takes one prompt, one sample and no beams at a time"
            )

    def history(self, prompt: Prompt, point: HealingPoint) -> History | None:
        """The history of a prompt whose new text begins at `point`; None where none is needed."""
        if not self.sampling.adjusts_logits:
            return None
        V = len(point.next_states_V)
        return History(prompt.kept(point), V, self.sampling.no_repeat_ngram_size)


class Slot:
    """One sequence that is being written."""

    def __init__(
        self,
        sample: int,
        writer: Writer,
        random: np.random.Generator,
        history: History | None,
        point: HealingPoint,
    ) -> None:
        self.sample, self.writer, self.random, self.history = sample, writer, random, history
        self.state = START  # the constraint's
        # Until the first token is drawn, where it replaces tokens of the prompt.
        self.point = point if point.back else None
        self.scores: list[TokenScore] = []

    @cached_property
    def _at_point(self) -> Allowed:
        assert self.point is not None
        return Allowed.after(self.point.next_states_V)

    def allowed(self, constraint: Constraint) -> Allowed:
        """What may follow."""
        return constraint.allowed(self.state) if self.point is None else self._at_point

    def advance(self, token: int, constraint: Constraint) -> None:
        """Take a drawn token into the constraint's state and the history."""
        self.state = self.allowed(constraint).next_states_V.item(token)
        self.point = None
        if self.history is not None:
            self.history.push(token)


def draw(
    request: Request, decoder: Decoder, tokenizer: Tokenizer, scorer: Scorer
) -> Iterator[Chunk]:
    """Continue all sequences side by side by drawing tokens; yield their chunks as they come."""
    count = len(request.prompts) * request.num_samples
    state = _open(request, decoder, count)
    if request.max_new_tokens == 0:
        for sample in range(count):
            prompt = request.prompts[sample // request.num_samples]
            if request.echo:
                yield scorer.echo(sample, prompt, prompt.points[0], request.logprobs)
            yield Chunk(sample, "", "length")
        return
    batch = _Batch(request, state, tokenizer, scorer)
    if request.echo:
        for slot in batch.slots:
            prompt = request.prompts[slot.sample // request.num_samples]
            point = slot.point or prompt.points[0]
            yield scorer.echo(slot.sample, prompt, point, request.logprobs)
    for step in range(1, request.max_new_tokens + 1):
        yield from batch.write(last=step == request.max_new_tokens)
        if not batch.slots:
            return
        batch.read()


def _open(request: Request, decoder: Decoder, count: int) -> DecoderState:
    conversation = request.conversation
    if conversation is None:
        points = sum(prompt.most_back + 1 for prompt in request.prompts)
        return decoder.open(len(request.prompts), max(count, points))
    if conversation.state is None:
        conversation.state = decoder.open(1, MOST_TOKENS_BACK + 1)
    conversation.unread = request.prompts[0].tokens
    return conversation.state


class _Batch:
    """The sequences still being written. A step of the loop is `write`, then `read`."""

    def __init__(
        self, request: Request, state: DecoderState, tokenizer: Tokenizer, scorer: Scorer
    ) -> None:
        self._request, self._state, self._scorer = request, state, scorer
        self.slots: list[Slot] = []
        logits = read_prompts(state, request.prompts)
        rows: list[int] = []
        end = -1  # the row at the end of the prompt
        for prompt in request.prompts:
            end += prompt.most_back + 1
            choices = logits[end - prompt.most_back : end + 1]
            for sample in range(request.num_samples):
                random = random_generator(request.seed, sample)
                point = prompt.choose_point(choices, request.sampling, random)
                rows.append(end - point.back)
                history = request.history(prompt, point)
                writer = Writer(tokenizer, request.stop)
                self.slots.append(Slot(len(self.slots), writer, random, history, point))
        state.keep(rows)
        self._logits = logits[rows]
        if request.conversation is not None:  # one prompt, one sample
            request.conversation.unread = prompt.tokens[len(prompt.kept(point)) :]
        self._tokens = np.empty(0, np.int64)

    def write(self, last: bool) -> Iterator[Chunk]:
        """Draw a token for each sequence, yield what it completes, drop the sequences that end.

        last: every sequence ends here, at max_new_tokens
        """
        request = self._request
        # A draw may overwrite the logits that are scored.
        logits = self._logits.copy() if request.logprobs is not None else None
        tokens = next_tokens(
            self._state, self._logits, self.slots, request.sampling, request.constraint
        )
        if request.conversation is not None:
            request.conversation.unread = tokens[tokens >= 0].tolist()
        going_on: list[int] = []
        for row, (slot, token) in enumerate(zip(self.slots, tokens.tolist(), strict=True)):
            text = self._push(slot, token, None if logits is None else logits[row], last)
            if slot.writer.finished is None:
                going_on.append(row)
            if text or slot.writer.finished:
                scores, slot.scores = tuple(slot.scores), []
                yield Chunk(slot.sample, text, slot.writer.finished, scores)
        if going_on and len(going_on) < len(self.slots):
            self._state.keep(going_on)
            tokens = tokens[going_on]
        self.slots = [self.slots[row] for row in going_on]
        self._tokens = tokens

    def _push(
        self, slot: Slot, token: int, logits_V: NDArray[np.float32] | None, last: bool
    ) -> str:
        """Take one token into a sequence, and return the text that can be shown."""
        request, writer = self._request, slot.writer
        if token in request.end_tokens or token < 0:
            return writer.finish("stop")
        if logits_V is not None:
            slot.scores.append(self._scorer.score(logits_V, token, request.logprobs or 0))
        text = writer.push(token, 0 if slot.point is None else len(slot.point.covered))
        slot.advance(token, request.constraint)
        if writer.finished is None and request.constraint.complete(slot.state):
            text += writer.finish("stop")
        if writer.finished is None and last:
            text += writer.finish("length")
        return text

    def read(self) -> None:
        """Let the model read the tokens just drawn."""
        self._logits = self._state.step(self._tokens)


def next_tokens(
    state: DecoderState,
    logits: NDArray[np.float32],
    slots: Sequence[Slot],
    sampling: SamplingSettings,
    constraint: Constraint,
) -> NDArray[np.int64]:
    """Draw one token for each sequence, `[B]`; -1 where none may follow.

    The logits may be overwritten.
    Raises CheckpointError where an allowed logit is NaN or +inf.
    """
    uniforms = [slot.random.random() for slot in slots]
    if sampling.plain and isinstance(state, NativeState):
        allowed = [slot.allowed(constraint) for slot in slots]
        rows = [row.address for row in allowed]
        temperature = 0.0 if sampling.greedy else sampling.temperature
        try:
            return state.draw(rows, temperature, uniforms)
        except FloatingPointError:
            raise not_finite() from None
    tokens = np.empty(len(slots), np.int64)
    for row, (slot, uniform) in enumerate(zip(slots, uniforms, strict=True)):
        logits_V = logits[row]
        if sampling.adjusts_logits:
            logits_V = adjusted(logits_V, sampling, slot.history)
        logits_V = np.where(slot.allowed(constraint).forbidden_V, np.float32(-np.inf), logits_V)
        tokens[row] = choose(probabilities(logits_V, sampling), uniform)
    return tokens
