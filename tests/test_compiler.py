"""The compiler that native code is built with: which flags it is given, what `CC` may be, when it
is asked again."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import sys
from pathlib import Path

import pytest

from semigpt.native import compiler
from semigpt.native.compiler import FLAGS, NativeUnavailableError, compiled

REAL = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
pytestmark = pytest.mark.skipif(
    REAL is None or sys.platform == "win32", reason="no C compiler, or no shell for a stand-in"
)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMIGPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    compiler._warn_of_one_core.cache_clear()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "answer.c"
    path.write_text('#include "vectors.h"\nint answer(void) { return ANSWER; }\n')
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
        ((), FLAGS[0]),
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
    fake = stand_in(tmp_path, refused=refused)
    monkeypatch.setenv("CC", str(fake))
    assert answer(compiled(source, "ANSWER=42")) == 42
    assert calls(fake)[-1].startswith(" ".join(chosen) + " -std=")


def test_without_openmp_one_line_says_what_it_costs_and_what_to_install(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
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
    assert calls(fake)[0].startswith("-DANSWER=7 -O3")


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
    for _ in range(2):
        compiled(source, "ANSWER=1")
    assert len(calls(fake)) == 1
    fake.write_text(fake.read_text() + "# a newer version\n")
    compiled(source, "ANSWER=1")
    assert len(calls(fake)) == 2


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
    monkeypatch.setattr(compiler, "FLAGS", (("-O1",),))
    compiled(source, "ANSWER=2")
    assert count() == 4
    monkeypatch.setattr(compiler, "_cpu_identity", lambda: b"another")
    compiled(source, "ANSWER=2")
    assert count() == 5
    headers = tmp_path / "headers"
    headers.mkdir()
    shutil.copy(compiler.HEADERS / "vectors.h", headers)
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


def test_a_source_that_does_not_compile_is_named_with_the_first_line(source: Path) -> None:
    with pytest.raises(NativeUnavailableError, match=r"could not compile answer.c \(.*ANSWER"):
        compiled(source)
