"""Servers, in processes of their own or in this one, and clients of them that cost little."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from semigpt.generation.engine import Engine

__all__ = [
    "LlamaServer",
    "ServerProcess",
    "ask",
    "completion",
    "head_of",
    "server_inside",
    "stream",
]

LLAMA = """
import os, sys, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, threads, context = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
p.n_parallel, p.n_ctx, p.warmup = 16, 16 * context, True
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = threads
p.port = int(sys.argv[4])
server = xllamacpp.Server(p)
sys.stdin.read()
os._exit(0)
"""


class ServerProcess:
    """A process that answers on `port`, until the block ends. Linux, for its counts."""

    def __init__(self, command: list[str], port: int) -> None:
        self.port = port
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    @classmethod
    def semigpt(cls, folder: Path) -> Self:
        """`semigpt serve` with a model folder."""
        port = free_port()
        command = [sys.executable, "-m", "semigpt", "serve", str(folder), "--port", str(port)]
        return cls(command, port)

    def __enter__(self) -> Self:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
            except OSError:
                if self._process.poll() is not None:
                    error = self._process.communicate()[1].decode()
                    raise RuntimeError(f"the server ended: {error}") from None
                time.sleep(0.01)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def cpu_seconds(self) -> float:
        """What the process has computed so far. Linux makes a process's clock of its id so."""
        return time.clock_gettime(~self._process.pid << 3 | 2)

    @property
    def memory(self) -> float:
        """Resident megabytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    @property
    def descriptors(self) -> int:
        """Open files and sockets."""
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def gauge(self, name: str) -> float:
        """A number of /metrics."""
        page = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60).read()
        lines = page.decode().splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


class LlamaServer(ServerProcess):
    """llama-server, of the package xllamacpp, with a GGUF file."""

    @classmethod
    def of(cls, path: Path, threads: int, context: int) -> Self:
        port = free_port()
        arguments = [str(path), str(threads), str(context), str(port)]
        return cls([sys.executable, "-c", LLAMA, *arguments], port)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def head_of(path: str, body: bytes | None = None) -> bytes:
    """A request's line and headers."""
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", "host: localhost"]
    lines.append("connection: close")
    if body is not None:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "\r\n"]).encode()


@contextmanager
def server_inside(engine: Engine) -> Iterator[tuple[int, Any, asyncio.AbstractEventLoop]]:
    """A server in a thread of this process: its port, its loop that writes, its event loop."""
    from semigpt.serving.http import make_app
    from semigpt.serving.loop import Loop, ServedModel
    from semigpt.serving.server import make_server

    loop, port = Loop([ServedModel("model", engine)]), free_port()
    server = make_server(make_app(loop), "127.0.0.1", port)
    found: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        found.append(asyncio.get_running_loop())
        await server.serve()

    loop.start()
    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield port, loop, found[0]
    server.should_exit = True
    thread.join()
    loop.stop()


async def ask(port: int, path: str, body: Any = None) -> tuple[int, bytes]:
    """The status and the content of an answer, on a connection of its own."""
    data = None if body is None else json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head_of(path, data) + (data or b""))
        head, _, content = (await reader.read()).partition(b"\r\n\r\n")
        return int(head.split()[1]), content
    finally:
        writer.close()


async def completion(port: int, body: dict[str, Any]) -> Any:
    """The JSON of a completion. Raises RuntimeError for an error."""
    status, content = await ask(port, "/v1/completions", body)
    if status != 200:
        raise RuntimeError(f"{status}: {content[:300]!r}")
    return json.loads(content)


async def stream(port: int, body: dict[str, Any]) -> list[float]:
    """When each event of a streamed completion came."""
    data = json.dumps({**body, "stream": True}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times: list[float] = []
    try:
        writer.write(head_of("/v1/completions", data) + data)
        async for line in reader:
            if line.startswith(b"data: {"):
                times.append(time.perf_counter())
    finally:
        writer.close()
    return times
