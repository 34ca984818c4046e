"""Routes about a text: its tokens, and how much it surprises a model."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from fastapi import FastAPI, Request

from semigpt.corpus import news
from semigpt.errors import CorpusError
from semigpt.generation.stream import TokenScore
from semigpt.serving.answers import token_name
from semigpt.serving.fields import DetokenizeRequest, SurpriseRequest, TokenizeRequest
from semigpt.serving.places import placed, spans
from semigpt.serving.requests import Server
from semigpt.serving.streams import unless_left
from semigpt.tokenizers.base import Tokenizer

__all__ = ["add_surprise", "add_texts"]

MOST_WINDOWS = 32  # each waits for a row as a prompt does
LONGEST_ARTICLE = 2_000  # characters; those of the bundled news have some 430


def add_texts(app: FastAPI, server: Server) -> None:
    """Add the routes of tokens."""

    @app.post("/tokenize")
    async def tokenize(body: TokenizeRequest) -> dict[str, Any]:
        """A text's ids. A prompt that is a special token's spelling gives its id."""
        model = server.model(body.model)
        tokenizer = model.engine.tokenizer
        special = tokenizer.special_tokens.get(body.text)

        def work() -> dict[str, Any]:
            text = model.engine.normalized(body.text)
            ids = [special] if special is not None else tokenizer.encode(text).tolist()
            if body.add_special_tokens and tokenizer.end_of_text is not None and special is None:
                ids = [tokenizer.end_of_text, *ids]
            context = model.engine.model.settings.context_length
            answer: dict[str, Any] = {"tokens": ids, "count": len(ids), "max_model_len": context}
            if body.with_pieces:
                names = (token_name(tokenizer, token) for token in ids)
                found = zip(names, spans(tokenizer, ids), strict=True)
                answer["pieces"] = [[name, start, end] for name, (start, end) in found]
            return answer

        return await server.look(work)

    @app.post("/detokenize")
    async def detokenize(body: DetokenizeRequest) -> dict[str, Any]:
        """The text of some ids."""
        tokenizer = server.model(body.model).engine.tokenizer
        return {"prompt": await server.look(tokenizer.decode, body.tokens)}

    @app.get("/tokenizer_info")
    async def tokenizer_info() -> dict[str, Any]:
        """The first model's tokenizer: its kind, size and special tokens."""
        tokenizer = server.model(None).engine.tokenizer
        end = (
            None if tokenizer.end_of_text is None else token_name(tokenizer, tokenizer.end_of_text)
        )
        return {
            "tokenizer": tokenizer.kind,
            "vocab_size": tokenizer.vocab_size,
            "eos_token": end,
            "bos_token": end,
            "pad_token": end,
        }


def add_surprise(app: FastAPI, server: Server) -> None:
    """Add the route of a text's surprise."""

    @app.post("/v1/surprise")
    async def surprise(body: SurpriseRequest, request: Request) -> dict[str, Any]:
        """How much each token of a text surprises the model, in bits.

        A text longer than the context is read in blocks that overlap by half; of one longer than
        32 of these the end is scored. A whole article of the bundled news has its true bits beside.
        """
        model = server.model(body.model)
        engine, context = model.engine, model.engine.model.settings.context_length
        most = context + (MOST_WINDOWS - 1) * _stride(context)
        text = engine.normalized(body.text)
        ids = await server.look(engine.encode, text, most)
        starts = _starts(len(ids), context)
        plan = await asyncio.to_thread(
            engine.plan,
            [ids[start : start + context] for start in starts],
            max_new_tokens=0,
            echo=True,
            logprobs=body.alternatives,
        )
        (answer,) = server.begin((model, plan), whole=True)
        samples = await unless_left(request, answer, server.collect(answer))
        scores: list[TokenScore] = []
        for start, chunks in zip(starts, samples, strict=True):
            found = [score for chunk in chunks for score in chunk.scores]
            scores += found[len(scores) - start :]
        tokens = _surprising(engine.tokenizer, text, scores)
        bits = sum(token["bits"] for token in tokens)
        characters = len(text) - tokens[0]["start"] if tokens else 0
        return {
            "model": model.name,
            "system_fingerprint": model.fingerprint,
            "tokens": tokens,
            "bits": bits,
            "characters": characters,
            "bits_per_character": bits / characters if characters else None,
            "news": await server.look(_true_bits, text) if characters == len(text) else None,
        }


def _stride(context: int) -> int:
    return max(1, context // 2)


def _starts(count: int, context: int) -> list[int]:
    """Where blocks of `context` of so many ids begin: all but the first half of one is new."""
    if count <= context:
        return [0]
    return [*range(0, count - context, _stride(context)), count - context]


def _true_bits(text: str) -> dict[str, float] | None:
    """-log2 of the probability of a whole article of the bundled news; None for any other text."""
    if len(text) > LONGEST_ARTICLE:
        return None
    try:
        bits = news.information(text)
    except CorpusError:
        return None
    return {"bits": bits, "bits_per_character": bits / len(text)}


def _surprising(tokenizer: Tokenizer, text: str, scores: list[TokenScore]) -> list[dict[str, Any]]:
    """Each token with its place in the text, its bits, and what was likelier."""
    found = spans(tokenizer, [score.token for score in scores])
    before = len(text) - found[-1][1] if found else 0
    return [
        {
            **placed(tokenizer, score.token, (max(begin + before, 0), max(end + before, 0))),
            "bits": -score.log_probability / math.log(2),
            "alternatives": [
                {"id": i, "text": token_name(tokenizer, i), "bits": -nats / math.log(2)}
                for i, (_, nats) in zip(score.likeliest, score.alternatives, strict=True)
            ],
        }
        for score, (begin, end) in zip(scores, found, strict=True)
    ]
