"""What one of many processes holds and sends, counted without the others.

    python benchmarks/shards.py [--ranks N] [--layers N] [--width N] [--json]

Torch's fake process group has so many ranks and one process, and fake tensors take no memory.
One step of a `gpt` in bfloat16 is computed, sharded, with Muon; every collective is counted.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed import device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore

import semigpt.training.step
from semigpt.device import MachineSettings
from semigpt.models import build_model
from semigpt.parallel import Processes
from semigpt.training.optimizer import OptimizerSettings
from semigpt.training.sharding import ShardedOptimizer
from semigpt.training.step import make_step


class FakeProcesses(Processes):
    """The first of so many processes, alone."""

    def __init__(self, size: int) -> None:
        self.size, self.rank, self.sharded = size, 0, True
        dist.init_process_group("fake", rank=0, world_size=size, store=FakeStore())


def counted(name: str, calls: Counter[str], sent: Counter[str]) -> Callable[..., Any]:
    """The collective, with its calls and the bytes of its largest side added up."""
    real = getattr(dist, name)

    def call(first: Any, second: Any, *rest: Any, **named: Any) -> Any:
        sides = [sum(t.nbytes for t in ([s] if isinstance(s, torch.Tensor) else s))
                 for s in (first, second)]  # fmt: skip
        even = name == "all_to_all_single" and not rest
        kind = "reduce-scatter" if even else name
        calls[kind] += 1
        sent[kind] += max(sides)
        return real(first, second, *rest, **named)

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description="One process of many, counted.")
    parser.add_argument("--ranks", type=int, default=512)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=3072)
    parser.add_argument("--vocab", type=int, default=64_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    begin = time.monotonic()
    group = FakeProcesses(options.ranks)
    calls: Counter[str] = Counter()
    sent: Counter[str] = Counter()
    mesh = device_mesh.init_device_mesh("cpu", (options.ranks,))  # of real numbers
    # A mesh of fake numbers cannot be made, and `fully_shard` makes one.
    device_mesh.init_device_mesh = lambda *_: mesh  # type: ignore[assignment]
    semigpt.training.step.check_ids = lambda *_: None  # fake ids have no values
    with FakeTensorMode(allow_non_fake_inputs=True):
        shape = {"width": options.width, "num_layers": options.layers, "context_length": 128,
                 "num_heads": options.heads, "hidden_width": options.hidden}  # fmt: skip
        model = build_model("gpt", options.vocab, shape)
        model.compute_dtype = torch.bfloat16
        parameters = model.parameter_count()
        optimizer = ShardedOptimizer(OptimizerSettings(), group, torch.device("cpu"))
        step = optimizer.shard(model, make_step(model, MachineSettings(backend="plain")))
        for name in ("all_gather_single", "all_to_all_single", "all_gather"):
            setattr(dist, name, counted(name, calls, sent))
        ids = torch.zeros(1, 128, dtype=torch.long)
        step(ids, ids)
        of_step = Counter(calls), Counter(sent)
        optimizer.clip_gradients()
        optimizer.step(0.5)
    held = sum(rows.numel() for rows in optimizer.parameters)
    gathers, reduces = "all_gather_single", "reduce-scatter"
    result = {
        "ranks": options.ranks,
        "parameters": parameters,
        "held": held,
        "held of an even part": held * options.ranks / parameters,
        "gathers": of_step[0][gathers],
        "gathered bytes per parameter": of_step[1][gathers] / parameters,
        "reduce-scatters": of_step[0][reduces],
        "reduced bytes per parameter": of_step[1][reduces] / parameters,
        "optimizer's collectives": calls.total() - of_step[0].total(),
        "its bytes per parameter": (sent.total() - of_step[1].total()) / parameters,
        "seconds": time.monotonic() - begin,
    }
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:30} {value:,}" if isinstance(value, int) else f"{name:30} {value:,.4f}")


if __name__ == "__main__":
    main()
