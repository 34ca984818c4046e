"""The application: its routes, and OpenAI's form for every error."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from semigpt.errors import SemigptError
from semigpt.serving.compare import add_compare
from semigpt.serving.completions import add_chat, add_completions
from semigpt.serving.fields import (
    MOST_CHARACTERS,
    ChatRequest,
    CompareRequest,
    CompletionRequest,
    ErrorAnswer,
    PlaceRequest,
    SurpriseRequest,
)
from semigpt.serving.guard import Guard, RefusalError, error_body
from semigpt.serving.looks import add_looks, looks_of
from semigpt.serving.loop import Loop, ServedModel
from semigpt.serving.metrics import Metrics
from semigpt.serving.page import add_page
from semigpt.serving.requests import Server
from semigpt.serving.streams import refusal_of
from semigpt.serving.texts import add_surprise, add_texts
from semigpt.serving.training import add_training
from semigpt.serving.watch import Training
from semigpt.settings import nearest

__all__ = ["make_app"]


BODIES = (ChatRequest, CompareRequest, CompletionRequest, PlaceRequest, SurpriseRequest)
# Fields of OpenAI's that ask for what no base model was trained for.
NOT_OF_A_BASE_MODEL = {
    **dict.fromkeys(
        ("tools", "tool_choice", "functions", "function_call", "parallel_tool_calls"),
        "a base model calls no tools; leave it out",
    ),
    **dict.fromkeys(("modalities", "audio"), "a model of text writes text alone; leave it out"),
    **dict.fromkeys(
        ("reasoning_effort", "verbosity"), "a base model was not taught to; leave it out"
    ),
    "response_format": "a base model is told of no format; give a `pattern` or `choices` instead",
    "suffix": "a base model cannot fill in what stands between two texts; leave it out",
}


def make_app(
    loop: Loop,
    key: str | None = None,
    *,
    origins: Collection[str] = (),
    chat: bool = True,
    trainings: Mapping[str, Training] | None = None,
) -> Guard:
    """The server's ASGI application.

    origins: of pages from elsewhere that may ask
    chat: whether there is a route for chat completions
    trainings: what is known of runs, by name
    """
    app = FastAPI(
        title="semigpt",
        description="An OpenAI-compatible server for one's own models.",
        docs_url=None,
        redoc_url=None,
        responses={name: {"model": ErrorAnswer} for name in ("4XX", "5XX")},
    )
    server = Server(loop, Metrics(loop), trainings or {})
    _add_errors(app, server.metrics)
    for add in (
        *(add_completions, *([add_chat] if chat else []), add_compare),
        *(add_texts, add_surprise, add_looks, add_training, _add_state),
    ):
        add(app, server)
    add_page(app, asks_key=key is not None)
    paths: dict[str, set[str]] = {"/": {"GET"}, "/openapi.json": {"GET"}}
    for path, operations in app.openapi()["paths"].items():
        names = server.names if "{" in path else [""]
        for name in names:
            methods = paths.setdefault(path.replace("{name}", name), set())
            methods |= {method.upper() for method in operations}
    return Guard(app, paths, key=key, origins=origins, refused=server.metrics.refuse)


def _add_errors(app: FastAPI, metrics: Metrics) -> None:
    """OpenAI's form for every error."""

    def answer(refusal: RefusalError) -> Response:
        metrics.refuse(refusal.why)
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
            name = place[-1][:100]
            known = {field for kind in BODIES for field in kind.model_fields}
            message = f"unknown field {name!r}: {nearest(name, known)}"
        elif not param and ": " in message:
            param, message = message.split(": ", 1)
        if param in NOT_OF_A_BASE_MODEL:
            message = NOT_OF_A_BASE_MODEL[param]
        too_long = param in ("prompt", "messages") and str(MOST_CHARACTERS) in message
        code = "context_length_exceeded" if too_long else None
        return answer(
            RefusalError(400, f"{param}: {message}"[:500], param=param or None, code=code)
        )

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
            "vocab_size": model.engine.tokenizer.vocab_size,
            "normalization": model.engine.tokenizer.normalization,
            "looks": looks_of(model.engine.model),
            "batched": model.batched,
        }

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """The models that are served; `runs` are those with a curve at /v1/training."""
        models = [described(model) for model in server.models.values()]
        return {"object": "list", "data": models, "runs": list(server.trainings)}

    @app.get("/v1/models/{name}")
    async def one_model(name: str) -> dict[str, Any]:
        """One of them."""
        return described(server.model(name))

    @app.get("/health", responses={503: {"description": "It cannot write now"}})
    async def health() -> Response:
        """Whether the server can write: 503 before it has weights, while it shuts down, or where
        a step hangs.
        """
        state = server.loop.state
        return JSONResponse({"status": state}, 200 if state == "ok" else 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics_page() -> Response:
        """Prometheus' text format."""
        return Response(server.metrics.page(), media_type="text/plain; version=0.0.4")
