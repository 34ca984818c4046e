"""`semigpt serve`: what it shows of a model, of several side by side, and of one that trains."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("serving_extra", reason="semigpt[serve] is not installed")

from semigpt.evaluation.looking import attention_after, gate_after, lens_after
from semigpt.generation.engine import Engine
from semigpt.huggingface.folder import save_model
from semigpt.models.gpt import GPT
from semigpt.run_folder import RunFolder
from semigpt.serving.loop import Loop, ServedModel
from semigpt.serving.server import Models
from semigpt.serving.watch import MOST_ROWS, Training, Watcher
from serving_stand import Stand

TEXT = "의사협회는🙂 3분기"


@pytest.fixture(scope="module")
def stand(korean_text: str) -> Iterator[Stand]:
    stand = Stand(korean_text)
    for kind in ("memory", "bigram"):
        stand.add(kind)
    yield stand
    stand.loop.stop()


def before(stand: Stand, count: int) -> list[int]:
    tokenizer = stand.engine.tokenizer
    return [tokenizer.end_of_text, *tokenizer.encode(TEXT).tolist()[:count]]


@pytest.mark.parametrize(("at", "count"), [(0, 0), (3, 3), (5, 5), (6, 9), (None, 13), (10, 13)])
def test_a_place_is_that_of_the_character_that_stands_there(
    stand: Stand, at: int | None, count: int
) -> None:
    """The emoji at 5 has four tokens, and begins with the first of them."""
    body = {"text": TEXT, "at": at, "alternatives": 2}
    tokenizer, model = stand.engine.tokenizer, stand.engine.model
    ids = before(stand, count)
    found = stand.ask("POST", "/v1/attention", json=body).json()
    assert [token["id"] for token in found["tokens"]] == ids
    assert found["layers"] == attention_after(model, ids)
    following = tokenizer.encode(TEXT).tolist()[count] if count < 13 else None
    lens = stand.ask("POST", "/v1/lens", json=body).json()
    assert (lens["token"] or {"id": None})["id"] == following
    for said, one in zip(lens["layers"], lens_after(model, ids, following=following), strict=True):
        assert said["bits"] == (None if one.p is None else pytest.approx(-math.log2(one.p)))
        assert [each["id"] for each in said["likeliest"]] == [i for i, _ in one.likeliest[:2]]
    place = len(TEXT) if at is None else at
    assert found["at"] == place
    if following is not None:
        assert lens["token"]["start"] == place


def test_the_last_layer_says_what_a_completion_takes(stand: Stand) -> None:
    found = stand.ask("POST", "/v1/lens", json={"text": "의사협회는 이"}).json()
    (choice,) = stand.complete(prompt="의사협회는 이", max_tokens=1, temperature=0)["choices"]
    assert choice["text"] == found["layers"][-1]["likeliest"][0]["text"]


def test_a_gate_says_whom_it_believed(stand: Stand) -> None:
    body = {"model": "memory", "text": "의사협회는 의사협회", "at": 8}
    found = stand.ask("POST", "/v1/gate", json=body).json()["experts"]
    model = stand.loop.models[2].engine.model
    tokenizer = stand.engine.tokenizer
    ids = [tokenizer.end_of_text, *tokenizer.encode(body["text"]).tolist()[:8]]
    wanted = gate_after(model, ids)
    assert [one["weight"] for one in found] == [one.weight for one in wanted]
    assert [one["expert"] for one in found] == ["net", "counts", "counts", "counts", "match"]
    assert [one["text"] for one in found[-1]["likeliest"][:1]] == ["협"], "as it was before"
    assert found[-1]["bits"] == 0


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("gate", {"text": "가"}, "the gpt rung has no gate"),
        ("lens", {"text": "가", "model": "bigram"}, "no layers"),
        ("attention", {"text": "가", "at": 2}, "the text ends at 1"),
        ("attention", {"text": "가" * 20_001}, "at most 20000"),
        ("attention", {"text": "가", "layer": 1}, "unknown field 'layer'"),
    ],
)
def test_what_cannot_be_shown_is_said(
    stand: Stand, path: str, body: dict[str, Any], said: str
) -> None:
    answer = stand.ask("POST", f"/v1/{path}", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]


def test_columns_are_what_each_would_write_alone(stand: Stand) -> None:
    columns = [
        {"model": "gpt", "seed": 1},
        {"model": "blocks", "seed": 1},
        {"model": "gpt", "seed": 2, "temperature": 0.5, "pattern": "[가-힣]{2,9}"},
    ]
    alone = [
        stand.complete(**column, prompt="의사", max_tokens=20, logprobs=0)["choices"][0]
        for column in columns
    ]
    body = {"prompt": "의사", "max_tokens": 20, "columns": columns}
    answer = stand.ask("POST", "/v1/compare", json=body)
    events = [json.loads(line[6:]) for line in answer.text.split("\n\n")[:-2]]
    assert answer.text.endswith("data: [DONE]\n\n")
    for number, one in enumerate(alone):
        own = [event for event in events if event["column"] == number]
        assert "".join(event["choices"][0]["text"] for event in own) == one["text"]
        bits = -sum(one["logprobs"]["token_logprobs"]) / math.log(2)
        assert own[-1]["bits_per_character"] == pytest.approx(bits / len(one["text"]))
        assert own[-1]["choices"][0]["finish_reason"] == one["finish_reason"]
        assert {event["model"] for event in own} == {columns[number]["model"]}
    assert stand.idle()


def test_columns_are_bounded_and_all_of_them_stop(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong, status in (
        ([], 400),
        ([{"model": "gpt"}] * 17, 400),
        ([{"model": "gpt", "n": 2}], 400),
        ([{"model": "gpt"}, {"model": "nobody"}], 404),
        ([{"model": "gpt"}, {"model": "gpt", "pattern": "("}], 400),
    ):
        assert stand.ask("POST", "/v1/compare", json={"columns": wrong}).status_code == status
    endless = {"model": "gpt", "logit_bias": {str(stand.engine.tokenizer.end_of_text): -100}}
    body = json.dumps({"columns": [endless] * 16, "max_tokens": 4096}).encode()
    asyncio.run(stand.call("POST", "/v1/compare", body, leave_after=0.05))
    assert stand.stops(), "every row is free"
    # One that ends badly says so, and the others go on.
    (model,) = [model for model in stand.models if model.name == "blocks"]
    monkeypatch.setattr(model.batch._pool, "read", lambda parts: 1 / 0)
    columns = [{"model": "gpt", "seed": 1}, {"model": "blocks"}]
    answer = stand.ask("POST", "/v1/compare", json={"columns": columns, "max_tokens": 9})
    events = [json.loads(line[6:]) for line in answer.text.split("\n\n")[:-2]]
    ends = {event["column"]: event for event in events}
    assert ends[1]["error"]["type"] == "server_error"
    assert ends[0]["usage"]["completion_tokens"] <= 9


def other_weights(stand: Stand) -> GPT:
    torch.manual_seed(1)
    model = GPT(stand.engine.model.settings)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    return model


@pytest.mark.parametrize("place", [1, 3])
def test_texts_end_with_the_weights_that_they_began_with(stand: Stand, place: int) -> None:
    """Before the first step of one, and while it is being written."""
    older = stand.loop.models[0]
    newer = ServedModel("gpt", Engine(other_weights(stand), stand.engine.tokenizer))
    asked = {"model": "gpt", "prompt": "의사", "seed": 1, "max_tokens": 1500}
    asked["logit_bias"] = {str(stand.engine.tokenizer.end_of_text): -100}
    alone = stand.complete(**asked)
    messages = 0

    async def swap() -> None:
        nonlocal messages
        messages += 1
        if messages == place:
            assert place == 1 or stand.loop.rows
            stand.loop.swap(newer)

    body = json.dumps({**asked, "stream": True}).encode()
    try:
        sent = asyncio.run(stand.call("POST", "/v1/completions", body, each=swap))
        lines = b"".join(message.get("body", b"") for message in sent).decode().split("\n\n")
        events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        assert "".join(e["choices"][0]["text"] for e in events) == alone["choices"][0]["text"]
        assert {event["system_fingerprint"] for event in events} == {older.fingerprint}
        after = stand.complete(**asked)
        assert after["system_fingerprint"] == newer.fingerprint != older.fingerprint
        assert after["choices"][0]["text"] != alone["choices"][0]["text"]
        assert not stand.loop._older, "the old weights are let go"
    finally:
        stand.swap(older)
    assert stand.idle()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunFolder]:
    """A run that has begun and has not been evaluated yet."""
    run = RunFolder.create(tmp_path / "운동", {"model": {"kind": "gpt"}})
    yield run
    run.unlock()


def test_a_run_is_watched_from_its_first_step(
    stand: Stand, run: RunFolder, korean_text: str
) -> None:
    """Curve only at first; then its weights, and newer ones, without being asked for."""
    models = Models.find([run.path])
    loop = Loop(models.open())
    watcher = Watcher(models.trainings, lambda name: loop.swap(models.load(name)))
    watched = Stand(korean_text, trainings=models.trainings)
    watched.loop.stop()
    watched.loop.models = loop.models
    assert (loop.models, loop.state) == ([], "draining")  # its thread has not begun
    loop.start()
    assert loop.state == "loading"
    try:
        answer = watched.ask("POST", "/v1/completions", json={"model": "운동"})
        assert answer.status_code == 404
        assert "no weights yet" in answer.json()["error"]["message"]
        fingerprints = []
        for step, bits in ((0, 5.5), (10, 4.5)):
            run.append("metrics", {"step": step, "val_loss": 1.0, "bits_per_character": bits})
            run.append("samples", {"step": step, "prompt": "", "text": f"글 {step}"})
            card = f"| trained for | {step:,} steps, 9 tokens |\n"
            model = stand.engine.model if step else other_weights(stand)
            save_model(run.model_folder, model, stand.engine.tokenizer, card)
            watcher.look()
            for _ in range(500):
                if loop.models and loop.models[0].bits_per_character == bits:
                    break
                asyncio.run(asyncio.sleep(0.01))
            (served,) = loop.models
            assert (served.name, served.bits_per_character) == ("운동", bits)
            fingerprints.append(served.fingerprint)
            found = watched.ask("GET", f"/v1/training?after={step - 1}").json()
            assert [row["step"] for row in found["metrics"]] == [step]
            assert [row["text"] for row in found["samples"]] == [f"글 {step}"]
            assert (found["step"], found["weights_step"], found["finished"]) == (step, step, False)
        assert len(set(fingerprints)) == 2
        assert fingerprints[1] == stand.models[0].fingerprint
        run.write_metadata({"complete": True, "baselines": {"uniform": 6.5}})
        watcher.look()
        found = watched.ask("GET", "/v1/training?model=운동&after=99").json()
        assert (found["finished"], found["baselines"]) == (True, {"uniform": 6.5})
        assert (found["metrics"], found["samples"]) == ([], [])
        for wrong, status in (("?after=x", 400), ("?model=nobody", 404), ("?after=-2", 400)):
            answer = watched.ask("GET", f"/v1/training{wrong}")
            assert (answer.status_code, set(answer.json())) == (status, {"error"})
    finally:
        loop.stop()


def test_a_log_is_read_line_by_line_and_again_where_it_was_cut_back(run: RunFolder) -> None:
    training = Training(run)
    file = run.logs["metrics"]
    training.read()
    assert training.after(-1)["metrics"] == []
    with file.open("w", encoding="utf-8") as log:
        log.write('{"step": 1}\nno json\n[]\n{"loss": 1}\n{"step": 2, "text": "\\ud800"}\n{"st')
        log.flush()
        training.read()
        assert [row["step"] for row in training.after(-1)["metrics"]] == [1, 2]
        log.write('ep": 3}\n')
    training.read()
    assert [row["step"] for row in training.after(1)["metrics"]] == [2, 3]
    file.write_text('{"step": 1}\n', encoding="utf-8")
    training.read()
    assert [row["step"] for row in training.after(-1)["metrics"]] == [1]
    rows = "".join(f'{{"step": {n // 2}}}\n' for n in range(2 * MOST_ROWS + 1))
    file.write_text(rows, encoding="utf-8")
    training.read()
    seen, after, more = [], -1, True
    while more:
        found = training.after(after)
        seen += [row["step"] for row in found["metrics"]]
        after, more = seen[-1], found["more"]
    assert seen == [n // 2 for n in range(2 * MOST_ROWS + 1)]


def test_weights_that_cannot_be_read_leave_the_old_ones(
    stand: Stand, run: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    save_model(run.model_folder, stand.engine.model, stand.engine.tokenizer, "")
    models = Models.find([run.path])
    loop = Loop(models.open())
    (run.model_folder / "model.safetensors").write_bytes(b"x")
    Watcher(models.trainings, lambda name: loop.swap(models.load(name))).look()
    assert "the new weights of 운동 are not served" in caplog.text
    assert not loop._newer


def test_a_ladder_is_all_its_rungs(stand: Stand, run: RunFolder) -> None:
    folder = run.path.parent
    save_model(folder / "folder", stand.engine.model, stand.engine.tokenizer, "")
    (folder / "ladder.json").write_text("{}")
    models = Models.find([folder])
    assert sorted(models.paths) == ["folder", "운동"]
    assert [model.name for model in models.open()] == ["folder"]
    assert list(models.trainings) == ["운동"]
