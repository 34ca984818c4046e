"""`semigpt train` on a machine with several GPUs: how many share a step, and what is said.

No GPU is here: PyTorch's count of them is a stand-in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from semigpt.cli import main
from semigpt.cli.gpus import can_share, gpu_processes
from semigpt.config import Recipe
from semigpt.run_folder import RunFolder


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    def have(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return have


def recipe(**tables: dict[str, object]) -> Recipe:
    return Recipe.from_tables(tables)


@pytest.mark.parametrize(
    ("tables", "count", "expected"),
    [
        ({}, 1, 1),
        ({}, 2, 2),
        ({}, 8, 4),  # tiny's batch of 12, which the text may choose, has 4 equal parts and not 8
        ({}, 3, 2),  # and small's of 24 with base's of 16 no three
        ({"model": {"size": "base"}}, 8, 8),
        ({"training": {"batch_size": 6}}, 8, 6),
        ({"model": {"size": "1b"}}, 8, 8),
        ({"model": {"size": "1b"}}, 6, 4),  # 64 micro-batches in one order
        ({"model": {"kind": "bigram"}}, 8, 1),
        ({"machine": {"device": "cpu"}}, 8, 1),
        ({"machine": {"device": "cuda"}}, 2, 2),
    ],
)
def test_as_many_gpus_are_used_as_can_share_a_step(
    tables: dict[str, dict[str, object]], count: int, expected: int, gpus: Any
) -> None:
    gpus(count)
    assert gpu_processes(recipe(**tables), fixed=False) == expected


def test_the_micro_batches_of_a_run_that_has_begun_decide(
    gpus: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = recipe(training={"gradient_accumulation": 4, "batch_size": 8})
    assert [n for n in range(2, 9) if can_share(begun, n, fixed=True)] == [2, 4]
    gpus(8)
    assert gpu_processes(begun, fixed=True) == 4
    assert "8 GPUs: 4 processes share each step (--processes 1: one alone)" in (
        capsys.readouterr().err
    )
    assert gpu_processes(recipe(), fixed=True) == 1
    assert "8 GPUs, and one is used" in capsys.readouterr().err


def launched(monkeypatch: pytest.MonkeyPatch, *flags: str) -> list[int]:
    """The numbers of processes that a command launches; training itself is left out."""
    found: list[int] = []

    def launch(processes: int, arguments: list[str], *, device: str = "auto") -> int:
        found.append(processes)
        assert arguments[0] == "train"
        return 0

    monkeypatch.setattr("semigpt.cli.train.launch", launch)
    monkeypatch.setattr("semigpt.recipe.train", lambda *_, **__: iter(()))
    monkeypatch.setattr("semigpt.cli.terminal.show_training", lambda *_, **__: None)
    assert main(["train", "--size", "base", *flags]) == 0
    return found


def test_the_command_launches_a_process_for_each_gpu(
    gpus: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    gpus(4)
    assert launched(monkeypatch) == [4]
    assert launched(monkeypatch, "--processes", "1") == []
    assert launched(monkeypatch, "--device", "cpu") == []
    assert launched(monkeypatch, "--set=training.gradient_accumulation=2") == [2]
    gpus(1)
    assert launched(monkeypatch) == []
    # The same command goes on with a run that more GPUs began, with its micro-batches.
    gpus(2)
    begun = recipe(model={"size": "base"}, training={"gradient_accumulation": 8, "minutes": 2.0})
    RunFolder.create(tmp_path / "run", begun.tables()).unlock()
    assert launched(monkeypatch, "--out", str(tmp_path / "run")) == [2]


def test_fewer_gpus_than_processes_are_one_line(
    gpus: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    gpus(2)
    assert main(["train", "--processes", "4"]) == 2
    told = capsys.readouterr().err
    assert "4 processes and 2 GPUs: start at most one process per GPU, or say --device" in told
    assert told.count("\n") == 1


def test_a_larger_size_keeps_its_micro_batches_in_several_processes() -> None:
    assert can_share(recipe(model={"size": "1b"}), 64, fixed=False)
    assert can_share(recipe(model={"size": "1b"}), 128, fixed=False)
    assert not can_share(recipe(model={"size": "1b"}), 512, fixed=False)  # of 256 sequences
