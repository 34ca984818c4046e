"""P18 of a model in parts: whatever the number of processes, a run ends in a replica's bits."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from benchmark_scripts import BENCHMARKS
from forked import Forked
from semigpt.cli import main
from semigpt.device import MachineSettings
from semigpt.errors import SettingsError
from semigpt.parallel import Group, Processes, Turn, check_lanes, ways
from semigpt.place import Place
from semigpt.studies.crash_test import small_tables
from semigpt.tensor_file import Parts, begin_file, fill_in
from semigpt.training.optimizer import OptimizerSettings
from semigpt.training.owners import balanced, rows_of
from semigpt.training.sharding import ShardedOptimizer, check_sharded

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked")

# In a process of its own: torch must not have computed before the fork.
BEGIN = """
import contextlib, json, sys, time
from pathlib import Path
from semigpt import system
from semigpt.studies.crash_test import begin, compared_files, wait_for
from semigpt.training.sharding import ShardedOptimizer

place = Path(sys.argv[1])

def done(tables, name, processes, sharded=True):
    folder = place / name
    wait_for(begin(tables, folder, processes, sharded=sharded), folder)
    return compared_files(folder)

def killed(tables, name, processes, after, machines=1):
    folder = place / name
    started = begin(tables, folder, processes, sharded=True, machines=machines)
    while max((int(p.name[5:]) for p in folder.glob("checkpoints/step-*")), default=0) < after:
        time.sleep(0.01)
    for process in reversed(started):
        with contextlib.suppress(ChildProcessError):  # it ended because the other was gone
            system.kill(process)
"""
# A whole model needs 5.2 MB in each, and 2.6 where two cut it.
FOLDERS = """
tables = json.loads(sys.argv[2])
whole = done(tables, "whole", 1, sharded=False)
system.free_memory = lambda: 8_000_000
del tables["machine"]["backend"]
found = done(tables, "parts", 2, sharded=None)
print([file for file in whole | found if whole.get(file) != found.get(file)])
print('backend = "plain"' in (place / "parts/config.toml").read_text())
forecast = json.loads((place / "parts/metadata.json").read_text())["forecast"]
files = (p.stat().st_size for p in max(place.glob("parts/checkpoints/step-*")).iterdir())
print(forecast["steps"], forecast["processes"], forecast["seconds"] > 0)
print(1.15 < forecast["disk"] / (3 * sum(files)) < 1.25)  # and the model twice
"""
RESHARDED = """
from semigpt.parallel import Processes

connect = Processes._connect

def told(self):
    connect(self)
    if not self.rank:
        print("in", self.shards, "parts, levels of", *(group.size() for group in self.levels))

Processes._connect = told
tables = json.loads(sys.argv[2])
whole = done(tables, "whole", 1, sharded=False)
killed(tables, "run", 4, 4, machines=2)
killed(tables, "run", 1, 8)
found = done(tables, "run", 4)
print([file for file in whole | found if whole.get(file) != found.get(file)])
print(sorted({path.suffix for path in place.rglob("step-*/*")}))
print(*(line for line in (place / "run.log").read_text().splitlines() if line[:3] == "in "))
"""
POISONED = """
real = ShardedOptimizer.shard

def shard(self, model, step):
    step = real(self, model, step)
    wrong = float("nan") if self._group.rank else 1.0
    return lambda inputs, targets, weight, *rest: step(inputs, targets, weight * wrong, *rest)

ShardedOptimizer.shard = shard
started = begin(json.loads(sys.argv[2]), place / "run", 2, sharded=True)
ends = [system.status_of(started[0]), system.status_of(started[1])]
deadline = time.monotonic() + 30
while None in ends and time.monotonic() < deadline:
    ends = [end if end is not None else system.status_of(p) for end, p in zip(ends, started)]
