"""P10: holes that were found in other servers of models, each looked for here.

docs/serving.md#holes-found-elsewhere has the list: what was found where, and the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import pickle
import re
import socket
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("serving_extra", reason="semigpt[serve] is not installed")

import httpx

from semigpt.errors import SettingsError
from semigpt.serving import guard, listen, server
from serving_stand import KEY, Stand

RIGHT = {"authorization": f"Bearer {KEY}"}
PATHS = ("../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "..\\..\\boot.ini")


@pytest.fixture(scope="module")
def port(stand: Stand) -> Iterator[int]:
    """The port of a real server, in a thread of this process."""
    running = server.make_server(stand.app)
    with listen.listening("127.0.0.1", 0) as sockets:
        assert sockets[0].proto == socket.IPPROTO_TCP, "or answers wait 40 ms"
        number = int(sockets[0].getsockname()[1])
        thread = threading.Thread(target=running.run, args=(sockets,))
        thread.start()
        yield number
        running.should_exit = True
        thread.join()


def said(answer: httpx.Response) -> tuple[int, str | None]:
    """The status, and what the error is about."""
    error = answer.json()["error"]
    return answer.status_code, error["param"] or error["code"]


def complete(stand: Stand, **body: Any) -> httpx.Response:
    return stand.ask("POST", "/v1/completions", json={"model": "gpt", **body})


def raw(port: int, request: bytes) -> bytes:
    """What a server answers to bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        with contextlib.suppress(OSError):  # it may close before all is sent
            connection.sendall(request)
        with contextlib.suppress(ConnectionResetError):
            return connection.makefile("rb").read()
    return b""


def test_a_host_header_opens_no_path(locked: Stand) -> None:
    """vLLM CVE-2026-48746, Starlette CVE-2026-48710: the path was rebuilt from Host."""
    for host in ("x/health?", "x/health#", "x/health/", "health", "x\\health?"):
        answer = locked.ask("GET", "/v1/models", headers={"host": host})
        assert said(answer) == (401, "invalid_api_key")


def test_no_prefix_or_second_slash_opens_a_path(locked: Stand) -> None:
    """vllm#43426, vllm#52794: //v1 and a root path were other paths to the check of the key."""
    for path in ("//v1/models", "/v1//models", "/v1/models/", "/V1/models", "/v1/models;x", "/v1"):
        assert locked.ask("GET", path).status_code == 401
        assert locked.ask("GET", path, headers=RIGHT).status_code == 404


