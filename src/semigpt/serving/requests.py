"""From a request's fields to a job of the loop, and back to its samples."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from dataclasses import dataclass
from typing import Any

from semigpt.generation.batch import Request as Plan
from semigpt.generation.sampling import SamplingSettings
from semigpt.generation.stream import Chunk
from semigpt.serving.fields import ChatRequest, CompletionRequest
from semigpt.serving.guard import RefusalError
from semigpt.serving.loop import Answer, Loop, ServedModel
from semigpt.serving.metrics import Metrics
from semigpt.settings import nearest

__all__ = ["Server", "by_sample", "plan_of", "usage"]

MOST_AT_ONCE = 2_000
"""Characters that are encoded in the event loop, in a fifth of a millisecond. Handing them to a
thread takes longer, while steps are taken."""
IDS = map(f"{uuid.uuid4().hex[:16]}{{:08x}}".format, itertools.count(1))
"""Of answers: a number of this process's each. New random ones would wait for the next step."""


@dataclass
class Server:
    """What every route needs."""

    loop: Loop
    models: dict[str, ServedModel]
    metrics: Metrics

    def model(self, name: str | None) -> ServedModel:
        """The model of this name; the first where none is named. Raises RefusalError."""
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            message = f"there is no model {name[:100]!r}: {nearest(name[:100], self.models)}"
            raise RefusalError(404, message, param="model", code="model_not_found")
        return self.models[name]

    def begin(self, model: ServedModel, plan: Plan) -> Answer:
        """Hand a request to the loop. Raises OverloadError."""
        answer = Answer(model, plan)
        self.loop.submit(answer)
        return answer

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


def _sampling(body: CompletionRequest | ChatRequest) -> SamplingSettings:
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
    )


async def plan_of(model: ServedModel, body: CompletionRequest | ChatRequest, **own: Any) -> Plan:
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
