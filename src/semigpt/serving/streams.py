"""Answers that stop being made when the client leaves."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from semigpt.errors import CheckpointError, SemigptError
from semigpt.serving.guard import RefusalError, error_body
from semigpt.serving.loop import Answer, BrokenError, ClosingError, OverloadError, TimedOutError

__all__ = ["EventStream", "refusal_of", "unless_left"]

T = TypeVar("T")
SILENCE = 15.0  # seconds after which a stream says that it is alive


def refusal_of(error: SemigptError) -> RefusalError:
    """The answer to an error of the engine."""
    if isinstance(error, OverloadError):
        return RefusalError(429, str(error), code="queue_full", headers={"retry-after": "1"})
    if isinstance(error, TimedOutError):
        return RefusalError(408, str(error), code="timeout")
    if isinstance(error, ClosingError):
        return RefusalError(503, str(error), code="draining")
    if isinstance(error, BrokenError | CheckpointError):
        return RefusalError(500, str(error))
    return RefusalError(400, str(error))


async def unless_left(request: Request, answer: Answer, work: Coroutine[Any, Any, T]) -> T:
    """The result, unless the client leaves first: then nothing more is written."""
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_left(request.receive))
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise RefusalError(499, "the client has left")
        return task.result()
    finally:
        answer.cancel()
        for each in (task, left):
            each.cancel()
        await asyncio.gather(task, left, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Server-sent events, for as long as the client listens."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[dict[str, Any], None], *answers: Answer) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._answers, self._events = answers, events
        self._written = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            await send(start)
            await self._send_until_left(receive, send)
        finally:
            for answer in self._answers:
                answer.cancel()

    async def _send_until_left(self, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send(send))
        left = asyncio.ensure_future(_left(receive))
        alive = asyncio.ensure_future(self._say_alive(send))
        try:
            await asyncio.wait({sending, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, left, alive):
                task.cancel()
            failed, *_ = await asyncio.gather(sending, left, alive, return_exceptions=True)
        if isinstance(failed, Exception) and not isinstance(failed, OSError):
            raise failed  # TimeoutError, of a client that does not read, is an OSError

    async def _send(self, send: Send) -> None:
        try:
            async for event in self._events:
                data = json.dumps(event, ensure_ascii=False)
                await self._write(send, f"data: {data}\n\n")
            await self._write(send, "data: [DONE]\n\n")
        except SemigptError as error:
            refusal = refusal_of(error)
            body = error_body(refusal.status, refusal.message, refusal.param, refusal.code)
            await self._write(send, f"data: {body.decode()}\n\n")
        finally:
            await self._events.aclose()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, send: Send, data: str) -> None:
        self._written = time.monotonic()
        body = data.encode("utf-8", "backslashreplace")
        await send({"type": "http.response.body", "body": body, "more_body": True})

    async def _say_alive(self, send: Send) -> None:
        while True:
            silent = time.monotonic() - self._written
            if silent >= SILENCE:
                await self._write(send, ": still writing\n\n")
            else:
                await asyncio.sleep(SILENCE - silent)
