"""Beam search: the likeliest continuations that a number of parallel ones find. Nothing is drawn.

V is the size of the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semigpt.generation.batch import Request
from semigpt.generation.constraint import DEAD, Constraint
from semigpt.generation.decoder import Decoder, Sequences
from semigpt.generation.sampling import (
    History,
    SamplingSettings,
    adjusted,
    log_probabilities,
    random_generator,
)
from semigpt.generation.scoring import Scorer
from semigpt.generation.stream import Chunk, TokenScore, Writer
from semigpt.generation.token_healing import Reading
from semigpt.native.decode import ROWS
from semigpt.tokenizers.base import Tokenizer

__all__ = ["Beam", "Hypothesis", "beam_search", "search"]


@dataclass(frozen=True)
class Beam:
    """A continuation that still grows.

    log_probability: of its tokens, natural, after penalties next_states_V: the constraint's state
        after each token to come; DEAD where the token may not follow
    history: None where the sampling needs none
    """

    log_probability: float
    tokens: list[int]
    next_states_V: NDArray[np.int32]
    history: History | None = None


class Hypothesis(NamedTuple):
    """A continuation that has ended. score: log-probability / tokens ** length_penalty"""

    score: float
    tokens: list[int]
    finish_reason: str


class _Candidate(NamedTuple):
    """A beam and one token more."""

    log_probability: float
    beam: int
    token: int


def search(
    request: Request, decoder: Decoder, tokenizer: Tokenizer, scorer: Scorer
) -> Iterator[Chunk]:
    """Continue each prompt by its best hypotheses, best first; one chunk each, after its echo."""
    for index, prompt in enumerate(request.prompts):
        sampling = request.sampling
        pool = decoder.pool(sampling.num_beams)
        reading = Reading(pool, prompt)
        while not reading.done:
            part = reading.part(ROWS)
            reading.take(len(part[1]), pool.read([], [], [part]))
        greedy = replace(sampling, temperature=0)
        point = prompt.choose_point(reading.logits, greedy, random_generator(0, 0))
        found = beam_search(
            Sequences(pool, [reading.begin(point, copy=False)]),
            reading.logits[-1 - point.back][None],
            Beam(0.0, [], point.next_states_V, request.history(prompt, point)),
            sampling,
            max_new_tokens=request.max_new_tokens,
            end_tokens=request.end_tokens,
            constraint=request.constraint,
        )
        echoed: list[TokenScore] = []
        before = prompt.kept(point)
        if request.echoes_scores:
            echoed += scorer.score_known(before[:1], before[1:], request.logprobs or 0)
        for place, hypothesis in enumerate(found[: request.num_samples]):
            sample = index * request.num_samples + place
            if request.echo:
                yield Chunk(sample, prompt.text, None, tuple(echoed))
            text, reason = _write(hypothesis, Writer(tokenizer, request.stop), len(point.covered))
            scores: tuple[TokenScore, ...] = ()
            if request.logprobs is not None:
                scores = tuple(scorer.score_known(before, hypothesis.tokens, request.logprobs))
            yield Chunk(sample, text, reason, scores)


def _write(hypothesis: Hypothesis, writer: Writer, covered: int) -> tuple[str, str | None]:
    """The text of a hypothesis, and why it ends.

    covered: how many characters of its first token the prompt has already
    """
    text = ""
    for place, token in enumerate(hypothesis.tokens):
        if writer.finished is None:
            text += writer.push(token, 0 if place else covered)
    if writer.finished is None:
        text += writer.finish(hypothesis.finish_reason)
    return text, writer.finished


def beam_search(
    state: Sequences,
    logits: NDArray[np.float32],
    first: Beam,
    sampling: SamplingSettings,
    *,
    max_new_tokens: int,
    end_tokens: Collection[int],
    constraint: Constraint,
) -> list[Hypothesis]:
    """The best `num_beams` continuations found of one sequence, best first.

    state: that sequence, read, with capacity for `num_beams`
    logits: after it, `[1, V]`
    first: the beam to begin with

    Each step keeps the `num_beams` likeliest continuations of all beams; one that ends is put
    aside. The search is over when as many have ended and no beam can become better at its present
    length (transformers' default).
    """
    beams, ended = [first], list[Hypothesis]()
    for _ in range(max_new_tokens):
        candidates = _candidates(beams, logits, sampling, len(end_tokens))
        chosen, finished = _choose(candidates, beams, sampling, end_tokens, constraint)
        ended = _best(ended + finished, sampling.num_beams)
        beams = [_grow(beams[candidate.beam], candidate, constraint) for candidate in chosen]
        if not beams or _settled(ended, beams[0], sampling):
            return ended
        state.keep([candidate.beam for candidate in chosen])
        logits = state.step(np.array([candidate.token for candidate in chosen]))
    power = sampling.length_penalty
    for beam in beams:
        score = beam.log_probability / max(len(beam.tokens), 1) ** power
        ended.append(Hypothesis(score, beam.tokens, "length"))
    return _best(ended, sampling.num_beams)


def _candidates(
    beams: Sequence[Beam],
    logits: NDArray[np.float32],
    sampling: SamplingSettings,
    num_ends: int,
) -> list[_Candidate]:
    """The likeliest continuations of all beams by one token, likeliest first."""
    candidates: list[_Candidate] = []
    for index, beam in enumerate(beams):
        log_V = log_probabilities(logits[index]).astype(np.float32)
        if sampling.adjusts_logits:
            log_V = adjusted(log_V, sampling, beam.history)
        log_V = np.where(beam.next_states_V == DEAD, -np.inf, log_V)
        # Enough that num_beams of them do not end the text.
        best = np.argsort(-log_V, kind="stable")[: sampling.num_beams * (1 + num_ends)].tolist()
        candidates += [
            _Candidate(beam.log_probability + float(log_V[token]), index, token)
            for token in best
            if log_V[token] > -math.inf
        ]
    return sorted(candidates, key=lambda c: (-c.log_probability, c.beam, c.token))


def _choose(
    candidates: Sequence[_Candidate],
    beams: Sequence[Beam],
    sampling: SamplingSettings,
    end_tokens: Collection[int],
    constraint: Constraint,
) -> tuple[list[_Candidate], list[Hypothesis]]:
    """The best `num_beams` candidates that go on, and the hypotheses that end before those."""
    chosen: list[_Candidate] = []
    ended: list[Hypothesis] = []
    for place, candidate in enumerate(candidates):
        beam, token = beams[candidate.beam], candidate.token
        score = candidate.log_probability / (len(beam.tokens) + 1) ** sampling.length_penalty
        if token in end_tokens:
            if place < sampling.num_beams:
                ended.append(Hypothesis(score, beam.tokens, "stop"))
        elif constraint.complete(int(beam.next_states_V[token])):
            ended.append(Hypothesis(score, [*beam.tokens, token], "stop"))
        else:
            chosen.append(candidate)
            if len(chosen) == sampling.num_beams:
                break
    return chosen, ended


def _grow(beam: Beam, candidate: _Candidate, constraint: Constraint) -> Beam:
    history = beam.history
    if history is not None:
        history = history.copy()
        history.push(candidate.token)
    return Beam(
        candidate.log_probability,
        [*beam.tokens, candidate.token],
        constraint.transitions(int(beam.next_states_V[candidate.token])),
        history,
    )


def _settled(ended: Sequence[Hypothesis], best: Beam, sampling: SamplingSettings) -> bool:
    """Whether no beam can become better than the `num_beams` hypotheses that have ended."""
    score = best.log_probability / len(best.tokens) ** sampling.length_penalty
    return len(ended) == sampling.num_beams and ended[-1].score >= score


def _best(hypotheses: Sequence[Hypothesis], count: int) -> list[Hypothesis]:
    return sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)[:count]
