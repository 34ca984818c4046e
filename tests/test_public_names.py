"""The public surface: one list of names, none of which costs anything before it is asked for."""

from __future__ import annotations

import subprocess
import sys

import semigpt

NAMES = [
    "BPETokenizer",
    "BigramSettings",
    "ByteTokenizer",
    "CharBPETokenizer",
    "CharTokenizer",
    "Corpus",
    "Dataset",
    "Engine",
    "Evaluation",
    "GPT",
    "GPTSettings",
    "JamoTokenizer",
    "Optimizer",
    "OptimizerSettings",
    "Progress",
    "Recipe",
    "SamplingSettings",
    "SemiGPT",
    "SemigptError",
    "TrainingSettings",
    "UnigramTokenizer",
    "__version__",
    "build_model",
    "estimate_loss",
    "evaluate",
    "generate_text",
    "load_model",
    "load_tokenizer",
    "open_run",
    "prepare_corpus",
    "prepare_dataset",
    "save_model",
    "show_progress",
    "stream_text",
    "train",
    "train_tokenizer",
    "training_steps",
]


def run(code: str) -> str:
    return subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60)


def test_the_public_names_are_these() -> None:
    assert sorted(semigpt.__all__) == sorted(NAMES)
    assert dir(semigpt) == sorted(NAMES)
    for name in NAMES:
        assert getattr(semigpt, name) is not None, name


def test_importing_semigpt_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'datasets', 'rich', 'tokenizers'}"
    assert run(f"import sys, semigpt; print({heavy} & sys.modules.keys())") == "set()\n"


def test_opening_a_run_imports_nothing_that_only_training_needs() -> None:
    unneeded = "('semigpt.recipe', 'semigpt.training', 'semigpt.report', 'datasets', 'pandas')"
    code = (
        f"import sys, semigpt; semigpt.open_run; print([m for m in {unneeded} if m in sys.modules])"
    )
    assert run(code) == "[]\n"
