"""The thread that writes: one step of every model's batch in turn, for as long as any is busy."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

import numpy as np

from semigpt.errors import SemigptError
from semigpt.generation.batch import Batch, Job, Request
from semigpt.generation.beam_search import Searches
from semigpt.generation.decoder import TorchDecoder
from semigpt.generation.engine import Engine
from semigpt.generation.stream import Chunk
from semigpt.native.decode import NativeDecoder

__all__ = [
    "Answer",
    "BrokenError",
    "ClosingError",
    "Loop",
    "OverloadError",
    "ServedModel",
    "TimedOutError",
]

logger = logging.getLogger(__name__)

ROWS = 16  # sequences written at once
MOST_WAITING = 64  # prompts that wait for a row, of all models together
MOST_SECONDS = 120.0  # of a request
STUCK_AFTER = 10.0  # seconds of one step
GATHER = 0.02  # seconds between two sends of a stream


class OverloadError(SemigptError):
    """The queue is full."""


class TimedOutError(SemigptError):
    """A request took too long."""


class ClosingError(SemigptError):
    """The server is shutting down."""


class BrokenError(SemigptError):
    """A step failed for a reason that is no request's."""


@dataclass(eq=False)
class ServedModel:
    """A model that is served. It is known by its name alone; no path comes from a request."""

    name: str
    engine: Engine
    bits_per_character: float | None = None
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        decoder = self.engine.decoder
        self.batched = isinstance(decoder, NativeDecoder)
        if isinstance(decoder, TorchDecoder):
            # One sequence at a time: a batch of PyTorch's has other bits for other sizes.
            decoder.together = False
        self.make_batch()
        digest = hashlib.sha256(self.engine.precision.encode())
        digest.update(self.engine.tokenizer.fingerprint.encode())
        digest.update(str(self.engine.native_identity).encode())
        for name, tensor in self.engine.model.huggingface_state().items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(tensor.float().cpu().numpy()).tobytes())
        self.fingerprint = f"fp_{digest.hexdigest()[:16]}"

    def make_batch(self) -> None:
        """An empty batch, and no search."""
        engine = self.engine
        self.batch = Batch(engine.decoder.pool(ROWS), engine.tokenizer, engine.scorer)
        self.searches = Searches(engine.decoder, engine.tokenizer, engine.scorer)

    def add(self, job: Job) -> None:
        """Take up a job at the next step. One with beams waits for the others with beams."""
        if job.request.sampling.num_beams > 1:
            self.searches.add(job)
        else:
            self.batch.add(job)

    @property
    def rows(self) -> int:
        """Sequences being written or read."""
        return self.batch.rows + self.searches.rows

    @property
    def waiting(self) -> int:
        """Prompts that wait for a row, or for a search to end."""
        return self.batch.waiting + self.searches.waiting

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return self.batch.busy or self.searches.busy

    def step(self) -> None:
        """One step of all that are drawn together, and one of a search."""
        self.batch.read()
        self.batch.draw()
        self.searches.step()


