"""Several processes that train one model: whose micro-batches are whose, how gradients are added.

A step's gradient is the sum of its micro-batches' ("lanes'"), each computed by itself and added as
a tree of neighbours, ((a + b) + (c + d)) + e, whoever computed them. What goes between processes
carries numbers and adds none, so any number of processes computes the same bits. The processes of
a machine are neighbours: among several machines they add first, each a part of the numbers, and
then each adds its part to those of the other machines.

The first process prepares, samples, saves and reports. The others wait for it, open its run folder,
and compute their lanes of every step and their part of every evaluation.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from semigpt.adding import SharedMemory, SharedSum, TreeSum
from semigpt.errors import LostProcessError, SettingsError
from semigpt.language import _
from semigpt.place import Place

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ALONE", "Group", "Processes", "TreeSum", "Turn", "check_lanes", "ways"]

PATIENCE = timedelta(minutes=10)  # for a process that has begun
LONGEST_PREPARATION = timedelta(days=30)
SMALL = 1 << 12  # numbers, which are sent as fast as they are put into shared memory


class Turn(IntEnum):
    """What all processes of a training do next."""

    END = 0
    STEP = 1
    EVALUATION = 2
    SAVE = 3  # each its own part of a checkpoint


class Group:
    """One process alone. In a rehearsal it is the first of `size`, and the others are not there."""

    rank = 0
    shards = 1  # processes that hold one replica of the model together, neighbours, a part each
    shard: bool | None = False  # whether `shards` is to be more; None: where memory asks for it

    def __init__(self, size: int = 1) -> None:
        self.size = size

    @property
    def sharded(self) -> bool:
        """Whether each process holds a part of the model, and no process all of it."""
        return self.shards > 1

    @property
    def replica(self) -> int:
        """The number of the replica of which this process holds a part."""
        return self.rank // self.shards

    @property
    def part(self) -> int:
        """The number of its part."""
        return self.rank % self.shards

    def ways(self, lanes: int) -> list[int]:
        """How many processes may hold a replica together, the fewest first."""
        return [1]

    def lanes(self, count: int) -> range:
        """The micro-batches that this process computes, of `count`.

        Those of a replica are neighbours, whose sum is a branch of the tree. Within a replica each
        process has one of each branch, since its gradient is added to the others' before the next
        is computed.
        """
        own = count // self.size * self.shards
        first = self.replica * own
        return range(first + self.part, first + own, self.shards)

    def rehearsal(self) -> Group:
        """A group in which this process computes as many lanes as in this one, and adds no others.

        The bits are not the run's: it is for measuring time.
        """
        return Group(self.size)

    def begin(self, folder: str, stamp: str, *, rehearsal: bool = False) -> None:
        """Tell the others in which folder the run is, and whether its model is sharded: whoever
        opens it there is ready to train.

        stamp:     of the token shards, which they need not verify again
        rehearsal: a few steps of it, after which all begin the run itself
        """

    def join(self, facts: Mapping[str, str]) -> None:
        """Wait until all are ready to train. `facts` are what the bits of a step depend on.

        Raises SettingsError where a process could not open the run, or would round otherwise.
        """

    def dismiss(self) -> None:
        """Tell those that still wait that there is nothing to train."""

    def sum(self, values: Tensor) -> Tensor:
        """The sum of every process's `values` `[P]`, as a tree of neighbours; in their place where
        the processes share them evenly.
        """
        return values

    def gather(self, values: Tensor) -> Tensor:
        """Every process's `values` `[P]`, as `[size, P]`."""
        return values[None]

    def sum_in_replica(self, values: Tensor) -> Tensor:
        """That of the processes that hold this one's replica of the model."""
        return values

    def sum_of_replicas(self, values: Tensor) -> Tensor:
        """That of the processes that hold the same part of the model."""
        return values

    def agree(self, seconds: float, turn: Turn) -> tuple[float, Turn]:
        """The first process's clock, and what all do next."""
        return seconds, turn

    def end(self) -> None:
        """Tell the others that no step follows, once."""


ALONE = Group()


