"""POST /v1/compare: one stream of several models, or settings, that go on with the same text."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response

from semigpt.errors import SemigptError
from semigpt.generation.stream import Chunk
from semigpt.serving.answers import choice_logprobs
from semigpt.serving.fields import STREAMED, CompareRequest
from semigpt.serving.guard import error_table
from semigpt.serving.loop import Answer
from semigpt.serving.requests import Server, plan_of, usage
from semigpt.serving.streams import EventStream, refusal_of

__all__ = ["add_compare"]


def add_compare(app: FastAPI, server: Server) -> None:
    """Add this route."""

    @app.post("/v1/compare", responses=STREAMED)
    async def compare(body: CompareRequest) -> Response:
        """Continue a prompt in several columns: a stream whose chunks have a `column`.

        A column's last chunk has its `usage` and the bits per character of what it wrote, or an
        `error`; the others go on.
        """
        plans = []
        for column in body.columns:
            model = server.model(column.model)
            plan = await plan_of(
                model, column, prompt=body.prompt, max_new_tokens=body.max_tokens, logprobs=0
            )
            plans.append((model, plan))
        answers = server.begin(*plans)
        return EventStream(_events(server, answers), *answers)


async def _events(server: Server, answers: list[Answer]) -> AsyncGenerator[dict[str, Any], None]:
    """The chunks of all columns, as they come."""
    ready: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(len(answers))

    async def write(column: int, answer: Answer) -> None:
        head = {**server.head("compare.chunk", answer.model), "column": column}
        bits, characters, tokenizer = 0.0, 0, answer.model.engine.tokenizer
        try:
            async for chunks in server.metrics.timed(answer):
                made = _choice(chunks) | {
                    "logprobs": choice_logprobs(tokenizer, chunks, characters)
                }
                bits -= sum(score.log_probability for chunk in chunks for score in chunk.scores)
                characters += len(made["text"])
                event = {**head, "choices": [made]}
                if made["finish_reason"] is not None:
                    event["usage"] = usage(answer)
                    each = bits / math.log(2) / characters if characters else None
                    event["bits_per_character"] = each
                await ready.put(event)
        except SemigptError as error:
            refusal = refusal_of(error)
            said = error_table(refusal.status, refusal.message, refusal.param, refusal.code)
            await ready.put({**head, "choices": [], "error": said})
        await ready.put(None)

    tasks = [asyncio.ensure_future(write(*each)) for each in enumerate(answers)]
    try:
        left = len(tasks)
        while left:
            event = await ready.get()
            if event is not None:
                yield event
                continue
            left -= 1
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _choice(chunks: list[Chunk]) -> dict[str, Any]:
    return {
        "index": 0,
        "text": "".join(chunk.text for chunk in chunks),
        "finish_reason": chunks[-1].finish_reason,
    }
