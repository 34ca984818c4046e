"""The command line on streams, terminals, threads and names that it cannot choose."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semigpt.cli import build_parser, main
from semigpt.cli.output import (
    note,
    standard_streams,
    stopping,
    write_exact,
    write_json,
    write_path,
)
from semigpt.controls import pictured
from semigpt.errors import SettingsError
from semigpt.huggingface.folder import save_model
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.run_folder import RunFolder
from semigpt.settings import read_toml, write_toml
from semigpt.system import ending_signals, handled
from semigpt.tokenizers import ByteTokenizer

SMALL = ["--set", "model.width=16", "--set", "model.num_layers=1", "--set", "model.num_heads=2"]
SMALL += ["--set", "model.context_length=16", "--set", "training.eval_blocks=2"]
OSC = "글\x1b]52;c;6riA\x07\x9b2J\x7f 😀"
SEEN = "글␛]52;c;6riA␇\ufffd2J␡ 😀"
linux = pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes, and /dev/full")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that spells bytes, untrained."""
    path: Path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    shape = {"context_length": 32, "width": 16, "num_layers": 1, "num_heads": 2}
    tokenizer = ByteTokenizer()
    save_model(path, GPT(GPTSettings(vocab_size=tokenizer.vocab_size, **shape)), tokenizer, "")
    return str(path)


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "글.txt"
    path.write_text("".join(f"가을 하늘이 높고 맑은 날 {n}\n" for n in range(60)), encoding="utf-8")
    return path