def test_keys_are_compared_as_digests(locked: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM CVE-2025-59425: byte by byte, the time told how much of a key was right."""
    compared: list[set[int]] = []
    compare = guard.hmac.compare_digest

    def noted(given: bytes, wanted: bytes) -> bool:
        compared.append({len(given), len(wanted)})
        return bool(compare(given, wanted))

    monkeypatch.setattr(guard.hmac, "compare_digest", noted)
    for key in ("", KEY[:-1], KEY + "x", KEY):
        locked.ask("GET", "/v1/models", headers={"authorization": f"Bearer {key}"})
    assert compared == [{32}] * 4


def test_a_huge_head_is_refused(port: int) -> None:
    """vLLM CVE-2025-48956: one header filled the memory."""
    start = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    assert raw(port, start + b"x: " + b"y" * 40_000).startswith(b"HTTP/1.1 400")
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(start + b"x: ")
        with pytest.raises(OSError, match=r"reset|Broken pipe|abort"):
            for _ in range(10_000):
                connection.sendall(b"y" * 10_000)
    many = b"".join(b"x-%d: y\r\n" % n for n in range(101))
    assert raw(port, start + many + b"\r\n").startswith(b"HTTP/1.1 431")


def test_samples_are_bounded(stand: Stand) -> None:
    """vLLM CVE-2026-34756: any n was allocated."""
    for field in ("n", "best_of"):
        for count in (17, 10**9, 0, -1):
            assert said(complete(stand, **{field: count})) == (400, field)


def test_prompts_are_bounded(stand: Stand) -> None:
    """vLLM CVE-2026-73559: any number of prompts was taken."""
    for prompts in (["가"] * 65, [[1]] * 65, ["가"] * 33):
        assert said(complete(stand, prompt=prompts, n=2)) == (400, "prompt")


def test_alternatives_are_bounded(stand: Stand) -> None:
    """vLLM CVE-2026-116172, PYSEC-2026-4350: any number of likeliest tokens was sorted."""
    for count in (21, 10**9, -1):
        assert said(complete(stand, logprobs=count)) == (400, "logprobs")


def test_a_bad_pattern_ends_nothing(stand: Stand) -> None:
    """vllm#17313 and others: a regular expression ended the engine or filled its cache."""
    for pattern in ("(", "a{9,1}", "\\", "(?<=a)b", "(가{1,100}){1,100}", "[가-힣]{1,2000}"):
        body = {"pattern": pattern, "banned": ["나"], "max_tokens": 2}
        assert complete(stand, **body).status_code in (200, 400)
    assert complete(stand, pattern="[가-힣]{2}").status_code == 200


def test_no_template_comes_from_a_request(stand: Stand) -> None:
    """vLLM GHSA-69j4 and CVE-2025-61620: a template, or its arguments, ran code."""
    body = {"model": "gpt", "messages": [{"role": "user", "content": "{{ 7*7 }}"}], "seed": 1}
    for field in ("chat_template", "chat_template_kwargs", "add_generation_prompt"):
        answer = stand.ask("POST", "/v1/chat/completions", json={**body, field: {"a": "{{1}}"}})
        assert said(answer) == (400, field)
    answer = stand.ask("POST", "/v1/chat/completions", json={**body, "max_tokens": 5}).json()
    same = complete(stand, prompt="{{ 7*7 }}", seed=1, max_tokens=5).json()
    assert answer["choices"][0]["message"]["content"] == same["choices"][0]["text"]


def test_a_special_token_that_is_spelt_is_plain_text(stand: Stand) -> None:
    """vLLM CVE-2026-44222: special tokens that a prompt spelt were obeyed."""
    text = "맑음 <|endoftext|> 흐림"
    found = stand.ask("POST", "/v1/surprise", json={"text": text}).json()
    assert stand.engine.tokenizer.end_of_text not in [token["id"] for token in found["tokens"]]
    assert complete(stand, prompt=text, echo=True).json()["choices"][0]["text"].startswith(text)


def test_nothing_is_kept_of_a_request_that_ended_badly(stand: Stand) -> None:
    """vLLM CVE-2026-9540: what a request held was kept after an error or a leaving client."""
    bad: list[dict[str, Any]] = [
        {"prompt": [10**8]},
        {"pattern": "["},
        {"n": 16, "max_tokens": 4096, "stream": True},
        {"prompt": ["가" * 3000] * 4, "max_tokens": 4096},
    ]
    for body in bad:
        encoded = json.dumps({"model": "gpt", **body}).encode()
        asyncio.run(stand.call("POST", "/v1/completions", encoded, leave_after=0.02))
    assert stand.stops()


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, (1,)


def test_only_json_is_read(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM CVE-2025-62164, CVE-2024-9052, CVE-2024-11041, CVE-2025-32444, PYSEC-2026-2303: tensors
    and pickles from outside were opened.
    """
    for module in ("pickle.loads", "pickle.load", "pickle.Unpickler", "torch.load"):
        monkeypatch.setattr(module, None)
    data = pickle.dumps(_Bomb())
    for kind in ("application/octet-stream", "application/x-pickle", "text/plain", ""):
        headers = {"content-type": kind}
        answer = stand.ask("POST", "/v1/completions", content=data, headers=headers)
        assert said(answer) == (415, "wrong_media_type")
    headers = {"content-type": "application/json"}
    answer = stand.ask("POST", "/v1/completions", content=data, headers=headers)
    assert said(answer) == (400, "no_json")
    assert said(complete(stand, prompt_embeds="gASVAAA=")) == (400, "prompt_embeds")


def test_no_number_below_its_least_reaches_the_c(stand: Stand) -> None:
    """llama-server CVE-2026-21869: a negative number wrote out of bounds."""
    for field in ("max_tokens", "n", "top_k", "logprobs", "no_repeat_ngram_size"):
        assert said(complete(stand, **{field: -5})) == (400, field)
    assert said(complete(stand, n_discard=-5)) == (400, "n_discard")
    for ids in ([-1], [2**31], [stand.engine.tokenizer.vocab_size]):
        assert complete(stand, prompt=ids).status_code == 400
        assert complete(stand, stop_token_ids=ids).status_code == 400
        assert complete(stand, logit_bias={str(ids[0]): 1}).status_code == 400


def test_no_request_names_a_file(stand: Stand) -> None:
    """llama-server's slots that are saved, media by path and logs by path; its tools."""
    for path in ("/slots/0?action=save", "/props", "/lora-adapters", "/models/load"):
        assert stand.ask("POST", path, json={"filename": "x"}).status_code == 404
    image = {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}
    body = {"model": "gpt", "messages": [{"role": "user", "content": [image]}]}
    assert said(stand.ask("POST", "/v1/chat/completions", json=body)) == (400, "messages")
    for field in ("filename", "log_prompts_dir", "media_path", "tools", "lora"):
        assert said(complete(stand, **{field: "/etc/passwd"})) == (400, field)


def test_a_foreign_name_of_this_machine_is_refused(stand: Stand) -> None:
    """Ollama CVE-2024-28224: a page's own name that resolves to 127.0.0.1 (DNS rebinding)."""
    for host in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil"):
        answer = stand.ask("GET", "/v1/models", headers={"host": host})
        assert said(answer) == (421, "foreign_host")


def test_a_models_name_is_no_path(stand: Stand) -> None:
    """Ollama CVE-2024-37032, CVE-2024-45436, CVE-2026-103663: names of models were paths."""
    for name in PATHS:
        assert said(complete(stand, model=name)) == (404, "model")
        answer = stand.ask("GET", f"/v1/models/{name}")
        assert answer.status_code == 404
        answer = stand.ask("GET", "/v1/training", params={"model": name})
        assert said(answer) == (404, "model")


def test_nothing_is_uploaded(stand: Stand) -> None:
    """Ollama CVE-2026-7482, CVE-2024-39720: a model's file came with a request."""
    for method, path in (
        ("POST", "/api/create"),
        ("POST", "/api/blobs/sha256:00"),
        ("POST", "/v1/files"),
        ("PUT", "/v1/models/gpt"),
        ("POST", "/v1/models"),
        ("DELETE", "/v1/models/gpt"),
    ):
        answer = stand.ask(method, path, files={"file": io.BytesIO(b"GGUF")})
        assert answer.status_code in (404, 405)


def test_without_a_key_no_other_machine_can_connect() -> None:
    """Ollama CVE-2025-63389: open to everybody on 0.0.0.0."""
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.com", ""):
        with pytest.raises(SettingsError, match="give a key"):
            listen.check_host(host, None)


def test_the_server_fetches_nothing(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradio CVE-2026-28416, -28414, CVE-2024-1561, -47084: a proxy, files by URL, origin null."""
    monkeypatch.setattr(socket.socket, "connect", None)
    for path in ("/proxy=http://localhost/", "/file=/etc/passwd", "/gradio_api/file=x", "/upload"):
        assert stand.ask("GET", path).status_code == 404
    for origin in ("null", "http://evil.example", "http://127.0.0.1:8080.evil.example"):
        answer = stand.ask("GET", "/v1/models", headers={"origin": origin})
        assert said(answer) == (403, "foreign_origin")
        assert "access-control-allow-origin" not in answer.headers


def test_ranges_and_forms_are_not_read(stand: Stand) -> None:
    """Starlette CVE-2025-62727 (Range) and CVE-2024-47874 (multipart): both took endless work."""
    ranges = {"range": "bytes=" + ",".join("0-" for _ in range(1000))}
    assert stand.ask("GET", "/v1/models", headers=ranges).status_code == 200

    async def endless() -> Any:
        yield b"--x\r\n"
        raise AssertionError("more than the head was read")

    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = stand.ask("POST", "/v1/completions", content=endless(), headers=headers)
    assert said(answer) == (415, "wrong_media_type")


def test_chunks_end_as_they_must(port: int) -> None:
    """h11 CVE-2025-43859: any two bytes ended a chunk, and smuggled a request in."""
    assert tuple(map(int, version("h11").split(".")[:2])) >= (0, 16)
    head = (
        b"POST /tokenize HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    )
    body = b'{"prompt": "x"}'
    good = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    assert raw(port, head + good).startswith(b"HTTP/1.1 200")
    bad = b"%x\r\n%sXX0\r\n\r\n" % (len(body), body)
    assert raw(port, head + bad).startswith(b"HTTP/1.1 400")


def test_no_answer_is_a_page(stand: Stand) -> None:
    """Open WebUI CVE-2026-26193, -45303, -70486, -109300: what a model wrote ran in a browser."""
    script = "<script>alert(1)</script>"
    answers = [
        complete(stand, prompt=script, echo=True),
        complete(stand, prompt=script, stream=True),
        complete(stand, model=script),
        complete(stand, **{script: 1}),
        stand.ask("GET", f"/{script}"),
        stand.ask("GET", "/metrics"),
    ]
    for answer in answers:
        kind = answer.headers["content-type"].split(";")[0]
        assert kind in ("application/json", "text/event-stream", "text/plain")
        assert answer.headers["x-content-type-options"] == "nosniff"
    page = stand.ask("GET", "/")
    assert script not in page.text, "the page is the same for everybody"
    policy = page.headers["content-security-policy"]
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
    assert "unsafe" not in policy


def test_there_is_one_way_to_give_a_key(locked: Stand) -> None:
    """Open WebUI CVE-2026-45339, -45349: a second header skipped the check."""
    for headers in ({"x-api-key": KEY}, {"api-key": KEY}, {"cookie": f"token={KEY}"}):
        assert locked.ask("GET", "/v1/models", headers=headers).status_code == 401
    assert locked.ask("GET", f"/v1/models?api_key={KEY}").status_code == 401
    both = {"x-api-key": "x", **RIGHT}
    assert locked.ask("GET", "/v1/models", headers=both).status_code == 200


def test_the_page_lists_these_tests() -> None:
    """Each row of the table in docs/serving.md names a test of this file, and each is named."""
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    section = page.split("## Holes found elsewhere")[1].split("\n## ")[0]
    named = re.findall(r"`(test_\w+)` *\|$", section, re.MULTILINE)
    found = dict(globals())
    assert len(named) == len(set(named))
    assert {*named, "test_the_page_lists_these_tests"} == {
        n for n in found if n.startswith("test_")
    }
    for row in section.splitlines():
        for test in re.findall(r"`(test_\w+)` *\|$", row):
            assert found[test].__doc__
            for hole in re.findall(r"CVE-\d+-\d+|PYSEC-[\d-]+|GHSA-\w+|vllm#\d+", row):
                number = hole.split("-")[-1]
                assert number in found[test].__doc__, hole
