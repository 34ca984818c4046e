"""C compiled on first use by the system's own compiler, kept in the cache folder and loaded with ctypes.

What is compiled is never the only way: each piece of C has a path in PyTorch as its oracle and its fallback, so a machine
without a compiler loses time and nothing else.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from semigpt.errors import SemigptError
from semigpt.storage import cache_folder

__all__ = ["NativeUnavailableError", "compiled"]

HEADERS = Path(__file__).parent
# OpenMP and the machine's own instructions where the compiler has them; plain C is enough to be right.
FLAGS = (
    ("-O3", "-march=native", "-fopenmp"),
    ("-O3", "-mcpu=native", "-fopenmp"),
    ("-O3", "-march=native"),
    ("-O2",),
)


class NativeUnavailableError(SemigptError):
    """There is no compiler, or it could not compile the source."""


def compiled(source: Path, *defines: str) -> ctypes.CDLL:
    """A C file as a library, each of `defines` defined. Raises NativeUnavailableError, saying why.

    OpenMP's threads are PyTorch's own: torch brings a libgomp.so.1, which is loaded by then.
    """
    compiler = (
        os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    )
    if not compiler:
        raise NativeUnavailableError("no C compiler (cc) on this machine")
    texts = [source.read_bytes(), *(header.read_bytes() for header in sorted(HEADERS.glob("*.h")))]
    ways = repr((FLAGS, defines)).encode()
    name = hashlib.sha256(
        b"\0".join((*texts, _compiler_version(compiler), _cpu(), ways))
    ).hexdigest()
    path = cache_folder() / "native" / f"{source.stem}-{name[:20]}.so"
    if not path.is_file():
        _compile(compiler, source, defines, path)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailableError(f"{path} cannot be loaded ({error})") from None


def _compile(compiler: str, source: Path, defines: tuple[str, ...], path: Path) -> None:
    """Compile to `path`, in one move: whoever comes meanwhile finds nothing or all of it."""
    message = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            built = Path(folder) / path.name
            for flags in FLAGS:
                command = [
                    compiler,
                    *flags,
                    *(f"-D{name}" for name in defines),
                    f"-I{HEADERS}",
                    "-std=gnu11",
                    "-shared",
                    "-fPIC",
                    "-Wno-psabi",
                    str(source),
                    "-lm",
                ]
                done = subprocess.run(
                    [*command, "-o", str(built)], capture_output=True, text=True, timeout=120
                )
                if done.returncode == 0:
                    built.replace(path)
                    return
                message = (
                    done.stderr.strip().splitlines()[0]
                    if done.stderr.strip()
                    else f"exit code {done.returncode}"
                )
    except (OSError, subprocess.SubprocessError) as error:
        message = str(error)
    raise NativeUnavailableError(
        f"{compiler} could not compile {source.name} ({' '.join(message.split())})"
    )


def _compiler_version(compiler: str) -> bytes:
    """What tells one compiler from another without starting it, which would cost 5 ms at each start of ours."""
    found = Path(shutil.which(compiler) or compiler).resolve()
    return (
        f"{found} {found.stat().st_size} {found.stat().st_mtime_ns}".encode()
        if found.is_file()
        else compiler.encode()
    )


def _cpu() -> bytes:
    """What -march=native depends on: a cache folder may be shared by unlike machines."""
    try:
        lines = (
            Path("/proc/cpuinfo")
            .read_text(encoding="utf-8", errors="replace")
            .split("\n\n")[0]
            .splitlines()
        )
    except OSError:
        return f"{platform.machine()} {platform.processor()}".encode()
    return "\n".join(
        line for line in lines if line.startswith(("model name", "flags", "Features"))
    ).encode()