class Notebook(io.TextIOBase):
    """Standard output as Jupyter and IDLE have it: text alone."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        text.encode()  # it goes through JSON
        self.text += text
        return len(text)


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


class Failing(io.TextIOBase):
    """A stream that nothing can be written to."""

    encoding = "utf-8"

    def __init__(self, number: int) -> None:
        self.error = OSError(number, os.strerror(number))  # EPIPE gives a BrokenPipeError

    def write(self, text: str) -> int:
        raise self.error


def printed(stream: io.TextIOWrapper) -> bytes:
    stream.flush()
    raw = stream.buffer
    assert isinstance(raw, io.BytesIO)
    return raw.getvalue()


# Streams

COMMANDS = {
    "generate": ["generate", "{folder}", "글 😀", "--max-new-tokens", "2"],
    "show": ["tokenizer", "show", "글 😀", "--tokenizer", "byte"],
    "check": ["text", "check", "{emoji}", "--workers", "1"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", ["cp949", "notebook", "none"])
def test_any_standard_output_will_do(
    command: str, kind: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emoji = tmp_path / "emoji.txt"
    emoji.write_text("웃음 😀😀😀😀😀 글이다\n둘째 줄이다\n", encoding="utf-8")
    arguments = [part.format(folder=folder, emoji=emoji) for part in COMMANDS[command]]
    stream: io.TextIOBase | None = None
    if kind != "none":
        stream = Notebook()
    if kind == "cp949":
        stream = io.TextIOWrapper(io.BytesIO(), encoding="cp949")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(arguments) == 0
    assert sys.stdout is stream
    if isinstance(stream, io.TextIOWrapper):
        assert stream.errors == "strict", "as it was found"
        text = printed(stream).decode("utf-8" if command == "generate" else "cp949")
        assert ("글 😀" if command == "generate" else "글") in text or command == "show"
    if isinstance(stream, Notebook):
        assert "글" in stream.text or "<0xEA>" in stream.text


def test_a_stream_that_is_closed_leads_nowhere_and_no_file_takes_its_number(
    tmp_path: Path,
) -> None:
    code = (
        "import sys\n"
        "from semigpt.cli import main\n"
        "from semigpt.cli.output import standard_streams\n"
        "with standard_streams(), open(sys.argv[1], 'w') as file:\n"
        "    number = file.fileno()\n"
        "    print('out'); print('err', file=sys.stderr)\n"
        "sys.exit(0 if number > 2 and main(['generate']) == 2 else 1)\n"
    )
    command = f'"{sys.executable}" -c "$0" "$1"'
    for closed, left in ((">&-", ""), ("2>&-", "out\n"), ("<&- >&- 2>&-", "")):
        done = subprocess.run(
            ["sh", "-c", f"{command} {closed}", code, str(tmp_path / "file")],
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (0, left), closed


def test_who_leaves_standard_output_ends_a_command_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Failing(errno.EPIPE))
    arguments = ["tokenizer", "show", "글", "--tokenizer", "byte"]
    assert main(arguments) == 0
    monkeypatch.setattr(sys, "stderr", Failing(errno.EPIPE))
    with standard_streams():
        note("nobody reads this")
        assert main(arguments) == 128 + 13, "the log has gone as well"


def test_a_notebook_takes_no_half_of_a_character(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = Notebook()
    monkeypatch.setattr(sys, "stdout", notebook)
    write_exact("글\ud83d\n")
    write_path(Path("글\udcb1"))
    assert notebook.text == "글?\n글?\n"


# Control characters


def test_controls_become_pictures() -> None:
    assert pictured(OSC) == SEEN
    assert pictured("가\t나\r\n\x85\ud83d") == "가\t나␍\n\ufffd\ufffd"
    assert pictured("가\t나\n", one_line=True) == "가␉나␊"
    reached = pictured("".join(map(chr, range(0x110000))))
    assert [c for c in reached if c < " " or "\x7f" <= c < "\xa0"] == ["\t", "\n"]


CONTROLS = {
    "generate": ["generate", "{folder}", OSC, "--max-new-tokens", "0"],
    "several": ["generate", "{folder}", OSC, "--max-new-tokens", "0", "--num-samples", "2"],
    "--show": ["generate", "{folder}", OSC, "--max-new-tokens", "1", "--show"],
    "--json": ["generate", "{folder}", OSC, "--max-new-tokens", "0", "--json"],
    "tokenizer show": ["tokenizer", "show", OSC, "--tokenizer", "byte"],
    "text check": ["text", "check", "{text}", "--workers", "1"],
}


@pytest.mark.parametrize("command", CONTROLS)
def test_a_terminal_gets_no_control_character_of_a_text(
    command: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / f"{OSC.replace('/', '')}.txt"
    text.write_text(f"{OSC} 뒤에 글이 온다\n{OSC} 둘째 줄이다\n", encoding="utf-8")
    out, errors = (Terminal(io.BytesIO(), encoding="utf-8") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", errors)
    assert main([part.format(folder=folder, text=text) for part in CONTROLS[command]]) == 0
    for stream in (out, errors):
        shown = printed(stream).decode()
        assert "\x1b]" not in shown
        assert not {"\x07", "\x9b", "\x7f"} & set(shown)
    assert main(["generate", str(text)]) == 2
    assert "글␛]52" in printed(errors).decode(), "in an error too"


def test_a_file_gets_the_very_text(folder: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["generate", folder, OSC, "--max-new-tokens", "0"]) == 0
    assert capfdbinary.readouterr().out == f"{OSC}\n".encode()


def test_json_holds_any_string(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """And no byte of it is a control or beyond UTF-8."""
    text = "".join(map(chr, range(0x300))) + "\ud83d가\udcb1😀"
    with standard_streams():
        write_json({"text": text})
    line = capfdbinary.readouterr().out
    assert json.loads(line.decode()) == {"text": text}
    assert all(c.isprintable() or ord(c) >= 0xA0 for c in line.decode()[:-1])


# Signals


def in_a_thread(do: Callable[[], object]) -> object:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(do()))
    thread.start()
    thread.join()
    return found[0]


def test_a_command_runs_in_any_thread(text_file: Path) -> None:
    assert in_a_thread(lambda: main(["text", "check", str(text_file), "--workers", "1"])) == 0
    before = signal.getsignal(signal.SIGTERM)

    def inside() -> object:
        with handled(lambda number, frame: None, signal.SIGTERM):
            return signal.getsignal(signal.SIGTERM)

    assert in_a_thread(inside) is before


@pytest.mark.parametrize(
    ("number", "stop"), [(errno.EPIPE, 13), (errno.ENOSPC, None), (errno.EIO, None)]
)
def test_a_log_that_cannot_be_written_costs_no_more_than_the_log(
    number: int, stop: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its reader has gone, a training ends as by a signal; a full disk does not end it."""
    monkeypatch.setattr(sys, "stderr", Failing(number))
    with standard_streams(), stopping() as seen:
        note("step 1")
        note("step 2")
        assert seen == [stop]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
