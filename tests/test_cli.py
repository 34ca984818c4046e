"""The command line as a user meets it: exit codes, one line for a mistake, what goes where."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.progress import Progress

from forked import Forked
from semigpt.cli import main
from semigpt.cli.console import error_console
from semigpt.cli.output import is_live, note, reading

FAST = [
    "--set",
    "model.width=32",
    "--set",
    "model.num_layers=1",
    "--set",
    "model.num_heads=2",
    "--set",
    "model.context_length=16",
]
FAST += [
    "--set",
    "training.batch_size=8",
    "--set",
    "training.eval_blocks=4",
    "--set",
    "sample.max_new_tokens=8",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, korean_text: str) -> Path:
    """A working folder with a text of one's own and a run trained on it."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "글.txt").write_text(
        "\n\n".join(f"{n}번 글. {korean_text}" for n in range(60)), encoding="utf-8"
    )
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    assert (
        main(
            [
                "train",
                "--data",
                str(folder / "글.txt"),
                "--steps",
                "20",
                "--out",
                str(folder / "run"),
                *FAST,
            ]
        )
        == 0
    )
    return folder / "run"


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a mistake gets."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("semigpt: ")
    assert captured.err.count("\n") == 1, f"more than one line: {captured.err}"
    return captured.err


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from semigpt.cli import build_parser; build_parser().format_help(); "
        "print(sorted({'torch', 'numpy', 'datasets', 'rich', 'tokenizers'} & set(sys.modules)))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_train_prints_its_run_folder_and_nothing_else(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "printed"
    capsys.readouterr()
    assert (
        main(["train", "--data", str(folder / "글.txt"), "--steps", "3", "--out", str(out), *FAST])
        == 0
    )
    captured = capsys.readouterr()
    assert captured.out == f"{out}\n"
    assert "bits per character" in captured.err
    assert "5-gram" in captured.err
    assert "\x1b[" not in captured.err, "no colour where there is no terminal"


