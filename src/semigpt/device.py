"""The device that runs the model, and the number type of its products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from semigpt.environment import cpu_limit
from semigpt.errors import SettingsError
from semigpt.language import _
from semigpt.settings import check_at_most, check_choice, check_positive

if TYPE_CHECKING:
    import torch

__all__ = [
    "DEVICES",
    "MachineSettings",
    "one_thread",
    "pick_device",
    "pick_precision",
    "use_threads",
]

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class MachineSettings:
    """How a machine runs training.

    device:    "auto" takes the fastest there is
    precision: of the products; "auto" takes bfloat16 where the hardware multiplies it
    compile:   torch.compile, 10 to 40 s before the first step; None leaves it to `semigpt.auto`. A
               compiled `memory` that is resumed in another process may end in other bits.
    backend:   "native" is the gradient written out in C, on a CPU; "plain" is PyTorch's autograd;
               "auto" takes native where shape and compiler allow it, and a CUDA graph on a GPU
    threads:   of a CPU's products; None is PyTorch's own choice, one per core
    checkpoint_activations: keep only each block's input and run the block again in the backward
               pass: less memory, a third more work

    Raises SettingsError for values that cannot work.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool | None = None
    backend: Literal["auto", "native", "plain"] = "auto"
    threads: int | None = None
    checkpoint_activations: bool = False

    def __post_init__(self) -> None:
        check_choice("device", self.device, DEVICES)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("backend", self.backend, ("auto", "native", "plain"))
        check_positive(self, "threads")
        check_at_most(self, threads=4096)
        if self.backend == "native" and (self.compile or self.checkpoint_activations):
            raise SettingsError(
                _("machine.backend native goes with neither compile nor checkpoint_activations")
            )


def pick_device(name: str) -> torch.device:
    """The device called `name`, one of DEVICES; "auto" is the fastest there is.

    Raises SettingsError for another name, or a device that this machine has not.
    """
    import torch

    check_choice("device", name, DEVICES)
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if available[device])
    if not available[name]:
        known = ", ".join(device for device, found in available.items() if found)
        raise SettingsError(
            _("no {name} device on this machine; it has {known}: choose with --device").format(
                name=name, known=known
            )
        )
    return torch.device(name)


def pick_precision(device: torch.device, precision: str) -> torch.dtype:
    """The number type of the products on a device; weights and their updates are always float32.

    "auto" takes bfloat16 only where the hardware multiplies it: with AMX 2,050 GFLOP/s against 335
    in float32 (docs/choices.md#precision). Raises SettingsError for a name not in PRECISIONS.
    """
    import torch

    check_choice("precision", precision, PRECISIONS)
    match precision, device.type:
        case "float32", _:
            return torch.float32
        case "bfloat16", _:
            return torch.bfloat16
        case _, "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
        case _, "cpu":
            capabilities = torch.cpu.get_capabilities()
            multiplies = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
            return torch.bfloat16 if multiplies and cpu_limit() is None else torch.float32
        case _:
            return torch.float32


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: PyTorch's matrix decompositions round otherwise with more."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def use_threads(settings: MachineSettings) -> None:
    """Compute with as many threads as the settings ask for, from here on."""
    import torch

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
