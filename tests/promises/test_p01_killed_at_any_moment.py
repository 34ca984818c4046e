"""P1: a run killed by SIGKILL at any moment ends in the bits of one that was never killed.

A few kills of one rung; `semigpt torture --kills 100` is the same by the hundred, and CI runs it
over every rung.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from forked import Forked
from semigpt.errors import CheckpointError
from semigpt.recipe import Finished, Recipe, Stepped, train
from semigpt.run_folder import RunFolder
from semigpt.studies.crash_test import compared_files, small_tables

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="torture forks its trainings")


def recipe() -> Recipe:
    return Recipe.from_tables(small_tables("gpt"))


def test_killed_runs_end_in_the_same_bits() -> None:
    """In a process of its own: torch must not have computed before the fork."""
    done = Forked("torture", "--kills", "2", "--model", "gpt", "--json").ended(300)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["kills"] == 2
    assert [(t["rung"], t["gradient_accumulation"]) for t in result["trials"]] == [
        ("gpt", 1), ("gpt", 2),
    ]  # fmt: skip
    assert all(
        trial["differences"] == [] and trial["compared_bytes"] > 100_000
        for trial in result["trials"]
    )


def test_a_run_killed_before_its_first_checkpoint_begins_again(tmp_path: Path) -> None:
    list(train(recipe(), tmp_path / "whole"))
    for event in train(recipe(), tmp_path / "killed"):
        if isinstance(event, Stepped) and event.report.step == 2:
            break
    assert not (tmp_path / "killed" / "checkpoints").exists()
    list(train(recipe(), tmp_path / "killed"))
    assert compared_files(tmp_path / "killed") == compared_files(tmp_path / "whole")


def test_the_comparison_can_fail(tmp_path: Path) -> None:
    """One bit of one moment of the optimizer is seen."""
    list(train(recipe(), tmp_path / "whole"))
    before = compared_files(tmp_path / "whole")
    newest = max((tmp_path / "whole" / "checkpoints").iterdir()) / "optimizer.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    after = compared_files(tmp_path / "whole")
    assert [name for name in before if before[name] != after[name]] == [
        str(newest.relative_to(tmp_path / "whole"))
    ]


def stop_at(step: int, folder: Path) -> None:
    for event in train(recipe(), folder):
        if isinstance(event, Stepped) and event.report.step == step:
            return


def test_other_bits_are_said_and_need_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another compiler, or none, as CC says; the same for torch, threads and vectors."""
    stop_at(10, tmp_path / "run")
    saved = RunFolder.open(tmp_path / "run").newest()
    assert saved is not None
    assert saved.metadata["arithmetic"].keys() >= {"torch", "threads", "native code"}
    monkeypatch.setenv("CC", "'no command")
    with pytest.raises(
        CheckpointError, match=r"native code was [0-9a-f]{20}, is none; .* with --other-bits"
    ):
        stop_at(12, tmp_path / "run")
    assert not caplog.text
    last = list(train(recipe(), tmp_path / "run", other_bits=True))[-1]
    assert isinstance(last, Finished)
    assert last.complete
    assert "resuming with other bits than the run had so far: native code" in caplog.text
