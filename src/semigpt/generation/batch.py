"""The one loop: sequences of many requests that join and leave while others are being written.

`read` is one step of the model: a token of each running sequence, and up to 64 tokens of prompts.
`draw` draws each sequence's next token. Between the two, and nowhere else, requests are taken up
and given up. What a sequence becomes depends on its own request alone.

Shapes: B sequences, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from semigpt.errors import SemigptError, SettingsError
from semigpt.generation.constraint import START, Allowed, Constraint
from semigpt.generation.decoder import Pool
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
from semigpt.generation.token_healing import HealingPoint, Prompt, Reading
from semigpt.native.decode import ROWS, NativePool
from semigpt.tokenizers.base import Tokenizer

__all__ = ["Batch", "Conversation", "Job", "Request", "draw_tokens"]


class Conversation:
    """One sequence that calls of `Engine.stream` continue in turn, reading each token once.

    pool, slot: where the sequence is; None before the first call
    unread: the tokens that belong to it but have not been read
    """

    def __init__(self) -> None:
        self.pool: Pool | None = None
        self.slot: int | None = None
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

    @cached_property
    def cuts(self) -> tuple[float, int, float, float]:
        """`SamplingSettings.cuts`."""
        return self.sampling.cuts

    @cached_property
    def adjusts_logits(self) -> bool:
        """`SamplingSettings.adjusts_logits`."""
        return self.sampling.adjusts_logits

    @property
    def echoes_scores(self) -> bool:
        """Whether the prompt's tokens are scored."""
        return self.echo and self.logprobs is not None


class Job:
    """A prompt of a request on its way through a batch.

    emit: called with each chunk
    failed: called with the error that ended the job; nothing is emitted after that
    cancelled: set it from any thread; the batch gives the job up before its next step
    """

    def __init__(
        self,
        request: Request,
        index: int,
        emit: Callable[[Chunk], None],
        failed: Callable[[SemigptError], None],
    ) -> None:
        self.request, self.prompt = request, request.prompts[index]
        self.emit, self.failed = emit, failed
        self.first_sample = index * request.num_samples
        self.cancelled = False
        self.reading: Reading | None = None
        self.started = 0  # samples that have begun
        self.ended = 0
        self.written = 0  # tokens
        self.scores: list[TokenScore] = []  # of the prompt's tokens, from the second on

    @property
    def done(self) -> bool:
        return self.ended == self.request.num_samples

    @property
    def begun(self) -> bool:
        """Whether its prompt has been taken up."""
        return self.reading is not None or self.started > 0

    @property
    def pending(self) -> int:
        """Samples that have not begun."""
        return self.request.num_samples - self.started


class Sample:
    """One sequence that is being written."""

    def __init__(self, job: Job, slot: int, index: int, writer: Writer) -> None:
        request = job.request
        self.job, self.slot, self.writer = job, slot, writer
        self.sample = job.first_sample + index
        self.random = random_generator(request.seed, index)
        self.state = START  # the constraint's
        self.point: HealingPoint | None = None  # until a first token replaces the prompt's last
        self.history: History | None = None
        self.scores: list[TokenScore] = []
        self.written = 0
        self.token = -1  # drawn but not read

    @cached_property
    def _at_point(self) -> Allowed:
        assert self.point is not None
        return Allowed.after(self.point.next_states_V)

    def allowed(self) -> Allowed:
        """What may follow. Raises SettingsError where that takes too much work."""
        if self.point is not None:
            return self._at_point
        return self.job.request.constraint.allowed(self.state)

    def push(self, token: int, logits_V: NDArray[np.float32], scorer: Scorer) -> str:
        """Take a drawn token, and return the text that can be shown."""
        request, writer = self.job.request, self.writer
        self.token = token
        self.written += 1
        if token in request.end_tokens or token < 0:
            return writer.finish("stop")
        if request.logprobs is not None:
            self.scores.append(scorer.score(logits_V, token, request.logprobs))
        text = writer.push(token, 0 if self.point is None else len(self.point.covered))
        self.state, self.point = self.allowed().next_states_V.item(token), None
        if self.history is not None:
            self.history.push(token)
        if writer.finished is None and request.constraint.complete(self.state):
            text += writer.finish("stop")
        if writer.finished is None and self.written == request.max_new_tokens:
            text += writer.finish("length")
        return text


