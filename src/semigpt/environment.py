"""What has to be in the environment before PyTorch loads: how its threads wait, and for which CPU
everything is computed.
"""

from __future__ import annotations

import os
import platform
from typing import Literal

from semigpt.errors import SettingsError
from semigpt.language import _

__all__ = ["cpu_limit", "prepare"]

# How often a thread of GNU's OpenMP asks before it sleeps, some 50 us; its own 300,000 keep a core
# that another program could use: beside one a step took 25 times as long; docs/choices.md#waiting.
SPINS = "1000"
CPU = "SEMIGPT_CPU"
AVX2 = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}


def prepare() -> None:
    """Set what the user has not set. `import semigpt` calls it; once torch is loaded it is late."""
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPINS
    if os.environ.get(CPU) == "avx2":
        for name, value in AVX2.items():
            os.environ.setdefault(name, value)


def cpu_limit() -> Literal["avx2"] | None:
    """The CPU that `SEMIGPT_CPU` holds everything to, so that a machine can be tried as one of its
    older kind; None for the CPU as it is.

    Raises SettingsError for another value, and on a CPU that is not x86.
    """
    value = os.environ.get(CPU, "")
    if not value:
        return None
    if value != "avx2":
        raise SettingsError(
            _("{variable}={value} is unknown; it may be avx2, or unset").format(
                variable=CPU, value=value
            )
        )
    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise SettingsError(
            _("{variable}=avx2 needs an x86 CPU, not {platform}; unset it").format(
                variable=CPU, platform=platform.machine()
            )
        )
    return "avx2"
