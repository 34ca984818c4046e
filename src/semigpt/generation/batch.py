"""The one loop: sequences of many requests that join and leave while others are being written.

`read` is one step of the model: a token of each running sequence, and up to 64 tokens of prompts.
`draw` draws each sequence's next token. Between the two requests are taken up, and before the step
given up, and nowhere else. What a sequence becomes depends on its own request alone.

Shapes: B sequences, V vocabulary.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semigpt.errors import CheckpointError, SemigptError, SettingsError
from semigpt.generation.constraint import START, Allowed, Constraint
from semigpt.generation.decoder import Part, Pool
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
from semigpt.language import _
from semigpt.native.decode import NOT_FINITE, NOTHING, ROWS, NativePool
from semigpt.tokenizers.base import Tokenizer

__all__ = ["Batch", "Conversation", "Job", "Request", "draw_tokens"]

CATCH_UP = 0.01
"""Seconds of a step in which constraints compute: the worst takes as long for one token, and 16 at
once stopped every other sequence for 170 ms."""


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
            raise SettingsError(
                _("max_new_tokens must be 0 or more, not {max_new_tokens}").format(
                    max_new_tokens=self.max_new_tokens
                )
            )
        if samples < 1:
            raise SettingsError(
                _("num_samples must be at least 1, not {samples}").format(samples=samples)
            )
        if self.logprobs is not None and self.logprobs < 0:
            raise SettingsError(
                _("logprobs must be 0 or more, not {logprobs}").format(logprobs=self.logprobs)
            )
        if not all(self.stop):
            raise SettingsError(_("a stop string must not be empty"))
        if 1 < beams < samples:
            raise SettingsError(
                _(
                    "num_samples {samples} is more than num_beams {beams}; "
                    "search with more beams or ask for fewer samples"
                ).format(samples=samples, beams=beams)
            )
        if self.conversation is not None and (len(self.prompts), samples, beams) != (1, 1, 1):
            raise SettingsError(
                _("a conversation takes one prompt, one sample and no beams at a time")
            )

    def history(self, prompt: Prompt, point: HealingPoint) -> History | None:
        """The history of a prompt whose new text begins at `point`; None where none is needed."""
        if not self.sampling.adjusts_logits:
            return None
        V = len(point.next_states_V)
        return History(prompt.kept(point), V, self.sampling.no_repeat_ngram_size)

    @property
    def echoes_scores(self) -> bool:
        """Whether the prompt's tokens are scored."""
        return self.echo and self.logprobs is not None


class Job:
    """A prompt of a request on its way through a batch.

    emit: called with each chunk
    failed: called with the error that ended the job; nothing is emitted after that
    cancelled: set it from any thread; the batch gives the job up before its next step
    started, ended: samples that have begun, and that have ended
    written: tokens
    scores: of the prompt's tokens, from the second on
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
        self.started = self.ended = self.written = 0
        self.scores: list[TokenScore] = []

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
    """One sequence that is being written.

    cuts: `SamplingSettings.cuts`
    allowed: what may follow
    token: the newest, not read yet
    """

    def __init__(self, job: Job, index: int, writer: Writer) -> None:
        request = job.request
        self.job, self.writer = job, writer
        self.conversation = request.conversation
        self.sample = job.first_sample + index
        self.slot = -1
        self.random = random_generator(request.seed, index)
        self._uniforms: Iterator[float] = iter(())
        self.cuts = request.sampling.cuts
        self.state = START  # the constraint's
        self.allowed = request.constraint.allowed(START)
        self._covered = 0  # characters of the first token that the prompt has already
        self.history: History | None = None
        self.scores: list[TokenScore] = []
        self.written = 0
        self.token = -1

    def begin(self, slot: int, point: HealingPoint) -> None:
        """Begin at a point, where the first token may replace the prompt's last."""
        self.slot = slot
        if point.back:
            self.allowed = Allowed.after(point.next_states_V)
            self._covered = len(point.covered)
        self.history = self.job.request.history(self.job.prompt, point)

    def uniform(self) -> float:
        """A random number in [0, 1). Many at once take a tenth of the time."""
        for number in self._uniforms:
            return number
        self._uniforms = iter(self.random.random(64).tolist())
        return next(self._uniforms)

    def is_quick(self, token: int) -> bool:
        """Whether `push` has no transitions of the constraint to compute."""
        state = self.allowed.next_states_V.item(token) if token >= 0 else self.state
        return state == self.state or self.job.request.constraint.is_known(state)

    def push(self, token: int, logits_V: NDArray[np.float32], scorer: Scorer) -> str:
        """Take a drawn token, and return the text that can be shown.

        Raises SettingsError where what may follow takes too much work.
        """
        request, writer = self.job.request, self.writer
        self.token = token
        self.written += 1
        if token in request.end_tokens or token < 0:
            return writer.finish("stop")
        if request.logprobs is not None:
            self.scores.append(scorer.score(logits_V, token, request.logprobs))
        text = writer.push(token, self._covered)
        before, self.state = self.state, self.allowed.next_states_V.item(token)
        if self.history is not None:
            self.history.push(token)
        if writer.finished is None and request.constraint.complete(self.state):
            text += writer.finish("stop")
        if writer.finished is None and self.written == request.max_new_tokens:
            text += writer.finish("length")
        if writer.finished is None and (self.state != before or self.written == 1):
            self.allowed, self._covered = request.constraint.allowed(self.state), 0
        return text