def check_lanes(lanes: int, size: int, shards: int = 1) -> None:
    """Raise SettingsError where `size` processes, of which so many hold a replica together, cannot
    add `lanes` micro-batches in one order.
    """
    if size > 1 and not _adds_up(lanes, size, shards):
        others = [(n, n if shards > 1 else 1) for n in range(2, lanes + 1)]
        fitting = [n for n, shards in others if _adds_up(lanes, n, shards)]
        raise SettingsError(
            _(
                "a step of {lanes} micro-batches cannot be computed by {size} processes: "
                "{fitting} can; the number of micro-batches is "
                "training.gradient_accumulation, set when a run begins"
            ).format(lanes=lanes, size=size, fitting=", ".join(map(str, [1, *fitting])))
        )


def _adds_up(lanes: int, size: int, shards: int) -> bool:
    """Whether the micro-batches of each of several replicas are a branch of the tree, and so are
    those that a replica computes at once.
    """
    each, rest = divmod(lanes, size)
    branches = size == shards or _is_power(each * shards)
    return not rest and branches and (each == 1 or _is_power(shards))


def _is_power(number: int) -> bool:
    return number & (number - 1) == 0


def ways(lanes: int, size: int, machine: int) -> list[int]:
    """How many of `size` processes, of which a machine has so many, may hold a replica together:
    one, those of a machine, all.
    """
    return [1, *([machine] if 1 < machine < size and _adds_up(lanes, size, machine) else []), size]


