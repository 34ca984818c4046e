"""`semigpt generate`: its flags, what it prints, and the one line for what cannot be."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from rich.cells import cell_len

from semigpt.cli import main
from semigpt.cli.generate import choice_shares
from semigpt.cli.paint import painted
from semigpt.generation.engine import Engine
from semigpt.generation.stream import Chunk, TokenScore
from semigpt.huggingface.folder import load_model, save_model
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.tokenizers import CharTokenizer, load_tokenizer


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


def test_choices_come_with_their_shares(
    folder: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """What the model's probabilities of the whole texts say."""
    model, tokenizer = load_model(Path(folder)), load_tokenizer(Path(folder))
    shares = choice_shares(Engine(model, tokenizer), "날씨는 ", ["맑음", "흐림", "맑음"])
    logs = {}
    for choice in ("맑음", "흐림"):
        ids = torch.tensor(
            [[tokenizer.end_of_text, *tokenizer.encode(f"날씨는 {choice}").tolist()]]
        )
        with torch.no_grad():
            logits, _ = model(ids)
        log_V = logits[0, :-1].log_softmax(dim=-1)
        logs[choice] = log_V.gather(1, ids[0, 1:, None]).sum()
    expected = torch.stack(list(logs.values())).softmax(dim=0).tolist()
    assert shares == pytest.approx(dict(zip(logs, expected, strict=True)), rel=1e-4)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    command = ["generate", folder, "날씨는 ", "--choice", "맑음", "--choice", "흐림"]
    assert main([*command, "--json"]) == 0
    assert json.loads(capfdbinary.readouterr().out)["choices"] == pytest.approx(shares)
    assert main(command) == 0
    out, err = capfdbinary.readouterr()
    assert out.decode() in ("날씨는 맑음\n", "날씨는 흐림\n")
    assert err.decode().splitlines() == [f"{part:6.1%}  {text}" for text, part in shares.items()]


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_what_is_shown_is_aligned_and_spaces_are_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", Screen())
    likeliest = ((" ", -0.5), ("\n", -1.0), ("한", -2.0), ("a", -3.0))
    score = TokenScore(0, "", -2.0, likeliest)
    chunks = [Chunk(0, text, None, (score,)) for text in (" ", "한", "a")]
    lines = "".join(painted(iter(chunks))).splitlines()[-3:]
    assert [line.split()[0] for line in lines] == ["␣", "한", "a"]
    assert all(line.split()[1:3] == ["2.9", "███"] for line in lines)
    assert all("␣ 61%" in line and "␊ 37%" in line and "한 14%" in line for line in lines)
    assert not any(line.endswith("%") and "a 5%" in line for line in lines)
    starts = {cell_len(line[: line.index("2.9")]) for line in lines}
    assert len(starts) == 1


def talked(
    folder: str, typed: str, monkeypatch: pytest.MonkeyPatch, *flags: str
) -> tuple[str, str]:
    """What a person sees who types this into --interactive: on both streams."""
    screen, asked = Screen(), Screen()
    for name, stream in (("stdin", Screen(typed)), ("stdout", screen), ("stderr", asked)):
        monkeypatch.setattr(sys, name, stream)
    command = ["generate", folder, "--interactive", "--max-new-tokens", "5", "--seed", "1"]
    assert main([*command, *flags]) == 0
    return screen.getvalue(), asked.getvalue()


def test_a_talk_says_how_to_leave_and_what_else_there_is(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, said = talked(folder, "/?\n/temp\n/temp 0\n/temp x\n/again\n", monkeypatch)
    assert shown == ""
    assert "/? for help, Ctrl-D to leave" in said
    assert all(name in said for name in ("/again", "/temp 0.5", "/show", "/quit", "//..."))
    assert "temperature 0.8\n" in said
    assert "temperature 0\n" in said
    assert "/temp takes a number from 0 on" in said
    assert said.endswith("> \n")


def test_a_talk_goes_on_again_and_shows(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    once, _ = talked(folder, "의사가\n", monkeypatch)
    again, _ = talked(folder, "의사가\n/again\n", monkeypatch)
    first, second = again.splitlines()
    assert once.splitlines() == [first]
    assert first != second
    greedy, _ = talked(folder, "/temp 0\n의사가\n/again\n", monkeypatch)
    first, second = greedy.splitlines()
    assert first == second, "the text before is read as it was"
    painted_text, _ = talked(folder, "/show\n의사가\n/quit\n의사가\n", monkeypatch)
    assert len(re.findall(r"█", painted_text)) > 3
    slashed, _ = talked(folder, "//\n", monkeypatch)
    assert slashed


def test_piped_lines_are_text_whatever_they_begin_with(
    folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("/quit\n가\n"))
    command = ["generate", folder, "--interactive", "--max-new-tokens", "5", "--seed", "1"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 2
    assert err == ""
