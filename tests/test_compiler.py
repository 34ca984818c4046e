"""The compiler that native code is built with: which flags it is given, what `CC` may be, when it
is asked again."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch

from semigpt.environment import AVX2, cpu_limit, prepare
from semigpt.errors import SettingsError
from semigpt.native import compiler
from semigpt.native.compiler import NativeUnavailableError, compiled

REAL = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
pytestmark = pytest.mark.skipif(
    REAL is None or sys.platform == "win32", reason="no C compiler, or no shell for a stand-in"
)


@pytest.fixture(autouse=True)
def shared_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """That of the other tests: each here has a cache of its own."""
    shared = os.environ["SEMIGPT_CACHE"]
    monkeypatch.setenv("SEMIGPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    compiler._warn_of_one_core.cache_clear()
    return shared


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "answer.c"
    path.write_text("int answer(void) { return ANSWER; }\n")
    return path


def stand_in(folder: Path, name: str = "fake-cc", refused: tuple[str, ...] = ()) -> Path:
    """A compiler that keeps its arguments, one call a line, in NAME.log, and does not know some
    flags."""
    path = folder / name
    checks = "".join(f'case " $* " in *" {flag} "*) exit 1;; esac\n' for flag in refused)
    # No gcc is a stranger to -march=native: the stand-in takes the machine's flags off before it
    # asks the real one.
    path.write_text(
        f'#!/bin/sh\necho "$*" >> {folder / name}.log\n{checks}'
        'for a; do shift; case "$a" in -m*=native) ;; *) set -- "$@" "$a";; esac; done\n'
        f'exec {REAL} "$@"\n'
    )
    path.chmod(0o755)
    return path


def calls(path: Path) -> list[str]:
    return Path(f"{path}.log").read_text().splitlines()


def answer(library: ctypes.CDLL) -> int:
    return int(library.answer())


@pytest.mark.parametrize(
    ("refused", "chosen"),
    [
        ((), ("-O3", "-march=native", "-fopenmp")),
        (("-march=native",), ("-O3", "-mcpu=native", "-fopenmp")),
        (("-fopenmp",), ("-O3", "-march=native")),
        (("-march=native", "-fopenmp"), ("-O3", "-mcpu=native")),
        (("-march=native", "-mcpu=native"), ("-O3", "-fopenmp")),
        (("-march=native", "-mcpu=native", "-fopenmp"), ("-O2",)),
    ],
)
def test_a_compiler_gets_the_best_flags_that_it_knows(
    refused: tuple[str, ...],
    chosen: tuple[str, ...],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiler, "_openmp_runtime", lambda: None)
    fake = stand_in(tmp_path, refused=refused)
    monkeypatch.setenv("CC", str(fake))
    assert answer(compiled(source, "ANSWER=42")) == 42
    assert f" {source} {' '.join(chosen)} -lm -o " in calls(fake)[-1]


@pytest.mark.parametrize(
    ("refused", "chosen"),
    [(("-Xclang",), "-O3 -march=native"), (("-Xclang", "-march=native", "-mcpu=native"), "-O3")],
)
def test_pytorchs_threads_are_linked_with(
    refused: tuple[str, ...],
    chosen: str,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the C has threads of its own, whose number torch.set_num_threads does not change."""
    if (runtime := compiler._openmp_runtime()) is None:
        pytest.skip("this torch brings no OpenMP threads")
    fake = stand_in(tmp_path, refused=refused)
    monkeypatch.setenv("CC", str(fake))
    assert answer(compiled(source, "ANSWER=42")) == 42
    assert f" {source} {chosen} -fopenmp {runtime} " in calls(fake)[-1]
    (built,) = (tmp_path / "cache" / "native").glob("*.so")
    assert str(runtime.parent).encode() in built.read_bytes(), "found before torch is loaded too"