class Answer:
    """What a request's jobs write, on its way from the loop's thread to a coroutine.

    whole: wake the reader once, when all is written: each time costs a tenth of a millisecond
    """

    def __init__(self, model: ServedModel, request: Request, *, whole: bool = False) -> None:
        self.model, self.request, self._whole = model, request, whole
        self.begun = time.monotonic()
        self.deadline = self.begun + MOST_SECONDS
        self.taken_up: float | None = None  # when a prompt of it was first read
        self.first: float | None = None  # when the first chunk came
        self.jobs = [
            Job(request, index, self._emit, self._fail) for index in range(len(request.prompts))
        ]
        self._chunks: deque[Chunk] = deque()
        self._error: SemigptError | None = None
        self._left = self._unwritten = len(request.prompts) * request.num_samples
        self._asyncio = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._told = False

    def _emit(self, chunk: Chunk) -> None:
        if self.first is None:
            self.first = time.monotonic()
        self._chunks.append(chunk)
        self._unwritten -= chunk.finish_reason is not None
        if not self._whole or not self._unwritten:
            self._tell()

    def _fail(self, error: SemigptError) -> None:
        self._error = error
        self._tell()

    def _tell(self) -> None:
        """Wake the reader, once until it has read."""
        if not self._told:
            self._told = True
            self._asyncio.call_soon_threadsafe(self._news.set)

    def end(self, error: SemigptError) -> None:
        """End the request, from the loop's thread."""
        self.cancel()
        self._fail(error)

    def cancel(self) -> None:
        """Give the request up before the next step."""
        for job in self.jobs:
            job.cancelled = True

    @property
    def over(self) -> bool:
        """Whether nothing more will be written."""
        return all(job.done or job.cancelled for job in self.jobs)

    @property
    def tokens(self) -> int:
        """Tokens written so far."""
        return sum(job.written for job in self.jobs)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompts."""
        return sum(len(prompt.tokens) for prompt in self.request.prompts)

    async def chunks(self, gather: float = GATHER) -> AsyncGenerator[list[Chunk], None]:
        """Lists of chunks as they come, at most one list in `gather` seconds after the first.

        Leaving the iteration cancels what is left. Raises the error that ended the request.
        """
        try:
            while self._left:
                await self._news.wait()
                self._news.clear()
                self._told = False
                if self._error is not None:
                    raise self._error
                chunks = [self._chunks.popleft() for _ in range(len(self._chunks))]
                self._left -= sum(chunk.finish_reason is not None for chunk in chunks)
                if chunks:
                    yield chunks
                if self._left:
                    await asyncio.sleep(gather)
        finally:
            self.cancel()


class Loop:
    """Steps the models' batches in a thread of its own."""

    def __init__(self, models: list[ServedModel]) -> None:
        self.models = models  # another list after a swap
        self.stepped: Callable[[float], None] = lambda seconds: None  # called after each step
        self.step_began: float | None = None  # of the step in progress
        self._newer: deque[ServedModel] = deque()
        self._older: list[ServedModel] = []  # replaced, and writing their last texts
        self.draining = False
        self._answers: list[Answer] = []
        self._arrived: deque[Answer] = deque()
        self._work = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="semigpt-serve", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End every request, and the thread."""
        self._stopped = True
        self._work.set()
        self._thread.join()

    @property
    def waiting(self) -> int:
        """Prompts that wait for a row."""
        arrived = sum(len(answer.jobs) for answer in list(self._arrived))
        return arrived + sum(model.waiting for model in self._writing)

    @property
    def rows(self) -> int:
        """Sequences being written or read."""
        return sum(model.rows for model in self._writing)

    @property
    def running(self) -> int:
        """Requests that have begun and not ended."""
        return sum(answer.taken_up is not None and not answer.over for answer in self._answers)

    @property
    def _writing(self) -> list[ServedModel]:
        return [*self.models, *self._older]

    @property
    def state(self) -> str:
        """`ok`, `loading` while no model has weights yet, `draining` while it ends, or `stuck`
        where a step has been taking too long.
        """
        if self.draining or not self._thread.is_alive():
            return "draining"
        if not self.models:
            return "loading"
        began = self.step_began
        return "stuck" if began is not None and time.monotonic() - began > STUCK_AFTER else "ok"

    def swap(self, model: ServedModel) -> None:
        """Serve this model instead of the one of its name, from the next step on.

        Texts that are being written end with the weights that they began with.
        """
        self._newer.append(model)
        self._work.set()

    def submit(self, *answers: Answer) -> None:
        """Take requests up, all or none. Raises OverloadError where the queue is full."""
        if self.draining or self._stopped:
            raise ClosingError("the server is shutting down")
        if self.waiting + sum(len(answer.jobs) for answer in answers) > MOST_WAITING:
            raise OverloadError(f"{self.waiting} prompts are waiting already; try again later")
        self._arrived.extend(answers)
        self._work.set()

    def _run(self) -> None:
        while not self._stopped:
            self._work.clear()
            self._swap()
            self._take_arrived()
            if not self._step():
                self._work.wait()
        for answer in (*self._answers, *self._arrived):
            if not answer.over:
                answer.end(ClosingError("the server is shutting down"))

    def _swap(self) -> None:
        while self._newer:
            model = self._newer.popleft()
            models = {known.name: known for known in self.models}
            if model.name in models:
                self._older.append(models[model.name])
            self.models = list({**models, model.name: model}.values())
        if self._older:
            self._older = [model for model in self._older if model.busy]

    def _take_arrived(self) -> None:
        while self._arrived:
            answer = self._arrived.popleft()
            self._answers.append(answer)
            if answer.model not in self._writing:  # it was checked before a swap
                self._older.append(answer.model)
            for job in answer.jobs:
                answer.model.add(job)
        now = time.monotonic()
        for answer in self._answers:
            if now > answer.deadline and not answer.over:
                answer.end(TimedOutError(f"this took over {MOST_SECONDS:.0f} s; ask for less"))
        self._answers = [answer for answer in self._answers if not answer.over]

    def _step(self) -> bool:
        """One step of each busy model. False where none is."""
        busy = [model for model in self._writing if model.busy]
        for model in busy:
            self.step_began = begun = time.monotonic()
            try:
                model.step()
            except Exception:
                # A fault of ours: its requests end, and the model begins again with empty slots.
                logger.exception("a step of %s failed", model.name)
                for answer in self._answers:
                    if answer.model is model and not answer.over:
                        answer.end(BrokenError("the server failed; its log says how"))
                model.make_batch()
            now = time.monotonic()
            self.stepped(now - begun)
            for answer in self._answers:
                if answer.taken_up is None and any(job.begun for job in answer.jobs):
                    answer.taken_up = now
        self.step_began = None
        return bool(busy)
