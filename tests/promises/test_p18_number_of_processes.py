"""P18: the number of processes that train changes no byte of the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forked import Forked
from semigpt.cli import main
from semigpt.errors import SettingsError
from semigpt.huggingface.folder import save_model
from semigpt.models import build_model
from semigpt.models.gpt import GPT
from semigpt.parallel import TreeSum, check_lanes
from semigpt.place import Place, place_of
from semigpt.studies.crash_test import compared_files, small_tables
from semigpt.tokenizers import ByteTokenizer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked")

# In a process of its own: torch must not have computed before the fork.
FOLDERS = """
import json, sys
from pathlib import Path
from semigpt.studies.crash_test import begin, compared_files, wait_for
for name, tables in json.loads(sys.argv[2]).items():
    numbers = (1, 2, 4, "2x2") if name == "gpt" else (1, 4)
    folders = {n: Path(sys.argv[1], f"{name}-{n}") for n in numbers}
    for n, folder in folders.items():
        processes, machines = (4, 2) if n == "2x2" else (n, 1)
        wait_for(begin(tables, folder, processes, machines=machines), folder)
    whole = compared_files(folders[1])
    for n, folder in folders.items():
        found = compared_files(folder)
        print(name, n, [file for file in whole | found if whole.get(file) != found.get(file)])
