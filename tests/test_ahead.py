"""C that is compiled in a process of its own, beside the imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from semigpt.models import LADDER, LATER_SOURCES, SOURCES
from semigpt.native import ahead, compiler, tokenize
from semigpt.native.compiler import NativeUnavailableError

pytestmark = pytest.mark.skipif(not tokenize.available(), reason="no C compiler")


@pytest.fixture(autouse=True)
def _anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compiled, and nothing asked for."""
    monkeypatch.setenv("SEMIGPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ahead, "_asked", set())


def test_what_is_compiled_ahead_is_there_when_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead.compile_ahead("tokenize:CACHE_BYTES=4096", "ngrams")
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", None)
        ahead.compile_ahead("ngrams")  # is under way
    monkeypatch.setattr(compiler, "_compile", None)  # this process compiles nothing itself
    assert ahead.compiled(tokenize.SOURCE, "CACHE_BYTES=4096").semigpt_encode
    assert ahead.compiled(tokenize.SOURCE.with_name("ngrams.c")).semigpt_lookup
    ahead.wait()
    assert len(list((tmp_path / "cache" / "native").glob("*.so"))) == 2


@pytest.mark.parametrize("command", ["exit", "end at once"])
def test_where_the_process_fails_the_caller_compiles(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = {"exit": "/nowhere/python", "end at once": sys.executable}[command]
    real = subprocess.Popen

    def started(arguments: list[str], **options: Any) -> Any:
        return real([program, "-c", ""], **options)

    monkeypatch.setattr(subprocess, "Popen", started)
    ahead.compile_ahead("ngrams")
    monkeypatch.setattr(subprocess, "Popen", real)
    assert ahead.compiled(tokenize.SOURCE.with_name("ngrams.c")).semigpt_lookup


def test_a_source_that_does_not_compile_stops_none_behind_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def fails(source: Path, *defines: str) -> None:
        asked.append(source.stem)
        raise NativeUnavailableError("no")

    monkeypatch.setattr(compiler, "compiled", fails)
    monkeypatch.setattr(ahead, "step_back", lambda: None)
    ahead.main(["tokenize:A=1:B", "ngrams"])
    assert asked == ["tokenize", "ngrams"]
    assert capsys.readouterr().out == "tokenize:A=1:B\nngrams\n"


@pytest.mark.parametrize("rung", SOURCES)
def test_a_rung_names_sources_that_there_are(rung: str) -> None:
    assert rung in LADDER
    units = (*SOURCES[rung], *LATER_SOURCES.get(rung, ()))
    assert all((ahead.FOLDER / f"{unit}.c").is_file() for unit in units)


@pytest.mark.parametrize(
    ("flags", "limit", "unit"),
    [
        (b"flags : avx2 avx512f avx512_bf16", "", "gpt_step:BFLOAT16"),
        (b"flags : avx2 avx512f avx512_bf16", "avx2", "gpt_step"),
        (b"flags : avx2", "", "gpt_step"),
    ],
)
def test_the_step_is_compiled_for_the_numbers_that_the_cpu_multiplies(
    flags: bytes, limit: str, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "cpu_identity", lambda: flags)
    monkeypatch.setattr("semigpt.environment.platform.machine", lambda: "x86_64")
    monkeypatch.setenv("SEMIGPT_CPU", limit)
    asked: list[str] = []

    def started(arguments: list[str], **_: Any) -> Any:
        asked.extend(arguments[4:])
        raise OSError

    monkeypatch.setattr(subprocess, "Popen", started)
    ahead.compile_ahead("ngrams", "gpt_step")
    assert asked == ["ngrams", unit]
