"""`semigpt generate`: its flags, what it prints, and the one line for what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from semigpt.cli import main
from semigpt.huggingface.folder import save_model
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.tokenizers import CharTokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, korean_text: str) -> str:
    path: Path = tmp_path_factory.mktemp("model")
    tokenizer = CharTokenizer(korean_text)
    torch.manual_seed(0)
    shape = {"context_length": 16, "width": 32, "num_layers": 1, "num_heads": 2}
    save_model(path, GPT(GPTSettings(vocab_size=tokenizer.vocab_size, **shape)), tokenizer, "")
    return str(path)


def test_shown_pieces_have_their_bits_and_alternatives(
    folder: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["generate", folder, "의사", "--choice", "맑음", "--show", "--no-echo"]) == 0
    lines = [line.split("\t") for line in capfdbinary.readouterr().out.decode().splitlines()]
    assert "".join(text for text, _, _ in lines) == "맑음"
    assert all(float(bits) > 0 and considered.count("%") >= 5 for _, bits, considered in lines)


def test_json_gives_log_probabilities(
    folder: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert (
        main(
            [
                "generate",
                folder,
                "의사",
                "--choice",
                "맑음",
                "--json",
                "--logprobs",
                "2",
                "--precision",
                "int8",
            ]
        )
        == 0
    )
    answer = json.loads(capfdbinary.readouterr().out)
    assert answer["samples"][0]["text"] == "맑음"
    assert {len(token["alternatives"]) for token in answer["samples"][0]["tokens"]} == {2}


@pytest.mark.parametrize(
    "flags",
    ["--pattern (", "--logit-bias 3", "--num-beams 0", "--prompt-file none.txt", "--top-p 2"],
)
def test_a_mistake_gets_one_line(
    folder: str, flags: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", folder, *flags.split()]) == 2
    assert capsys.readouterr().err.count("\n") == 1
