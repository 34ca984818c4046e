"""`semigpt serve`: what its API answers is what the engine writes."""

from __future__ import annotations

import asyncio
import math
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("serving_extra", reason="semigpt[serve] is not installed")

import httpx

from semigpt.corpus import news
from semigpt.generation.sampling import SamplingSettings
from semigpt.serving import streams, texts
from semigpt.serving.fields import ChatRequest, CompletionRequest
from semigpt.serving.loop import Answer
from serving_stand import Stand

WAYS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"temperature": 0}, {"sampling": SamplingSettings(temperature=0)}),
    (
        {"top_p": 0.9, "top_k": 20, "min_p": 0.01, "temperature": 0.7},
        {"sampling": SamplingSettings(temperature=0.7, top_p=0.9, top_k=20, min_p=0.01)},
    ),
    (
        {"frequency_penalty": 1, "presence_penalty": -1, "logit_bias": {"300": 5}},
        {
            "sampling": SamplingSettings(
                frequency_penalty=1, presence_penalty=-1, logit_bias={300: 5.0}
            )
        },
    ),
    ({"pattern": "[가-힣]{2,5}", "n": 2}, {"pattern": "[가-힣]{2,5}", "num_samples": 2}),
    ({"choices": ["맑음", "흐림"]}, {"choices": ["맑음", "흐림"]}),
    ({"stop": "다", "echo": True}, {"stop": ["다"], "echo": True}),
    ({"prompt": ["의사", "날씨"], "n": 3}, {"prompt": ["의사", "날씨"], "num_samples": 3}),
    (
        {"prompt": ["의사", "날씨"], "n": 2, "num_beams": 3, "length_penalty": 0.5},
        {
            "prompt": ["의사", "날씨"],
            "num_samples": 2,
            "sampling": SamplingSettings(num_beams=3, length_penalty=0.5),
        },
    ),
]


@pytest.mark.parametrize(("asked", "same"), WAYS, ids=lambda way: ",".join(way))
def test_a_completion_is_what_the_engine_writes(
    stand: Stand, asked: dict[str, Any], same: dict[str, Any]
) -> None:
    body = {"prompt": "의사협회는", "max_tokens": 40, "seed": 3, **asked}
    wanted = stand.engine.generate(
        **{"prompt": "의사협회는", "max_new_tokens": 40, "seed": 3, **same}
    )
    answer = stand.complete(**body)
    assert [choice["text"] for choice in answer["choices"]] == wanted
    assert [choice["index"] for choice in answer["choices"]] == list(range(len(wanted)))
    assert {choice["finish_reason"] for choice in answer["choices"]} <= {"stop", "length"}
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    options = {"stream_options": {"include_usage": True}}
    *events, last = stand.events("/v1/completions", **body, **options)
    texts = [""] * len(wanted)
    for event in events:
        (choice,) = event["choices"]
        texts[choice["index"]] += choice["text"]
    assert texts == wanted
    assert (last["choices"], last["usage"]) == ([], usage)
    assert len({event["system_fingerprint"] for event in [answer, *events]}) == 1
    assert stand.idle()


def test_ids_are_read_exactly_and_each_has_its_log_probability(stand: Stand) -> None:
    """As evaluation by log-likelihood asks: echo, and no or one new token."""
    tokenizer, model = stand.engine.tokenizer, stand.engine.model
    ids = tokenizer.encode("기상청은 맑겠다🙂고").tolist()
    with torch.no_grad():
        log_TV = model(torch.tensor([ids]))[0][0].log_softmax(-1).numpy()
    for new in (0, 1):
        asked = {"prompt": [ids], "max_tokens": new, "echo": True, "logprobs": 2, "temperature": 0}
        (choice,) = stand.complete(**asked)["choices"]
        found = choice["logprobs"]
        assert len(found["tokens"]) == len(ids) + new
        assert found["token_logprobs"][0] is None
        assert found["top_logprobs"][0] is None
        own = [float(log_TV[place, token]) for place, token in enumerate(ids[1:])]
        assert found["token_logprobs"][1 : len(ids)] == pytest.approx(own, abs=1e-4)
        for place, best in enumerate(found["top_logprobs"][1 : len(ids)]):
            assert max(best.values()) == pytest.approx(float(log_TV[place].max()), abs=1e-4)
            assert found["tokens"][place + 1] in best
        whole = [name for name in found["tokens"] if not name.startswith("bytes:")]
        assert "".join(whole[: len(ids) - 4]) == "기상청은 맑겠다고"
        assert found["tokens"].count("bytes:\\xf0") == 1
        assert found["text_offset"][:4] == [0, 1, 2, 3]
        assert found["text_offset"] == sorted(found["text_offset"])
        assert choice["text"].startswith("기상청은 맑겠다🙂고")


