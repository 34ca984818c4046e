"""From a request's fields to a job of the loop, and back to its samples."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from semigpt.generation.batch import Request as Plan
from semigpt.generation.sampling import SamplingSettings
from semigpt.generation.stream import Chunk
from semigpt.serving.fields import ChatRequest, Column, CompletionRequest
from semigpt.serving.guard import RefusalError
from semigpt.serving.loop import MOST_WAITING, Answer, Loop, OverloadError, ServedModel
from semigpt.serving.metrics import Metrics
from semigpt.serving.watch import Training
from semigpt.settings import nearest

__all__ = ["Server", "by_sample", "plan_of", "usage"]

T = TypeVar("T")
MOST_AT_ONCE = 2_000
"""Characters that are encoded in the event loop, in a fifth of a millisecond. Handing them to a
thread takes longer, while steps are taken."""
IDS = map(f"{uuid.uuid4().hex[:16]}{{:08x}}".format, itertools.count(1))
"""Of answers: a number of this process's each. New random ones would wait for the next step."""


@dataclass
class Server:
    """What every route needs.

    trainings: what is known of the runs that are watched, by name; some may have no model yet
    """

    loop: Loop
    metrics: Metrics
    trainings: Mapping[str, Training]
    _looks: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, "semigpt-look")
    )
    _looking: int = 0

    @property
    def models(self) -> dict[str, ServedModel]:
        """The models that can write, by name."""
        return {model.name: model for model in self.loop.models}

    @property
    def names(self) -> set[str]:
        """All that a request may name."""
        return {*self.models, *self.trainings}

    def model(self, name: str | None) -> ServedModel:
        """The model of this name; the first where none is named. Raises RefusalError."""
        models = self.models
        name = next(iter([*models, *self.trainings])) if name is None else name
        if name in models:
            return models[name]
        message = f"{name} has no weights yet; its curve is at /v1/training"
        if name not in self.trainings:
            message = f"there is no model {name[:100]!r}: {nearest(name[:100], self.names)}"
        raise RefusalError(404, message, param="model", code="model_not_found")

    def begin(self, *plans: tuple[ServedModel, Plan], whole: bool = False) -> list[Answer]:
        """Hand requests to the loop, all or none. Raises OverloadError.

        whole: the answers are of use once all is written
        """
        answers = [Answer(model, plan, whole=whole) for model, plan in plans]
        self.loop.submit(*answers)
        return answers

    async def look(self, work: Callable[..., T], *arguments: Any) -> T:
        """What `work` gives beside the loop, one after another. Raises OverloadError."""
        if self._looking >= MOST_WAITING:
            raise OverloadError(f"{self._looking} texts are being looked at; try again later")
        self._looking += 1
        try:
            running = asyncio.get_running_loop()
            return await running.run_in_executor(self._looks, work, *arguments)
        finally:
            self._looking -= 1

    def head(self, kind: str, model: ServedModel) -> dict[str, Any]:
        """What every completion, or chunk of one, begins with."""
        return {
            "id": f"{'chatcmpl' if kind.startswith('chat') else 'cmpl'}-{next(IDS)}",
            "object": kind,
            "created": int(time.time()),
            "model": model.name,
            "system_fingerprint": model.fingerprint,
        }

    async def collect(self, answer: Answer) -> list[list[Chunk]]:
        """The chunks of each sample, all of them."""
        count = len(answer.request.prompts) * answer.request.num_samples
        samples: list[list[Chunk]] = [[] for _ in range(count)]
        async for chunks in self.metrics.timed(answer):
            for chunk in chunks:
                samples[chunk.sample].append(chunk)
        return samples


def _sampling(body: CompletionRequest | ChatRequest | Column) -> SamplingSettings:
    try:
        bias = {int(token): float(value) for token, value in body.logit_bias.items()}
    except ValueError:
        raise RefusalError(400, "logit_bias: its names are token ids", param="logit_bias") from None
    return SamplingSettings(
        temperature=body.temperature,
        top_k=body.top_k,
        top_p=body.top_p,
        min_p=body.min_p,
        repetition_penalty=body.repetition_penalty,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        no_repeat_ngram_size=body.no_repeat_ngram_size,
        logit_bias=bias,
        num_beams=body.num_beams,
        length_penalty=body.length_penalty,
    )


async def plan_of(
    model: ServedModel, body: CompletionRequest | ChatRequest | Column, **own: Any
) -> Plan:
    """The checked request. What takes milliseconds is done beside the event loop."""
    settings: dict[str, Any] = {
        "sampling": _sampling(body),
        "seed": body.seed,
        "stop": body.stops,
        "stop_tokens": body.stop_token_ids,
        "pattern": body.pattern,
        "choices": body.choices,
        "banned": body.banned,
        **own,
    }
    constrained = body.pattern is not None or body.choices or body.banned
    prompts = [own["prompt"]] if isinstance(own["prompt"], str) else own["prompt"]
    if not constrained and sum(map(len, prompts)) + 100 * len(prompts) <= MOST_AT_ONCE:
        return model.engine.plan(**settings)
    return await asyncio.to_thread(model.engine.plan, **settings)


def usage(answer: Answer) -> dict[str, int]:
    prompt, new = answer.prompt_tokens, answer.tokens
    return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}


def by_sample(chunks: list[Chunk]) -> dict[int, list[Chunk]]:
    samples: dict[int, list[Chunk]] = {}
    for chunk in chunks:
        samples.setdefault(chunk.sample, []).append(chunk)
    return samples