def test_a_terminal_that_goes_is_one_wish_however_often_it_says_so() -> None:
    with stopping() as seen:
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert seen == [signal.SIGHUP]
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:  # as under nohup
        assert ending_signals() == (signal.SIGTERM,)
    finally:
        signal.signal(signal.SIGHUP, before)


# Names


@linux
def test_a_text_whose_name_is_no_utf8_is_trained_on_and_resumed(
    text_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Its run names those bytes as %B1, and shows the controls of its samples as pictures."""
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"\xb1\xdb.txt")
    text_file.rename(name)
    flags = ["--model", "attention", *SMALL[:2], "--set", "sample.prompt=\x1b]52;"]
    assert main(["train", "--data", name, "--steps", "2", *flags, *SMALL[6:]]) == 0
    captured = capfd.readouterr()
    assert captured.out == "runs/%B1%DB-attention\n"
    assert "␛]52;" in captured.err
    run = Path("runs/%B1%DB-attention")
    assert RunFolder.open(run).config()["data"]["spec"] == "%B1%DB.txt"
    assert "`%B1%DB.txt`" in (run / "model" / "README.md").read_text("utf-8")
    assert main(["evaluate", str(run), "--no-xz"]) == 0
    assert main(["train", "--data", "no.txt", "--steps", "1", "--out", name]) == 2
    assert "is not UTF-8, and safetensors opens no other" in capfd.readouterr().err


@linux
def test_a_path_is_printed_in_its_own_bytes(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with standard_streams():
        write_path(Path(os.fsdecode(b"\xb1\xdb")))
    assert capfdbinary.readouterr().out == b"\xb1\xdb\n"


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from("\\ud0cb1가\udcb1\ud800'\"\n")))
def test_toml_keeps_any_string(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "strings.toml"
    path.write_text(write_toml({"table": {"one": text, "some": [text]}}), "utf-8", newline="")
    assert read_toml(path) == {"table": {"one": text, "some": [text]}}


def test_two_at_once_take_two_names(tmp_path: Path) -> None:
    base = tmp_path / "runs" / "a-gpt"
    with RunFolder.claimed(base) as one, RunFolder.claimed(base) as two:
        assert [one.name, two.name] == ["a-gpt", "a-gpt-2"]
        (two / "config.toml").touch()
    assert [path.name for path in base.parent.iterdir()] == ["a-gpt-2"], "what stays empty goes"


# Arguments


@pytest.mark.parametrize(
    "arguments", [["--", "-안녕"], ["--seed", "1", "--", "-안녕"], ["--seed", "1", "안녕"]]
)
def test_a_prompt_stands_before_or_behind_the_flags(arguments: list[str]) -> None:
    options = build_parser().parse_args(["generate", "run", *arguments])
    assert options.prompt == arguments[-1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["generate", "run", "-안녕"], "after --: `semigpt generate … -- -…`"),
        (["generate", "run", "--안녕"], "after --: `semigpt generate … -- -…`"),
        (["tokenizer", "show", "-안녕"], "after --: `semigpt tokenizer show … -- -…`"),
        (["generate", "run", "--stop", "-안녕"], "--stop=-…"),
        (["generate", "run", "--sed", "1"], "did you mean '--seed'?"),
    ],
)
def test_a_text_that_begins_with_a_dash_is_told_how(arguments: list[str], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build_parser().parse_args(arguments)
    assert says in str(caught.value)
