"""P10: who may ask the server, what it refuses, that it stops, and that it never sees the disk."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("serving_extra", reason="semigpt[serve] is not installed")

import httpx

from semigpt.cli import main
from semigpt.corpus import news
from semigpt.errors import SettingsError
from semigpt.huggingface.folder import save_model
from semigpt.run_folder import RunFolder
from semigpt.serving import guard, listen, server
from semigpt.serving import loop as loop_module
from semigpt.serving.watch import Training
from serving_stand import BASE, KEY, Stand


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error in OpenAI's form; an answer in another form fails."""
    assert answer.headers["content-type"] == "application/json"
    (error,) = answer.json().values()
    assert set(error) == {"message", "type", "param", "code"}
    assert "\n" not in error["message"]
    assert len(error["message"]) < 700
    return dict(error)


WRONG = [
    ({"max_token": 5}, "max_token"),
    ({"max_tokens": True}, "max_tokens"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"max_tokens": 5.5}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"temperature": -1}, "temperature"),
    ({"n": 10**9}, "n"),
    ({"best_of": 1, "n": 2}, "best_of"),
    ({"best_of": 2, "stream": True}, "best_of"),
    ({"prompt": ["가"] * 5, "n": 16}, "prompt"),
    ({"prompt": ["가"] * 65}, "prompt"),
    ({"prompt": [True]}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": "가" * 200_001}, "prompt"),
    ({"prompt": ["가" * 150_000] * 2}, "prompt"),
    ({"prompt": [10**8]}, None),
    ({"prompt": [-1]}, "prompt"),
    ({"logprobs": 21}, "logprobs"),
    ({"stop": ["가"] * 5}, "stop"),
    ({"stop": ""}, "stop"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"5": 101}}, "logit_bias"),
    ({"logit_bias": {"99999999": 1}}, None),
    ({"seed": 2**64}, "seed"),
    ({"suffix": "끝"}, "suffix"),
    ({"pattern": "("}, None),
    ({"pattern": "(가{1,100}){1,100}"}, None),
    ({"pattern": "가" * 513}, "pattern"),
    ({"pattern": "가", "choices": ["나"]}, None),
    ({"banned": ["가" * 65]}, "banned"),
    ({"stop_token_ids": [10**8]}, None),
    ({"tools": []}, "tools"),
    ({"": None}, ""),
    ({"num_beams": 9}, "num_beams"),
]


@pytest.mark.parametrize(("wrong", "param"), WRONG, ids=lambda value: str(value)[:40])
def test_what_cannot_be_answered_is_an_error_of_openais(
    stand: Stand, wrong: dict[str, Any], param: str | None
) -> None:
    answer = stand.ask("POST", "/v1/completions", json={"model": "gpt", **wrong})
    error = error_of(answer)
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert (error["param"] or "") == (param or "")
    assert stand.idle()


def test_a_misspelt_field_gets_the_nearest_name(stand: Stand) -> None:
    answer = stand.ask("POST", "/v1/completions", json={"model": "gpt", "max_token": 5})
    assert "did you mean 'max_tokens'?" in error_of(answer)["message"]
    answer = stand.ask("POST", "/v1/completions", json={"model": "gptt"})
    assert (answer.status_code, error_of(answer)["code"]) == (404, "model_not_found")
    for field, said in (
        ("tools", "calls no tools"),
        ("response_format", "`pattern` or `choices`"),
        ("reasoning_effort", "leave it out"),
    ):
        body = {"model": "gpt", "messages": [{"role": "user", "content": "가"}], field: {"a": 1}}
        error = error_of(stand.ask("POST", "/v1/chat/completions", json=body))
        assert error["param"] == field
        assert said in error["message"]
    whole = stand.ask(
        "POST", "/v1/completions", json={"model": "gpt", "max_tokens": 3.0, "user": None}
    )
    assert whole.status_code == 200


