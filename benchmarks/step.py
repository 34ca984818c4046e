"""What a training step takes, beside its matrix products alone, and where the rest goes.

    python benchmarks/step.py [--only NAME,...] [--threads N] [--seconds S] [--where]

For each shape, on random ids: the step as `semigpt train` runs it (gradients, clipping, Muon and
AdamW, no teacher); the same with PyTorch's autograd; the operations of the step's matrix products,
attention's and Muon's among them; and the rate of the fastest of PyTorch's products in a loop by
itself. `ratio` is the products at that rate over the step. Attention and Newton-Schulz count as
their formulas have it, whole products in the order written, though the C multiplies about half of
that. `--where` lists what the step's products and passes take.

The two ways take turns, a second each, so that other work on the machine slows both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from semigpt.device import MachineSettings, pick_device, pick_precision
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.native import orthogonal as newton_schulz
from semigpt.training.optimizer import Optimizer, OptimizerSettings
from semigpt.training.step import make_step

V = 8000
# Layers, width, heads, context, sequences.
SHAPES = {
    "tiny": (4, 128, 4, 128, 24),
    "small": (4, 256, 4, 128, 48),
    "base": (6, 384, 6, 256, 16),
    "nanogpt-4x128": (4, 128, 4, 64, 12),
    "nanogpt-6x384": (6, 384, 6, 256, 16),
}
PRODUCTS = ("mm", "bmm", "baddbmm")


class Trial:
    """A fresh model of one shape, and its step by one backend."""

    def __init__(self, shape: tuple[int, ...], backend: Literal["native", "plain"]) -> None:
        layers, width, heads, T, B = shape
        torch.manual_seed(0)
        settings = GPTSettings(
            vocab_size=V, context_length=T, width=width, num_layers=layers, num_heads=heads
        )
        self.model = GPT(settings).train()
        self.model.compute_dtype = pick_precision(pick_device("cpu"), "auto")
        machine = MachineSettings(device="cpu", backend=backend)
        self.step = make_step(self.model, machine)
        self.optimizer = Optimizer(self.model, OptimizerSettings())
        self.ids_BT, self.targets_BT = torch.randint(0, V, (2, B, T))
        self.seconds: list[float] = []

    def run(self) -> None:
        start = time.perf_counter()
        self.step(self.ids_BT, self.targets_BT)
        self.optimizer.clip_gradients()
        self.optimizer.step(0.5)
        self.optimizer.zero_gradients()
        self.seconds.append(time.perf_counter() - start)

    def run_for(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.run()


class Meter:
    """Times every product and every pass in C of a trial's step."""

    def __init__(self, trial: Trial) -> None:
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()
        self.arguments: dict[str, tuple[Callable[..., Any], Any, Any]] = {}
        self._trial = trial

    def __enter__(self) -> Meter:
        self._real = {name: getattr(torch, name) for name in PRODUCTS}
        for name, function in self._real.items():
            setattr(torch, name, self._product(name, function))
        self._step = getattr(self._trial.step, "_step")._run  # noqa: B009
        self._users = [self._step, getattr(self._step, "_heads")]  # noqa: B009
        self._library = self._step._c
        for user in self._users:
            user._c = _Passes(self, self._library)
        self._orthogonal = newton_schulz.orthogonal
        newton_schulz.orthogonal = self._newton_schulz
        return self

    def __exit__(self, *_: object) -> None:
        newton_schulz.orthogonal = self._orthogonal
        for user in self._users:
            user._c = self._library
        for name, function in self._real.items():
            setattr(torch, name, function)

    def _product(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            left, right = arguments[-2:]
            sides = " x ".join(f"{_shape(side)}" for side in (left, right))
            key = f"{name} {sides}"
            self.operations[key] += 2 * left.numel() * right.shape[-1]
            self.arguments[key] = (function, arguments, named)
            return self.time(key, function, *arguments, **named)

        return timed

    def _newton_schulz(self, matrices: Tensor, steps: int, *coefficients: float) -> Tensor:
        count, rows, columns = matrices.shape
        shorter, longer = sorted((rows, columns))
        key = f"Newton-Schulz {_shape(matrices)}"
        self.operations[key] += 2 * steps * count * shorter**2 * (2 * longer + shorter)
        return self.time(key, self._orthogonal, matrices, steps, *coefficients)

    def attention(self, name: str, sizes: tuple[int, ...]) -> None:
        """Add the operations of a pass over B sequences of T positions and H heads of D."""
        B, T, H, D = sizes
        products = {"semigpt_attention": 2, "semigpt_attention_backward": 4}.get(name, 0)
        self.operations[name] += 2 * products * B * H * T * T * D

    def time(self, key: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments, **named)
        self.seconds[key] += time.perf_counter() - start
        self.calls[key] += 1
        return result

    def best_rate(self, seconds: float) -> float:
        """Operations per second of the fastest product, each in a loop by itself."""
        best = 0.0
        for key, (function, arguments, named) in self.arguments.items():
            operations, shortest = self.operations[key] / self.calls[key], float("inf")
            end = time.perf_counter() + seconds
            while (start := time.perf_counter()) < end:
                function(*arguments, **named)
                shortest = min(shortest, time.perf_counter() - start)
            best = max(best, operations / shortest)
        return best


class _Passes:
    """The library in C, each function timed."""

    def __init__(self, meter: Meter, library: Any) -> None:
        self._meter, self._library = meter, library

    def __getattr__(self, name: str) -> Any:
        function, meter = getattr(self._library, name), self._meter

        def timed(*arguments: Any) -> Any:
            if name.startswith("semigpt_attention"):
                meter.attention(name, arguments[:4])
            return meter.time(name, function, *arguments)

        return timed


def _shape(side: Tensor) -> str:
    return f"{list(side.shape)}{'' if side.is_contiguous() else ' transposed'}"


def measure(name: str, seconds: float, where: bool) -> None:
    native, plain = Trial(SHAPES[name], "native"), Trial(SHAPES[name], "plain")
    for trial in (native, plain):
        trial.run()
        trial.run()
        trial.seconds.clear()
    for _ in range(max(round(seconds), 1)):
        native.run_for(1.0)
        plain.run_for(1.0)
    step, other = (statistics.median(trial.seconds) for trial in (native, plain))
    with Meter(native) as meter:
        native.run()
        best = meter.best_rate(0.1)
    operations = sum(meter.operations.values())
    products = sum(meter.seconds[key] for key in meter.operations)
    tokens = native.ids_BT.numel()
    print(
        f"| {name} | {1000 * step:.1f} | {1000 * other:.1f} | {operations / 1e9:.1f} "
        f"| {best / 1e9:,.0f} | {1000 * operations / best:.1f} | {operations / best / step:.2f} "
        f"| {1000 * products:.1f} | {tokens / step:,.0f} |",
        flush=True,
    )
    if where:
        for key, taken in meter.seconds.most_common(20):
            rate = f", {meter.operations[key] / taken / 1e9:,.0f} GFLOP/s"
            rate = rate if meter.operations[key] else ""
            print(f"    {1000 * taken:7.2f} ms, {meter.calls[key]:3d} calls{rate}: {key}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(SHAPES))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=4.0, help="of each backend's steps")
    parser.add_argument("--where", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        "| shape | step, ms | autograd | GFLOP of products | best GFLOP/s | products at best, ms "
        "| ratio | products in the step, ms | tokens per second |\n" + "|---" * 9 + "|"
    )
    for name in options.only.split(","):
        measure(name, options.seconds, options.where)


if __name__ == "__main__":
    main()
