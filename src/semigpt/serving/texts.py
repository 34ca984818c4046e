"""Routes about a text: its tokens, and how much it surprises a model."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from fastapi import FastAPI, Request

from semigpt.generation.stream import TokenScore
from semigpt.serving.answers import token_name
from semigpt.serving.fields import DetokenizeRequest, SurpriseRequest, TokenizeRequest
from semigpt.serving.requests import Server
from semigpt.serving.streams import unless_left
from semigpt.tokenizers.base import Tokenizer

__all__ = ["add_texts"]


def add_texts(app: FastAPI, server: Server) -> None:
    """Add these routes."""

    @app.post("/tokenize")
    async def tokenize(body: TokenizeRequest) -> dict[str, Any]:
        """A text's ids. A prompt that is a special token's spelling gives its id."""
        model = server.model(body.model)
        tokenizer = model.engine.tokenizer
        special = tokenizer.special_tokens.get(body.prompt)
        text = model.engine.normalized(body.prompt)
        ids = [special] if special is not None else tokenizer.encode(text).tolist()
        if body.add_special_tokens and tokenizer.end_of_text is not None and special is None:
            ids = [tokenizer.end_of_text, *ids]
        context = model.engine.model.settings.context_length
        answer: dict[str, Any] = {"tokens": ids, "count": len(ids), "max_model_len": context}
        if body.with_pieces:
            answer["pieces"] = [token_name(tokenizer, token) for token in ids]
        return answer

    @app.post("/detokenize")
    async def detokenize(body: DetokenizeRequest) -> dict[str, Any]:
        """The text of some ids."""
        tokenizer = server.model(body.model).engine.tokenizer
        return {"prompt": tokenizer.decode(body.tokens)}

    @app.get("/tokenizer_info")
    async def tokenizer_info() -> dict[str, Any]:
        """The first model's tokenizer: its kind, size and special tokens."""
        tokenizer = server.model(None).engine.tokenizer
        end = (
            None if tokenizer.end_of_text is None else token_name(tokenizer, tokenizer.end_of_text)
        )
        return {
            "kind": tokenizer.kind,
            "vocab_size": tokenizer.vocab_size,
            "eos_token": end,
            "bos_token": end,
            "pad_token": end,
        }

    @app.post("/v1/surprise")
    async def surprise(body: SurpriseRequest, request: Request) -> dict[str, Any]:
        """How much each token of a text surprises the model, in bits.

        Of a text longer than the context the end is scored.
        """
        model = server.model(body.model)
        plan = await asyncio.to_thread(
            model.engine.plan,
            body.text,
            max_new_tokens=0,
            echo=True,
            logprobs=body.alternatives,
        )
        answer = server.begin(model, plan)
        (chunks,) = await unless_left(request, answer, server.collect(answer))
        text = plan.prompts[0].text
        scores = [score for chunk in chunks for score in chunk.scores]
        tokens = _surprising(model.engine.tokenizer, text, scores)
        total = sum(-score.log_probability for score in scores) / math.log(2)
        characters = len(text) - tokens[0]["start"] if tokens else 0
        return {
            "model": model.name,
            "system_fingerprint": model.fingerprint,
            "tokens": tokens,
            "bits": total,
            "characters": characters,
            "bits_per_character": total / characters if characters else None,
        }


def _surprising(tokenizer: Tokenizer, text: str, scores: list[TokenScore]) -> list[dict[str, Any]]:
    """Each token with its place in the text, in code points, its bits, and what was likelier."""
    decoder = tokenizer.stream()
    lengths = [len(decoder.push(score.token)) for score in scores]
    place = len(text) - sum(lengths)
    tokens = []
    for score, length in zip(scores, lengths, strict=True):
        others = zip(score.likeliest, score.alternatives, strict=True)
        tokens.append(
            {
                "id": score.token,
                "text": token_name(tokenizer, score.token),
                "start": max(place, 0),
                "end": max(place + length, 0),
                "bits": -score.log_probability / math.log(2),
                "alternatives": [
                    {"id": i, "text": token_name(tokenizer, i), "bits": -nats / math.log(2)}
                    for i, (_, nats) in others
                ],
            }
        )
        place += length
    return tokens
