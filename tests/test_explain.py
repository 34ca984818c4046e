"""`semigpt train --explain`, and the ways of a step that can be forced."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import VOCABULARY, machine, small_model
from semigpt.cli import main
from semigpt.studies import explain as explain_module
from semigpt.training.step import make_step

SHAPE = {"width": 64, "num_heads": 2, "num_kv_heads": 2}


def test_explain_says_what_and_why_and_trains_nothing(
    tmp_path: Path,
    korean_text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(explain_module, "SECONDS", 0.05)
    text = tmp_path / "글.txt"
    text.write_text(
        "\n\n".join(f"{number} {korean_text}" for number in range(60)), encoding="utf-8"
    )
    out = tmp_path / "run"
    sets = [
        part
        for setting in ("width=64", "num_layers=1", "num_heads=2", "context_length=16")
        for part in ("--set", f"model.{setting}")
    ]
    command = ["train", "--data", str(text), "--out", str(out), "--explain", *sets]
    threads = torch.get_num_threads()
    assert main([*command, "--json"]) == 0
    choices = {choice["what"]: choice for choice in json.loads(capsys.readouterr().out)}
    assert choices.keys() == {
        "device",
        "begins from",
        "size",
        "tokenizer",
        "teacher",
        "embeddings",
        "dropout",
        "weight decay",
        "candidate",
        "precision",
        "output layer",
        "backend",
        "threads",
        "allocator",
        "compile",
    }
    assert "ms" in choices["backend"]["why"]
    assert all(
        choice["chosen"] and choice["why"] and choice["force"] for choice in choices.values()
    )
    assert not out.exists()
    assert torch.get_num_threads() == threads
    monkeypatch.setenv("COLUMNS", "40")
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    for choice in choices.values():  # each in one piece, to be copied
        assert f"  {choice['force']}" in lines
    assert not any(line.endswith(" ") for line in lines)
    whys = [line for line in lines if line.startswith("  ") and not line.startswith("  --")]
    assert len(whys) > len(choices)
    assert all(len(line) <= 40 for line in whys)


def test_checkpointed_activations_give_the_same_gradient() -> None:
    inputs, targets = torch.randint(0, VOCABULARY, (2, 3, 16))
    found = []
    for again in (False, True):
        model = small_model("gpt", **SHAPE)
        step = make_step(model, replace(machine("plain"), checkpoint_activations=again))
        loss = step(inputs, targets)
        found.append((loss, [p.grad for p in model.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@pytest.mark.parametrize("setting", ["machine.backend=fast", "machine.threads=0"])
def test_impossible_machines_are_refused(setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--set", setting]) == 2
    assert setting.split("=")[0].removeprefix("machine.") in capsys.readouterr().err
    assert main(["train", "--set", "machine.backend=native", "--set", "machine.compile=true"]) == 2


def test_memory_flag_is_the_memory_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--memory", "--model", "gpt"]) == 2
    assert "--memory is --model memory" in capsys.readouterr().err
