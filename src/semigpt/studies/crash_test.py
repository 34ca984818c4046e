"""`semigpt torture`: does a run that is killed again and again end in the same bits as one that was
left alone?

A small model is trained on a small part of the bundled corpus, once in peace. Then runs of the same
recipe are killed by SIGKILL, half of them at any moment, half while a checkpoint is being written,
and each time resumed by the same command; after some kills a run is let go to its end. Its weights,
optimizer and logs must be byte for byte the first run's.

With several processes one of them is killed, and each time the run is resumed by another number of
them, with `shard` half the times in parts. The run left alone is one process's.

Each training is a process of its own, forked from this one, which has torch imported but never
used: that saves a start of two seconds a kill, and is safe because no thread of torch's runs yet.
For the same reason nothing here may compute before the fork.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from semigpt import system
from semigpt.errors import SettingsError, TrainingError
from semigpt.language import _
from semigpt.models import LADDER, model_class
from semigpt.settings import check_choice

__all__ = [
    "Trial",
    "begin",
    "compared_files",
    "crash_test",
    "small_tables",
    "train_and_kill",
    "wait_for",
]

KILLS_PER_RUN = 10
TOO_LONG = 120.0  # seconds; a training takes two
RECIPE: dict[str, dict[str, Any]] = {
    "data": {"spec": "news#articles=300,seed=7"},
    "tokenizer": {
        "min_count": 300
    },  # a small vocabulary, the rest in bytes: small files, quick to compare
    "training": {"steps": 40, "batch_size": 8, "eval_blocks": 8, "eval_every": 20, "save_every": 4},
    "machine": {"device": "cpu"},
    "sample": {"max_new_tokens": 8},
}


def small_tables(rung: str, **training: Any) -> dict[str, dict[str, Any]]:
    """The tables of a recipe that trains a small model of a rung in two seconds; `training` changes
    some of them.
    """
    cls = model_class(rung)
    shape = dict(cls.small)
    if any(field.name == "dropout" for field in fields(cls.Settings)):
        # A resumed run has to drop the same units, or it would not end in the same bits.
        shape["dropout"] = 0.1
    return {
        **RECIPE,
        "model": {"kind": rung, **shape},
        "training": {**RECIPE["training"], **training},
    }


@dataclass(frozen=True)
class Trial:
    """What became of one rung's killed runs."""

    rung: str
    gradient_accumulation: int
    processes: int  # at most
    kills: int
    while_saving: int  # kills that left a checkpoint half written
    before_first: int  # kills before the first checkpoint: the run begins again
    runs: int
    compared_bytes: int
    seconds: float
    differences: tuple[str, ...]  # files that are not as the undisturbed run's

    def as_dict(self) -> dict[str, Any]:
        """The object that `semigpt torture --json` prints for it."""
        return asdict(self)


