"""`semigpt serve` under load, a section for each row of the table in docs/serving.md.

    python benchmarks/serve.py [SECTION ...] [--width 128] [--json] [--minutes 2]

- streams: tokens per CPU second of 1, 4 and 16 requests at once, beside the same ones one after
  another; and with top_p 0.95
- llama: the same beside llama-server (`pip install semigpt[export]`), of the same float32 weights
- first: seconds to the first event, alone, and of the last of 16 that come at once
- same: texts, of a thousand of each setting, that differ from the same one written alone, while
  others join and leave
- leaving: seconds from a client's leaving until its row is free; and what a thousand leave behind
- connections: what becomes of ten thousand
- patterns: the slowest of 50 patterns, and the longest gap in a stream while they arrive
- start: seconds from the command to its first answer
- mixed: users of every kind for some minutes: errors of the server, and its memory

The weights are random, sharpened until a token takes about three bits, as it does of a trained
model. Servers run as processes of their own, whose CPU time alone is counted, but for `leaving`,
which looks inside. Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import torch

from semigpt.errors import SemigptError
from semigpt.generation.batch import Batch, Job
from semigpt.generation.engine import Engine
from semigpt.generation.sampling import SamplingSettings
from semigpt.generation.stream import Chunk
from semigpt.huggingface.folder import save_model
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.tokenizers import CharTokenizer
from serve_clients import (
    LlamaServer,
    ServerProcess,
    ask,
    completion,
    head_of,
    server_inside,
    stream,
)

SHAPES = {
    128: {"width": 128, "num_layers": 4, "num_heads": 4, "context_length": 256},
    384: {"width": 384, "num_layers": 6, "num_heads": 6, "context_length": 256},
}
NEW = 100  # tokens of a request
SHARPENED = 20.0  # 3.5 bits per token
CHARACTERS = "".join(map(chr, range(0xAC00, 0xAC00 + 2980)))
Figures = dict[str, float]


def make_model(width: int) -> tuple[GPT, CharTokenizer]:
    """A model of 3,237 tokens that hardly ever ends a text by itself."""
    tokenizer = CharTokenizer(CHARACTERS)
    torch.manual_seed(0)
    model = GPT(GPTSettings(vocab_size=tokenizer.vocab_size, **SHAPES[width])).eval()
    with torch.no_grad():
        model.lm_head.weight[: tokenizer.vocab_size - len(CHARACTERS)] = 0
        model.lm_head.weight.mul_(SHARPENED * (128 / width) ** 0.5)
    return model, tokenizer


def body(seed: int, **own: Any) -> dict[str, Any]:
    """A request for NEW tokens after a prompt of 32."""
    prompt = "".join(CHARACTERS[(7 * seed + n) % 2980] for n in range(32))
    return {"model": "model", "prompt": prompt, "max_tokens": NEW, "seed": seed, **own}


async def tokens_per_cpu_second(
    server: ServerProcess, streams: int, *, together: bool = True, **own: Any
) -> float:
    """Of `streams` requests at once, or one after another: the best of three."""
    best = 0.0
    for turn in range(3):
        requests = [body(streams * turn + n, **own) for n in range(streams)]
        begin = server.cpu_seconds
        if together:
            work = (completion(server.port, request) for request in requests)
            answers = list(await asyncio.gather(*work))
        else:
            answers = [await completion(server.port, request) for request in requests]
        written = sum(answer["usage"]["completion_tokens"] for answer in answers)
        best = max(best, written / (server.cpu_seconds - begin))
    return best


async def streams_section(folder: Path, width: int, options: argparse.Namespace) -> Figures:
    figures: Figures = {}
    with ServerProcess.semigpt(folder) as server:
        await completion(server.port, body(0))
        queue = await tokens_per_cpu_second(server, 16, together=False)
        figures["a queue, tokens per CPU s"] = queue
        for count in (1, 4, 16):
            speed = await tokens_per_cpu_second(server, count)
            figures[f"{count} at once, tokens per CPU s"] = speed
            figures[f"{count} at once, times a queue"] = speed / queue
        cut = await tokens_per_cpu_second(server, 16, top_p=0.95)
        figures["top_p 0.95, of no cut"] = cut / figures["16 at once, tokens per CPU s"]
    return figures


async def llama_section(folder: Path, width: int, options: argparse.Namespace) -> Figures:
    from semigpt.export.gguf_file import write_gguf

    model, tokenizer = make_model(width)
    path = folder / "model.gguf"
    write_gguf(path, model, tokenizer, "f32")
    decoder: Any = Engine(model, tokenizer).decoder
    # Plain draws at temperature 1, as ours, to the last token.
    plain = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "samplers": ["temperature"]}
    theirs = {**plain, "ignore_eos": True, "cache_prompt": False}
    figures: Figures = {}
    peer_server = LlamaServer.of(path, decoder.threads, SHAPES[width]["context_length"])
    with ServerProcess.semigpt(folder) as ours, peer_server as llama:
        for server, own in ((ours, {}), (llama, theirs)):
            await completion(server.port, body(0, **own))
        for count in (1, 4, 16):
            speed = await tokens_per_cpu_second(ours, count)
            peer = await tokens_per_cpu_second(llama, count, **theirs)
            figures[f"{count} at once, llama-server's tokens per CPU s"] = peer
            figures[f"{count} at once, times llama-server"] = speed / peer
    return figures


async def first_section(folder: Path, width: int, options: argparse.Namespace) -> Figures:
    figures: Figures = {}
    with ServerProcess.semigpt(folder) as server:
        await stream(server.port, body(0))

        async def seconds(streams: int) -> float:
            begin = time.perf_counter()
            work = (stream(server.port, body(seed)) for seed in range(streams))
            return max(times[0] for times in await asyncio.gather(*work)) - begin

        for count, name in ((1, "alone"), (16, "the 16th of 16")):
            found = [await seconds(count) for _ in range(20)]
            figures[f"first event, {name}, ms, best of 20"] = 1000 * min(found)
            figures[f"first event, {name}, ms, median"] = 1000 * statistics.median(found)
    return figures


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "greedy": {"sampling": SamplingSettings(temperature=0)},
    "top_k, top_p": {"sampling": SamplingSettings(top_k=40, top_p=0.9)},
    "min_p, penalties": {"sampling": SamplingSettings(min_p=0.02, frequency_penalty=0.5)},
    "pattern": {"pattern": "[가-힣]{5,30}"},
    "banned, scores": {"banned": [CHARACTERS[5]], "logprobs": 2, "stop": [CHARACTERS[9]]},
}


def joined(engine: Engine, requests: list[dict[str, Any]], chance: random.Random) -> list[Any]:
    """The chunks of each request, in one batch of 16 rows, while others join and leave."""
    chunks: list[list[Chunk]] = [[] for _ in requests]
    errors: list[SemigptError] = []
    batch = Batch(engine.decoder.pool(16), engine.tokenizer, engine.scorer)
    waiting = [
        Job(engine.plan(**request), 0, own.append, errors.append)
        for request, own in zip(requests, chunks, strict=True)
    ]
    waiting.reverse()
    leavers: list[Job] = []
    while waiting or batch.busy:
        while waiting and batch.rows + batch.waiting < 20 and chance.random() < 0.5:
            batch.add(waiting.pop())
            if chance.random() < 0.2:
                plan = engine.plan(CHARACTERS[: chance.randrange(1, 90)], num_samples=2)
                leavers.append(Job(plan, 0, lambda chunk: None, errors.append))
                batch.add(leavers[-1])
        batch.read()
        batch.draw()
        if leavers and chance.random() < 0.1:
            leavers.pop(chance.randrange(len(leavers))).cancelled = True
        if not waiting and batch.rows + batch.waiting == len(leavers):
            for job in leavers:
                job.cancelled = True
    if errors:
        raise errors[0]
    return chunks


async def same_section(folder: Path, width: int, options: argparse.Namespace) -> Figures:
    engine, chance = Engine(*make_model(width)), random.Random(0)
    figures: Figures = {}
    for name, settings in SETTINGS.items():
        requests = [
            {
                "prompt": body(n)["prompt"][: 1 + n % 32],
                "max_new_tokens": 10 + n % 30,
                "seed": n,
                **settings,
            }
            for n in range(options.texts)
        ]
        alone = [list(engine.stream(**request)) for request in requests]
        together = joined(engine, requests, chance)
        differ = sum(a != b for a, b in zip(alone, together, strict=True))
        figures[f"{name}: of {options.texts} texts, differing"] = differ
    return figures


async def leave(port: int, seconds: float) -> None:
    """A client that leaves after so many seconds of a long stream."""
    data = json.dumps({**body(0, max_tokens=4000), "stream": True}).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head_of("/v1/completions", data) + data)
    await asyncio.sleep(seconds)
    writer.close()


async def leaving_section(folder: Path, width: int, options: argparse.Namespace) -> Figures:
    with server_inside(Engine(*make_model(width))) as (port, loop, event_loop):

        def held() -> tuple[int, int, int, float]:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            memory = pages * resource.getpagesize() / 2**20
            tasks = len(asyncio.all_tasks(event_loop))
            return loop.rows, tasks, len(list(Path("/proc/self/fd").iterdir())), memory

        async def settled() -> float:
            begin = time.perf_counter()
            while loop.rows or loop.waiting:
                await asyncio.sleep(0.0005)
            return time.perf_counter() - begin

        async def many() -> float:
            """Seconds that the leavers took; they are to come within ten."""
            begin = time.perf_counter()
            work = (leave(port, 0.01 + 0.0001 * n) for n in range(options.leavers))
            for each in [asyncio.ensure_future(one) for one in spread(work, options.leavers / 10)]:
                await each
            seconds = time.perf_counter() - begin
            await settled()
            await asyncio.sleep(1)
            return seconds

        waits = []
        for _ in range(200):
            await leave(port, 0.03)
            waits.append(await settled())
        await many()  # memory is taken when it is first needed
        before = held()
        seconds = await many()
        after = held()
    names = ("rows", "tasks", "descriptors", "memory, MB")
    return {
        "leaving to row free, ms, p99 of 200": 1000 * sorted(waits)[197],
        f"seconds for {options.leavers} leavers": seconds,
        **{f"left behind: {n}": b - a for n, a, b in zip(names, before, after, strict=True)},
    }


def spread(work: Any, per_second: float) -> Iterator[Coroutine[Any, Any, None]]:
    """Coroutines that begin one after another, so many a second."""

    async def later(one: Coroutine[Any, Any, None], seconds: float) -> None:
        await asyncio.sleep(seconds)
        await one

    for n, one in enumerate(work):
        yield later(one, n / per_second)


async def connections_section(folder: Path, width: int, options: argparse.Namespace) -> Figures:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    answers: Counter[str] = Counter()
    with ServerProcess.semigpt(folder) as server:

        async def connect() -> None:
            """Say nothing, and note what the server says first."""
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                head, _, content = (await reader.read()).partition(b"\r\n\r\n")
                status = int(head.split()[1])
                form = "in JSON" if "error" in json.loads(content) else "of another form"
                answers[f"{status} {form}"] += 1
                writer.close()
            except (OSError, IndexError):
                answers["reset"] += 1

        def held() -> int:
            """Descriptors of the server at most, until all have been answered."""
            most = 0
            while not answered.wait(0.01):
                most = max(most, server.descriptors)
            return most

        def seconds_to_health() -> float:
            begin = time.perf_counter()
            while True:
                with contextlib.suppress(OSError):
                    server.gauge("semigpt_rows")
                    return time.perf_counter() - begin
                time.sleep(0.05)

        answered = threading.Event()
        most_held = asyncio.ensure_future(asyncio.to_thread(held))
        crowd = [asyncio.ensure_future(connect()) for _ in range(10_000)]
        await asyncio.sleep(0.5)
        seconds = await asyncio.to_thread(seconds_to_health)
        _, unanswered = await asyncio.wait(crowd, timeout=120)
        answered.set()
        answers["not yet taken up"] = len(unanswered)
        return {
            "descriptors at most": await most_held,
            "seconds until others are answered": seconds,
            **{f"connections, {kind}": count for kind, count in sorted(answers.items())},
        }


def bad_patterns() -> list[str]:
    """Fifty: repeated, nested, long, and with many ways through."""
    repeated = [f"[가-힣]{{1,{n}}}" for n in (50, 200, 1000, 2000, 5000)]
    nested = [f"({inner}{{1,{n}}}){{1,{n}}}" for inner in "가ab.x" for n in (10, 30, 100)]
    behind = [f"(.*{letter}.{{{n}}})" for letter in "a가" for n in (5, 10, 14, 20, 400)]
    ways = [
        f"{way}{{{n}}}" for way in ("(a|aa)", "(가|가나|나)", r"\w", r"(\d|\w)") for n in (50, 500)
    ]
    stars = ["(.*)*(.*)*x", "(a*)*b", "(a|aa)*b.{30}", "((a*)*)*", ".*" * 30, "(.?){200}"]
    long = ["가" * 512, "|".join(CHARACTERS[n] * 3 for n in range(120)), "(가|나)?" * 80]
    sets = [f"[^{CHARACTERS[:n]}]{{1,300}}" for n in (1, 50, 400)]
    return [*repeated, *nested, *behind, *ways, *stars, *long, *sets]


async def patterns_section(folder: Path, width: int, options: argparse.Namespace) -> Figures:
    engine, patterns = Engine(*make_model(width)), bad_patterns()
    assert len(patterns) == 50
    worst, refused = 0.0, 0
    for pattern in patterns:
        found = []
        for _ in range(3):
            begin = time.thread_time()
            try:
                engine.plan("", pattern=pattern, banned=["가나"])
            except SemigptError:
                refused += 1
            found.append(time.thread_time() - begin)
        worst = max(worst, min(found))

    def gap(times: list[float]) -> float:
        return 1000 * max(b - a for a, b in itertools.pairwise(times))

    with ServerProcess.semigpt(folder) as server:
        await stream(server.port, body(0))
        alone = gap(await stream(server.port, body(1, max_tokens=4000)))
        running = asyncio.ensure_future(stream(server.port, body(1, max_tokens=4000)))
        await asyncio.sleep(0.05)
        for pattern in patterns:
            request = body(2, pattern=pattern, banned=["가나"], max_tokens=5)
            await ask(server.port, "/v1/completions", request)
        beside = gap(await running)
    return {
        "the slowest of 50 patterns, CPU ms": 1000 * worst,
        "patterns refused": refused / 3,
        "longest gap alone, ms": alone,
        "longest gap beside patterns, ms": beside,
    }


async def start_section(folder: Path, width: int, options: argparse.Namespace) -> Figures:
    found = []
    for _ in range(4):
        begin = time.perf_counter()
        with ServerProcess.semigpt(folder) as server:
            await completion(server.port, body(0, max_tokens=1))
            found.append(time.perf_counter() - begin)
    return {"command to first answer, s, best of 3": min(found[1:])}


def users() -> list[tuple[str, dict[str, Any]]]:
    """One request of each kind: a path and a body."""
    chat = {"model": "model", "messages": [{"role": "user", "content": CHARACTERS[:9]}]}
    completions: list[dict[str, Any]] = [
        body(1),
        body(2, temperature=0, n=3),
        body(3, top_p=0.9, logprobs=3, echo=True),
        body(4, pattern="[가-힣]{5,30}"),
        body(5, frequency_penalty=0.5, banned=["가"]),
        body(6, choices=["가나다", "라마바"]),
        body(7, best_of=4, max_tokens=20),
        body(8, prompt=[300, 301, 302], min_p=0.1),
        body(9, max_token=5),
        body(10, pattern="([가-힣]{1,100}){1,100}"),
        body(11, num_beams=4, n=2, max_tokens=30),
    ]
    return [
        *(("/v1/completions", each) for each in completions),
        ("/v1/chat/completions", {**chat, "max_tokens": 30}),
        ("/v1/surprise", {"text": CHARACTERS[:200]}),
        ("/tokenize", {"prompt": CHARACTERS[:500]}),
        ("/detokenize", {"tokens": list(range(300, 900))}),
    ]


async def mixed_section(folder: Path, width: int, options: argparse.Namespace) -> Figures:
    statuses: Counter[int] = Counter()
    figures: Figures = {}
    with ServerProcess.semigpt(folder) as server:
        # For another tool beside the users, such as schemathesis.
        print(f"mixed: http://127.0.0.1:{server.port}/openapi.json", file=sys.stderr, flush=True)
        end = time.monotonic() + 60 * options.minutes

        async def user(number: int) -> None:
            chance = random.Random(number)
            while time.monotonic() < end:
                path, request = chance.choice(users())
                if chance.random() < 0.2:
                    await leave(server.port, chance.random() / 10)
                elif chance.random() < 0.3:
                    await stream(server.port, body(chance.randrange(1000)))
                else:
                    statuses[(await ask(server.port, path, request))[0]] += 1
                await asyncio.sleep(chance.random() / 5)

        async def watch() -> None:
            begin = time.monotonic()
            for part in (0.15, 0.4, 0.6, 0.8):
                await asyncio.sleep(begin + part * 60 * options.minutes - time.monotonic())
                figures[f"memory after {part:.0%} of the time, MB"] = server.memory

        await asyncio.gather(watch(), *(user(number) for number in range(12)))
        figures["memory at the end, MB"] = server.memory
        await asyncio.sleep(1)
        figures["rows at the end"] = server.gauge("semigpt_rows")
    for status, count in sorted(statuses.items()):
        figures[f"answers of {status}"] = count
    figures["answers of 5xx"] = sum(count for status, count in statuses.items() if status >= 500)
    return figures


Section = Callable[[Path, int, argparse.Namespace], Coroutine[Any, Any, Figures]]
SECTIONS: dict[str, Section] = {
    "streams": streams_section,
    "llama": llama_section,
    "first": first_section,
    "same": same_section,
    "leaving": leaving_section,
    "connections": connections_section,
    "patterns": patterns_section,
    "start": start_section,
    "mixed": mixed_section,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION", default=list(SECTIONS))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--width", type=int, choices=SHAPES, default=128)
    parser.add_argument("--texts", type=int, default=1000, help="of each setting of `same`")
    parser.add_argument("--leavers", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=2.0, help="of `mixed`")
    options = parser.parse_args()
    if wrong := set(options.sections) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(wrong))}")
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        save_model(folder, *make_model(options.width), "")
        for section in options.sections:
            found[section] = asyncio.run(SECTIONS[section](folder, options.width, options))
            if not options.json:
                for label, value in found[section].items():
                    print(f"{options.width:4} {section:12} {label:44} {value:12,.3f}", flush=True)
    if options.json:
        json.dump(found, sys.stdout)
        print()


if __name__ == "__main__":
    main()
