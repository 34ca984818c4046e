"""P4: a full disk, a read-only folder, a file that vanishes: one clear line, and the last good
checkpoint intact.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from semigpt.errors import CheckpointError, SettingsError
from semigpt.recipe import Recipe, Stepped, train
from semigpt.run_folder import RunFolder
from semigpt.studies.crash_test import small_tables

BIG = {
    group: {"x": torch.randn(20_000)} for group in ("model", "optimizer", "random")
}  # 240 kB a checkpoint


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte of one's own."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root on Linux")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def one_line(error: pytest.ExceptionInfo[CheckpointError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_full_disk(small_disk: Path) -> None:
    run = RunFolder.create(small_disk / "run", {"data": {}})
    run.unlock()
    run.save(BIG, {}, step=1, keep=10)
    with pytest.raises(CheckpointError) as error:
        for step in range(2, 9):
            run.save(BIG, {}, step=step, keep=10)
    message = one_line(error)
    assert "No space left on device" in message
    newest = run.newest()
    assert newest is not None
    assert f"the last good checkpoint, {newest.folder.name}, is intact" in message
    assert newest.metadata["step"] >= 2
    assert not list(run.checkpoints.glob(".*")), (
        "the half that was written does not fill the disk on"
    )
    (small_disk / "filler").write_bytes(b"")
    with pytest.raises(
        CheckpointError,
        match=r"metrics\.jsonl: No space left on device; free some disk, then --resume",
    ):
        for _ in range(10_000):
            run.append("metrics", {"step": "x" * 1000})
    shutil.rmtree(run.checkpoints / "step-00000001")
    run.rewind(newest)
    run.save(BIG, {}, step=9, keep=2)  # with room again, the run goes on


def test_a_read_only_disk(small_disk: Path) -> None:
    run = RunFolder.create(small_disk / "run", {"data": {}})
    run.unlock()
    run.save(BIG, {}, step=1, keep=2)
    run.unlock()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for what in (
        lambda: run.save(BIG, {}, step=2, keep=2),
        lambda: run.append("metrics", {}),
        lambda: run.lock(),
        lambda: RunFolder.create(small_disk / "other", {}),
    ):
        with pytest.raises(CheckpointError, match="Read-only file system") as error:
            what()
        one_line(error)
    newest = run.newest()
    assert newest is not None
    assert newest.metadata["step"] == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(
        CheckpointError,
        match="cannot make the run folder .*: Permission denied; choose another --out",
    ):
        RunFolder.create(tmp_path / "run", {})


def quick() -> Recipe:
    return Recipe.from_tables(small_tables("bigram"))


def test_a_run_folder_that_vanishes(tmp_path: Path) -> None:
    events = train(quick(), tmp_path / "run")
    for event in events:
        if isinstance(event, Stepped) and event.report.step == 5:
            shutil.rmtree(tmp_path / "run")
            break
    with pytest.raises(
        CheckpointError, match=r"cannot write .*run/.*: No such file or directory"
    ) as error:
        list(events)
    one_line(error)


def test_a_checkpoint_file_that_vanishes(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", {})
    run.unlock()
    for step in (1, 2):
        run.save(BIG, {}, step=step, keep=2)
    (run.checkpoints / "step-00000002" / "random.safetensors").unlink()
    assert next(run.damaged()).endswith(
        "step-00000002/random.safetensors cannot be read: No such file or directory"
    )
    newest = run.newest()
    assert newest is not None
    assert newest.metadata["step"] == 1


def test_a_disk_or_memory_too_small_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
        with pytest.raises(
            SettingsError,
            match=r"needs .* MB of disk for checkpoints and .* has 0\.0 MB free; choose",
        ):
            list(train(quick(), tmp_path / "run"))
    with monkeypatch.context() as patch:
        patch.setattr("semigpt.training.forecast.available_memory", lambda device: 10**6)
        with pytest.raises(
            SettingsError,
            match=r"at least .* MB of memory and cpu has 1\.0 MB free; choose a smaller",
        ):
            list(train(quick(), tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


def test_two_trainings_in_one_folder(tmp_path: Path) -> None:
    """The second is refused by the first's lock, which goes with its process, whatever became of
    that.
    """
    run = RunFolder.create(tmp_path / "run", {})
    with pytest.raises(
        CheckpointError,
        match=rf"run is being trained by process {os.getpid()} on .*; wait for it to end",
    ):
        RunFolder.open(tmp_path / "run").lock()
    run.unlock()
    process = os.fork()
    if process == 0:
        RunFolder.open(tmp_path / "run").lock()
        os.kill(os.getpid(), 9)
    os.waitpid(process, 0)
    again = RunFolder.open(tmp_path / "run")
    again.lock()
    again.unlock()


def test_its_own_unfinished_run_is_gone_on_with_and_a_finished_one_is_left(tmp_path: Path) -> None:
    for event in train(quick(), tmp_path / "run"):
        if isinstance(event, Stepped) and event.report.step == 9:
            break
    steps = [
        event.report.step
        for event in train(quick(), tmp_path / "run")
        if isinstance(event, Stepped)
    ]
    assert steps == list(range(9, 41)), "from the checkpoint of step 8"
    for resume in (False, True):
        with pytest.raises(
            CheckpointError, match="run is finished; write with it: semigpt generate"
        ):
            list(train(quick(), tmp_path / "run", resume=resume))
    other = Recipe.from_tables(small_tables("bigram", seed=1))
    with pytest.raises(
        SettingsError, match=r"exists already, begun with other settings: training.seed was 0, is 1"
    ):
        list(train(other, tmp_path / "run"))
