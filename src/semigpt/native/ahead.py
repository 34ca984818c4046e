"""Compile C in a process of its own, beside what does not need it yet.

A command that will train says at its beginning which sources it is going to use. The process
compiles one after the other on what the others leave of the machine, and says so; `compiled`
waits for a source that is on its way. Where the process cannot do it, the caller compiles.
"""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
import sys
import threading
from pathlib import Path

from semigpt.environment import cpu_limit
from semigpt.native import compiler
from semigpt.native.compiler import NativeUnavailableError
from semigpt.system import step_back

__all__ = ["compile_ahead", "compiled", "wait"]

FOLDER = Path(__file__).parent
_under_way: set[str] = set()
"""Units that a process is compiling. A unit is a source's stem, with its macros after colons."""
_asked: set[str] = set()
_changed = threading.Condition()


def compile_ahead(*units: str) -> None:
    """Begin to compile units in their order, each once in the life of this process.

    A unit is the name of a source in this folder without its ending, with the macros that it is
    compiled with after colons: `gpt_step:BFLOAT16`.
    """
    new = [unit for unit in map(_for_this_cpu, units) if unit not in _asked]
    if not new:
        return
    command = [sys.executable, "-P", "-m", __name__, *new]
    with contextlib.suppress(OSError):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        _asked.update(new)
        _under_way.update(new)
        threading.Thread(target=_listen, args=(process, new), daemon=True).start()


def _for_this_cpu(unit: str) -> str:
    """The unit, in bfloat16 where the CPU says that it multiplies that: a guess, before torch is
    there to ask."""
    flags = compiler.cpu_identity()
    multiplies = cpu_limit() is None and (b"amx_bf16" in flags or b"avx512_bf16" in flags)
    return "gpt_step:BFLOAT16" if unit == "gpt_step" and multiplies else unit


def _listen(process: subprocess.Popen[str], units: list[str]) -> None:
    """Note what the process says is ready, and all of its units at its end."""
    with process:
        for line in process.stdout or ():
            with _changed:
                _under_way.discard(line.strip())
                _changed.notify_all()
    with _changed:
        _under_way.difference_update(units)
        _changed.notify_all()


def compiled(source: Path, *defines: str) -> ctypes.CDLL:
    """`compiler.compiled`, after the process that compiles this source ahead, if there is one."""
    unit = ":".join((source.stem, *defines))
    with _changed:
        _changed.wait_for(lambda: unit not in _under_way)
    return compiler.compiled(source, *defines)


def wait() -> None:
    """Wait for all that is being compiled ahead."""
    with _changed:
        _changed.wait_for(lambda: not _under_way)


def main(units: list[str]) -> None:
    """Compile units, and print the name of each that is ready."""
    step_back()  # what is measured meanwhile has the machine to itself
    for unit in units:
        stem, *defines = unit.split(":")
        with contextlib.suppress(NativeUnavailableError):
            compiler.compiled(FOLDER / f"{stem}.c", *defines)
        sys.stdout.write(f"{unit}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
