"""How long a training step takes on this machine, by shape and batch: two shapes are measured.

Everything else is reckoned from their arithmetic. What is measured is kept in the cache folder with
the machine's name, so that the same command chooses the same again; the rehearsal of each run
corrects it where a busy machine made it slow.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from semigpt.device import MachineSettings, pick_device, pick_precision
from semigpt.environment import cpu_limit
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.native import ahead
from semigpt.native.compiler import cpu_identity
from semigpt.parallel import ALONE, Group
from semigpt.storage import cache_folder, replace_file
from semigpt.training.optimizer import Optimizer, OptimizerSettings
from semigpt.training.step import make_step

__all__ = ["Speed", "corrected", "measured_speed", "step_work"]

VOCABULARY = 4000
# Size and sequences of the two measured steps: a GPU's are of sizes that fill it.
PROBES = {"cpu": (("tiny", 12), ("small", 6)), "cuda": (("small", 24), ("base", 64))}
PROBE_SECONDS, PROBE_LIMIT = 0.4, 1.5  # of steps of each: as a rule, and where they are slow
PER_STEP = 0.5  # of the shorter measured step, at most, is what every step takes
# What a run measures is believed where it is so many times as fast as was kept. Machines drift by
# a quarter from one process to the next, and a choice should not drift with them.
FASTER = 1.35
MEMORY_WORK = 1.3  # a step of `memory` beside one of `gpt`


@dataclass(frozen=True)
class Speed:
    """Seconds per step: some that every step takes, and some for each unit of work."""

    per_step: float
    per_work: float

    def seconds(
        self, model: GPTSettings, batch_size: int, group: Group = ALONE, output_sample: int = 0
    ) -> float:
        """Of one step on so many sequences, which the processes of a group share, and so many rows
        of the output layer (0: all).
        """
        own_batch = -(-batch_size // group.size)
        work = step_work(model, own_batch, group.shards, output_sample)
        return self.per_step + self.per_work * work


def step_work(
    model: GPTSettings, batch_size: int, owners: int = 1, output_sample: int = 0
) -> float:
    """Multiply-adds of a step, in 10^9 operations: forward, backward, and Muon's five rounds of
    Newton-Schulz on each matrix, of which so many `owners` compute each its part.
    """
    C, F, T = model.width, model.feedforward_width, model.context_length
    heads = model.num_heads * model.head_width
    products = model.parameter_count - model.padded_vocab_size * C  # the embedding is looked up
    if output_sample:
        products -= (model.padded_vocab_size - output_sample) * C
    attention = 2 * model.num_layers * T * heads
    learnt = 6 * batch_size * T * (products + attention)
    short, long = sorted((C, F))
    muon = model.num_layers * 5 * (4 * 6 * C**3 + 3 * (4 * short * short * long + 2 * short**3))
    memory = MEMORY_WORK if model.ngram_order is not None else 1.0
    return 1e-9 * (learnt * memory + muon / owners)


def measured_speed(machine: MachineSettings) -> Speed:
    """This machine's speed: kept from before, else measured in a second or two.

    Raises SettingsError as `pick_device` does.
    """
    path = speed_file(machine)
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Speed(float(kept["per_step"]), float(kept["per_work"]))
    except (OSError, ValueError, TypeError, LookupError):
        pass
    device = pick_device(machine.device)
    probes = PROBES["cuda" if device.type == "cuda" else "cpu"]
    ahead.wait()  # a compiler beside them would slow the steps that are measured
    measured = []
    for size, batch_size in probes:
        table = GPT.defaults(size)["model"]
        model = GPTSettings(vocab_size=VOCABULARY, **table)
        measured.append(
            (step_work(model, batch_size), probe_seconds(model, batch_size, machine, device))
        )
    speed = speed_of(measured)
    keep(path, speed)
    return speed


def speed_of(measured: list[tuple[float, float]]) -> Speed:
    """The straight line through two measurements (work, seconds), the smaller first.

    Through the larger alone where a disturbed measurement would make it too flat or too steep.
    """
    (small, quick), (large, slow) = measured
    per_step = quick - small * (slow - quick) / (large - small)
    per_step = min(max(per_step, 0.0), PER_STEP * quick)
    return Speed(per_step, (slow - per_step) / large)


def probe_seconds(
    settings: GPTSettings, batch_size: int, machine: MachineSettings, device: torch.device
) -> float:
    """The fastest of some steps on tokens drawn at random, after one that is not counted."""
    threads = torch.get_num_threads()
    torch.set_num_threads(machine.threads or threads)
    try:
        with torch.random.fork_rng():
            model = GPT(settings).to(device)
            model.compute_dtype = pick_precision(device, machine.precision)
            step = make_step(model, replace(machine, compile=False))
            optimizer = Optimizer(model, OptimizerSettings())
            shape = (batch_size, settings.context_length)
            inputs_BT, targets_BT = torch.randint(settings.vocab_size, (2, *shape), device=device)
            durations: list[float] = []
            begun = now = time.perf_counter()
            while not probed(durations, now - begun):
                before = now
                step(inputs_BT, targets_BT).item()
                optimizer.clip_gradients()
                optimizer.step(0.5)
                optimizer.zero_gradients()
                now = time.perf_counter()
                durations.append(now - before)
    finally:
        torch.set_num_threads(threads)
    return min(durations[1:] or durations)


def probed(durations: list[float], seconds: float) -> bool:
    """Whether steps have been measured well enough: three at least, one where a step takes long."""
    if seconds >= PROBE_LIMIT:
        return True
    return len(durations) > 2 and seconds >= PROBE_SECONDS


def corrected(machine: MachineSettings, expected: float, measured: float) -> None:
    """Keep a speed that is as much faster as a run's own steps were, in seconds per step."""
    if measured * FASTER < expected:
        speed, faster = measured_speed(machine), measured / expected
        kept = Speed(speed.per_step * faster, speed.per_work * faster)
        keep(speed_file(machine), kept)


def keep(path: Path, speed: Speed) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(vars(speed)).encode())


def speed_file(machine: MachineSettings) -> Path:
    """Where the speed of this machine is kept, by all that it depends on."""
    device = pick_device(machine.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    parts = (
        *("1", name, torch.__version__, machine.precision, machine.backend, str(cpu_limit())),
        *(
            str(machine.threads or torch.get_num_threads()),
            cpu_identity().decode("ascii", "replace"),
        ),
    )
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return cache_folder() / "speed" / f"{digest[:20]}.json"
