"""`semigpt train --open`: a server beside the run, a browser at it, and nothing left behind."""

from __future__ import annotations

import shlex
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="semigpt[serve] is not installed")
pytest.importorskip("uvicorn", reason="semigpt[serve] is not installed")
pytest.importorskip("prometheus_client", reason="semigpt[serve] is not installed")

from semigpt.cli import main, opened
from semigpt.recipe import Prepared
from semigpt.run_folder import RunFolder


def test_a_run_is_opened_in_a_browser_and_closed_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown, folder = tmp_path / "shown", tmp_path / "글-gpt"
    code = f"import sys; open({str(shown)!r}, 'a').write(sys.argv[1])"
    monkeypatch.setenv("BROWSER", f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} %s")
    with opened.opened(True) as page:
        with opened.opened(True) as inner:  # a process that this command starts
            assert inner.stay(0) == 0
        run = RunFolder.create(folder, {"model": {"kind": "gpt"}})
        run.append("metrics", {"step": 0, "bits_per_character": 5.5})
        prepared = object.__new__(Prepared)
        assert list(opened.telling(iter([prepared]), folder)) == [prepared]
        end = time.monotonic() + 60
        while page._url is None or not shown.exists() or not shown.read_text():
            assert time.monotonic() < end
            time.sleep(0.05)
        url = page._url
        assert shown.read_text() == f"{url}#training"
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert b"<title>semigpt" in answer.read()
        with urllib.request.urlopen(f"{url}v1/training", timeout=20) as answer:
            assert b'"bits_per_character": 5.5' in answer.read()
        assert page.stay(130) == 130, "a run that was stopped keeps no page"
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=20)
    assert f"the page of this run: {url}" in capsys.readouterr().err
    run.unlock()


def test_what_cannot_be_opened_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert not opened._browse("http://127.0.0.1:1/"), "no browser in this terminal"
    monkeypatch.setattr(opened, "NEEDED", ("no_library_of_this_name",))
    assert main(["train", "--open", "--data", "nothing.txt"]) == 2
    assert "pip install 'semigpt[serve]'" in capsys.readouterr().err
