"""A server under load, each figure beside its baseline in one process: ratios, not speeds.

    python benchmarks/serve.py [--json] [--width 128] [--streams 16] [--leavers 200]

The model's weights are random, which changes nothing about speed. Figures:

- tokens per CPU second of 1, 4 and 16 streams at once, beside the same requests one after another
- seconds to the first text, alone and for the last of 16 that come at once
- top_p 0.95 beside no cut
- the longest gap between two chunks of a stream while a pattern of a corpus of bad ones arrives
- texts that differ from the same request alone while others join and leave
- rows held after many clients have left

Server and clients share this process, so their CPU time is in every figure.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import socket
import sys
import threading
import time
from typing import Any

import httpx
import torch

from semigpt.generation.engine import Engine
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.serving.http import make_app
from semigpt.serving.loop import Loop, ServedModel
from semigpt.serving.server import make_server
from semigpt.tokenizers import CharTokenizer

SHAPES = {
    128: {"width": 128, "num_layers": 4, "num_heads": 4, "context_length": 128},
    384: {"width": 384, "num_layers": 6, "num_heads": 6, "context_length": 256},
}
BAD_PATTERNS = [
    "[가-힣]{1,2000}",
    "(가{1,100}){1,100}",
    "(.{0,50}){0,50}",
    "(.*a.{400})",
    r"\w{500}",
]
NEW = 200


def make_app_of(width: int) -> tuple[Any, Loop]:
    """The application and its loop, with a model that never ends a text by itself."""
    characters = "".join(map(chr, range(0xAC00, 0xAC00 + 2980)))
    tokenizer = CharTokenizer(characters)
    torch.manual_seed(0)
    model = GPT(GPTSettings(vocab_size=tokenizer.vocab_size, **SHAPES[width])).eval()
    loop = Loop([ServedModel("model", Engine(model, tokenizer))])
    loop.start()
    return make_app(loop), loop


def body(seed: int, **own: Any) -> dict[str, Any]:
    """A request for NEW tokens."""
    prompt = "".join(chr(0xAC00 + (7 * seed + n) % 2980) for n in range(32))
    return {"model": "model", "prompt": prompt, "max_tokens": NEW, "seed": seed, **own}


async def stream(client: httpx.AsyncClient, request: dict[str, Any]) -> tuple[str, list[float]]:
    """The text of a streamed completion, and when each chunk came."""
    text, times = "", []
    async with client.stream("POST", "/v1/completions", json={**request, "stream": True}) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                text += json.loads(line[6:])["choices"][0]["text"]
                times.append(time.perf_counter())
    return text, times


async def tokens_per_cpu_second(
    client: httpx.AsyncClient, streams: int, *, together: bool, **own: Any
) -> float:
    """Of `streams` requests at once, or one after another."""
    requests = [body(seed, **own) for seed in range(streams)]
    begin, written = time.process_time(), 0
    if together:
        answers = await asyncio.gather(
            *(client.post("/v1/completions", json=request) for request in requests)
        )
    else:
        answers = [await client.post("/v1/completions", json=request) for request in requests]
    for answer in answers:
        written += answer.json()["usage"]["completion_tokens"]
    return written / (time.process_time() - begin)


async def first_text(client: httpx.AsyncClient, streams: int) -> float:
    """Seconds until the last of `streams` requests that come at once has its first text."""
    begin = time.perf_counter()
    found = await asyncio.gather(*(stream(client, body(seed)) for seed in range(streams)))
    return max(times[0] for _, times in found) - begin


async def longest_gap(client: httpx.AsyncClient) -> tuple[float, float]:
    """Seconds between two chunks of a stream, alone and while bad patterns arrive."""

    def gap(times: list[float]) -> float:
        return max(b - a for a, b in itertools.pairwise(times))

    alone = gap((await stream(client, body(1, max_tokens=2000)))[1])
    running = asyncio.ensure_future(stream(client, body(1, max_tokens=2000)))
    for pattern in BAD_PATTERNS * 3:
        await client.post("/v1/completions", json=body(2, pattern=pattern, banned=["가나"]))
    return alone, gap((await running)[1])


async def differing(client: httpx.AsyncClient, count: int) -> int:
    """Texts of `count` that differ from the same request alone while others come and leave."""
    ways: list[dict[str, Any]] = [{}, {"temperature": 0}, {"top_p": 0.9}, {"frequency_penalty": 1}]
    requests = [body(n, max_tokens=20 + n % 40, **ways[n % len(ways)]) for n in range(count)]
    alone = [(await client.post("/v1/completions", json=r)).json()["choices"] for r in requests]
    found: list[Any] = []
    for begin in range(0, count, 24):

        async def leaver(seconds: float) -> None:
            request = client.post("/v1/completions", json=body(0, max_tokens=4000))
            task = asyncio.ensure_future(request)
            await asyncio.sleep(seconds)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        some = [client.post("/v1/completions", json=r) for r in requests[begin : begin + 24]]
        answers = await asyncio.gather(*some, *(leaver(n / 200) for n in range(8)))
        found += [answer.json()["choices"] for answer in answers if answer is not None]
    return sum(a != b for a, b in zip(alone, found, strict=True))


async def rows_after_leaving(client: httpx.AsyncClient, loop: Loop, leavers: int) -> int:
    """Rows held 0.2 s after so many clients have come and left."""
    for _ in range(leavers):
        task = asyncio.ensure_future(
            client.post("/v1/completions", json=body(0, max_tokens=4000, n=2))
        )
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.2)
    return loop.rows


async def measure(width: int, streams: int, texts: int, leavers: int) -> dict[str, float]:
    """All figures of one shape."""
    app, loop = make_app_of(width)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = make_server(app, "127.0.0.1", port)
    thread = threading.Thread(target=server.run)
    thread.start()
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", timeout=600, limits=limits
    ) as client:
        while not server.started:
            await asyncio.sleep(0.05)
        await stream(client, body(0))  # to warm up
        figures: dict[str, float] = {}
        queue = await tokens_per_cpu_second(client, streams, together=False)
        for count in (1, 4, streams):
            speed = await tokens_per_cpu_second(client, count, together=True)
            figures[f"{count} streams, tokens per CPU s"] = speed
            figures[f"{count} streams, times a queue"] = speed / queue
        cut = await tokens_per_cpu_second(client, streams, together=True, top_p=0.95)
        figures["top_p 0.95, of no cut"] = cut / figures[f"{streams} streams, tokens per CPU s"]
        figures["first text alone, s"] = await first_text(client, 1)
        figures[f"first text of the last of {streams}, s"] = await first_text(client, streams)
        alone, beside = await longest_gap(client)
        figures["longest gap alone, s"], figures["longest gap beside bad patterns, s"] = (
            alone,
            beside,
        )
        figures[f"of {texts} texts, differing"] = await differing(client, texts)
        figures[f"rows after {leavers} leavers"] = await rows_after_leaving(client, loop, leavers)
    server.should_exit = True
    thread.join()
    loop.stop()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--width", type=int, choices=SHAPES, help="this shape alone")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--leavers", type=int, default=200)
    options = parser.parse_args()
    found = {}
    for width in SHAPES:
        if options.width in (None, width):
            figures = asyncio.run(measure(width, options.streams, options.texts, options.leavers))
            found[width] = figures
            if not options.json:
                for name, value in figures.items():
                    print(f"{width:4} {name:40} {value:12,.3f}", flush=True)
    if options.json:
        json.dump(found, sys.stdout)
        print()


if __name__ == "__main__":
    main()