def crash_test(
    rungs: Sequence[str] | None = None,
    *,
    kills: int = 10,
    seed: int = 0,
    processes: int = 1,
    shard: bool = False,
) -> Iterator[Trial]:
    """`kills` kills a rung, half of them over a run that accumulates its gradient over twice as
    many micro-batches. Of several `processes`, a power of two, every rung but the bigram is tried.

    shard: the processes cut the model into parts, half the times

    Raises SettingsError for an unknown rung, or where processes cannot be forked (Windows).
    """
    for rung in rungs or ():
        check_choice("model", rung, LADDER)
    if kills < 1:
        raise SettingsError(_("kills must be at least 1, not {kills}").format(kills=kills))
    if not system.can_fork():
        raise SettingsError(
            _("torture needs a system that forks processes, such as Linux or macOS")
        )
    if processes < 1 or processes & (processes - 1):
        raise SettingsError(
            _("processes must be a power of two, not {processes}").format(processes=processes)
        )
    if shard and processes == 1:
        raise SettingsError(_("--shard cuts a model among processes: add --processes N"))
    for rung in rungs or list(LADDER)[processes > 1 :]:
        for lanes, count in ((processes, kills - kills // 2), (2 * processes, kills // 2)):
            if count:
                asked: dict[str, Any] = {"seed": seed, "processes": processes, "shard": shard}
                yield train_and_kill(rung, lanes, kills=count, **asked)


def train_and_kill(
    rung: str,
    gradient_accumulation: int,
    *,
    kills: int,
    seed: int,
    processes: int = 1,
    shard: bool = False,
) -> Trial:
    """One rung: an undisturbed run, then killed ones, `KILLS_PER_RUN` kills each at most, compared
    with it.
    """
    numbers = [1 << n for n in range(processes.bit_length())]
    tables = small_tables(rung, gradient_accumulation=gradient_accumulation, teacher_order=3)
    if shard:
        tables["machine"] = {**tables["machine"], "backend": "plain"}
    draw = random.Random(f"{seed} {rung} {gradient_accumulation}")

    def parts() -> bool:
        return shard and draw.random() < 0.5

    start = time.monotonic()
    done = saving = before_first = runs = 0
    differences: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="semigpt-torture-") as place:
        whole = Path(place, "whole")
        wait_for(begin(tables, whole, 1), whole)
        length = time.monotonic() - start
        expected = compared_files(whole)
        while done < kills:
            folder = Path(place, f"run-{runs}")
            for _kill_number in range(min(KILLS_PER_RUN, kills - done)):
                started = begin(tables, folder, draw.choice(numbers), sharded=parts())
                if draw.random() < 0.5:
                    _await_saving(folder, started[0], draw.randint(1, 5))
                    time.sleep(draw.uniform(0, 0.01))
                else:
                    time.sleep(draw.uniform(0, length))
                if not _kill(started, draw.randrange(len(started)), folder):
                    length *= 0.8  # the first run also made the corpus, or the machine was busy
                    break  # it had reached its end before the kill
                done += 1
                saving += bool(list(folder.glob("checkpoints/.step-*.partial")))
                before_first += not list(folder.glob("checkpoints/step-*"))
            wait_for(begin(tables, folder, draw.choice(numbers), sharded=parts()), folder)
            runs += 1
            found = compared_files(folder)
            differences |= {name for name in expected if found.get(name) != expected[name]}
            differences |= found.keys() - expected.keys()
    return Trial(
        rung,
        gradient_accumulation,
        processes,
        done,
        saving,
        before_first,
        runs,
        sum(map(len, expected.values())),
        time.monotonic() - start,
        tuple(sorted(differences)),
    )


def begin(
    tables: dict[str, dict[str, Any]],
    folder: Path,
    processes: int,
    *,
    sharded: bool | None = False,
    machines: int = 1,
) -> list[int]:
    """Processes that train into the folder, or resume what they find there; their ids.

    sharded: None where memory decides
    machines: they act as if on so many
    """
    import torch  # once, here, and inherited by every process

    from semigpt.config import Recipe
    from semigpt.corpus import news
    from semigpt.parallel import ALONE, Processes
    from semigpt.place import Place
    from semigpt.recipe import follow, train

    if sharded is not False:  # once too
        import torch.distributed.fsdp
    news.fingerprint()  # reads the grammar
    gc.freeze()  # and no process searches for garbage in what it inherits
    port = system.free_port() if processes > 1 else 0

    def work(rank: int) -> None:
        metadata = folder / "metadata.json"
        if metadata.is_file() and b'"complete": true' in metadata.read_bytes():
            return
        # So small a model gains nothing by two, and loses much on a busy machine.
        torch.set_num_threads(1)
        group = ALONE
        if processes > 1:
            local = processes // machines
            place = Place(rank, processes, rank % local, local, "127.0.0.1", port)
            group = Processes(place, sharded=sharded)
            if rank:
                follow(group)
                return
        for _event in train(Recipe.from_tables(tables), folder, group=group):
            pass

    log = folder.with_suffix(".log")
    return [system.fork(partial(work, rank), log) for rank in range(processes)]


def wait_for(processes: list[int], folder: Path) -> None:
    """Let a training come to its end; TrainingError with its last words where it fails."""
    deadline = time.monotonic() + TOO_LONG
    left = list(processes)
    while left:
        status = system.status_of(left[0])
        if status:
            raise TrainingError(_("a training failed: {said}").format(said=_log(folder)))
        if status is not None:
            left.pop(0)
        elif time.monotonic() > deadline:
            for process in left:
                system.kill(process)
            raise TrainingError(
                _("a training of {too_long:.0f} seconds, where two are usual: {said}").format(
                    too_long=TOO_LONG, said=_log(folder)
                )
            )
        else:
            time.sleep(0.002)


def _kill(processes: list[int], which: int, folder: Path) -> bool:
    """Kill one of a training's processes, and as a launcher does, the others after it; False where
    it had ended well before.

    Raises TrainingError where it had failed.
    """
    try:
        killed = system.kill(processes.pop(which))
    except ChildProcessError:
        raise TrainingError(
            _("the training in {folder} failed: {said}").format(folder=folder, said=_log(folder))
        ) from None
    for process in processes:
        with contextlib.suppress(ChildProcessError):  # it ended because the other was gone
            system.kill(process)
    return killed


def _await_saving(folder: Path, process: int, count: int) -> None:
    """Return at the moment the process begins its checkpoint number `count`, or has ended."""
    seen = before = set(_partial(folder / "checkpoints"))
    while len(seen - before) < count:
        seen = seen | set(_partial(folder / "checkpoints"))
        if system.has_ended(process):
            return
        time.sleep(0.0005)  # a save takes some ten of these; the core is the training's


def _partial(checkpoints: Path) -> Iterator[str]:
    with contextlib.suppress(OSError), os.scandir(checkpoints) as entries:
        yield from (entry.name for entry in entries if entry.name.endswith(".partial"))


def _log(folder: Path) -> str:
    with contextlib.suppress(OSError):
        return folder.with_suffix(".log").read_text(encoding="utf-8").strip().splitlines()[-1]
    return _("it said nothing")


def compared_files(folder: Path) -> dict[str, bytes]:
    """Every byte that must be the same for the same run: all but what the clock writes."""
    newest = max(folder.glob("checkpoints/step-*"))
    paths = [folder / "metrics.jsonl", folder / "samples.jsonl"]
    paths += [path for path in (folder / "model").iterdir() if not path.name.startswith(".")]
    paths += [newest / f"{group}.safetensors" for group in ("model", "optimizer")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(paths)}
