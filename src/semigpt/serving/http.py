"""The application: its routes, and OpenAI's form for every error."""

from __future__ import annotations

import itertools
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from semigpt.errors import SemigptError
from semigpt.serving.completions import add_chat, add_completions
from semigpt.serving.fields import ChatRequest, CompletionRequest, SurpriseRequest
from semigpt.serving.guard import Guard, RefusalError, error_body
from semigpt.serving.loop import Loop, ServedModel
from semigpt.serving.metrics import Metrics
from semigpt.serving.requests import Server
from semigpt.serving.streams import refusal_of
from semigpt.serving.texts import add_texts
from semigpt.settings import nearest

__all__ = ["make_app"]


def make_app(loop: Loop, key: str | None = None) -> Guard:
    """The server's ASGI application."""
    app = FastAPI(
        title="semigpt",
        description="An OpenAI-compatible server for one's own models.",
        docs_url=None,
        redoc_url=None,
    )
    server = Server(loop, {model.name: model for model in loop.models}, Metrics(loop))
    _add_errors(app)
    for add in (add_completions, add_chat, add_texts, _add_state):
        add(app, server)
    paths: dict[str, set[str]] = {"/openapi.json": {"GET"}}
    for path, operations in app.openapi()["paths"].items():
        names = server.models if "{" in path else [""]
        for name in names:
            methods = paths.setdefault(path.replace("{name}", name), set())
            methods |= {method.upper() for method in operations}
    return Guard(app, paths, key=key, refused=server.metrics.refuse)


def _add_errors(app: FastAPI) -> None:
    """OpenAI's form for every error."""

    def answer(refusal: RefusalError) -> Response:
        body = error_body(refusal.status, refusal.message, refusal.param, refusal.code)
        return Response(body, refusal.status, refusal.headers, "application/json")

    @app.exception_handler(RefusalError)
    async def refused(_: Request, refusal: RefusalError) -> Response:
        return answer(refusal)

    @app.exception_handler(SemigptError)
    async def impossible(_: Request, error: SemigptError) -> Response:
        return answer(refusal_of(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"][1:]]
        message, param = str(first["msg"]).removeprefix("Value error, "), ".".join(place[:1])
        if first["type"] == "extra_forbidden":
            known = itertools.chain(
                *(kind.model_fields for kind in (CompletionRequest, ChatRequest, SurpriseRequest))
            )
            message = f"unknown field {place[-1][:100]!r}: {nearest(place[-1][:100], set(known))}"
        elif not param and ": " in message:
            param, message = message.split(": ", 1)
        return answer(RefusalError(400, f"{param}: {message}"[:500], param=param or None))

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> Response:
        return answer(RefusalError(500, "the server failed; its log says how"))


def _add_state(app: FastAPI, server: Server) -> None:
    def described(model: ServedModel) -> dict[str, Any]:
        settings = model.engine.model.settings
        return {
            "id": model.name,
            "object": "model",
            "created": model.created,
            "owned_by": "semigpt",
            "max_model_len": settings.context_length,
            "parameters": settings.parameter_count,
            "bits_per_character": model.bits_per_character,
            "kind": model.engine.model.kind,
            "tokenizer": model.engine.tokenizer.kind,
            "batched": model.batched,
        }

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """The models that are served."""
        return {"object": "list", "data": [described(model) for model in server.models.values()]}

    @app.get("/v1/models/{name}")
    async def one_model(name: str) -> dict[str, Any]:
        """One of them."""
        return described(server.model(name))

    @app.get("/health")
    async def health() -> Response:
        """Whether the server can write: 503 while it shuts down, or where a step hangs."""
        state = server.loop.state
        return JSONResponse({"status": state}, 200 if state == "ok" else 503)

    @app.get("/metrics")
    async def metrics_page() -> Response:
        """Prometheus' text format."""
        return Response(server.metrics.page(), media_type="text/plain; version=0.0.4")
