"""P2: a checkpoint is complete or invisible, whatever file operation of a save goes wrong, and
however.
"""

from __future__ import annotations

import builtins
import errno
import functools
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from semigpt.errors import CheckpointError
from semigpt.huggingface import folder as reader
from semigpt.huggingface.folder import load_model, save_model
from semigpt.models import build_model
from semigpt.models.base import LanguageModel
from semigpt.run_folder import RunFolder
from semigpt.settings import to_table
from semigpt.tensor_file import Parts, WriteFile, begin_file, fill_in, write_tensors
from semigpt.tokenizers import CharTokenizer, load_tokenizer

TENSORS = {
    "model": {"weight": torch.arange(200.0)},
    "optimizer": {"0.0.exp_avg": torch.ones(200)},
}
CRASHED = 77


def in_parts(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write a checkpoint's file as two processes of a sharded model do."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    begin_file(path, shapes)
    for first in (0, 100):
        held = [(name, first, tensor[first : first + 100]) for name, tensor in tensors.items()]
        fill_in(path, Parts(shapes, held))


class Faults:
    """Every operation on files that a save makes, counted; the one numbered `at` goes wrong in the
    way of `kind`.

    `error`: it fails with EIO. `short`: what is written stops half way, as on a full disk. `crash`:
    the process is gone before it. `power`: so is the machine, and what was never flushed is half
    there.
    """

    def __init__(
        self, patch: pytest.MonkeyPatch, at: int | None = None, kind: str = "error"
    ) -> None:
        self.at, self.kind = at, kind
        self.operations: list[str] = []
        self.unflushed: dict[int, Path] = {}
        for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "truncate"):
            patch.setattr(os, name, self.counted(name, getattr(os, name)))
        patch.setattr(os, "fsync", self.counted("fsync", self.flush(os.fsync)))
        real_open = io.open

        def opened(file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            handle = self.counted("open", real_open)(file, mode, *rest, **named)
            return self.watched(handle, Path(file)) if set(mode) & set("wa+x") else handle

        patch.setattr(io, "open", opened)
        patch.setattr(builtins, "open", opened)
        real_save = safetensors.torch.save_file

        def save_file(tensors: Any, path: Path) -> None:
            def half() -> None:
                real_save(tensors, path)
                path.write_bytes(path.read_bytes()[:100])

            self.happens("save_file", half)
            real_save(tensors, path)
            self.unflushed[path.stat().st_ino] = path

        patch.setattr(safetensors.torch, "save_file", save_file)

    def happens(self, name: str, half: Callable[[], None] | None = None) -> None:
        self.operations.append(name)
        if len(self.operations) - 1 != self.at:
            return
        self.at = None  # once; what comes after works
        match self.kind:
            case "error":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            case "short":
                if half is not None:
                    half()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            case "power":
                for path in self.unflushed.values():
                    if path.exists():
                        os.truncate(path, path.stat().st_size // 2)
        os._exit(CRASHED)

    def counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.happens(name)
            return real(*arguments, **named)

        return call

    def flush(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def call(descriptor: int) -> None:
            real(descriptor)
            self.unflushed.pop(os.fstat(descriptor).st_ino, None)

        return call

    def watched(self, handle: Any, path: Path) -> Any:
        self.unflushed[os.fstat(handle.fileno()).st_ino] = path
        real_write = handle.write

        class Watched:
            def write(watched, content: Any) -> int:  # noqa: N805
                def half() -> None:
                    real_write(content[: len(content) // 2])
                    handle.flush()

                self.happens("write", half)
                return int(real_write(content))

            def __enter__(watched) -> Any:  # noqa: N805
                return watched

            def __exit__(watched, *_: object) -> None:  # noqa: N805
                handle.close()

            def __getattr__(watched, name: str) -> Any:  # noqa: N805
                return getattr(handle, name)

        return Watched()


def saved_once(path: Path) -> RunFolder:
    """A run with the checkpoints of steps 1 and 2, about to save its third."""
    run = RunFolder.create(path, {"data": {"spec": "news"}})
    for step in (1, 2):
        run.append("metrics", {"step": step})
        run.save(TENSORS, {"step": step}, step=step, keep=2)
    run.append("metrics", {"step": 3})
    run.unlock()
    return run


def operations(tmp_path: Path, write: WriteFile) -> list[str]:
    """The name of every file operation of one save."""
    run = saved_once(tmp_path / "counted")
    with pytest.MonkeyPatch.context() as patch:
        faults = Faults(patch)
        run.save(TENSORS, {}, step=3, keep=2, write=write)
    return faults.operations


def in_a_process(work: Callable[[], None]) -> int:
    """The exit code of `work` in a forked process, which uses no thread of torch's."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            work()
            code = 0
        except CheckpointError:
            code = 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.fixture
def broken(tmp_path: Path) -> Callable[..., list[tuple[int, str, RunFolder, int]]]:
    def at_every_operation(kind: str, write: WriteFile) -> list[tuple[int, str, RunFolder, int]]:
        outcomes = []
        for at, name in enumerate(operations(tmp_path / kind, write)):
            run = saved_once(tmp_path / kind / f"{at}-{name}")

            def work(run: RunFolder = run, at: int = at) -> None:
                Faults(pytest.MonkeyPatch(), at, kind)
                run.save(TENSORS, {}, step=3, keep=2, write=write)

            outcomes.append((at, name, run, in_a_process(work)))
        return outcomes

    return at_every_operation


@pytest.mark.skipif(not hasattr(os, "fork"), reason="faults are injected in forked processes")
@pytest.mark.parametrize(
    ("kind", "write"),
    [
        *((kind, write_tensors) for kind in ("error", "short", "crash", "power")),
        ("power", in_parts),
    ],
)
def test_a_save_broken_at_any_file_operation_leaves_a_whole_checkpoint(
    kind: str, write: WriteFile, broken: Callable[..., list[tuple[int, str, RunFolder, int]]]
) -> None:
    outcomes = broken(kind, write)
    assert {name for _, name, _, _ in outcomes} >= {
        "mkdir",
        "truncate" if write is in_parts else "save_file",
        "open",
        "write",
        "fsync",
        "rename",
        "rmdir",
    }
    for at, name, run, code in outcomes:
        where = f"{kind} at operation {at}, {name}"
        newest = run.newest()
        assert newest is not None, where
        assert newest.metadata["step"] in (2, 3), where
        assert not list(run.damaged()), f"{where}: half a checkpoint can be seen"
        if kind in ("crash", "power"):
            assert code == CRASHED, where
        else:
            # Nothing is hidden: a save that says nothing has saved.
            assert code == 2 or (code == 0 and newest.metadata["step"] == 3), where
        assert torch.equal(newest.tensors["model"]["weight"], TENSORS["model"]["weight"])
        run.rewind(newest)
        run.append("metrics", {"step": 4})
        run.save(TENSORS, {}, step=4, keep=2)  # and the run goes on
        assert [row["step"] for row in run.rows("metrics")] == [
            *range(1, newest.metadata["step"] + 1),
            4,
        ], where
        assert not list(run.checkpoints.glob(".*")), f"{where}: what the fault left is cleared away"


def two_models() -> tuple[list[LanguageModel], CharTokenizer]:
    tokenizer = CharTokenizer("가나다라마바사")
    shape = {"context_length": 8, "width": 16, "num_layers": 1, "num_heads": 2}
    return [
        build_model("gpt", tokenizer.vocab_size, shape | changes) for changes in ({}, {"width": 32})
    ], tokenizer


@pytest.mark.skipif(not hasattr(os, "fork"), reason="faults are injected in forked processes")
@pytest.mark.parametrize("kind", ["short", "power"])
def test_a_model_folder_broken_at_any_file_operation_is_whole_or_saved_again(
    kind: str, tmp_path: Path
) -> None:
    """Tokenizer and config too: what a fault leaves, the next save of the same run puts right."""
    models, tokenizer = two_models()
    with pytest.MonkeyPatch.context() as patch:
        faults = Faults(patch)
        save_model(tmp_path / "counted", models[0], tokenizer, "card")
    for at, name in enumerate(faults.operations):
        folder = tmp_path / f"{at}-{name}"

        def work(folder: Path = folder, at: int = at) -> None:
            Faults(pytest.MonkeyPatch(), at, kind)
            save_model(folder, models[0], tokenizer, "card")

        code = in_a_process(work)
        assert code in ((CRASHED,) if kind in ("crash", "power") else (0, 2)), name
        save_model(folder, models[0], tokenizer, "card")
        load_model(folder)
        assert load_tokenizer(folder).fingerprint == tokenizer.fingerprint, name


@pytest.mark.parametrize("other", [0, 1], ids=["same shape", "another shape"])
def test_a_model_loaded_while_another_is_saved_is_one_of_the_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: int
) -> None:
    """The save falls between any two files that the reader reads."""
    models, tokenizer = two_models()
    later = build_model("gpt", tokenizer.vocab_size, to_table(models[other].settings))
    wanted = [later.huggingface_state(), models[0].huggingface_state()]
    for place in ("opened", "read_header", "read_json", "check_digests", "read_tensors"):
        save_model(tmp_path, models[0], tokenizer, "card")
        waiting = [lambda: save_model(tmp_path, later, tokenizer, "card")]

        def between(*arguments: Any, real: Any, waiting: list[Any] = waiting) -> Any:
            if waiting:
                waiting.pop()()
            return real(*arguments)

        with monkeypatch.context() as patch:
            real = getattr(reader, place)
            patch.setattr(reader, place, functools.partial(between, real=real))
            found = load_model(tmp_path).huggingface_state()
        assert not waiting, place
        same = [
            found.keys() == state.keys() and all(map(torch.equal, found.values(), state.values()))
            for state in wanted
        ]
        assert any(same), place


def test_only_the_newest_stay_and_the_one_before_stays_until_then(tmp_path: Path) -> None:
    run = saved_once(tmp_path / "run")
    run.save(TENSORS, {}, step=3, keep=1)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000003"]


def test_a_checkpoint_that_reads_back_otherwise_is_refused_and_the_one_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that says yes and keeps something else."""
    run = saved_once(tmp_path / "run")
    real_rename = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if target.name == "step-00000003":
            content = bytearray((self / "model.safetensors").read_bytes())
            content[-1] ^= 1
            (self / "model.safetensors").write_bytes(content)
        return real_rename(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(
        CheckpointError, match=r"step-00000003/model\.safetensors is not what was saved"
    ):
        run.save(TENSORS, {}, step=3, keep=1)
    newest = run.newest()
    assert newest is not None
    assert newest.metadata["step"] == 2