def test_a_text_longer_than_the_context_is_read_from_its_end(stand: Stand) -> None:
    ids = stand.engine.tokenizer.encode("한빛전자는 " * 20).tolist()
    asked = {"prompt": ids, "max_tokens": 0, "echo": True, "logprobs": 0}
    (choice,) = stand.complete(**asked)["choices"]
    values = choice["logprobs"]["token_logprobs"]
    assert len(values) == len(ids)
    assert [value is None for value in values] == [n <= len(ids) - 32 for n in range(len(ids))]


def test_the_best_of_several_are_given(stand: Stand) -> None:
    ask = {"prompt": "정부는", "max_tokens": 12, "seed": 1}
    every = stand.complete(**ask, n=5, logprobs=0)["choices"]
    means = [float(np.mean(choice["logprobs"]["token_logprobs"])) for choice in every]
    wanted = [every[place]["text"] for place in np.argsort(means)[::-1][:2]]
    best = stand.complete(**ask, n=2, best_of=5)["choices"]
    assert [choice["text"] for choice in best] == wanted
    assert best[0]["logprobs"] is None


def test_a_chat_is_one_text_that_is_continued(stand: Stand) -> None:
    messages = [
        {"role": "system", "content": "기상청은"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "24일 "}, {"type": "text", "text": "전국이"}],
        },
    ]
    wanted = stand.engine.generate("기상청은\n24일 전국이", max_new_tokens=9, seed=5)[0]
    body = {"model": "gpt", "messages": messages, "max_tokens": 9, "seed": 5}
    answer = stand.ask(
        "POST", "/v1/chat/completions", json={**body, "logprobs": True, "top_logprobs": 2}
    ).json()
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": wanted}
    assert len(choice["logprobs"]["content"]) == answer["usage"]["completion_tokens"] == 9
    assert {len(entry["top_logprobs"]) for entry in choice["logprobs"]["content"]} == {2}
    events = stand.events("/v1/chat/completions", **body)
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert "".join(event["choices"][0]["delta"]["content"] for event in events) == wanted


def test_models_say_what_they_are(stand: Stand) -> None:
    listed = stand.ask("GET", "/v1/models").json()["data"]
    assert [model["id"] for model in listed] == ["gpt", "blocks"]
    assert [model["batched"] for model in listed] == [stand.models[0].batched, False]
    assert stand.ask("GET", "/v1/models/blocks").json() == listed[1]
    other = stand.ask(
        "POST", "/v1/completions", json={"model": "blocks", "prompt": "의사", "seed": 1}
    ).json()
    engine = stand.models[1].engine
    assert other["choices"][0]["text"] == engine.generate("의사", seed=1, max_new_tokens=16)[0]
    assert other["system_fingerprint"] != stand.complete()["system_fingerprint"]


def test_text_to_ids_and_back(stand: Stand) -> None:
    tokenizer = stand.engine.tokenizer
    found = stand.ask("POST", "/tokenize", json={"prompt": "맑음😀", "with_pieces": True}).json()
    assert found["tokens"] == tokenizer.encode("맑음😀").tolist()
    assert found["count"] == len(found["pieces"]) == len(found["tokens"])
    assert found["pieces"][:2] == [["맑", 0, 1], ["음", 1, 2]]
    assert found["pieces"][-2:] == [["bytes:\\x98", 2, 2], ["bytes:\\x80", 2, 3]]
    same = stand.ask("POST", "/tokenize", json={"content": "맑음😀"}).json()
    assert same["tokens"] == found["tokens"]
    for wrong in ({}, {"prompt": "가", "content": "가"}):
        assert stand.ask("POST", "/tokenize", json=wrong).status_code == 400
    back = stand.ask("POST", "/detokenize", json={"tokens": found["tokens"]}).json()
    assert back == {"prompt": "맑음😀"}
    end = stand.ask("GET", "/tokenizer_info").json()["eos_token"]
    special = stand.ask("POST", "/tokenize", json={"prompt": end}).json()["tokens"]
    assert special == [tokenizer.end_of_text]
    inside = stand.ask("POST", "/tokenize", json={"prompt": f"a{end}"}).json()["tokens"]
    assert tokenizer.end_of_text not in inside, "a text that spells it is plain characters"


