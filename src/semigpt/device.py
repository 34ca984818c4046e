"""Which device runs the model and in what numbers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from semigpt.errors import SettingsError
from semigpt.settings import check_choice, check_positive

if TYPE_CHECKING:
    import torch

__all__ = ["DEVICES", "MachineSettings", "gigaflops", "pick_device", "pick_precision"]

DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True, kw_only=True)
class MachineSettings:
    """`auto` takes the fastest device there is, and bfloat16 products where its hardware has them."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # torch.compile: 10 to 40 s before the first step. None: where the clock ends the run and it pays (`recipe.pays_to_compile`).
    # A compiled `memory` that goes on in another process may come to other bits there.
    compile: bool | None = None
    # `native`: the gradient written out in C, on a CPU; `plain`: PyTorch's operations and autograd. auto: native where the
    # shape and a compiler allow it; on an NVIDIA GPU, PyTorch's operations recorded as a CUDA graph.
    backend: Literal["auto", "native", "plain"] = "auto"
    threads: int | None = None  # of a CPU's products; default: PyTorch's own choice, one a core
    # Keep each block's input alone and run the block once more on the way back: less memory, a third more work.
    checkpoint_activations: bool = False

    def __post_init__(self) -> None:
        check_choice("device", self.device, DEVICES)
        check_choice("precision", self.precision, ("auto", "float32", "bfloat16"))
        check_choice("backend", self.backend, ("auto", "native", "plain"))
        check_positive(self, "threads")
        if self.backend == "native" and (self.compile or self.checkpoint_activations):
            raise SettingsError(
                "machine.backend native goes with neither compile nor checkpoint_activations"
            )


def pick_device(name: str) -> torch.device:
    """The device of that name, `auto` for the fastest there is; SettingsError if this machine has none such."""
    import torch

    check_choice("device", name, DEVICES)
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if there[device])
    if not there[name]:
        known = ", ".join(device for device, found in there.items() if found)
        raise SettingsError(
            f"no {name} device on this machine; it has {known}: choose with --device"
        )
    return torch.device(name)


def pick_precision(device: torch.device, precision: str) -> torch.dtype:
    """The number type of the products. Weights and their updates are float32 whatever it is.

    bfloat16 pays only where the hardware multiplies it. On a CPU with AMX its products run 6 x as fast as float32's
    (2,050 against 335 GFLOP/s, two cores); with AVX512-BF16 alone a whole step of `small` runs 2.8 x as fast.
    """
    import torch

    match precision, device.type:
        case "float32", _:
            return torch.float32
        case "bfloat16", _:
            return torch.bfloat16
        case _, "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
        case _, "cpu":
            capabilities = torch.cpu.get_capabilities()
            return (
                torch.bfloat16
                if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
                else torch.float32
            )
        case _:
            return torch.float32


def gigaflops(settings: MachineSettings) -> float:
    """Thousand million floating-point operations a second in products as a net's step has them: what `semigpt.auto` goes by.

    Measured once a process, in a tenth of a second: two cores with AVX-512 alone 300, with AVX512-BF16 960, with AMX 2,400.
    A GPU's products are larger, or most of the time would be the asking.
    Raises SettingsError as `pick_device` does.
    """
    device = pick_device(settings.device)
    return _gigaflops(device, pick_precision(device, settings.precision), settings.threads)


@lru_cache
def _gigaflops(device: torch.device, dtype: torch.dtype, threads: int | None) -> float:
    import torch

    rows, width, columns = (3072, 256, 1024) if device.type == "cpu" else (16384, 1024, 4096)
    x = torch.ones(rows, width, dtype=dtype, device=device)
    weight = torch.ones(width, columns, dtype=dtype, device=device)
    product = torch.empty(rows, columns, dtype=dtype, device=device)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        # The first one is not timed: a GPU gets ready in it, an eighth of a second on an H200.
        torch.mm(x, weight, out=product)[0, 0].item()
        shortest, end = float("inf"), time.perf_counter() + 0.1
        while (start := time.perf_counter()) < end:
            torch.mm(x, weight, out=product)
            product[0, 0].item()  # a GPU is asked for its answer
            shortest = min(shortest, time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return 2e-9 * rows * width * columns / shortest
