"""P10 on sockets: clients that leave leave nothing behind, and no more are held than allowed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("serving_extra", reason="semigpt[serve] is not installed")

from semigpt.serving import guard
from semigpt.serving.server import make_server
from serving_stand import Stand

DESCRIPTORS = Path("/proc/self/fd")


class Listening:
    """A stand's application on a port of its own, served by a thread."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = free.getsockname()
        self.server = make_server(stand.app, *self.address)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        while not self.server.started:
            time.sleep(0.01)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self.server.serve()

    def close(self) -> None:
        self.server.should_exit = True
        self._thread.join()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, 30)

    def held(self) -> tuple[int, int, int]:
        """Connections, tasks and, on Linux, open descriptors."""
        tasks = len(asyncio.all_tasks(self._loop))
        descriptors = len(list(DESCRIPTORS.iterdir())) if DESCRIPTORS.is_dir() else 0
        return len(self.server.server_state.connections), tasks, descriptors

    def settles_at(self, wanted: tuple[int, int, int]) -> bool:
        """Whether no more is held, soon."""
        end = time.monotonic() + 10
        while self.held() != wanted and time.monotonic() < end:
            time.sleep(0.01)
        return self.held() == wanted


@pytest.fixture(scope="module")
def listening(korean_text: str) -> Iterator[Listening]:
    stand = Stand(korean_text)
    listening = Listening(stand)
    yield listening
    listening.close()
    stand.loop.stop()


def request(stand: Stand, *, stream: bool) -> bytes:
    """A completion that would take long."""
    endless = {"logit_bias": {str(stand.engine.tokenizer.end_of_text): -100}}
    asked = {"model": "gpt", "n": 2, "max_tokens": 4096, "stream": stream, **endless}
    body = json.dumps(asked).encode()
    head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def test_clients_that_leave_leave_nothing_behind(listening: Listening) -> None:
    """In any state and in each way: while waiting, reading, writing, in half a body; reset."""
    before = listening.held()
    for turn in range(3):
        clients = [listening.connect() for _ in range(20)]
        for number, client in enumerate(clients):
            data = request(listening.stand, stream=number % 2 == 0)
            client.sendall(data[: -9 if number % 5 == 0 else None])
        clients[2].recv(1)
        time.sleep(0.05 * turn)
        for number, client in enumerate(clients):
            if number % 3 == 0:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        del client
    assert listening.stand.idle()
    assert listening.settles_at(before)


def test_more_connections_than_allowed_are_refused(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "MOST_CONNECTIONS", 4)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(listening.connect()) for _ in range(4)]
        for _ in range(12):
            with listening.connect() as refused:
                head, _, content = refused.makefile("rb").read().partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503")
            assert b"content-type: application/json" in head
            assert json.loads(content)["error"]["type"] == "server_error"
        for client in held:
            client.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            assert client.makefile("rb").read().startswith(b"HTTP/1.1 200")
    assert listening.settles_at((0, *listening.held()[1:]))
    with listening.connect() as again:
        again.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        assert again.makefile("rb").read().startswith(b"HTTP/1.1 200")