def test_a_run_slower_than_forecast_says_so_once_and_what_to_do(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semigpt.training.progress.SLOW", 0.0)
    out = folder / "slow"
    arguments = ["--data", str(folder / "글.txt"), "--steps", "30", "--out", str(out)]
    assert main(["train", *arguments, *FAST]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "was forecast" in line]
    assert len(lines) == 1
    assert f"semigpt train --resume {out}" in lines[0]


def test_names_that_look_like_markup_are_shown_as_they_are(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "글[1].txt"
    text.write_text((folder / "글.txt").read_text(encoding="utf-8"), encoding="utf-8")
    out = tmp_path / "[/b]괄호[red]"
    assert main(["train", "--data", str(text), "--steps", "2", "--out", str(out), *FAST]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{out}\n"
    assert "글[1].txt: train" in captured.err
    assert f"semigpt evaluate {out}" in captured.err


def test_train_json_is_one_object(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    data, out = str(folder / "글.txt"), str(folder / "as-json")
    assert (
        main(["train", "--data", data, "--model", "bigram", "--steps", "3", "--out", out, "--json"])
        == 0
    )
    result = json.loads(capsys.readouterr().out)
    assert result["steps"] == 3
    assert set(result["baselines"]) == {"uniform", "unigram", "bigram", "kneser_ney_5", "xz"}
    assert result["source_entropy"] is None


def test_a_config_is_started_from_and_flags_go_over_it(
    folder: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    out = folder / "from-config"
    assert (
        main(
            [
                "train",
                "--config",
                str(run / "config.toml"),
                "--steps",
                "2",
                "--out",
                str(out),
                "--json",
            ]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["steps"] == 2
    assert (out / "config.toml").read_text().replace("steps = 2", "steps = 20") == (
        run / "config.toml"
    ).read_text()


def test_generate_writes_text_and_only_text(
    run: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["generate", str(run), "의사", "--max-new-tokens", "20", "--seed", "1"]) == 0
    first = capfdbinary.readouterr()
    assert first.out.decode().startswith("의사")
    assert first.err == b""
    assert main(["generate", str(run), "의사", "--max-new-tokens", "20", "--seed", "1"]) == 0
    assert capfdbinary.readouterr().out == first.out
    assert main(["generate", str(run), "의사", "--max-new-tokens", "20", "--seed", "2"]) == 0
    assert capfdbinary.readouterr().out != first.out


def test_generate_json(run: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert (
        main(
            ["generate", str(run), "의사", "--num-samples", "3", "--max-new-tokens", "9", "--json"]
        )
        == 0
    )
    result = json.loads(capfdbinary.readouterr().out)
    assert result["prompt"] == "의사"
    assert len(result["samples"]) == 3
    assert {sample["finish_reason"] for sample in result["samples"]} <= {"length", "stop"}


@pytest.mark.parametrize(
    "prompt", ["", "뷁", "🐟 unseen ∑", "한", "\x00", "<|endoftext|>", "가" * 5000]
)
def test_any_prompt_works(
    run: Path, prompt: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["generate", str(run), prompt, "--max-new-tokens", "3", "--temperature", "0"]) == 0
    assert capfdbinary.readouterr().err == b""


def test_evaluate_json_has_every_key(run: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["evaluate", str(run), "--json"]) == 0
    result = json.loads(capfdbinary.readouterr().out)
    keys = (
        "loss_nats_per_token perplexity bits_per_character bits_per_byte tokens characters bytes "
        "baselines source_entropy"
    )
    assert set(result) == set(keys.split())
    assert all(value > 0 for value in result["baselines"].values())
    assert main(["evaluate", str(run), "--split", "validation", "--no-xz"]) == 0
    assert b"this model" in capfdbinary.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--stepz", "3"], "unknown argument '--stepz': did you mean '--steps'"),
        (["train", "--steps", "three"], "invalid int value: 'three'"),
        (["train", "--steps", "0"], "steps must be more than 0"),
        (["train", "--steps", "1", "--minutes", "1"], "exactly one of steps, tokens and minutes"),
        (["train", "--set", "model.wdith=3"], "unknown key 'wdith'"),
        (["train", "--set", "width"], "--set takes TABLE.KEY=VALUE"),
        (["train", "--set", "model.width=30"], "width 30 cannot be shared by 4 heads"),
        (["train", "--model", "gtp"], "model must be one of"),
        (["train", "--size", "huge"], "size must be one of tiny, small, base, large"),
        (["train", "--device", "cuda"], "no cuda device on this machine"),
        (["train", "--data", "no/such/file.txt"], "no/such/file.txt"),
        (["train", "--config", "no.toml"], "no config file at no.toml"),
        (["train", "--resume", "no-run"], "no run folder at no-run"),
        (["generate", "no-run"], "no run folder at no-run"),
        (["generate"], "the following arguments are required: RUN"),
        (["evaluate", "no-run"], "no run folder at no-run"),
        (["paint"], "invalid choice: 'paint'"),
    ],
)
def test_a_mistake_gets_one_line(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "cuda" in arguments:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    assert says in refused(capsys, *arguments)
    assert list(tmp_path.iterdir()) == [], "nothing half written"


def test_mistakes_about_a_run_get_one_line(
    folder: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data", folder / "글.txt")
    assert "exists already" in refused(capsys, "train", *data, "--out", run, "--steps", 1, *FAST)
    assert "not a run folder" in refused(capsys, "generate", folder)
    assert "steps was 20, is 30" in refused(capsys, "train", "--resume", run, "--steps", 30)
    for flags, says in [
        (("--temperature", -1), "temperature must be 0 or more"),
        (("--top-p", 2), "top_p must be more than 0 and at most 1"),
        (("--top-k", 0), "top_k must be at least 1"),
        (("--max-new-tokens", -1), "max_new_tokens must be 0 or more"),
        (("--num-samples", 0), "num_samples must be at least 1"),
        (("--stop", ""), "a stop string must not be empty"),
        (("--seed", "x"), "invalid int value"),
    ]:
        assert says in refused(capsys, "generate", run, *flags)
    assert "no split 'exam'" in refused(capsys, "evaluate", run, "--split", "exam")
    assert "stride must be between 1 and" in refused(capsys, "evaluate", run, "--stride", 0)
    read_only = tmp_path / "read-only"
    read_only.write_text("a file, not a folder")
    assert str(read_only) in refused(
        capsys, "train", *data, "--steps", 1, "--out", read_only / "run", *FAST
    )


def test_too_little_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the machine or of a GPU; any other error of PyTorch's is ours, and shows."""

    def run(error: Exception) -> int:
        def fail(options: object) -> int:
            raise error

        monkeypatch.setattr("semigpt.cli.tour.run", fail)
        return main(["tour"])

    of_cpu = "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"
    for error in (
        *(MemoryError(), RuntimeError(of_cpu)),
        torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate"),
    ):
        assert run(error) == 2
        assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(RuntimeError, match="a bug"):
        run(RuntimeError("a bug"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_says_so(
    folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """P5: exit 128 + the signal's number, and the run goes on from there."""
    out = tmp_path / "run"
    text = ("--data", str(folder / "글.txt"))
    process = Forked("train", *text, "--steps", "100000", "--out", str(out), *FAST)
    deadline = time.monotonic() + 60
    while not (out / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(number)
    done = process.ended(60)
    assert done.returncode == 128 + number
    assert "resume with: semigpt train --resume" in done.stderr
    assert "Traceback" not in done.stderr
    saved = sorted((out / "checkpoints").iterdir())[-1].name
    assert f"saved at step {int(saved.removeprefix('step-')):,}" in done.stderr


class Screen(io.StringIO):
    """A stream that says it is a terminal, as a notebook's cell does to a program that it runs."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("notebook", [True, False])
def test_a_notebooks_cell_gets_plain_lines(notebook: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps every frame of a bar, and the codes that move about a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if notebook:
        monkeypatch.setenv("JPY_PARENT_PID", "1")
    else:
        monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdin", Screen())
    note("a line")
    with reading() as tell:
        tell(1, 2)
    console = error_console()
    with Progress(console=console, disable=not console.is_terminal) as bar:
        bar.add_task("steps", total=1)
    console.print("[bold]text[/]")
    assert ("\x1b" in screen.getvalue()) != notebook
    assert is_live(sys.stdin) != notebook
    if notebook:
        assert screen.getvalue() == "a line\ntext\n"