"""
SHORT = {"steps": 6, "eval_every": 3, "save_every": 3}
FLAGS = [
    *("--data", "news#articles=300,seed=7", "--device", "cpu"),
    *(f"--set={setting}" for setting in (
        "tokenizer.min_count=300", "model.num_layers=2", "model.width=32", "model.num_heads=1",
        "model.num_kv_heads=1", "model.context_length=16", "model.dropout=0.1",
        "training.batch_size=8", "training.eval_blocks=8", "training.eval_every=1000",
        "training.save_every=10", "sample.max_new_tokens=8",
    )),
]  # fmt: skip


def test_folders_of_one_two_and_four_processes_are_the_same(tmp_path: Path) -> None:
    """And of four that are two machines of two."""

    def tables(rung: str, **machine: object) -> dict[str, dict[str, object]]:
        found = small_tables(rung, gradient_accumulation=4, teacher_order=3, **SHORT)
        return {**found, "machine": {**found["machine"], **machine}}

    trained = {
        "gpt": tables("gpt"),
        "bfloat16": tables("gpt", precision="bfloat16"),
        "plain": tables("gpt", backend="plain"),
        "memory": tables("memory"),
        "blocks": tables("blocks"),
    }
    trained["gpt"]["training"] |= {"teacher": "counts", "output_sample": 64}
    bytes_alone = ByteTokenizer()
    net = build_model("gpt", bytes_alone.vocab_size, GPT.small)
    save_model(tmp_path / "net", net, bytes_alone, "")
    start = {"folder": str(tmp_path / "net"), "lora": 2}
    trained["lora"] = {**tables("gpt"), "tokenizer": {}, "model": {}, "start": start}
    done = Forked(str(tmp_path), json.dumps(trained), script=FOLDERS).ended(300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{name} {n} []"
        for name in trained
        for n in ((1, 2, 4, "2x2") if name == "gpt" else (1, 4))
    ]


def test_the_command_survives_a_killed_process_and_a_signal(tmp_path: Path) -> None:
    """Started again without anybody's help; stopped by SIGTERM, resumed by one process."""
    folder = tmp_path / "run"
    length = ["--steps", "200"]
    command = [sys.executable, "-m", "semigpt", "train", *FLAGS, *length]
    command += ["--processes", "2", "--out", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        await_checkpoint(folder, 0)
        os.kill(children(running.pid)[-1], signal.SIGKILL)
        await_checkpoint(folder, 30)
        running.terminate()
        log = running.communicate(timeout=300)[1]
    assert running.returncode == 128 + signal.SIGTERM, log
    assert "a process was lost, and all are started again" in log
    assert "Traceback" not in log
    assert main(["train", "--resume", str(folder)]) == 0
    whole = ["--set=training.gradient_accumulation=2", "--set=machine.threads=1"]
    alone = str(tmp_path / "alone")
    assert main(["train", *FLAGS, *whole, *length, "--out", alone]) == 0
    assert compared_files(folder) == compared_files(Path(alone))
    assert (folder / "config.toml").read_text() == (Path(alone) / "config.toml").read_text()


def await_checkpoint(folder: Path, step: int) -> None:
    """Return once a checkpoint after this step is there."""
    deadline = time.monotonic() + 300
    while not any(int(found.name[5:]) > step for found in folder.glob("checkpoints/step-*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children(process: int) -> list[int]:
    """The processes that this one started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True)
    return [int(line) for line in found.stdout.split()]


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--data", "nowhere.txt"], "nowhere.txt: no such file or folder"),
        (
            ["--steps", "9", "--set=optimizer.learning_rate=1e38", "--set=optimizer.clip=0"],
            "the loss is nan and the gradient norm nan at step",
        ),
    ],
)
def test_bad_input_is_one_line(
    flags: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = Forked("train", *FLAGS, "--processes", "2", *flags).ended(300)
    assert done.returncode == 2, done.stderr
    *_, last = done.stderr.splitlines()
    assert last.startswith(f"semigpt: {line}")
    assert "Traceback" not in done.stderr


DIES_AT_ITS_END = """
import atexit, os
if os.environ.get("RANK", "") + os.environ.get("TORCHELASTIC_RESTART_COUNT", "") == "00":
    atexit.register(os._exit, 1)
"""


def test_a_run_by_the_clock_ends_though_a_process_dies_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(DIES_AT_ITS_END)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    command = ["train", *FLAGS, "--minutes", "0.02", "--processes", "2", "--json"]
    done = Forked(*command, "--out", str(tmp_path / "run")).ended(300)
    assert done.returncode == 0, done.stderr
    assert "a process was lost, and all are started again" in done.stderr
    assert json.loads(done.stdout)["complete"]


@settings(deadline=None)  # the first call waits for torch
@given(st.integers(0, 4), st.integers(1, 9))
def test_the_tree_is_the_same_whoever_adds(doublings: int, processes: int) -> None:
    lanes = torch.randn(processes << doublings, 5, generator=torch.Generator().manual_seed(0))

    def total(parts: torch.Tensor) -> torch.Tensor:
        tree = TreeSum()
        for part in parts.clone():
            tree.add(part)
        return tree.total()

    sums = torch.stack([total(own) for own in lanes.chunk(processes)])
    assert torch.equal(total(sums), total(lanes))
    torch.testing.assert_close(total(lanes), lanes.sum(0), atol=1e-4, rtol=0)
    check_lanes(len(lanes), processes)
    check_lanes(len(lanes), 1)
    with pytest.raises(SettingsError, match="micro-batches cannot be computed by"):
        check_lanes(len(lanes), len(lanes) + 1)


def test_the_order_of_the_sum_shows() -> None:
    """The comparison above can fail: added one after the other, the bits are others."""
    lanes = torch.randn(8, 1000, generator=torch.Generator().manual_seed(0))
    tree = TreeSum()
    for lane in lanes.clone():
        tree.add(lane)
    one_by_one = lanes[0].clone()
    for lane in lanes[1:]:
        one_by_one += lane
    assert not torch.equal(tree.total(), one_by_one)


def test_what_a_launcher_says() -> None:
    torchrun = {
        "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "node1", "MASTER_PORT": "29500", "TORCHELASTIC_RESTART_COUNT": "2",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }  # fmt: skip
    assert place_of(torchrun) == Place(3, 4, 1, 2, "node1", 29500, attempt=2, hosted=True)
    slurm = {
        "SLURM_STEP_NUM_TASKS": "512", "SLURM_PROCID": "9", "SLURM_LOCALID": "1",
        "SLURM_STEP_TASKS_PER_NODE": "8(x64)", "SLURM_STEP_NODELIST": "gpu[003-066],big1",
        "SLURM_JOB_ID": "123456",
    }  # fmt: skip
    assert place_of(slurm) == Place(9, 512, 1, 8, "gpu003", 20_000 + 123456 % 20_000)
    elsewhere = place_of(slurm | {"SLURM_STEP_NODELIST": "a7,b9"})
    assert elsewhere is not None
    assert elsewhere.address == "a7"
    assert place_of({}) is None
    # A batch script is one process, though its job has many tasks.
    assert place_of({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}) is None
    with pytest.raises(SettingsError, match="do not say where this process stands"):
        place_of({"RANK": "0", "WORLD_SIZE": "2"})


def test_processes_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--processes", "0"]) == 2
    assert "--processes must be at least 1, not 0" in capsys.readouterr().err
    assert main(["torture", "--processes", "3"]) == 2
    assert "a power of two, not 3" in capsys.readouterr().err
