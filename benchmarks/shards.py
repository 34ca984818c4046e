"""What one of many processes holds and sends, counted without the others, beside the plan's.

    python benchmarks/shards.py [--ranks N] [--machine N] [--shards N] [--layers N] [--json]

Torch's fake process group has so many ranks and one process, and fake tensors take no memory.
One step of a `gpt` in bfloat16 is computed, sharded, with Muon; every collective is counted. One
of all processes is reckoned as the plan does: within a machine, then of a part between machines.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import DeviceMesh
from torch.testing._internal.distributed.fake_pg import FakeStore

import semigpt.training.step
from semigpt.device import MachineSettings
from semigpt.models import build_model
from semigpt.parallel import Processes
from semigpt.studies.plan import Work
from semigpt.training.optimizer import OptimizerSettings
from semigpt.training.sharding import ShardedOptimizer
from semigpt.training.step import make_step


class FakeProcesses(Processes):
    """The first of so many processes, alone."""

    def __init__(self, size: int, machine: int, shards: int) -> None:
        self.size, self.rank, self.machine, self.shards, self._dist = size, 0, machine, shards, dist
        self._workspaces, self._may_share, self._shared = {}, False, None
        dist.init_process_group("fake", rank=0, world_size=size, store=FakeStore())
        self._make_levels()


@dataclass
class Call:
    """A collective: the bytes of its larger side, and those sent to a machine's others and on."""

    kind: str
    bytes: int
    near: float
    far: float


def counted(name: str, calls: list[Call], processes: FakeProcesses) -> Callable[..., Any]:
    """The collective, with its calls written down."""
    real = getattr(dist, name)

    def call(first: Any, second: Any, *rest: Any, group: Any, **named: Any) -> Any:
        sides = [sum(t.nbytes for t in ([s] if isinstance(s, torch.Tensor) else s))
                 for s in (first, second)]  # fmt: skip
        most, size = max(sides), group.size()
        inside = 1 if group in processes.levels[1:] else min(size, processes.machine)
        kind = "sum" if name == "all_to_all_single" and not rest else name
        near, far = most * (1 - 1 / inside), most / inside * (1 - inside / size)
        calls.append(Call(kind, most, near, far))
        return real(first, second, *rest, group=group, **named)

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description="One process of many, counted.")
    parser.add_argument("--ranks", type=int, default=512)
    parser.add_argument("--machine", type=int, default=8, help="ranks of each")
    parser.add_argument("--shards", type=int, help="ranks that hold a replica (default: all)")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=3072)
    parser.add_argument("--vocab", type=int, default=64_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    begin = time.monotonic()
    shards = options.shards or options.ranks
    group = FakeProcesses(options.ranks, options.machine, shards)
    calls: list[Call] = []
    mesh = DeviceMesh.from_group(group.replica_group, "cpu")  # of real numbers
    # A mesh of fake numbers cannot be made, and `cut` makes one.
    DeviceMesh.from_group = lambda *_: mesh  # type: ignore[assignment,method-assign]
    # Fake ids have no values to check. The name is imported there, which mypy calls private.
    semigpt.training.step.check_ids = lambda *_: None  # type: ignore[attr-defined]
    with FakeTensorMode(allow_non_fake_inputs=True):
        shape = {"width": options.width, "num_layers": options.layers, "context_length": 128,
                 "num_heads": options.heads, "hidden_width": options.hidden}  # fmt: skip
        model = build_model("gpt", options.vocab, shape)
        model.compute_dtype = torch.bfloat16
        parameters = model.parameter_count()
        optimizer = ShardedOptimizer(OptimizerSettings(), group, torch.device("cpu"))
        step = optimizer.shard(model, make_step(model, MachineSettings(backend="plain")))
        for name in ("all_gather_single", "all_to_all_single", "all_gather"):
            setattr(dist, name, counted(name, calls, group))
        ids = torch.zeros(1, 128, dtype=torch.long)
        step(ids, ids)
        of_step = len(calls)
        group.sum_of_replicas(torch.cat([rows.grad.flatten() for rows in optimizer.parameters]))
        summed = len(calls)
        optimizer.clip_gradients()
        optimizer.step(0.5)
    held = sum(rows.numel() for rows in optimizer.parameters)
    gathers = [call for call in calls[:of_step] if call.kind == "all_gather_single"]
    sums = [call for call in calls[:of_step] if call.kind == "sum"]
    work = Work(model.settings, options.ranks, options.ranks, options.ranks, True, group.machine,
                shards)  # fmt: skip
    result = {
        "ranks": options.ranks,
        "parameters": parameters,
        "held": held,
        "held of an even part": held * shards / parameters,
        "gathers": len(gathers),
        "gathered bytes per parameter": sum(call.bytes for call in gathers) / parameters,
        "sums": len(sums),
        "summed bytes per parameter": sum(call.bytes for call in sums) / parameters,
        "collectives between replicas": summed - of_step,
        "sent in a machine, per parameter": sum(c.near for c in calls[:summed]) / parameters,
        "sent in a machine, by the plan": work.sent[0] / parameters,
        "sent between machines, per parameter": sum(c.far for c in calls[:summed]) / parameters,
        "sent between machines, by the plan": work.sent[1] / parameters,
        "optimizer's collectives": len(calls) - summed,
        "its bytes per parameter": sum(call.bytes for call in calls[summed:]) / parameters,
        "seconds": time.monotonic() - begin,
    }
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:36} {value:,}" if isinstance(value, int) else f"{name:36} {value:,.4f}")


if __name__ == "__main__":
    main()