@pytest.mark.parametrize(
    "place",
    [
        "torch/lib/libgomp.so.1",
        "torch/lib/libgomp-a34b3233.so.1",
        "torch.libs/libgomp-a49a47f9.so.1.0.0",
        "torch/lib/libomp.dylib",
    ],
)
def test_pytorchs_threads_are_found_in_every_wheel(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / place
    library.parent.mkdir(parents=True)
    library.touch()
    torch = ModuleSpec("torch", None, origin=str(tmp_path / "torch" / "__init__.py"))
    monkeypatch.setattr(compiler, "find_spec", lambda name: torch)
    assert compiler._openmp_runtime() == library


def test_without_openmp_one_line_says_what_it_costs_and_what_to_install(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source.write_text('#include "vectors.h"\nint answer(void) { return ANSWER; }\n')
    fake = stand_in(tmp_path, refused=("-fopenmp",))
    with caplog.at_level(logging.WARNING):
        compiled(source, "ANSWER=1")
        assert not caplog.records  # the real compiler of these tests has OpenMP
        monkeypatch.setenv("CC", str(fake))
        compiled(source, "ANSWER=1")
        compiled(source, "ANSWER=2")
    (record,) = caplog.records
    message = record.getMessage()
    assert "fake-cc has no OpenMP" in message
    assert f"one core of {os.cpu_count()}" in message
    assert "install" in message
    assert "\n" not in message
    # A source without parallel loops loses nothing.
    compiler._warn_of_one_core.cache_clear()
    caplog.clear()
    source.write_text("int answer(void) { return 3; }\n")
    assert answer(compiled(source)) == 3
    assert not caplog.records


def test_cc_may_hold_a_wrapper_and_arguments(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = tmp_path / "my ccache"
    wrapper.write_text('#!/bin/sh\nexec "$@"\n')
    wrapper.chmod(0o755)
    fake = stand_in(tmp_path)
    monkeypatch.setenv("CC", f"'{wrapper}' {fake} -DANSWER=7")
    assert answer(compiled(source)) == 7
    assert calls(fake)[0].startswith("-DANSWER=7 -std=")


@pytest.mark.parametrize(
    "link", [False, True], ids=["CC='wrapper cc'", "a wrapper's link named cc"]
)
def test_a_new_compiler_behind_a_wrapper_compiles_again(
    link: bool, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `ccache` is used: named before the compiler, or found under the compiler's name earlier on
    the PATH."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    fake = stand_in(second, "fake-cc")
    wrapper = first / "wrapper"
    wrapper.write_text(f'#!/bin/sh\ncase "$0" in */fake-cc) exec {fake} "$@";; esac\nexec "$@"\n')
    wrapper.chmod(0o755)
    if link:
        (first / "fake-cc").symlink_to(wrapper)
    monkeypatch.setenv("PATH", f"{first}:{second}:{os.environ['PATH']}")
    monkeypatch.setenv("CC", "fake-cc" if link else "wrapper fake-cc")
    compiled(source, "ANSWER=1")
    once = len(calls(fake))  # one for each set of flags that was tried
    compiled(source, "ANSWER=1")
    assert len(calls(fake)) == once
    fake.write_text(fake.read_text() + "# a newer version\n")
    compiled(source, "ANSWER=1")
    assert len(calls(fake)) == 2 * once


def test_whatever_a_library_is_made_of_gives_it_a_name_of_its_own(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count() -> int:
        assert not [entry for entry in (tmp_path / "cache" / "native").iterdir() if entry.is_dir()]
        return len(list((tmp_path / "cache" / "native").glob("answer-*.so")))

    assert answer(compiled(source, "ANSWER=1")) == 1
    assert answer(compiled(source, "ANSWER=1")) == 1
    assert count() == 1
    assert answer(compiled(source, "ANSWER=2")) == 2
    assert count() == 2
    source.write_text(source.read_text() + "/* a change */\n")
    assert answer(compiled(source, "ANSWER=2")) == 2
    assert count() == 3
    monkeypatch.setattr(compiler, "flags", lambda: (("-O1",),))
    compiled(source, "ANSWER=2")
    assert count() == 4
    monkeypatch.setattr(compiler, "cpu_identity", lambda: b"another")
    compiled(source, "ANSWER=2")
    assert count() == 5
    headers = tmp_path / "headers"
    headers.mkdir()
    for header in compiler.HEADERS.glob("*.h"):
        shutil.copy(header, headers)
    changed = (headers / "vectors.h").read_text() + "/* a change */\n"
    (headers / "vectors.h").write_text(changed)
    monkeypatch.setattr(compiler, "HEADERS", headers)
    compiled(source, "ANSWER=2")
    assert count() == 6


@pytest.mark.parametrize(
    ("cc", "message"),
    [
        ("no-such-compiler", "no-such-compiler could not compile answer.c"),
        ("'unbalanced", "CC='unbalanced is no command"),
        ("false", "false could not compile answer.c .exit code 1"),
    ],
)
def test_a_compiler_that_is_none_is_one_line(
    cc: str, message: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", cc)
    with pytest.raises(NativeUnavailableError, match=message) as error:
        compiled(source, "ANSWER=1")
    assert "\n" not in str(error.value)


def test_a_machine_without_a_compiler_says_so(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NativeUnavailableError, match=r"no C compiler \(cc\)"):
        compiled(source, "ANSWER=1")


def test_without_a_compiler_zigs_is_found_in_the_python_environment(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "ziglang"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    zig = stand_in(package, "zig")
    zig.write_text(zig.read_text().replace("for a;", "shift\nfor a;"))  # its first word is "cc"
    monkeypatch.syspath_prepend(package.parent)
    path = os.environ["PATH"]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert answer(compiled(source, "ANSWER=5")) == 5
    assert os.environ["PATH"] == path
    assert all(call.startswith("cc -std=") for call in calls(zig))


def test_loops_are_divided_as_openmp_h_can() -> None:
    """Any other schedule is a call that Clang's code makes and GNU's runtime has not."""
    for path in compiler.HEADERS.glob("*.[ch]"):
        found = set(re.findall(r"#pragma omp .*schedule\(([^)]*)\)", path.read_text("utf-8")))
        assert found <= {"static"}, path.name


CLANG = shutil.which("clang") or shutil.which("clang-14")


@pytest.mark.skipif(CLANG is None or sys.platform != "linux", reason="no clang, or not Linux")
def test_clangs_loops_run_on_pytorchs_threads_divided_as_gccs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "loops.c"
    source.write_text(
        '#include "vectors.h"\n'
        "int most(void) { return omp_get_max_threads(); }\n"
        "void owners(int n, int step, int *owner) {\n"
        "#pragma omp parallel for schedule(static) if (n > 1)\n"
        "    for (int i = 0; i < n; i += step) owner[i] = omp_get_thread_num();\n"
        "}\n"
        "int asked(int threads) {\n"
        "    int all = 0;\n"
        "#pragma omp parallel num_threads(threads)\n"
        "    {\n"
        "#pragma omp single\n"
        "        all = omp_get_num_threads();\n"
        "    }\n"
        "    return all;\n"
        "}\n"
    )
    owners = {}
    before = torch.get_num_threads()
    for name in (str(REAL), str(CLANG)):
        monkeypatch.setenv("CC", name)
        library = compiled(source)
        try:
            torch.set_num_threads(3)
            assert library.most() == 3
            assert library.asked(2) == 2
            assert library.asked(5) == 5
            owners[name] = []
            for n, step in ((1, 1), (2, 1), (3, 1), (7, 1), (8, 3), (100, 7)):
                owner = (ctypes.c_int * n)(*[-1] * n)
                library.owners(n, step, owner)
                owners[name].append(list(owner))
        finally:
            torch.set_num_threads(before)
    assert owners[str(REAL)] == owners[str(CLANG)]
    assert owners[str(CLANG)][3] == [0, 0, 0, 1, 1, 2, 2]


def test_a_machine_can_be_held_to_avx2(shared_cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process has it: PyTorch's products, the precision, the flags, the vectors."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("no x86 CPU")
    monkeypatch.setenv("SEMIGPT_CPU", "avx2")
    monkeypatch.setenv("SEMIGPT_CACHE", shared_cache)
    code = (
        "import ctypes, semigpt, torch\n"
        "from semigpt.device import pick_precision\n"
        "from semigpt.native import blocks_step\n"
        "print(torch.backends.cpu.get_cpu_capability())\n"
        "print(pick_precision(torch.device('cpu'), 'auto'), blocks_step.unit_sequences())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["AVX2", "torch.float32", "8"]
    monkeypatch.setenv("SEMIGPT_CPU", "avx9")
    with pytest.raises(SettingsError, match="SEMIGPT_CPU=avx9 is unknown; it may be avx2"):
        cpu_limit()


@pytest.mark.parametrize(
    ("user", "spins"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_that_wait_give_their_core_back_unless_the_user_says_otherwise(
    user: dict[str, str], spins: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    for name, value in user.items():
        monkeypatch.setenv(name, value)
    prepare()
    assert os.environ.get("GOMP_SPINCOUNT") == spins


def test_every_library_of_products_is_held_to_avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMIGPT_CPU", "avx2")
    for name in AVX2:
        monkeypatch.setenv(name, "")  # so that it is taken back afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX")  # the user's own word stands
    prepare()
    assert {name: os.environ[name] for name in AVX2} == {
        "ONEDNN_MAX_CPU_ISA": "AVX",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    }


def test_a_source_that_does_not_compile_is_named_with_the_first_line(source: Path) -> None:
    with pytest.raises(NativeUnavailableError, match=r"could not compile answer.c \(.*ANSWER"):
        compiled(source)


def in_another_process(source: Path) -> int:
    """`answer` in a process that has loaded no library yet."""
    code = (
        "import sys; from pathlib import Path; from semigpt.native.compiler import compiled;"
        "print(compiled(Path(sys.argv[1]), 'ANSWER=1').answer())"
    )
    command = [sys.executable, "-c", code, str(source)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("harm", ["cut", "changed"])
def test_a_library_that_is_not_what_was_compiled_is_compiled_again(
    harm: str, source: Path, tmp_path: Path
) -> None:
    """A cut one would kill the process that reads past its end."""
    compiled(source, "ANSWER=1")
    (library,) = (tmp_path / "cache" / "native").glob("answer-*.so")
    whole = library.read_bytes()
    library.write_bytes(whole[:5000] if harm == "cut" else whole[:-1] + b"!")
    assert in_another_process(source) == 1
    assert library.read_bytes() == whole


@pytest.mark.parametrize("how", ["parent", "file", "owner"])
def test_no_library_is_loaded_that_another_user_could_have_written(
    how: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the right name and digest: whoever may write there can compute them."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    native = tmp_path / "cache" / "native"
    native.mkdir(parents=True)
    planted = tmp_path / "planted.c"
    planted.write_text("int answer(void) { return 666; }\n")
    compiled(planted)
    (theirs,) = native.glob("planted-*.so")
    command = compiler._compiler_command()
    name = f"answer-{compiler._digest_of_build(command, source, ('ANSWER=1',))[:20]}"
    theirs = theirs.rename(native / f"{name}-{theirs.stem.rpartition('-')[2]}.so")
    assert answer(compiled(source, "ANSWER=1")) == 666, "it would be taken"
    victim = native.parent if how == "parent" else theirs
    if how == "owner":
        if os.geteuid() != 0:
            pytest.skip("only root gives files to other users")
        os.chown(victim, 12345, 12345)
    else:
        victim.chmod(0o777)
    assert answer(compiled(source, "ANSWER=1")) == 1