def test_surprise_is_the_bits_of_each_token(stand: Stand) -> None:
    text = "한빛전자는🙂 3분기"
    found = stand.ask("POST", "/v1/surprise", json={"text": text, "alternatives": 3}).json()
    tokenizer, model = stand.engine.tokenizer, stand.engine.model
    ids = [tokenizer.end_of_text, *tokenizer.encode(text).tolist()]
    with torch.no_grad():
        log_TV = model(torch.tensor([ids]))[0][0].log_softmax(-1) / math.log(2)
    own = [-float(log_TV[place, token]) for place, token in enumerate(ids[1:])]
    assert [token["bits"] for token in found["tokens"]] == pytest.approx(own, abs=1e-3)
    assert found["bits_per_character"] == pytest.approx(sum(own) / len(text), abs=1e-3)
    assert (found["tokens"][0]["start"], found["tokens"][-1]["end"]) == (0, len(text))
    assert {len(token["alternatives"]) for token in found["tokens"]} == {3}
    assert found["news"] is None
    long = stand.ask("POST", "/v1/surprise", json={"text": text * 20}).json()
    assert long["characters"] == len(text * 20) > 32, "more than the context"
    assert "".join(text * 20)[long["tokens"][-2]["start"] :] == text[-2:]
    ids = tokenizer.encode(text * 20).tolist()
    assert [token["id"] for token in long["tokens"]] == ids
    whole = [tokenizer.end_of_text, *ids]
    for block, place in ((0, 31), (16, 32), (16, 47), (32, 48), (len(whole) - 32, len(whole) - 1)):
        with torch.no_grad():
            log_TV = model(torch.tensor([whole[block : block + 32]]))[0][0].log_softmax(-1)
        own = -float(log_TV[place - block - 1, whole[place]]) / math.log(2)
        assert long["tokens"][place - 1]["bits"] == pytest.approx(own, abs=1e-3)
    endless = stand.ask("POST", "/v1/surprise", json={"text": text * 200, "alternatives": 0}).json()
    assert len(endless["tokens"]) == 32 + 31 * 16 - 1, "of a longer one the end is scored"
    assert endless["tokens"][-1]["end"] == len(text * 200)


def test_the_bundled_news_has_its_true_bits(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "MOST_WINDOWS", 64)  # of 32 tokens, of which most are bytes
    article = next(iter(news.rows("validation")))
    found = stand.ask("POST", "/v1/surprise", json={"text": article.document}).json()
    assert found["characters"] == len(article.document)
    assert found["news"]["bits"] == pytest.approx(article.information)
    assert found["news"]["bits"] < found["bits"], "no model knows better than the source"
    cut = stand.ask("POST", "/v1/surprise", json={"text": article.document[:-1]}).json()
    assert cut["news"] is None


def test_the_same_bytes_whatever_else_the_server_does(stand: Stand) -> None:
    """24 requests at once, some of whose neighbours leave: each as it was alone."""
    asked = [
        {"prompt": "의사협회는 이날"[: 1 + n % 8], "seed": n, "max_tokens": 60, **WAYS[n % 4][0]}
        for n in range(24)
    ]
    alone = [stand.complete(**body)["choices"] for body in asked]

    async def together(client: httpx.AsyncClient) -> list[Any]:
        async def one(body: dict[str, Any]) -> Any:
            answer = await client.post("/v1/completions", json={"model": "gpt", **body})
            return answer.json()["choices"]

        async def leaver(seconds: float) -> None:
            body = {"model": "gpt", "max_tokens": 4000, "logit_bias": {"0": -100}}
            task = asyncio.ensure_future(client.post("/v1/completions", json=body))
            await asyncio.sleep(seconds)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        leaving = [leaver(n / 100) for n in range(8)]
        found = await asyncio.gather(*map(one, asked), *leaving)
        return found[: len(asked)]

    assert stand.run(together) == alone
    assert stand.idle()