class Processes(Group):
    """A process among several, which torch.distributed connects."""

    def __init__(self, place: Place, *, sharded: bool | None = False) -> None:
        """sharded: None leaves it to the first process's `begin`."""
        import torch

        super().__init__(place.size)
        self.rank, self.place, self.machine = place.rank, place, place.machine
        self.shard, self.shards = sharded, place.size if sharded else 1
        self._told, self._begun, self._ended = 0, 0, False
        self._workspaces: dict[Any, Tensor] = {}
        self._shared: SharedSum | None = None
        self._may_share = place.local_size == place.size
        if torch.cuda.is_available():
            if place.local_size > torch.cuda.device_count():
                raise SettingsError(
                    _(
                        "{local_size} processes and {gpus} GPUs: start at "
                        "most one process per GPU, or say --device cpu"
                    ).format(local_size=place.local_size, gpus=torch.cuda.device_count())
                )
            torch.cuda.set_device(place.local_rank)
        self._dist: Any = torch.distributed  # its type stubs do not have the stores
        dist = self._dist
        with self.connected():
            store = dist.TCPStore(
                place.address,
                place.port,
                is_master=place.rank == 0 and not place.hosted,
                wait_for_workers=False,
                timeout=PATIENCE,
            )
        # Beyond attempts: the launcher's store outlives the processes.
        self._kept = dist.PrefixStore("semigpt", store)
        self._store = dist.PrefixStore(f"attempt-{place.attempt}", self._kept)

    # Before training: the store

    @property
    def begun(self) -> str | None:
        """The run folder of an earlier attempt, where one came so far."""
        with self.connected():
            told = json.loads(self._kept.get("run")) if self._kept.check(["run"]) else None
        return told and str(told["folder"])

    def begin(self, folder: str, stamp: str, *, rehearsal: bool = False) -> None:
        self._begun, self._ended = self._begun + 1, False
        told = {"folder": folder, "stamp": stamp, "shards": self.shards, "rehearsal": rehearsal}
        self._kept.set("run", json.dumps(told))
        self._store.set(f"run-{self._begun}", json.dumps(told))

    def next_run(self) -> tuple[str, str, bool] | None:
        """What `begin` tells, however long the first process prepares the run; None where it
        dismisses the others.
        """
        self._begun += 1
        told = self._awaited(f"run-{self._begun}", LONGEST_PREPARATION)
        if told is None:
            return None
        self.shards = told["shards"]
        return told["folder"], told["stamp"], told["rehearsal"]

    def report(self, facts: Mapping[str, str] | None, error: str = "") -> bool:
        """Say that this process is ready, or why it is not; whether there is something to train."""
        ready = {"facts": facts, "error": error, "machine": self.machine}
        self._store.set(f"ready-{self._begun}-{self.rank}", json.dumps(ready))
        joined = None if error else self._awaited(f"join-{self._begun}", PATIENCE)
        if joined is None:
            return False
        self.machine, self.shards = joined
        self._connect()
        return True

    def join(self, facts: Mapping[str, str]) -> None:
        for rank in range(1, self.size):
            ready = self._awaited(f"ready-{self._begun}-{rank}", PATIENCE)
            if ready["error"]:
                raise SettingsError(
                    _("process {rank} of {size}: {error}").format(
                        rank=rank, size=self.size, error=ready["error"]
                    )
                )
            if ready["facts"] != facts:
                unlike = ", ".join(
                    _("{name} {own} and {other}").format(
                        name=name, own=own, other=ready["facts"].get(name)
                    )
                    for name, own in facts.items()
                    if ready["facts"].get(name) != own
                )
                raise SettingsError(
                    _(
                        "process {rank} would round otherwise than the first "
                        "({unlike}): use machines "
                        "and environments that are alike"
                    ).format(rank=rank, unlike=unlike)
                )
            if ready["machine"] != self.machine:  # unlike machines add all at once
                self.machine = self.size
                self.shards = self.size if self.sharded else 1
        self._store.set(f"join-{self._begun}", json.dumps([self.machine, self.shards]))
        self._connect()

    def dismiss(self) -> None:
        with contextlib.suppress(LostProcessError), self.connected():
            for key in (f"run-{self._begun + 1}", f"join-{self._begun}"):
                if not self._store.check([key]):
                    self._store.set(key, "null")

    def _awaited(self, key: str, patience: timedelta) -> Any:
        with self.connected():
            self._store.wait([key], patience)
            return json.loads(self._store.get(key))

    def _connect(self) -> None:
        import torch

        self._workspaces = {}  # of the groups that rehearsed
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        with self.connected():
            self._dist.init_process_group(
                backend,
                store=self._dist.PrefixStore(f"group-{self._begun}", self._store),
                rank=self.rank,
                world_size=self.size,
                timeout=PATIENCE,
            )
            self._make_levels()

    def _make_levels(self) -> None:
        """The groups that add one after the other: within a machine and between machines, or all at
        once; and which of them are within a replica.
        """
        dist, size, machine, local = self._dist, self.size, self.machine, self.rank % self.machine
        self.levels = [dist.group.WORLD]
        if machine < size:
            first = self.rank - local
            self.levels = [
                dist.new_group([*ranks], timeout=PATIENCE, use_local_synchronization=True)
                for ranks in (range(first, first + machine), range(local, size, machine))
            ]
        self._inner = 0 if self.shards == 1 else 1 if self.shards == machine else 2
        self.replica_group = self.levels[0] if self.shards == machine else dist.group.WORLD

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """A connection that breaks is a process that is gone."""
        try:
            yield
        except RuntimeError as error:  # what torch.distributed raises has no other base
            # Its first sentence, without the file of the library's source.
            reason = re.sub(r"\[/[^\]]*\] ?|\. .*", "", str(error).split("\n")[0])
            raise LostProcessError(
                _(
                    "process {rank} of {size} has lost another ({reason}); what was saved "
                    "is whole: the same command goes on from there"
                ).format(rank=self.rank, size=self.size, reason=reason)
            ) from None

    # While training: torch.distributed

    def ways(self, lanes: int) -> list[int]:
        found = ways(lanes, self.size, self.machine)
        return found if self.shard is None else found[1:] if self.shard else [1]

    def sum(self, values: Tensor) -> Tensor:
        return self._sum(values, self.levels)

    def sum_in_replica(self, values: Tensor) -> Tensor:
        return self._sum(values, self.levels[: self._inner])

    def sum_of_replicas(self, values: Tensor) -> Tensor:
        return self._sum(values, self.levels[self._inner :])

    def _sum(self, values: Tensor, levels: list[Any]) -> Tensor:
        import torch
        import torch.distributed as dist

        if not levels:
            return values
        if self._shares(values):
            assert self._shared is not None
            return self._shared.add(values, self._wait)
        group, *further = levels
        padding = -len(values) % group.size()
        shared = torch.cat([values, values.new_zeros(padding)]) if padding else values
        total = self._sum(self._sum_of_part(shared, group), further)
        with self.connected():
            dist.all_gather(list(shared.chunk(group.size())), total, group=group)
        return shared[: len(values)]

    def gather(self, values: Tensor) -> Tensor:
        import torch
        import torch.distributed as dist

        if self._shared is not None and self._shared.holds(values):
            return self._shared.gather(values, self._wait)
        whole = values.new_empty(self.size, len(values))
        with self.connected():  # bytes, since not every backend knows every type
            dist.all_gather(
                [row.view(torch.uint8) for row in whole], values.contiguous().view(torch.uint8)
            )
        return whole

    def _wait(self) -> None:
        """Until all are here."""
        import torch

        with self.connected():
            self._dist.all_reduce(torch.zeros(1))

    def _shares(self, values: Tensor) -> bool:
        """Whether the sum is made in shared memory, which the first sum of many numbers maps."""
        import torch

        if values.device.type != "cpu" or len(values) < SMALL:
            return False
        if self._may_share and self._shared is None:
            self._may_share = False
            with contextlib.closing(SharedMemory(2 * self.size * values.nbytes)) as memory:
                memory.open(self.told("" if self.rank else memory.create()))
                # The first process has it open until the last one has.
                if not self.sum(torch.tensor([float(memory.file is None)])).item():
                    self._shared = SharedSum(self.rank, self.size, values, memory)
        return self._shared is not None and self._shared.fits(values)

    def sum_of_parts(self, sent: Tensor) -> Tensor:
        """This process's part of the sum of `sent` over a replica, which its processes share
        evenly. It holds until the next sum.
        """
        part = len(sent) // self.shards
        for group in self.levels[: self._inner]:
            # The parts of the processes that add up with the next levels go to each.
            parts = sent.view(-1, group.size(), part).transpose(0, 1)
            sent = self._sum_of_part(parts.reshape(-1), group)
        return sent

    def _sum_of_part(self, sent: Tensor, group: Any) -> Tensor:
        """This process's part of the sum of `sent` over a group of torch's."""
        import torch.distributed as dist

        received, tree = self._received(sent, group), TreeSum()
        with self.connected():
            dist.all_to_all_single(received, sent, group=group)
        for each in received.chunk(group.size()):
            tree.add(each)
        return tree.total()

    def _received(self, sent: Tensor, group: Any) -> Tensor:
        """A place for what comes, kept on a CPU: mapping memory anew takes longer than a sum."""
        import torch

        if sent.device.type != "cpu":
            return torch.empty_like(sent)
        kept = self._workspaces.get(group)
        if kept is None or kept.dtype != sent.dtype or len(kept) < len(sent):
            kept = self._workspaces[group] = torch.empty_like(sent)
        return kept[: len(sent)]

    def exchange(self, sent: list[Tensor], received: list[int]) -> Tensor:
        """Send each process of this replica its part, and receive so many numbers from each, in
        their order.
        """
        import torch
        import torch.distributed as dist

        given = torch.cat(sent)
        taken = given.new_empty(sum(received))
        with self.connected():
            sizes = received, [len(part) for part in sent]
            dist.all_to_all_single(taken, given, *sizes, group=self.replica_group)
        return taken

    def told(self, message: str = "") -> str:
        """What the first process says; every process asks."""
        self._told += 1
        key = f"told-{self._told}"
        if not self.rank:
            with self.connected():
                self._store.set(key, json.dumps(message))
        return str(self._awaited(key, PATIENCE))

    def agree(self, seconds: float, turn: Turn) -> tuple[float, Turn]:
        import torch
        import torch.distributed as dist

        told = torch.tensor([seconds, turn], dtype=torch.float64)
        with self.connected():
            dist.broadcast(told, 0)
        seconds, number = told.tolist()
        if number == Turn.END:
            self._ended = True
            self._leave()
        return seconds, Turn(int(number))

    def _leave(self) -> None:
        """Wait until all know, since one that has left cannot pass on what it was sent; then close
        the connections, whose threads might end a process that exits as if it had died.
        """
        self._store.set(f"left-{self._begun}-{self.rank}", "true")
        with self.connected():
            left = [f"left-{self._begun}-{rank}" for rank in range(self.size)]
            self._store.wait(left, PATIENCE)
        self._dist.destroy_process_group()

    def end(self) -> None:
        if not self._ended:
            with contextlib.suppress(LostProcessError):
                self.agree(0.0, Turn.END)
