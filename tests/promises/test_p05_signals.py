"""P5: the first SIGINT, SIGTERM or SIGHUP, or a log whose reader has gone, finishes the step, saves
and exits with 128 + its number; a second SIGINT or SIGTERM exits at once.

(That both signals do so in the middle of training is a test of the command line,
tests/test_cli.py.)
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from forked import Forked

SETTINGS = [
    "model.width=32",
    "model.num_layers=1",
    "model.num_heads=2",
    "model.context_length=16",
    "machine.device=cpu",
    "training.steps=100000",
    "training.batch_size=2",
    "training.eval_every=1",
    "training.eval_blocks=2000",
    "sample.max_new_tokens=1",
]


def command(tmp_path: Path, text: str) -> list[str]:
    """Evaluating after every step, on many blocks: nearly all of the time passes there."""
    path = tmp_path / "글.txt"
    path.write_text("\n\n".join(f"{n}번 글. {text}" for n in range(200)), encoding="utf-8")
    settings = [f"--set={setting}" for setting in SETTINGS]
    return ["train", "--data", str(path), "--out", str(tmp_path / "run"), *settings]


def wait_for(path: Path, content: str = "") -> None:
    deadline = time.monotonic() + 90
    while not (path.exists() and content in path.read_text(encoding="utf-8")):
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.01)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_in_an_evaluation(tmp_path: Path, korean_text: str, name: str) -> None:
    number = getattr(signal, name, None)
    if number is None:
        pytest.skip(f"no {name} here")
    process = Forked(*command(tmp_path, korean_text))
    wait_for(tmp_path / "run" / "metrics.jsonl", '"step": 1,')
    time.sleep(0.03)
    process.send_signal(number)
    done = process.ended(60)
    assert "resume with: semigpt train --resume" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 128 + number
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_when_nobody_reads_the_log(tmp_path: Path, korean_text: str) -> None:
    """In an interpreter of its own, which ignores SIGPIPE: writing fails instead."""
    if not hasattr(signal, "SIGPIPE"):
        pytest.skip("no SIGPIPE here")
    process = subprocess.Popen(
        [sys.executable, "-m", "semigpt", *command(tmp_path, korean_text)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    wait_for(tmp_path / "run" / "metrics.jsonl", '"step": 1,')
    for log in (process.stdout, process.stderr):
        assert log is not None
        log.close()
    assert process.wait(timeout=60) == 128 + signal.SIGPIPE
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_one_exits_at_once(number: signal.Signals) -> None:
    code = (
        "import os, sys, time\n"
        "from semigpt.cli.output import stopping\n"
        "with stopping() as stop:\n"
        "    os.kill(os.getpid(), int(sys.argv[1]))\n"
        "    assert stop == [int(sys.argv[1])]\n"
        "    os.kill(os.getpid(), int(sys.argv[1]))\n"
        "    time.sleep(60)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(int(number))], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 128 + number
    assert "stopping after this step and saving; once more to stop at once" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_the_text_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """It ends at once, says that what was read is kept, and keeps it."""
    monkeypatch.setenv("SEMIGPT_CACHE", str(tmp_path / "cache"))
    text = ("--data", "news#articles=1000000")
    process = Forked("train", *text, "--steps", "1", "--out", str(tmp_path / "run"))
    deadline = time.monotonic() + 90
    while not any(
        path.stat().st_size for path in tmp_path.glob("cache/corpora/.semigpt-*/test.txt")
    ):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    done = process.ended(60)
    assert done.returncode == 128 + number
    assert done.stderr.splitlines()[-1].endswith(
        "what was read is kept: the same command resumes from there"
    )
    assert "Traceback" not in done.stderr
    assert list(tmp_path.glob("cache/corpora/.semigpt-*/journal/state.json"))
    assert not (tmp_path / "run").exists()
