"""Compile C on first use, keep the library in the cache folder, and load it with ctypes.

Every piece of C has an implementation in Python or PyTorch that is its oracle and its fallback. A
machine without a compiler loses time and nothing else.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from semigpt.environment import cpu_limit
from semigpt.errors import SemigptError
from semigpt.language import _
from semigpt.storage import cache_folder, fsync, sha256_file
from semigpt.system import is_private, user_id

__all__ = [
    "NativeUnavailableError",
    "build_identity",
    "check_memory",
    "compiled",
    "cpu_identity",
]

logger = logging.getLogger(__name__)

HEADERS = Path(__file__).parent
ALWAYS = ("-std=gnu11", "-shared", "-fPIC", "-Wno-psabi")
RUNTIMES = ("libgomp*.so*", "libomp.dylib")


class NativeUnavailableError(SemigptError):
    """There is no compiler, or it could not compile the source."""


def compiled(source: Path, *defines: str) -> ctypes.CDLL:
    """Load a C file as a library, compiling it if the cache folder does not hold it yet.

    Args:
        source: The C file. It may include the headers of this folder.
        defines: Macros to define, `NAME` or `NAME=VALUE`.

    The compiler is `$CC`, which may hold arguments (`ccache gcc`), else `cc`, `gcc` or `clang`,
    else zig's, from the extra `semigpt[compiler]`. The library's file name is a digest of the
    sources, the flags, the compiler and the CPU, so that a change of any of them compiles again,
    and of the library: one that was changed or cut off is compiled again. No library is loaded
    that another user could have written.

    Raises NativeUnavailableError, saying why, without a compiler or where it fails.
    """
    command = _compiler_command()
    folder = _library_folder()
    name = f"{source.stem}-{_digest_of_build(command, source, defines)[:20]}"
    found = (path for path in folder.glob(f"{name}-*.so") if _is_whole(path))
    path = next(found, None) or _compile(command, source, defines, folder, name)
    try:
        # OpenMP's threads are PyTorch's own, where flags() found them.
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailableError(
            _("{path} cannot be loaded ({error})").format(path=path, error=error)
        ) from None
    if not _has_openmp(library):
        _warn_of_one_core(shlex.join(command))
    return library


def build_identity() -> str:
    """A digest of all that native code is made of here; "none" without a compiler."""
    try:
        command = _compiler_command()
    except NativeUnavailableError:
        return "none"
    sources = sorted(HEADERS.glob("*.c"))
    return hashlib.sha256(
        "".join(_digest_of_build(command, source, ()) for source in sources).encode()
    ).hexdigest()[:20]


def _digest_of_build(command: Sequence[str], source: Path, defines: tuple[str, ...]) -> str:
    parts = [source.read_bytes()]
    parts += [header.read_bytes() for header in sorted(HEADERS.glob("*.h"))]
    parts += [
        repr((flags(), ALWAYS, defines)).encode(),
        _compiler_identity(command),
        cpu_identity(),
    ]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _library_folder() -> Path:
    """The folder of compiled libraries, which no other user can write in: the cache's own, or one
    of this user's in the folder for temporary files.
    """
    folder = cache_folder() / "native"
    own = Path(tempfile.gettempdir()) / f"semigpt-{user_id()}"
    try:
        for place in (folder, own):
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            if is_private(place):
                return place
            _warn_of_a_shared_folder(place)
        return Path(tempfile.mkdtemp(prefix="semigpt-"))
    except OSError as error:
        raise NativeUnavailableError(
            _("compiled code cannot be kept in {folder} ({strerror})").format(
                folder=folder, strerror=error.strerror
            )
        ) from None


@cache
def _warn_of_a_shared_folder(folder: Path) -> None:
    logger.warning(
        _(
            "other users can write in %s or above it: native code is "
            "compiled elsewhere; take their "
            "permission away, or name a folder of your own in SEMIGPT_CACHE"
        ),
        folder,
    )


def _is_whole(library: Path) -> bool:
    """Whether a library is what was compiled, as its name says, and nobody else can write it."""
    try:
        return is_private(library) and library.stem.endswith(f"-{sha256_file(library)[:20]}")
    except OSError:
        return False


def check_memory(status: Any, function: Any, arguments: tuple[Any, ...]) -> Any:
    """An `errcheck` of ctypes for C that returns less than 0 where it cannot allocate."""
    if status < 0:
        raise MemoryError(_("no memory left for {name}").format(name=function.__name__))
    return status


def flags() -> tuple[tuple[str, ...], ...]:
    """The flags to try, in this order.

    Compilers for x86 take -march=native, some for ARM only -mcpu=native. Each is given PyTorch's
    OpenMP threads to link with: Clang, and so zig, calls them through openmp.h, and GCC would take
    its own where PyTorch's have another name than libgomp.so.1. Any may lack OpenMP.
    """
    machines = ("-march=native", "-mcpu=native") if cpu_limit() is None else ("-march=haswell",)
    runtime = _openmp_runtime()
    threads: list[tuple[str, ...]] = [("-fopenmp",), ()]
    if runtime is not None:
        folder = ("-Xlinker", "-rpath", "-Xlinker", str(runtime.parent))
        linked = ("-fopenmp", str(runtime), *folder)
        threads = [("-Xclang", *linked), linked, *threads]
    tuned = [("-O3", machine, *option) for option in threads for machine in machines]
    untuned = [("-O3", *option) for option in threads if option]
    return (*tuned, *untuned, ("-O2",))


def _openmp_runtime() -> Path | None:
    """The library of OpenMP's threads that PyTorch brings: GNU's on Linux, LLVM's on a Mac."""
    torch = find_spec("torch")
    if torch is None or torch.origin is None:
        return None
    package = Path(torch.origin).parent
    folders = (package / "lib", package.with_name("torch.libs"))  # the latter in wheels for ARM
    found = (path for name in RUNTIMES for folder in folders for path in sorted(folder.glob(name)))
    return next(found, None)