print([end is not None for end in ends], (place / "run.log").read_text().splitlines()[-1])
"""


def run(script: str, place: Path, what: object) -> list[str]:
    """The lines that a script prints which trains in forked processes."""
    done = Forked(str(place), json.dumps(what), script=BEGIN + script).ended(300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def tables(rung: str, optimizer: dict[str, object], **training: object) -> dict[str, object]:
    """Of a small run of four micro-batches that a sharded model can compute."""
    training = {"gradient_accumulation": 4, **training}
    found = small_tables(rung, teacher_order=3, **training)
    machine = {**found["machine"], "backend": "plain"}
    return {**found, "machine": machine, "optimizer": optimizer}


SHORT = {"steps": 4, "eval_every": 2, "save_every": 2}


@forks
def test_killed_and_resumed_in_other_parts(tmp_path: Path) -> None:
    """Two machines with a replica each in 2 parts, then 1 process, then 4 parts: each reads what
    the one before saved. With a teacher, dropout and Muon, and norms of 8 numbers, which are moved
    whole.
    """
    length = {"steps": 12, "eval_every": 6, "save_every": 4, "gradient_accumulation": 8}
    same, files, ways = run(RESHARDED, tmp_path, tables("gpt", {}, teacher="counts", **length))
    assert same == "[]"
    assert files == "['.json', '.safetensors']"  # nothing that unpickles
    begun = "in 2 parts, levels of 2 2"  # in its rehearsal, and then
    assert ways == f"{begun} {begun} in 4 parts, levels of 4"


@forks
def test_folders_of_a_sharded_and_a_whole_memory_are_the_same(tmp_path: Path) -> None:
    """By AdamW, in bfloat16, two micro-batches a process, each block run again backwards. Where
    memory asks for it, and the processes have rehearsed the run together.
    """
    small = tables("memory", {"optimizer": "adamw"}, **SHORT)
    machine: Any = small["machine"]
    machine |= {"precision": "bfloat16", "checkpoint_activations": True}
    assert run(FOLDERS, tmp_path, small) == ["[]", "True", "4 2 True", "True"]


@forks
def test_a_gradient_that_is_not_finite_on_one_process_stops_all(tmp_path: Path) -> None:
    (line,) = run(POISONED, tmp_path, tables("gpt", {}, **SHORT))
    assert line.startswith("[True, True] TrainingError: the loss is "), line
    assert "the gradient norm nan at step 1" in line


def test_a_file_written_in_parts_has_the_bytes_of_one_written_whole(tmp_path: Path) -> None:
    whole = {"나": torch.randn(5, 3), "b": torch.randn(7), "a": torch.tensor(2.0)}
    save_file(whole, tmp_path / "whole")
    shapes = {name: tensor.shape for name, tensor in whole.items()}
    begin_file(tmp_path / "parts", shapes)
    for rank in range(4):
        held = [("a", 0, whole["a"])] if rank == 2 else []
        for name in ("나", "b"):
            first, end = rows_of(len(whole[name]), rank, 4)
            held.append((name, first * whole[name][0].numel(), whole[name][first:end]))
        fill_in(tmp_path / "parts", Parts(shapes, held))
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()


class Stub(Processes):
    """The first of two processes, of which the other tells an errno."""

    def __init__(self, other: int) -> None:
        self.size, self.rank, self.other, self.said = 2, 0, other, ""

    def agree(self, seconds: float, turn: Turn) -> tuple[float, Turn]:
        return seconds, turn

    def told(self, message: str = "") -> str:
        self.said = message or self.said
        return self.said

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        return values + torch.tensor([0.0, self.other])


@pytest.mark.parametrize("other", [0, 28])
def test_a_part_that_cannot_be_written_is_an_error_of_the_save(
    tmp_path: Path, other: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = ShardedOptimizer(OptimizerSettings(), Stub(other), torch.device("cpu"))
    parts = Parts({"x": (2,)}, [("x", 0, torch.ones(2))])
    monkeypatch.setattr(optimizer, "parts", lambda: {"model": parts})
    if other:
        with pytest.raises(OSError, match="No space left"):
            optimizer.write(parts, tmp_path / "model.safetensors")
    else:
        optimizer.write(parts, tmp_path / "model.safetensors")
        assert len((tmp_path / "model.safetensors").read_bytes()) % 8 == 0


def test_whose_rows_and_lanes() -> None:
    assert [rows_of(5, rank, 4) for rank in range(4)] == [(0, 2), (2, 4), (4, 5), (5, 5)]
    assert balanced([1, 5, 4, 2], 2) == [0, 0, 1, 1]
    group = Group(2)
    assert list(group.lanes(8)) == [0, 1, 2, 3]
    group.shards = 2
    assert list(group.lanes(8)) == [0, 2, 4, 6]
    group.rank, group.size = 3, 4  # the second part of the second replica
    assert list(group.lanes(8)) == [5, 7]
    for lanes, size in ((12, 4), (3, 3), (8, 2)):
        check_lanes(lanes, size, size)
    with pytest.raises(SettingsError, match="by 3 processes: 1, 2, 4, 12 can"):
        check_lanes(12, 3, 3)


def test_how_many_processes_hold_a_replica() -> None:
    assert ways(512, 512, 8) == [1, 8, 512]
    assert ways(24, 24, 8) == [1, 8, 24]
    assert ways(12, 4, 2) == [1, 4]  # each adds three, and a replica's six are no branch
    assert ways(4, 4, 4) == [1, 4]
    machines = {(8, 4): 4, (8, 8): 8, (8, 1): 8, (6, 4): 6, (12, 6): 12}
    for (size, local), machine in machines.items():
        assert Place(local, size, 0, local, "", 0).machine == machine
    assert Place(1, 4, 0, 2, "", 0).machine == 4  # neighbours are not on the same machine


@pytest.mark.parametrize("shards", [512, 8])
def test_one_of_512_holds_and_sends_what_the_paper_says(shards: int) -> None:
    """4 P / S bytes; a gather of each block twice, in bfloat16; no more of anything."""
    script = (BENCHMARKS / "shards.py").read_text(encoding="utf-8")
    done = Forked("--json", "--vocab", "8192", "--shards", str(shards), script=script).ended(120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ranks"] == 512
    assert 0.99 <= found["held of an even part"] <= 1.01
    levels, between = (2, 0) if shards == 512 else (1, 2)
    assert (found["gathers"], found["sums"]) == (2 * 2 + 1, levels * (2 + 1))
    assert found["collectives between replicas"] == between
    assert found["gathered bytes per parameter"] <= 4.2
    for sent in ("in a machine", "between machines"):
        planned = found[f"sent {sent}, by the plan"]
        assert planned <= found[f"sent {sent}, per parameter"] <= 1.05 * planned
    assert found["its bytes per parameter"] <= 1.1  # a whole table, to the owner of its norm


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("train", "torture"):
        assert main([command, "--shard"]) == 2
        assert "add --processes N" in capsys.readouterr().err
    check_sharded(MachineSettings(backend="plain", compile=False))
    for machine in (MachineSettings(), MachineSettings(backend="plain", compile=True)):
        with pytest.raises(SettingsError, match=r"begin a run with --set machine.backend=plain"):
            check_sharded(machine)
