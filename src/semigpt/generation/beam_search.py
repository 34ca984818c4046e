"""Beam search: the likeliest continuations that a number of parallel ones find. Nothing is drawn.

A search goes on a step of the model at a time, so that it can take turns with other work and be
given up between two steps.

V is the size of the vocabulary.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semigpt.errors import SemigptError
from semigpt.generation.batch import Job, Request
from semigpt.generation.constraint import DEAD, Constraint
from semigpt.generation.decoder import Decoder, Sequences
from semigpt.generation.sampling import (
    History,
    SamplingSettings,
    adjusted,
    log_probabilities,
    random_generator,
)
from semigpt.generation.scoring import Scorer, likeliest
from semigpt.generation.stream import Chunk, TokenScore, Writer
from semigpt.generation.token_healing import Reading
from semigpt.native.decode import ROWS
from semigpt.tokenizers.base import Tokenizer

__all__ = ["Beam", "Hypothesis", "Searches", "beam_search"]


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


class Searches:
    """Jobs that search with beams, one after another. `Batch` is the same for those that draw."""

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer, scorer: Scorer) -> None:
        self._decoder, self._tokenizer, self._scorer = decoder, tokenizer, scorer
        self._jobs: deque[Job] = deque()  # that of the search first
        self._search: Generator[None, None, None] | None = None

    def add(self, job: Job) -> None:
        """Take up a job when those before it have ended."""
        self._jobs.append(job)

    @property
    def rows(self) -> int:
        """Beams of the search."""
        return self._jobs[0].request.sampling.num_beams if self._search is not None else 0

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return len(self._jobs) - (self._search is not None)

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._jobs)

    def step(self) -> None:
        """One step of the model in the search, or a part of the scores of what it found."""
        if self._search is not None and self._jobs[0].cancelled:
            self._search = None
        self._jobs = deque(job for job in self._jobs if not job.cancelled)
        if not self._jobs:
            return
        job = self._jobs[0]
        if self._search is None:
            job.started = job.request.num_samples
            self._search = search(job, self._decoder, self._tokenizer, self._scorer)
        try:
            next(self._search)
            return
        except StopIteration:
            pass
        except SemigptError as error:
            job.cancelled = True
            job.failed(error)
        self._search = None
        self._jobs.popleft()


def search(
    job: Job, decoder: Decoder, tokenizer: Tokenizer, scorer: Scorer
) -> Generator[None, None, None]:
    """Continue a prompt by its best hypotheses, best first; one chunk each, after its echo.

    Where fewer texts exist than samples are asked for, the others are empty.
    """
    request, prompt = job.request, job.prompt
    sampling = request.sampling
    pool = decoder.pool(sampling.num_beams)
    reading = Reading(pool, prompt)
    while not reading.done:
        part = reading.part(ROWS)
        reading.take(len(part[1]), pool.read([], [], [part]))
        yield
    greedy = replace(sampling, temperature=0)
    point = prompt.choose_point(reading.logits, greedy, random_generator(0, 0))
    found = yield from beam_search(
        Sequences(pool, [reading.begin(point, copy=False)]),
        reading.logits[-1 - point.back][None],
        Beam(0.0, [], point.next_states_V, request.history(prompt, point)),
        sampling,
        max_new_tokens=request.max_new_tokens,
        end_tokens=request.end_tokens,
        constraint=request.constraint,
    )
    nothing = Hypothesis(-math.inf, [], "stop")
    found += [nothing] * (request.num_samples - len(found))
    before = prompt.kept(point)
    echoed = (yield from _scores(scorer, request, before[:1], before[1:])) if request.echo else ()
    for place, hypothesis in enumerate(found[: request.num_samples]):
        sample = job.first_sample + place
        text, reason = _write(hypothesis, Writer(tokenizer, request.stop), len(point.covered))
        scores = yield from _scores(scorer, request, before, hypothesis.tokens)
        if request.echo:
            job.emit(Chunk(sample, prompt.text, None, echoed))
        job.written += len(hypothesis.tokens)
        job.ended += 1
        job.emit(Chunk(sample, text, reason, scores))


def _scores(
    scorer: Scorer, request: Request, before: Sequence[int], tokens: Sequence[int]
) -> Generator[None, None, tuple[TokenScore, ...]]:
    """The scores of tokens, where they are asked for, some at a time."""
    scores: list[TokenScore] = []
    if request.logprobs is not None:
        for score in scorer.score_known(before, tokens, request.logprobs):
            scores.append(score)
            if len(scores) % ROWS == 0:
                yield
    return tuple(scores)


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
) -> Generator[None, None, list[Hypothesis]]:
    """Return the best `num_beams` continuations found of one sequence, best first; yield after
    each step of the model.

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
        yield
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
        best = likeliest(log_V, sampling.num_beams * (1 + num_ends))
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
