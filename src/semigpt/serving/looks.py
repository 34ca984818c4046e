"""Routes that look into a model at one place of a text: what could stand there, what the model
attended to, what each layer would have written, whom a memory believed.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from fastapi import FastAPI

from semigpt.errors import SettingsError
from semigpt.evaluation.looking import Opinion, attention_after, gate_after, lens_after
from semigpt.language import _
from semigpt.models.base import LanguageModel
from semigpt.models.memory import MemoryGPT
from semigpt.serving.answers import token_name
from semigpt.serving.candidates import candidates_after
from semigpt.serving.fields import PlaceRequest
from semigpt.serving.loop import ServedModel
from semigpt.serving.places import placed, spans, token_at
from semigpt.serving.requests import Server
from semigpt.tokenizers.base import Tokenizer

__all__ = ["add_looks", "looks_of"]


def looks_of(model: LanguageModel) -> list[str]:
    """The routes of this module that a model has an answer for."""
    has_layers = type(model).layer_passes is not LanguageModel.layer_passes
    layered = ["attention", "lens"] if has_layers else []
    return ["candidates", *layered, *(["gate"] if isinstance(model, MemoryGPT) else [])]


class _Place(NamedTuple):
    """A place in a text: what stands before it in the context, and the token that begins there."""

    before: list[int]
    spans: list[tuple[int, int]]
    following: int | None
    shown: dict[str, Any]  # what every answer begins with


_Shown = Callable[[ServedModel, _Place], dict[str, Any]]
_Look = Callable[[PlaceRequest, _Shown], Awaitable[dict[str, Any]]]


def add_looks(app: FastAPI, server: Server) -> None:
    """Add these routes."""

    async def look(body: PlaceRequest, shown: _Shown) -> dict[str, Any]:
        model = server.model(body.model)

        def work() -> dict[str, Any]:
            place = _place(model, body)
            return {**place.shown, **shown(model, place)}

        return await server.look(work)

    _add_candidates(app, look)

    @app.post("/v1/attention")
    async def attention(body: PlaceRequest) -> dict[str, Any]:
        """What each head attended to when the token at a place was to be predicted.

        `layers` are `[layer][head][position]`; `tokens` says what stands at each position.
        """

        def shown(model: ServedModel, place: _Place) -> dict[str, Any]:
            tokenizer = model.engine.tokenizer
            pairs = zip(place.before, place.spans, strict=True)
            return {
                "tokens": [placed(tokenizer, token, span) for token, span in pairs],
                "layers": attention_after(model.engine.model, place.before),
            }

        return await look(body, shown)

    @app.post("/v1/lens")
    async def lens(body: PlaceRequest) -> dict[str, Any]:
        """What the embeddings (layer 0) and each layer would have written at a place.

        The output layer reads what a layer left. The last layer's opinion is the model's; of a
        memory it is its net's.
        """

        def shown(model: ServedModel, place: _Place) -> dict[str, Any]:
            found = lens_after(
                model.engine.model,
                place.before,
                following=place.following,
                alternatives=body.alternatives,
            )
            tokenizer = model.engine.tokenizer
            layers = [{"layer": n, **_said(tokenizer, one)} for n, one in enumerate(found)]
            return {"layers": layers}

        return await look(body, shown)

    @app.post("/v1/gate")
    async def gate(body: PlaceRequest) -> dict[str, Any]:
        """Whom a memory believed at a place: its net, its counts by length, the longest match."""

        def shown(model: ServedModel, place: _Place) -> dict[str, Any]:
            found = gate_after(
                model.engine.model,
                place.before,
                following=place.following,
                alternatives=body.alternatives,
            )
            tokenizer = model.engine.tokenizer
            experts = [
                {
                    "expert": one.name,
                    "tokens": one.tokens,
                    "weight": one.weight,
                    **_said(tokenizer, one.opinion),
                }
                for one in found
            ]
            return {"experts": experts}

        return await look(body, shown)


def _add_candidates(app: FastAPI, look: _Look) -> None:
    @app.post("/v1/candidates")
    async def candidates(body: PlaceRequest) -> dict[str, Any]:
        """What could stand at a place, whole characters, the likeliest first.

        A part of a character is completed by its likeliest rest. `text` is null for the end.
        """

        def shown(model: ServedModel, place: _Place) -> dict[str, Any]:
            found = candidates_after(model.engine, place.before, body.alternatives)
            named = [
                {"text": one.text, "tokens": one.tokens, "probability": one.p} for one in found
            ]
            return {"candidates": named}

        return await look(body, shown)


def _place(model: ServedModel, body: PlaceRequest) -> _Place:
    """Raises SettingsError for a place before which nothing stands."""
    tokenizer, context = model.engine.tokenizer, model.engine.model.settings.context_length
    text = model.engine.normalized(body.text)
    own: list[int] = tokenizer.encode(text).tolist()
    found = spans(tokenizer, own)
    at = len(text) if body.at is None else body.at
    if at > len(text):
        raise SettingsError(
            _("at {at} is behind the text's end, {count}").format(at=at, count=len(text))
        )
    index = token_at(found, at)
    start = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
    before = [*start, *own[:index]][-context:]
    token = own[index] if index < len(own) else None
    shown = {
        "model": model.name,
        "system_fingerprint": model.fingerprint,
        "at": at,
        "token": None if token is None else placed(tokenizer, token, found[index]),
    }
    return _Place(before, [*([(0, 0)] * len(start)), *found[:index]][-context:], token, shown)


def _said(tokenizer: Tokenizer, opinion: Opinion | None) -> dict[str, Any]:
    """An opinion: the bits of the token that stands there, null where it was held impossible."""
    if opinion is None:
        return {"bits": None, "likeliest": []}
    likeliest = [
        {"id": token, "text": token_name(tokenizer, token), "probability": p}
        for token, p in opinion.likeliest
    ]
    return {"bits": -math.log2(opinion.p) if opinion.p else None, "likeliest": likeliest}