class Batch:
    """A pool of slots, the sequences in them, and the jobs that wait for one."""

    def __init__(self, pool: Pool, tokenizer: Tokenizer, scorer: Scorer) -> None:
        self._pool, self._tokenizer, self._scorer = pool, tokenizer, scorer
        self._waiting: deque[Job] = deque()  # with samples that have not begun
        self._reading: list[Job] = []
        self._running: list[Sample] = []
        self._logits: NDArray[np.float32] = np.empty((0, 0), np.float32)  # of the running ones

    def add(self, job: Job) -> None:
        """Take up a job at the next step."""
        self._waiting.append(job)

    @property
    def rows(self) -> int:
        """Sequences being written, and prompts being read."""
        return len(self._running) + len(self._reading)

    @property
    def waiting(self) -> int:
        """Jobs with samples that have not begun, whose prompts are not being read."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._running or self._reading or self._waiting)

    def read(self) -> None:
        """Read a token of each running sequence, and the next tokens of prompts; then take up."""
        self._give_up_cancelled()
        parts = [(sample.slot, [sample.token], 1) for sample in self._running]
        reading: list[Job] = []
        left = ROWS
        for job in self._reading:
            if left and job.reading is not None:
                parts.append(job.reading.part(left))
                left -= len(parts[-1][1])
                reading.append(job)
        running = begin = len(self._running)
        if parts:
            logits = self._pool.read(parts)
            for job, (_, tokens, wanted) in zip(reading, parts[running:], strict=True):
                self._read_part(job, len(tokens), logits[begin : begin + wanted])
                begin += wanted
            self._logits = logits[:running]
        for sample in self._running:
            _remember(sample, [])
        self._take_up()

    def _read_part(self, job: Job, count: int, logits: NDArray[np.float32]) -> None:
        reading = job.reading
        assert reading is not None
        if job.request.echoes_scores:
            after = job.prompt.tokens[reading.place + 1 :]
            for row_V, token in zip(logits, after, strict=False):
                job.scores.append(self._scorer.score(row_V, token, job.request.logprobs or 0))
        reading.take(count, logits)
        if reading.done:
            self._reading.remove(job)
            self._waiting.appendleft(job)

    def _take_up(self) -> None:
        """Give free slots to the jobs that wait, a sequence each in turn."""
        refused = 0
        while refused < len(self._waiting):
            job = self._waiting.popleft()
            if self._take_turn(job):
                refused = 0
            else:
                self._waiting.append(job)
                refused += 1
        if self._waiting and not self._running and not self._reading:
            # Every slot holds a prompt: one gives way to its text, and is read again for the next.
            job = next(job for job in self._waiting if job.reading is not None)
            self._waiting.remove(job)
            self._begin(job, last=True)

    def _take_turn(self, job: Job) -> bool:
        """Read a job's prompt, or begin its next sample. False where no slot is free for that."""
        conversation = job.request.conversation
        if job.reading is None:
            if conversation is None and not self._pool.free_slots:
                return False
            slot = None if conversation is None else conversation.slot
            job.scores = []
            job.reading = Reading(
                self._pool, job.prompt, slot=slot, every_row=job.request.echoes_scores
            )
            self._reading.append(job)
            return True
        last = job.pending == 1
        if not last and not self._pool.free_slots:
            return False
        self._begin(job, last)
        return True

    def _begin(self, job: Job, last: bool) -> None:
        """Begin a job's next sample. last: in the slot of the prompt."""
        reading, request = job.reading, job.request
        assert reading is not None
        sample = Sample(job, -1, job.started, Writer(self._tokenizer, request.stop))
        job.started += 1
        if request.max_new_tokens:
            point = job.prompt.choose_point(reading.logits, request.sampling, sample.random)
        else:
            point = job.prompt.points[0]
        place = job.prompt.most_back - point.back
        logits_V = reading.logits[place]
        sample.slot = reading.begin(point, copy=not last)
        if last:
            job.reading = None
        if job.pending:
            self._waiting.append(job)
        sample.point = point if point.back else None
        sample.history = request.history(job.prompt, point)
        if request.echo:
            scores = job.scores[: len(job.prompt.kept(point)) - 1]
            job.emit(Chunk(sample.sample, job.prompt.text, None, tuple(scores)))
        if not request.max_new_tokens:
            self._end(sample, "", "length")
            return
        self._running.append(sample)
        before = [self._logits] if len(self._running) > 1 else []
        self._logits = np.concatenate([*before, logits_V[None]])
        _remember(sample, job.prompt.tokens[len(job.prompt.kept(point)) :])

    def draw(self) -> None:
        """Draw a token for each running sequence, and emit what it completes."""
        if not self._running:
            return
        tokens = draw_tokens(self._pool, self._logits, self._running)
        going_on: list[Sample] = []
        for row, (sample, token) in enumerate(zip(self._running, tokens, strict=True)):
            job = sample.job
            if job.cancelled:
                going_on.append(sample)  # until the job is given up
                continue
            try:
                if isinstance(token, SemigptError):
                    raise token
                text = sample.push(token, self._logits[row], self._scorer)
            except SemigptError as error:
                job.cancelled = True
                job.failed(error)
                going_on.append(sample)
                continue
            job.written += 1
            if token >= 0:  # a text that ended here may be continued behind this token
                _remember(sample, [token])
            finished = sample.writer.finished
            if finished is not None:
                self._end(sample, text, finished)
                continue
            going_on.append(sample)
            if text:
                scores, sample.scores = tuple(sample.scores), []
                job.emit(Chunk(sample.sample, text, None, scores))
        self._running = going_on

    def _end(self, sample: Sample, text: str, reason: str) -> None:
        self._release(sample.slot, sample.job)
        sample.job.ended += 1
        sample.job.emit(Chunk(sample.sample, text, reason, tuple(sample.scores)))

    def _give_up_cancelled(self) -> None:
        """Free what cancelled jobs hold."""
        jobs = {*(sample.job for sample in self._running), *self._reading, *self._waiting}
        # Looked at once: another thread may cancel a job at any moment.
        cancelled = {job for job in jobs if job.cancelled}
        if not cancelled:
            return
        for sample in self._running:
            if sample.job in cancelled:
                self._release(sample.slot, sample.job)
        for job in cancelled:
            if job.reading is not None:
                self._release(job.reading.slot, job)
                job.reading = None
        self._running = [sample for sample in self._running if sample.job not in cancelled]
        self._reading = [job for job in self._reading if job not in cancelled]
        self._waiting = deque(job for job in self._waiting if job not in cancelled)

    def _release(self, slot: int, job: Job) -> None:
        """The one place where a slot is freed; a conversation keeps its own."""
        if job.request.conversation is None:
            self._pool.free(slot)


