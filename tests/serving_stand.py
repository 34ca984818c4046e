"""A server in this process, for tests: two untrained models behind the whole application."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import torch

from semigpt.generation.engine import Engine
from semigpt.models import build_model, model_class
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.models.memory import MemoryGPT
from semigpt.ngrams.counts import Counts
from semigpt.serving.http import make_app
from semigpt.serving.loop import Loop, ServedModel
from semigpt.tokenizers import CharTokenizer

__all__ = ["BASE", "KEY", "Stand"]

KEY = "a-key-of-more-than-16-characters"
BASE = "http://127.0.0.1:8080"


class Stand:
    """The models `gpt`, in C where there is a compiler, and `blocks`, in PyTorch."""

    def __init__(self, text: str, key: str | None = None, **settings: Any) -> None:
        self.text, tokenizer = text, CharTokenizer(text)
        torch.manual_seed(0)
        shape = {"context_length": 32, "width": 32, "num_layers": 1, "num_heads": 2}
        gpt = GPT(GPTSettings(vocab_size=tokenizer.vocab_size, **shape))
        with torch.no_grad():
            gpt.lm_head.weight.mul_(20)
        blocks = build_model("blocks", tokenizer.vocab_size, shape)
        self.engine = Engine(gpt, tokenizer)
        self.models = [
            ServedModel("gpt", self.engine),
            ServedModel("blocks", Engine(blocks, tokenizer)),
        ]
        self.loop = Loop(self.models)
        self.app = make_app(self.loop, key, **settings)
        self.loop.start()

    def add(self, kind: str) -> None:
        """Serve another rung, by its name."""
        tokenizer = self.engine.tokenizer
        shape = dict(model_class(kind).small) | {"context_length": 32}
        model = build_model(kind, tokenizer.vocab_size, shape)
        if isinstance(model, MemoryGPT):
            counts = Counts.fit(tokenizer.encode(self.text), tokenizer.vocab_size, 3)
            model.set_counts(counts)
        self.swap(ServedModel(kind, Engine(model, tokenizer)))

    def swap(self, model: ServedModel) -> None:
        """Serve this model from now on: the loop's thread takes it up when it comes to it."""
        self.loop.swap(model)
        end = time.monotonic() + 5
        while model not in self.loop.models:
            assert time.monotonic() < end, "the model is not taken up"
            time.sleep(0.001)

    def run(self, work: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
        """What a coroutine gives that gets a client."""

        async def go() -> Any:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url=BASE, timeout=60) as client:
                return await work(client)

        return asyncio.run(go())

    def ask(self, method: str, path: str, **settings: Any) -> httpx.Response:
        return self.run(lambda client: client.request(method, path, **settings))

    def complete(self, **body: Any) -> Any:
        """The JSON of a completion."""
        answer = self.ask("POST", "/v1/completions", json={"model": "gpt", **body})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def events(self, path: str, **body: Any) -> list[Any]:
        """The JSON of each event of a stream."""
        answer = self.ask("POST", path, json={"model": "gpt", "stream": True, **body})
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.text.split("\n\n") if line.startswith("data: ")]
        assert lines[-1] == "data: [DONE]" or '"error"' in lines[-1]
        return [json.loads(line[6:]) for line in lines if line != "data: [DONE]"]

    async def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        leave_after: float = 600.0,
        each: Callable[[], Awaitable[None]] | None = None,
    ) -> list[dict[str, Any]]:
        """What the application sends to a client that leaves after so many seconds.

        each: awaited at each message, as a client would that reads slowly
        """
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[dict[str, Any]] = []
        done = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(leave_after):
                    await done.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            if each is not None:
                await each()
            if message["type"] == "http.response.body" and not message.get("more_body"):
                done.set()

        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "scheme": "http",
            "query_string": query.encode(),
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        }
        await asyncio.wait_for(self.app(scope, receive, send), 20)
        return sent

    def stops(self) -> bool:
        """Whether writing ends long before the 4,096 steps that a client asked for and left."""
        told, steps = self.loop.stepped, 0

        def count(seconds: float) -> None:
            nonlocal steps
            steps += 1
            told(seconds)

        self.loop.stepped = count
        try:
            return self.idle(60) and steps < 1000
        finally:
            self.loop.stepped = told

    def idle(self, seconds: float = 5.0) -> bool:
        """Whether nothing is written or waits, soon."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not self.loop.rows and not self.loop.waiting:
                return all(model.batch._pool.free_slots == 16 for model in self.models)
            time.sleep(0.005)
        return False
