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

from semigpt.native import compiler
from semigpt.native.compiler import NativeUnavailableError
from semigpt.system import step_back

__all__ = ["compile_ahead", "compile_for", "compiled", "wait"]

FOLDER = Path(__file__).parent
# What each rung's run takes of C, in the order in which it is wanted.
TEXT = ("tokenize", "ngrams")
UNITS = {
    "blocks": (*TEXT, "blocks_step"),
    "gpt": (*TEXT, "gpt_step", "decode"),
    "memory": (*TEXT, "gpt_step"),
}

_lock = threading.Lock()
_asked: dict[str, subprocess.Popen[str]] = {}
"""The process that compiles each unit. A unit is a source's stem, with its macros after colons."""
_ready: set[str] = set()


def compile_for(rung: str) -> None:
    """Begin to compile what a run of this rung takes, as a CPU without bfloat16 takes it."""
    compile_ahead(*UNITS.get(rung, TEXT))


def compile_ahead(*units: str) -> None:
    """Begin to compile units in their order, each once in the life of this process.

    A unit is the name of a source in this folder without its ending, with the macros that it is
    compiled with after colons: `gpt_step:BFLOAT16`.
    """
    with _lock:
        new = [unit for unit in units if unit not in _asked]
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
            _asked.update(dict.fromkeys(new, process))


def compiled(source: Path, *defines: str) -> ctypes.CDLL:
    """`compiler.compiled`, after the process that compiles this source ahead, if there is one."""
    _wait_for(":".join((source.stem, *defines)))
    return compiler.compiled(source, *defines)


def wait() -> None:
    """Wait for all that is being compiled ahead."""
    for unit in list(_asked):
        _wait_for(unit)


def _wait_for(unit: str) -> None:
    with _lock:
        process = _asked.get(unit)
        if process is None or unit in _ready or process.stdout is None:
            return
        for line in process.stdout:
            _ready.add(line.strip())
            if unit in _ready:
                return
        process.stdout.close()
        process.wait()
        _ready.update(other for other, by in _asked.items() if by is process)


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
