"""POST /v1/completions and /v1/chat/completions."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from semigpt.generation.stream import Chunk
from semigpt.serving.answers import chat_logprobs, choice_logprobs
from semigpt.serving.fields import STREAMED, ChatRequest, CompletionRequest
from semigpt.serving.requests import Server, by_sample, plan_of, usage
from semigpt.serving.streams import EventStream, unless_left

__all__ = ["add_chat", "add_completions"]


def add_completions(app: FastAPI, server: Server) -> None:
    """Add the route of completions."""

    @app.post("/v1/completions", responses=STREAMED)
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Continue each prompt."""
        model = server.model(body.model)
        samples = max(body.n, body.best_of or 1)
        chooses = samples > body.n
        plan = await plan_of(
            model,
            body,
            prompt=body.prompts,
            max_new_tokens=body.max_tokens,
            num_samples=samples,
            logprobs=(body.logprobs or 0) if chooses else body.logprobs,
            echo=body.echo,
        )
        (answer,) = server.begin((model, plan), whole=not body.stream)
        head = server.head("text_completion", model)
        tokenizer, scored = model.engine.tokenizer, body.logprobs is not None
        ids = None if isinstance(body.prompts[0], str) else body.prompts

        def choice(index: int, chunks: list[Chunk], offset: int, begins: bool) -> dict[str, Any]:
            exact = ids[index // body.n] if ids and body.echo and begins else None
            return {
                "index": index,
                "text": "".join(chunk.text for chunk in chunks),
                "logprobs": choice_logprobs(tokenizer, chunks, offset, exact) if scored else None,
                "finish_reason": chunks[-1].finish_reason,
            }

        async def events() -> AsyncGenerator[dict[str, Any], None]:
            lengths: dict[int, int] = {}
            async for chunks in server.metrics.timed(answer):
                for index, own in by_sample(chunks).items():
                    made = choice(index, own, lengths.get(index, 0), index not in lengths)
                    lengths[index] = lengths.get(index, 0) + len(made["text"])
                    yield {**head, "choices": [made]}
            if body.stream_options is not None and body.stream_options.include_usage:
                yield {**head, "choices": [], "usage": usage(answer)}

        if body.stream:
            return EventStream(events(), answer)
        found = await unless_left(request, answer, server.collect(answer))
        if chooses:
            found = _best(found, samples, body.n)
        made = [choice(index, chunks, 0, True) for index, chunks in enumerate(found)]
        return JSONResponse({**head, "choices": made, "usage": usage(answer)})


def add_chat(app: FastAPI, server: Server) -> None:
    """Add the route of chat completions."""

    @app.post("/v1/chat/completions", responses=STREAMED)
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Continue the messages as one text: a base model knows no roles."""
        model = server.model(body.model)
        plan = await plan_of(
            model,
            body,
            prompt=body.prompt,
            max_new_tokens=body.max_completion_tokens or body.max_tokens or 256,
            num_samples=body.n,
            logprobs=body.top_logprobs if body.logprobs else None,
        )
        kind = "chat.completion.chunk" if body.stream else "chat.completion"
        (answer,) = server.begin((model, plan), whole=not body.stream)
        head = server.head(kind, model)
        tokenizer = model.engine.tokenizer

        def scores(chunks: list[Chunk]) -> dict[str, Any] | None:
            return chat_logprobs(tokenizer, chunks) if body.logprobs else None

        async def events() -> AsyncGenerator[dict[str, Any], None]:
            begun: set[int] = set()
            async for chunks in server.metrics.timed(answer):
                for index, own in by_sample(chunks).items():
                    delta = {"content": "".join(chunk.text for chunk in own)}
                    if index not in begun:
                        delta = {"role": "assistant", **delta}
                        begun.add(index)
                    made = {
                        "index": index,
                        "delta": delta,
                        "logprobs": scores(own),
                        "finish_reason": own[-1].finish_reason,
                    }
                    yield {**head, "choices": [made]}
            if body.stream_options is not None and body.stream_options.include_usage:
                yield {**head, "choices": [], "usage": usage(answer)}

        if body.stream:
            return EventStream(events(), answer)
        found = await unless_left(request, answer, server.collect(answer))
        made = [
            {
                "index": index,
                "message": {"role": "assistant", "content": "".join(c.text for c in chunks)},
                "logprobs": scores(chunks),
                "finish_reason": chunks[-1].finish_reason,
            }
            for index, chunks in enumerate(found)
        ]
        return JSONResponse({**head, "choices": made, "usage": usage(answer)})


def _best(samples: list[list[Chunk]], best_of: int, n: int) -> list[list[Chunk]]:
    """Of each prompt's samples the `n` with the best mean log-probability."""

    def mean(chunks: list[Chunk]) -> float:
        scores = [score.log_probability for chunk in chunks for score in chunk.scores]
        return sum(scores) / len(scores) if scores else -math.inf

    groups = [samples[at : at + best_of] for at in range(0, len(samples), best_of)]
    return [chunks for group in groups for chunks in sorted(group, key=mean, reverse=True)[:n]]
