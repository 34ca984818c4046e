"""The examples run as they stand, from an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from semigpt import load_model, load_tokenizer

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_python_does_all_of_it(tmp_path: Path, korean_text: str) -> None:
    """Under 40 lines, from a text to a folder that loads; SEMIGPT_CACHE is the tests' own."""
    script = EXAMPLES / "train_in_python.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) < 40
    lines = [
        f"{number}번 소식. {line}" for number in range(60) for line in korean_text.splitlines()
    ]
    (tmp_path / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), "text.txt", "3"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    step, measured, written, saved = done.stdout.split("\n", 3)
    assert step.startswith("step 3: loss ")
    assert "bits per character" in measured
    assert written.startswith("정부는")
    assert "model-from-python" in saved
    model, tokenizer = (
        load_model(str(tmp_path / "model-from-python")),
        load_tokenizer(str(tmp_path / "model-from-python")),
    )
    assert model.settings.vocab_size == len(tokenizer)