BODIES = [
    b"",
    b"{",
    b"[]",
    b'"text"',
    b'{"model": "gpt", "model": "gpt"}',
    b'{"model": "gpt", "temperature": NaN}',
    b'{"model": "gpt", "temperature": Infinity}',
    b'{"model": "gpt", "prompt": "\\ud800"}',
    b"\xff\xfe{}",
    b"[" * 200_000 + b"]" * 200_000,
    b'{"model": "gpt", "seed": ' + b"9" * 500_000 + b"}",
    b'{"model": "gpt", "temperature": 1e999}',
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:30]))
def test_what_is_no_json_of_one_meaning_is_refused(stand: Stand, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = stand.ask("POST", "/v1/completions", content=body, headers=headers)
    assert answer.status_code == 400
    error_of(answer)


@pytest.mark.parametrize(
    ("method", "path", "settings", "status"),
    [
        ("GET", "/", {}, 200),
        ("POST", "/", {"json": {}}, 405),
        ("GET", "/", {"headers": {"host": "example.com"}}, 421),
        ("GET", "/", {"headers": {"origin": "https://example.com"}}, 403),
        ("GET", "/index.html", {}, 404),
        ("GET", "/page.js", {}, 404),
        ("GET", "/v1", {}, 404),
        ("GET", "//v1/models", {}, 404),
        ("GET", "/v1/models/", {}, 404),
        ("GET", "/v1/models/../gpt", {}, 404),
        ("GET", "/v1/models/%2e%2e%2fgpt", {}, 404),
        ("GET", "/docs", {}, 404),
        ("GET", "/v1/completions", {}, 405),
        ("DELETE", "/v1/models", {}, 405),
        ("POST", "/v1/completions", {"data": {"model": "gpt"}}, 415),
        ("POST", "/v1/completions", {"files": {"file": b"x"}}, 415),
        ("POST", "/v1/completions", {"json": {"prompt": "가" * 400_000}}, 413),
        ("GET", "/v1/models", {"headers": {"host": "example.com"}}, 421),
        ("GET", "/v1/models", {"headers": {"host": "127.0.0.1.example.com:8080"}}, 421),
        ("GET", "/v1/models", {"headers": {"host": "example.com/health?"}}, 421),
        ("GET", "/v1/models", {"headers": {"origin": "https://example.com"}}, 403),
        ("GET", "/v1/models", {"headers": {"origin": "null"}}, 403),
        ("GET", "/v1/models", {"headers": {"host": "localhost:8080"}}, 200),
        ("GET", "/v1/models", {"headers": {"host": "[::1]:8080"}}, 200),
        ("GET", "/v1/models", {"headers": {"host": "[::1]"}}, 200),
        ("GET", "/v1/models", {"headers": {"host": ":8080"}}, 421),
        ("GET", "/v1/models", {"headers": {"origin": BASE}}, 200),
        ("GET", "/v1/models", {"headers": {f"x-{n}": "y" for n in range(101)}}, 431),
    ],
)
def test_the_guard_compares_exactly(
    stand: Stand, method: str, path: str, settings: dict[str, Any], status: int
) -> None:
    answer = stand.ask(method, path, **settings)
    assert answer.status_code == status
    if status >= 400:
        error_of(answer)
    if status == 405:
        assert answer.headers["allow"]


def test_a_key_is_asked_for_and_compared_in_constant_time(
    locked: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []
    compare = guard.hmac.compare_digest

    def counted(given: bytes, wanted: bytes) -> bool:
        compared.append((len(given), len(wanted)))
        return bool(compare(given, wanted))

    monkeypatch.setattr(guard.hmac, "compare_digest", counted)
    wrong = ["", "Bearer", f"Basic {KEY}", f"Bearer {KEY[:-1]}", f"Bearer {KEY}x", KEY, "Bearer é"]
    for value in wrong:
        headers = {"authorization": value.encode("latin-1")}
        for path in ("/v1/models", "/metrics", "/openapi.json", "/nothing"):
            answer = locked.ask("GET", path, headers=headers)
            assert answer.status_code == 401
            assert error_of(answer)["code"] == "invalid_api_key"
            assert answer.headers["www-authenticate"] == "Bearer"
    for headers in ({"x-api-key": KEY}, {"host": "example.com/health?"}):
        assert locked.ask("GET", "/v1/models", headers=headers).status_code == 401
    assert locked.ask("GET", f"/v1/models?key={KEY}").status_code == 401
    assert set(compared) == {(32, 32)}, "digests, whatever was given"
    right = {"authorization": f"Bearer {KEY}"}
    assert locked.ask("GET", "/v1/models", headers=right).status_code == 200
    assert locked.ask("GET", "/health").status_code == 200
    page = locked.ask("GET", "/")
    assert page.status_code == 200, "the page asks for it"
    assert KEY not in page.text + str(page.headers)


def test_without_a_key_nobody_else_is_let_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        listen.check_host(host, None)
    for host in ("0.0.0.0", "::", "192.168.0.2", "example.com", ""):
        with pytest.raises(SettingsError, match="give a key"):
            listen.check_host(host, None)
        listen.check_host(host, KEY)
    file = tmp_path / "key"
    for bad in ("", "short", "with spaces in the middle of it", "열여섯 자가 넘는 한글로 된 열쇠"):
        file.write_text(bad, encoding="utf-8")
        with pytest.raises(SettingsError, match="needs a key of at least 16"):
            listen.read_key(file)
    file.write_text(KEY + "\n", encoding="utf-8")
    assert listen.read_key(file) == KEY
    monkeypatch.setenv("SEMIGPT_KEY", KEY)
    assert listen.read_key(None) == KEY


def test_the_command_says_in_one_line_what_it_lacks(
    stand: Stand,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for folder in ("ladder/one", "ladder/two", "other/one"):
        save_model(tmp_path / folder, stand.engine.model, stand.engine.tokenizer, "")
    opened = server.Models.find([tmp_path / "ladder/two", tmp_path / "other/one"]).open()
    assert [model.name for model in opened] == ["two", "one"]
    assert opened[0].fingerprint == opened[1].fingerprint == stand.models[0].fingerprint
    folder = str(tmp_path / "ladder/one")
    wrong = [
        ([folder, "--host", "0.0.0.0"], "give a key"),
        ([folder, "--port", "0"], "--port must be"),
        ([folder, "--allow-origin", "*"], "is no origin"),
        ([folder, "--socket", str(tmp_path / "no" / "socket")], "cannot be made"),
        ([folder, str(tmp_path / "other/one")], "two models are called 'one'"),
        ([str(tmp_path / "nothing")], "nothing"),
        ([folder, "--key-file", str(tmp_path / "nothing")], "nothing"),
    ]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, message in [*wrong, ([folder, "--port", port], "cannot be listened on")]:
            assert main(["serve", *arguments]) == 2
            last = capsys.readouterr().err.strip().splitlines()[-1]
            assert message in last
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "semigpt.serving.server")
    monkeypatch.delattr("semigpt.serving.server")
    assert main(["serve", folder]) == 2
    assert "pip install 'semigpt[serve]'" in capsys.readouterr().err


def bounds(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each field with a number's bounds, of a body in the API's own description."""
    for name, field in schema["properties"].items():
        for way in field.get("anyOf", [field]):
            if way.get("type") in ("integer", "number"):
                yield name, way


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_every_bound_of_the_description_is_kept(stand: Stand, data: st.DataObject) -> None:
    """At a bound a request is answered; beyond it a 400 names the field."""
    description = stand.ask("GET", "/openapi.json").json()
    bodies = description["components"]["schemas"]
    fields = list(bounds(bodies["CompletionRequest"]))
    assert len(fields) > 10
    name, way = data.draw(st.sampled_from(fields))
    assert "minimum" in way or "exclusiveMinimum" in way
    assert "maximum" in way or "exclusiveMaximum" in way
    least, most = way.get("minimum"), way.get("maximum")
    beyond: list[float] = [10**30]
    if name != "seed":  # its bounds have 64 bits, which JSON's numbers round
        beyond += [-(10**9), *([] if least is None else [least - 1])]
        beyond += [] if most is None else [most + 1]
    base = {"model": "gpt", "max_tokens": 2, "logprobs": 0}
    for value in beyond:
        answer = stand.ask("POST", "/v1/completions", json={**base, name: value})
        assert (answer.status_code, error_of(answer)["param"]) == (400, name)
    for value in (least, most):
        if value is not None and not (name == "max_tokens" and value == most):
            answer = stand.ask("POST", "/v1/completions", json={**base, name: value})
            assert answer.status_code in (200, 400), answer.text


def test_pages_of_named_origins_may_ask_and_no_others(korean_text: str) -> None:
    """A browser asks first, without the key; then the answer says which page may read it."""
    page = "https://page.example"
    stand = Stand(korean_text, KEY, origins=[page])
    right = {"authorization": f"Bearer {KEY}", "origin": page}
    ask = {"origin": page, "access-control-request-method": "POST"}
    first = stand.ask("OPTIONS", "/v1/completions", headers=ask)
    assert (first.status_code, first.content) == (204, b"")
    assert first.headers["access-control-allow-headers"] == "authorization, content-type"
    answers = [
        first,
        stand.ask("GET", "/v1/models", headers=right),
        stand.ask("GET", "/nothing", headers=right),
        stand.ask("GET", "/v1/models", headers={"origin": page}),
        stand.ask("POST", "/v1/completions", json={"model": "gpt", "stream": True}, headers=right),
    ]
    assert [answer.status_code for answer in answers] == [204, 200, 404, 401, 200]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == page
        assert "access-control-allow-credentials" not in answer.headers
        assert "origin" in answer.headers["vary"]
    others = ("https://page.example:444", "http://page.example", "https://x.page.example", "null")
    for origin in (*others, "https://page.example.evil"):
        for method, headers in (("GET", right), ("OPTIONS", ask)):
            answer = stand.ask(method, "/v1/models", headers={**headers, "origin": origin})
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers
    unasked = {**ask, "access-control-request-method": "GET"}
    assert stand.ask("OPTIONS", "/nothing", headers=unasked).status_code == 401
    assert stand.ask("OPTIONS", "/v1/models", headers={"origin": page}).status_code == 401
    stand.loop.stop()
    for wrong in ("*", "null", "page.example", f"{page}/", f"{page}/path", "https://Page.example"):
        with pytest.raises(SettingsError, match="is no origin"):
            listen.check_origins([wrong])


def test_a_socket_is_this_users_alone(stand: Stand, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    for _ in range(2):  # the second finds what the first left
        running = server.make_server(stand.app)
        with listen.listening_at(path) as sockets:
            assert path.stat().st_mode & 0o777 == 0o600
            thread = threading.Thread(target=running.run, args=(sockets,))
            thread.start()
            transport = httpx.HTTPTransport(uds=str(path))
            with httpx.Client(transport=transport, base_url="http://localhost") as client:
                assert client.get("/health").json() == {"status": "ok"}
            with pytest.raises(SettingsError, match="cannot be made"), listen.listening_at(path):
                pass
            running.should_exit = True
            thread.join()
    path.unlink()
    path.write_text("mine")
    with pytest.raises(SettingsError, match="cannot be made"), listen.listening_at(path):
        pass
    assert path.read_text() == "mine"


def test_chat_can_be_left_out(korean_text: str) -> None:
    stand = Stand(korean_text, chat=False)
    body = {"model": "gpt", "messages": [{"role": "user", "content": "가"}]}
    answer = stand.ask("POST", "/v1/chat/completions", json=body)
    assert (answer.status_code, error_of(answer)["code"]) == (404, "not_found")
    stand.loop.stop()


def test_the_disk_is_given_up(stand: Stand, tmp_path: Path) -> None:
    """With Landlock: a thread that serves reads Python's libraries and its runs, and no more."""
    run, secret = tmp_path / "run", tmp_path / "secret"
    run.mkdir()
    (run / "metrics.jsonl").write_text("{}")
    secret.write_text("a secret")
    wrong: list[Callable[[], object]] = [
        secret.read_text,
        lambda: (run / "new").write_text("x"),
        lambda: list(tmp_path.iterdir()),
        lambda: (run / "metrics.jsonl").unlink(),
        lambda: subprocess.run([sys.executable, "-c", ""], check=True),
        lambda: os.kill(os.getppid(), 0),
    ]
    found: list[object] = []

    def serving() -> None:
        found.append(server.restrict([run]))
        if not found[0]:
            return
        found.append((run / "metrics.jsonl").read_text())
        found.append(stand.complete()["object"])
        for attempt in wrong:
            try:
                attempt()
            except PermissionError as error:
                found.append(error.errno)

    thread = threading.Thread(target=serving)
    thread.start()
    thread.join()
    if not found[0]:
        pytest.skip("this system has no Landlock")
    assert found[1:3] == ["{}", "text_completion"]
    assert found[3:] == [errno.EACCES] * 5 + [errno.EPERM]
    assert secret.read_text() == "a secret", "the other threads have it"


def test_a_body_that_comes_too_slowly_is_closed(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.05)

    async def drip() -> Any:
        yield b"{"
        await asyncio.sleep(10)

    answer = stand.run(
        lambda client: client.post(
            "/v1/completions", content=drip(), headers={"content-type": "application/json"}
        )
    )
    assert (answer.status_code, error_of(answer)["code"]) == (408, "timeout")


def test_a_full_queue_says_when_to_come_again(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "MOST_WAITING", 3)

    async def many(client: httpx.AsyncClient) -> list[httpx.Response]:
        body = {"model": "gpt", "prompt": ["가"] * 3, "n": 6, "max_tokens": 60}
        return list(
            await asyncio.gather(*(client.post("/v1/completions", json=body) for _ in range(6)))
        )

    answers = stand.run(many)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert 0 < len(refused) < 6
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert {error_of(answer)["type"] for answer in refused} == {"rate_limit_error"}
    assert stand.idle()


def test_a_request_that_takes_too_long_is_ended(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "MOST_SECONDS", 0.0)
    body = {"model": "gpt", "max_tokens": 4000}
    answer = stand.ask("POST", "/v1/completions", json=body)
    assert (answer.status_code, error_of(answer)["code"]) == (408, "timeout")
    events = stand.events("/v1/completions", max_tokens=4000)
    assert events[-1]["error"]["message"]
    assert stand.idle()


def test_a_step_that_fails_or_hangs_is_told(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    model = stand.models[0]
    with monkeypatch.context() as patch:
        patch.setattr(model.batch._pool, "read", lambda *parts: 1 / 0)
        answer = stand.ask("POST", "/v1/completions", json={"model": "gpt"})
        assert (answer.status_code, error_of(answer)["type"]) == (500, "server_error")
    assert stand.complete()["choices"], "the next one is answered"
    with monkeypatch.context() as patch:
        patch.setattr(stand.loop, "step_began", time.monotonic() - 11)
        answer = stand.ask("GET", "/health")
        assert (answer.status_code, answer.json()) == (503, {"status": "stuck"})
    assert stand.ask("GET", "/health").json() == {"status": "ok"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("after", [0.0, 0.05])
def test_when_the_client_leaves_writing_stops(stand: Stand, stream: bool, after: float) -> None:
    endless = {"logit_bias": {str(stand.engine.tokenizer.end_of_text): -100}}
    body = {"model": "gpt", "n": 16, "max_tokens": 4096, "stream": stream, **endless}
    encoded = json.dumps(body).encode()
    before = stand.loop.models[0].batch
    asyncio.run(stand.call("POST", "/v1/completions", encoded, leave_after=after))
    assert stand.stops(), "every row is free"
    assert stand.loop.models[0].batch is before


def test_a_client_that_does_not_read_is_given_up(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "SEND_SECONDS", 0.05)
    endless = {"logit_bias": {str(stand.engine.tokenizer.end_of_text): -100}}
    body = json.dumps({"model": "gpt", "max_tokens": 4096, "stream": True, **endless}).encode()
    with contextlib.suppress(TimeoutError):
        slow = stand.call("POST", "/v1/completions", body, each=lambda: asyncio.sleep(60))
        asyncio.run(slow)
    assert stand.stops()


class Disk:
    """Notes what a request must not do."""

    WATCHED = ("open", "import", "os.", "subprocess.", "socket.connect", "ctypes.dlopen", "exec")

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event.startswith(self.WATCHED):
            self.seen.append(f"{event} {str(arguments)[:200]}")


def test_no_request_reaches_the_disk_the_network_or_a_program(
    korean_text: str, tmp_path: Path
) -> None:
    """An audit hook sees no such event in requests of every kind, good and bad, once warm."""
    (tmp_path / "run").mkdir()
    stand = Stand(korean_text, trainings={"run": Training(RunFolder(tmp_path / "run"))})
    stand.add("memory")
    article = next(iter(news.rows("test"))).document
    paths = ["../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "C:\\boot.ini"]
    completion, chat = "/v1/completions", [{"role": "user", "content": "날씨"}]
    asked: list[tuple[str, str, Any]] = [
        *(("GET", path, None) for path in ("/", "/v1/models", "/metrics", "/health")),
        ("GET", "/openapi.json", None),
        *(("GET", f"/v1/models/{path}", None) for path in paths),
        ("POST", "/tokenize", {"prompt": "맑음"}),
        ("POST", "/detokenize", {"tokens": [300]}),
        *(("POST", "/v1/surprise", {"text": text}) for text in ("맑음" * 40, article)),
        *(
            ("POST", f"/v1/{look}", {"text": "맑음", "model": model})
            for look in ("candidates", "attention", "lens", "gate")
            for model in ("gpt", "blocks", "memory")
        ),
        ("POST", "/v1/compare", {"columns": [{"model": "gpt"}, {"model": "blocks"}]}),
        *(("GET", f"/v1/training?model={path}", None) for path in ("", "run", *paths)),
        ("POST", completion, {"model": "gpt", "pattern": r"\w+\d", "seed": 1}),
        ("POST", completion, {"model": "blocks", "logprobs": 3, "echo": True}),
        ("POST", completion, {"model": "gpt", "stream": True, "max_tokens": 200}),
        ("POST", "/v1/chat/completions", {"model": "gpt", "messages": chat}),
        *(("POST", completion, {"model": path, "prompt": path}) for path in paths),
        *(("POST", completion, {"model": "gpt", path: 1}) for path in paths),
        ("POST", completion, []),
    ]
    disk = Disk()

    async def every() -> None:
        for turn in range(2):
            disk.on = turn == 1
            try:
                for method, path, body in asked:
                    sent = await stand.call(method, path, json.dumps(body).encode())
                    assert sent[0]["status"] in (200, 400, 404)
            finally:
                disk.on = False

    asyncio.run(every())
    stand.loop.stop()
    assert disk.seen == []


@pytest.fixture(scope="module")
def process(stand: Stand, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The command itself; its port."""
    folder = tmp_path_factory.mktemp("served") / "mine"
    save_model(folder, stand.engine.model, stand.engine.tokenizer, "")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "semigpt", "serve", str(folder), "--port", str(port)]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ})
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            break
        except OSError:
            assert started.poll() is None, started.stderr and started.stderr.read()
            time.sleep(0.1)
    yield port
    started.send_signal(signal.SIGTERM)
    _, errors = started.communicate(timeout=30)
    assert started.returncode == 128 + signal.SIGTERM, errors
    assert b"Traceback" not in errors


def test_a_real_server_answers_and_keeps_its_clocks(process: int) -> None:
    """Slow heads, broken requests and large heads are answered in OpenAI's form and closed."""
    address = ("127.0.0.1", process)
    slow = socket.create_connection(address, 30)
    slow.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n")
    begun = time.monotonic()
    body = json.dumps({"model": "mine", "prompt": "의사", "max_tokens": 9, "stream": True}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{process}/v1/completions",
        body,
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.read().endswith(b"data: [DONE]\n\n")
    for bad in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000 + b"\r\n\r\n"):
        with socket.create_connection(address, 30) as connection:
            connection.sendall(bad)
            head, _, content = connection.makefile("rb").read().partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 4")
            assert set(json.loads(content)) == {"error"}
    content = slow.makefile("rb").read()
    assert content.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - begun < 25
    slow.close()