class Batch:
    """A pool of slots, the sequences in them, and the jobs that wait for one."""

    def __init__(self, pool: Pool, tokenizer: Tokenizer, scorer: Scorer) -> None:
        self._pool, self._tokenizer, self._scorer = pool, tokenizer, scorer
        self._jobs: list[Job] = []  # all that have not ended
        self._waiting: deque[Job] = deque()  # those with samples that have not begun
        self._reading: list[Job] = []
        self._running: list[Sample] = []
        self._late: deque[tuple[Sample, int, NDArray[np.float32]]] = deque()
        """Sequences whose drawn token leads where the constraint has not been before."""
        self._slots: list[int] = []  # of the running ones
        self._logits: list[NDArray[np.float32]] = []  # of the running ones, in one or more arrays

    def add(self, job: Job) -> None:
        """Take up a job at the next step."""
        self._jobs.append(job)
        self._waiting.append(job)

    @property
    def rows(self) -> int:
        """Sequences being written, and prompts being read."""
        return len(self._running) + len(self._late) + len(self._reading)

    @property
    def waiting(self) -> int:
        """Jobs with samples that have not begun, whose prompts are not being read."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._jobs)

    def read(self) -> None:
        """Read a token of each running sequence, and the next tokens of prompts; then take up."""
        if any(job.cancelled for job in self._jobs):
            self._give_up_cancelled()
        if self._late:
            self._catch_up()
        self._logits = []
        if self._running or self._reading:
            self._read_step()
        if self._waiting:
            self._take_up()

    def _read_step(self) -> None:
        reading: list[Job] = []
        parts: list[Part] = []
        left = ROWS
        for job in self._reading:
            if left and job.reading is not None:
                parts.append(job.reading.part(left))
                left -= len(parts[-1][1])
                reading.append(job)
        running = begin = len(self._running)
        logits = self._pool.read(self._slots, [sample.token for sample in self._running], parts)
        for job, (_row, tokens, wanted) in zip(reading, parts, strict=True):
            self._read_part(job, len(tokens), logits[begin : begin + wanted])
            begin += wanted
        self._logits = [logits if begin == running else logits[:running]]
        for sample in self._running:
            if sample.conversation is not None:
                sample.conversation.unread = []

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
        if self._waiting and not self.rows:
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
        reading, request, prompt = job.reading, job.request, job.prompt
        assert reading is not None
        sample = Sample(job, job.started, Writer(self._tokenizer, request.stop))
        job.started += 1
        point = prompt.points[0]
        if request.max_new_tokens:
            point = prompt.choose_point(reading.logits, request.sampling, sample.random)
        logits_V = reading.logits[prompt.most_back - point.back]
        sample.begin(reading.begin(point, copy=not last), point)
        if last:
            job.reading = None
        if job.pending:
            self._waiting.append(job)
        kept = len(prompt.kept(point))
        if request.conversation is not None:
            request.conversation.unread = prompt.tokens[kept:]
        if request.echo:
            job.emit(Chunk(sample.sample, prompt.text, None, tuple(job.scores[: kept - 1])))
        if request.max_new_tokens:
            self._running.append(sample)
            self._slots.append(sample.slot)
            self._logits.append(logits_V[None])
        else:
            self._end(sample, "", "length")

    def draw(self) -> None:
        """Draw a token for each running sequence, and emit what it completes."""
        if not self._running:
            return
        logits = self._logits[0] if len(self._logits) == 1 else np.concatenate(self._logits)
        tokens = draw_tokens(self._pool, logits, self._running)
        going_on: list[Sample] = []
        for sample, token, logits_V in zip(self._running, tokens, logits, strict=True):
            if sample.is_quick(token):
                if self._push(sample, token, logits_V):
                    going_on.append(sample)
            else:
                self._late.append((sample, token, logits_V.copy()))
        self._go_on(going_on)

    def _push(self, sample: Sample, token: int, logits_V: NDArray[np.float32]) -> bool:
        """Give a sequence a drawn token, and emit what it completes. False where it has ended."""
        job = sample.job
        if job.cancelled:
            return True  # until the job is given up
        try:
            if token < NOTHING:
                raise not_finite()
            text = sample.push(token, logits_V, self._scorer)
        except SemigptError as error:
            job.cancelled = True
            job.failed(error)
            return True
        job.written += 1
        # A conversation that ends here may go on behind this token.
        if sample.conversation is not None and token >= 0:
            sample.conversation.unread = [token]
        finished = sample.writer.finished
        if finished is not None:
            self._end(sample, text, finished)
        elif text:
            scores, sample.scores = tuple(sample.scores), []
            job.emit(Chunk(sample.sample, text, None, scores))
        return finished is None

    def _catch_up(self) -> None:
        """Push late tokens, at least one, for so long that no other sequence stands still."""
        end = time.perf_counter() + CATCH_UP
        while self._late:
            sample, token, logits_V = self._late.popleft()
            if self._push(sample, token, logits_V):
                self._running.append(sample)
                self._slots.append(sample.slot)
            if time.perf_counter() > end:
                break

    def _go_on(self, samples: list[Sample]) -> None:
        """Let the running sequences be these of them."""
        if len(samples) < len(self._running):
            self._running, self._slots = samples, [sample.slot for sample in samples]

    def _end(self, sample: Sample, text: str, reason: str) -> None:
        job = sample.job
        self._release(sample.slot, job)
        job.ended += 1
        if job.done:
            self._jobs.remove(job)
        job.emit(Chunk(sample.sample, text, reason, tuple(sample.scores)))

    def _give_up_cancelled(self) -> None:
        """Free what cancelled jobs hold."""
        # Looked at once: another thread may cancel a job at any moment.
        cancelled = {job for job in self._jobs if job.cancelled}
        for sample in (*self._running, *(late[0] for late in self._late)):
            if sample.job in cancelled:
                self._release(sample.slot, sample.job)
        for job in cancelled:
            if job.reading is not None:
                self._release(job.reading.slot, job)
                job.reading = None
        self._go_on([sample for sample in self._running if sample.job not in cancelled])
        self._late = deque(late for late in self._late if late[0].job not in cancelled)
        self._jobs = [job for job in self._jobs if job not in cancelled]
        self._reading = [job for job in self._reading if job not in cancelled]
        self._waiting = deque(job for job in self._waiting if job not in cancelled)

    def _release(self, slot: int, job: Job) -> None:
        """The one place where a slot is freed; a conversation keeps its own."""
        if job.request.conversation is None:
            self._pool.free(slot)


def draw_tokens(pool: Pool, logits: NDArray[np.float32], samples: Sequence[Sample]) -> list[int]:
    """Draw one token for each sequence from its logits, `[B, V]`.

    NOTHING where no token may follow, NOT_FINITE where an allowed logit is NaN or +inf.
    """
    uniforms = [sample.uniform() for sample in samples]
    changed = [row for row, sample in enumerate(samples) if sample.history is not None]
    if changed:
        logits = logits.copy()
        for row in changed:
            sampling = samples[row].job.request.sampling
            logits[row] = adjusted(logits[row], sampling, samples[row].history)
    if isinstance(pool, NativePool):
        forbidden = [sample.allowed.address for sample in samples]
        return pool.draw(logits, forbidden, [sample.cuts for sample in samples], uniforms)
    drawn = []
    for row_V, sample, uniform in zip(logits, samples, uniforms, strict=True):
        allowed_V = np.where(sample.allowed.forbidden_V, np.float32(-np.inf), row_V)
        try:
            weights_V = probabilities(allowed_V, sample.job.request.sampling)
            drawn.append(choose(weights_V, uniform))
        except CheckpointError:
            drawn.append(NOT_FINITE)
    return drawn
