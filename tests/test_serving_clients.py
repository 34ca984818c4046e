"""`semigpt serve` by what people ask it with: OpenAI's own library, and requests as recorded."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

pytest.importorskip("serving_extra", reason="semigpt[serve] is not installed")

import httpx

from serving_stand import BASE, Stand


def test_a_session_with_openais_library(stand: Stand) -> None:
    openai = pytest.importorskip("openai", reason="openai is not installed (3 MB to download)")

    async def session() -> None:
        transport = httpx.ASGITransport(app=stand.app)
        async with openai.AsyncOpenAI(
            base_url=f"{BASE}/v1",
            api_key="none",
            max_retries=0,
            http_client=httpx.AsyncClient(transport=transport),
        ) as client:
            models = [model.id async for model in client.models.list()]
            assert models == ["gpt", "blocks"]
            assert (await client.models.retrieve("gpt")).id == "gpt"
            asked: dict[str, Any] = {"model": "gpt", "prompt": "의사", "seed": 1, "max_tokens": 20}
            whole = await client.completions.create(**asked, logprobs=2, echo=True)
            assert whole.choices[0].text.startswith("의사")
            count = len(whole.choices[0].logprobs.tokens)
            ended = whole.choices[0].finish_reason == "stop"
            assert count == whole.usage.completion_tokens - ended + 2, "the prompt's two as well"
            options = {"stream": True, "stream_options": {"include_usage": True}}
            chunks = [chunk async for chunk in await client.completions.create(**asked, **options)]
            text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
            assert text == whole.choices[0].text[2:]
            assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
            held = await client.completions.create(**asked, extra_body={"pattern": "[가-힣]{3}"})
            assert len(held.choices[0].text) == 3
            said = {"model": "gpt", "messages": [{"role": "user", "content": "의사"}], "seed": 1}
            chat = await client.chat.completions.create(**said, max_completion_tokens=20)
            assert chat.choices[0].message.content == text
            stream = await client.chat.completions.create(**said, max_tokens=20, stream=True)
            parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
            assert "".join(parts) == text
            for wrong, error, param in (
                ({"temperature": 9}, openai.BadRequestError, "temperature"),
                ({"extra_body": {"max_token": 1}}, openai.BadRequestError, "max_token"),
                ({"model": "nobody"}, openai.NotFoundError, "model"),
            ):
                with pytest.raises(error) as raised:
                    await client.completions.create(**{**asked, **wrong})
                assert raised.value.param == param

    asyncio.run(session())
    assert stand.idle()


# What Open WebUI sends: its Playground's "Completions", its chat, and its titles.
OPEN_WEBUI = [
    {"stream": True, "messages": [{"role": "assistant", "content": "의사"}]},
    {
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "의사"}],
        "temperature": 0.8,
        "top_p": 0.9,
        "max_tokens": 20,
    },
    {
        "stream": False,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "의사"}]}],
        "max_completion_tokens": 20,
    },
]


@pytest.mark.parametrize("body", OPEN_WEBUI, ids=["playground", "chat", "title"])
def test_what_open_webui_sends_is_answered(stand: Stand, body: dict[str, Any]) -> None:
    headers = {"authorization": "Bearer ", "x-openwebui-user-name": "x"}
    answer = stand.ask(
        "POST", "/v1/chat/completions", json={"model": "gpt", "seed": 1, **body}, headers=headers
    )
    assert answer.status_code == 200
    if not body["stream"]:
        assert answer.json()["choices"][0]["message"]["content"]
        return
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n") if line]
    assert lines[-1] == "[DONE]"
    events = [json.loads(line) for line in lines[:-1]]
    assert "".join(e["choices"][0]["delta"]["content"] for e in events if e["choices"])