def _remember(sample: Sample, unread: list[int]) -> None:
    """Note the tokens that a conversation has not read."""
    if (conversation := sample.job.request.conversation) is not None:
        conversation.unread = unread


def draw_tokens(
    pool: Pool, logits: NDArray[np.float32], samples: list[Sample]
) -> list[int | SemigptError]:
    """Draw one token for each sequence from its logits, `[B, V]`; -1 where none may follow.

    Instead of a token stands a CheckpointError where an allowed logit is NaN or +inf, and a
    SettingsError where a constraint takes too much work.
    """
    uniforms = [sample.random.random() for sample in samples]
    drawn: list[int | SemigptError] = [-1] * len(samples)
    allowed: dict[int, Allowed] = {}
    for row, sample in enumerate(samples):
        try:
            allowed[row] = sample.allowed()
        except SettingsError as error:
            drawn[row] = error
    changed = [row for row in allowed if samples[row].job.request.adjusts_logits]
    if changed:
        logits = logits.copy()
        for row in changed:
            sampling = samples[row].job.request.sampling
            logits[row] = adjusted(logits[row], sampling, samples[row].history)
    if isinstance(pool, NativePool):
        tokens = pool.draw(
            logits if len(allowed) == len(samples) else logits[list(allowed)],
            [row.address for row in allowed.values()],
            [samples[row].job.request.cuts for row in allowed],
            [uniforms[row] for row in allowed],
        )
        for row, token in zip(allowed, tokens, strict=True):
            drawn[row] = token if token >= -1 else not_finite()
        return drawn
    for row, may in allowed.items():
        allowed_V = np.where(may.forbidden_V, np.float32(-np.inf), logits[row])
        try:
            weights_V = probabilities(allowed_V, samples[row].job.request.sampling)
            drawn[row] = choose(weights_V, uniforms[row])
        except SemigptError as error:
            drawn[row] = error
    return drawn