def test_beams_take_turns_with_the_others_and_are_given_up(stand: Stand) -> None:
    """One search is left in the middle, one waits behind it; a drawn text is as it was alone."""
    drawn = {"prompt": "의사", "seed": 1, "max_tokens": 300}
    searched = {"prompt": "날씨", "num_beams": 4, "n": 4, "max_tokens": 60, "logprobs": 1}
    alone = [stand.complete(**body)["choices"] for body in (drawn, searched)]
    assert stand.idle()
    left = {"model": "gpt", "num_beams": 8, "max_tokens": 4096, "logit_bias": {"0": -100}}

    async def together(client: httpx.AsyncClient) -> list[Any]:
        leaving = asyncio.ensure_future(client.post("/v1/completions", json=left))
        while not stand.loop.rows:
            await asyncio.sleep(0.001)
        assert stand.loop.rows == 8
        bodies = ({"model": "gpt", **body} for body in (drawn, searched))
        asked = [
            asyncio.ensure_future(client.post("/v1/completions", json=body)) for body in bodies
        ]
        first = await asked[0]
        assert not asked[1].done()
        assert stand.loop.waiting == 1
        leaving.cancel()
        return [(await answer).json()["choices"] for answer in (asyncio.sleep(0, first), asked[1])]

    assert stand.run(together) == alone
    assert stand.idle()


def test_of_fewer_texts_than_asked_for_the_others_are_empty(stand: Stand) -> None:
    found = stand.complete(choices=["맑"], num_beams=3, n=3)["choices"]
    assert sorted(choice["text"] for choice in found) == ["", "맑", "맑"], "as one token and bytes"
    assert {choice["finish_reason"] for choice in found} == {"stop"}


def test_a_whole_answer_wakes_its_reader_once(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[Answer] = []
    tell = Answer._tell
    monkeypatch.setattr(Answer, "_tell", lambda self: (woken.append(self), tell(self)))
    text = stand.complete(prompt="의사", seed=1, max_tokens=60, n=2)["choices"][0]["text"]
    assert len(woken) == 1
    events = stand.events("/v1/completions", prompt="의사", seed=1, max_tokens=60, n=2)
    own = [event["choices"][0] for event in events]
    assert "".join(choice["text"] for choice in own if choice["index"] == 0) == text
    assert len(woken) > 2, "a stream's is woken as the text comes"


def test_a_silent_stream_says_that_it_is_alive(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SILENCE", 0.02)
    read = stand.models[0].batch.read
    monkeypatch.setattr(stand.models[0].batch, "read", lambda: (time.sleep(0.1), read()))
    body = {"model": "gpt", "prompt": "의사", "seed": 1, "max_tokens": 3, "stream": True}
    text = stand.ask("POST", "/v1/completions", json=body).text
    assert ": still writing\n\ndata: {" in text
    assert text.endswith("data: [DONE]\n\n")


def test_the_page_lists_every_field_and_metric(stand: Stand) -> None:
    page = (Path(__file__).parents[1] / "docs" / "serving.md").read_text(encoding="utf-8")
    table = page.split("### Fields of a completion")[1].split("\n\n")[1]
    names = [re.findall(r"`(\w+)`", row.split("|")[1]) for row in table.splitlines()]
    assert {name for row in names for name in row} == set(CompletionRequest.model_fields)
    chat = set(ChatRequest.model_fields) - set(CompletionRequest.model_fields)
    assert all(f"`{name}`" in page for name in chat)
    told = {
        line.split()[2] for line in stand.ask("GET", "/metrics").text.splitlines() if "TYPE" in line
    }
    listed = set(re.findall(r"`(semigpt_\w+)", page))
    assert {name for name in told if not name.endswith("_created")} == listed


def test_metrics_count_what_was_done(stand: Stand) -> None:
    def counts() -> dict[str, float]:
        page = stand.ask("GET", "/metrics").text
        rows = [line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in rows}

    before = counts()
    used = stand.complete(prompt="의사", max_tokens=7)["usage"]
    stand.ask("GET", "/nothing")
    assert stand.idle()
    after = counts()

    def more(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert more("semigpt_generation_tokens_total") == used["completion_tokens"]
    assert more("semigpt_prompt_tokens_total") == used["prompt_tokens"]
    assert more('semigpt_requests_total{outcome="done"}') == 1
    assert more('semigpt_refused_total{why="not_found"}') == 1
    for name in ("queue", "step", "time_per_output_token"):
        assert more(f"semigpt_{name}_seconds_count") >= 1
    assert after["semigpt_requests_running"] == after["semigpt_requests_waiting"] == 0
    assert more("semigpt_time_to_first_token_seconds_count") == 1
    assert after["semigpt_rows"] == 0