def _compiler_command() -> list[str]:
    """The compiler and its arguments: `$CC` split as a shell splits it, else the first one on the
    PATH, else zig's."""
    try:
        command = shlex.split(os.environ.get("CC", ""), posix=os.name == "posix")
    except ValueError as error:
        raise NativeUnavailableError(
            _("CC={cc} is no command ({error})").format(cc=os.environ["CC"], error=error)
        ) from None
    found = command or [name for name in ("cc", "gcc", "clang") if shutil.which(name)][:1]
    if not found and (zig := find_spec("ziglang")) is not None and zig.origin is not None:
        found = [str(Path(zig.origin).with_name("zig")), "cc"]
    if not found:
        raise NativeUnavailableError(
            _("no C compiler (cc) on this machine; pip install 'semigpt[compiler]' brings one")
        )
    return found


def _compile(
    command: Sequence[str], source: Path, defines: tuple[str, ...], home: Path, name: str
) -> Path:
    """Compile with the first flags that work. The library appears as `home`/`name`-DIGEST.so in one
    rename, or not at all."""
    macros = [f"-D{name}" for name in defines]
    arguments = [*ALWAYS, *macros, f"-I{HEADERS}", str(source)]
    # Zig builds its C library once; a home that cannot be written must not stop it.
    zig = str(home / "zig")
    environment = {"ZIG_GLOBAL_CACHE_DIR": zig, "ZIG_LOCAL_CACHE_DIR": zig, **os.environ}
    message = ""
    try:
        with tempfile.TemporaryDirectory(dir=home) as folder:
            built = Path(folder) / f"{name}.so"
            for chosen in flags():
                done = subprocess.run(
                    [*command, *arguments, *chosen, "-lm", "-o", str(built)],
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=600,
                    env=environment,
                )
                if done.returncode == 0:
                    built.chmod(0o700)
                    fsync(built)
                    path = built.replace(home / f"{name}-{sha256_file(built)[:20]}.so")
                    fsync(home)
                    return path
                lines = done.stderr.strip().splitlines() or [
                    _("exit code {returncode}").format(returncode=done.returncode)
                ]
                message = next((line for line in lines if "error" in line), lines[0])
    except (OSError, subprocess.SubprocessError) as error:
        message = str(error)
    raise NativeUnavailableError(
        _("{command} could not compile {name} ({message})").format(
            command=shlex.join(command), name=source.name, message=" ".join(message.split())
        )
    )


def _compiler_identity(command: Sequence[str]) -> bytes:
    """What identifies a compiler without starting it, which would cost 5 ms in every process.

    A program's name stands for all files of that name on the PATH. The first may be a wrapper, such
    as ccache's link named `gcc`, and a later one the compiler itself.
    """
    known = list(command)
    for word in command:
        for found in _programs(word):
            status = found.stat()
            known.append(f"{found} {status.st_size} {status.st_mtime_ns}")
    return "\0".join(known).encode(errors="surrogateescape")


def _programs(name: str) -> Iterator[Path]:
    folders = [""] if os.path.dirname(name) else os.get_exec_path()  # noqa: PTH120
    for folder in folders:
        path = Path(folder, name).resolve()
        if path.is_file() and os.access(path, os.X_OK):
            yield path


def cpu_identity() -> bytes:
    """What -march=native depends on: machines with unlike CPUs may share a cache folder."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return f"{platform.machine()} {platform.processor()}".encode()
    first_cpu = text.split("\n\n")[0].splitlines()
    wanted = ("model name", "flags", "Features")
    return "\n".join(line for line in first_cpu if line.startswith(wanted)).encode()


def _has_openmp(library: ctypes.CDLL) -> bool:
    """What vectors.h says of the loops; a source that does not include it has no parallel loop."""
    try:
        return bool(ctypes.c_int.in_dll(library, "semigpt_has_openmp").value)
    except ValueError:
        return True


@cache
def _warn_of_one_core(compiler: str) -> None:
    logger.warning(
        _(
            "%s has no OpenMP, so native code runs on one core of %d; install gcc, or "
            "pip install 'semigpt[compiler]', and name it in CC"
        ),
        compiler,
        os.cpu_count() or 1,
    )
