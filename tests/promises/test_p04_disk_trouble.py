"""P4: a full disk, a read-only folder, a file that vanishes: one clear line, and the last good
checkpoint intact.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import little_memory
from semigpt import storage, system
from semigpt.corpus.corpus import open_corpus
from semigpt.dataset import open_dataset
from semigpt.errors import CheckpointError, CorpusError, SettingsError
from semigpt.recipe import Recipe, Stepped, train
from semigpt.report.page import write_report
from semigpt.run_folder import RunFolder
from semigpt.studies.crash_test import small_tables

BIG = {group: {"x": torch.randn(20_000)} for group in ("model", "optimizer")}  # 240 kB a checkpoint


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
    with pytest.raises(CheckpointError, match="was moved or removed while it trained") as error:
        list(events)
    one_line(error)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_file_that_vanishes(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", {})
    run.unlock()
    for step in (1, 2):
        run.save(BIG, {}, step=step, keep=2)
    (run.checkpoints / "step-00000002" / "optimizer.safetensors").unlink()
    assert next(run.damaged()).endswith(
        "step-00000002/optimizer.safetensors cannot be read: No such file or directory"
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


@pytest.mark.parametrize("become", ["nothing", "another run"])
def test_a_run_whose_folder_is_moved_stops_and_touches_no_other(
    tmp_path: Path, become: str
) -> None:
    """At whatever it writes next: a log, a checkpoint, the model or the report."""

    def moved(path: Path) -> RunFolder:
        run = RunFolder.create(path, {"data": {"spec": "news"}})
        run.append("metrics", {"step": 1})
        run.save(BIG, {}, step=1, keep=1)
        path.rename(path.with_name(f"{path.name}-moved"))
        if become == "another run":
            RunFolder.create(path, {"data": {"spec": "other"}}).unlock()
        return run

    writes: dict[str, Callable[[RunFolder], object]] = {
        "log": lambda run: run.append("metrics", {"step": 2}),
        "checkpoint": lambda run: run.save(BIG, {}, step=2, keep=1),
        "config": lambda run: run.write_config({}),
        "metadata": lambda run: run.write_metadata({}),
        "rewind": lambda run: run.rewind(None),
        "report": lambda run: write_report(run, complete=True),
    }
    for name, write in writes.items():
        path = tmp_path / name
        run = moved(path)
        before = sorted(path.rglob("*"))
        with pytest.raises(CheckpointError, match="was moved or removed while it trained") as error:
            write(run)
        one_line(error)
        assert sorted(path.rglob("*")) == before, name
        run.unlock()
        kept = RunFolder.open(path.with_name(f"{name}-moved"))
        kept.lock()  # and it goes on where it is
        newest = kept.newest()
        assert newest is not None
        kept.rewind(newest)
        kept.unlock()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_what_was_not_read_is_never_called_damaged(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files, or no memory: the newest checkpoint stays the newest."""
    run = RunFolder.create(tmp_path / "run", {})
    run.unlock()
    for step in (1, 2):
        run.save(BIG, {}, step=step, keep=2)
    with (
        monkeypatch.context() as patch,
        pytest.raises(CheckpointError, match=os.strerror(number)) as error,
    ):
        patch.setattr(storage, "open_regular", failing(number))
        run.newest()
    assert "bring the files back" not in one_line(error)
    for read in (open_corpus, open_dataset):
        (tmp_path / "manifest.json").touch()
        with (
            monkeypatch.context() as patch,
            pytest.raises(CorpusError, match=os.strerror(number)) as refused,
        ):
            patch.setattr(Path, "read_bytes", failing(number))
            patch.setattr(Path, "read_text", failing(number))
            read(tmp_path)
        assert "delete" not in one_line(refused)


def failing(number: int) -> Callable[..., Any]:
    def fail(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    return fail


def test_the_checkpoints_folder_may_hold_what_is_not_ours(tmp_path: Path) -> None:
    """Only names that a save gives are checkpoints, or left by one."""
    run = RunFolder.create(tmp_path / "run", {})
    run.unlock()
    run.save(BIG, {}, step=1, keep=1)
    names = ["step-best", "step-00000001-copy", ".step-mine.partial", "step-00000001.bak"]
    for name in names:
        shutil.copytree(run.checkpoints / "step-00000001", run.checkpoints / name)
    for step in (2, 3):
        run.save(BIG, {}, step=step, keep=1)
    run.rewind(run.newest())
    assert sorted(path.name for path in run.checkpoints.iterdir()) == sorted(
        [*names, "step-00000003"]
    )


def test_memory_that_runs_out_is_known_by_any_name() -> None:
    """PyTorch's own error on a CPU is a RuntimeError."""
    with little_memory(200), pytest.raises(RuntimeError) as error:
        torch.empty(1 << 34, dtype=torch.uint8)
    assert system.is_out_of_memory(error.value)
    assert not system.is_out_of_memory(RuntimeError("sizes of tensors must match"))


def test_a_lock_file_of_another_program_is_let_be(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("mine")
    with pytest.raises(CheckpointError, match=r"\.lock is not a lock of semigpt's"):
        RunFolder.create(tmp_path, {})
    assert (tmp_path / ".lock").read_text() == "mine"
