"""A trained model and its tokenizer, wherever they lie: the light door, which brings nothing that
only training needs.
"""

from __future__ import annotations

from pathlib import Path

from semigpt.errors import CheckpointError
from semigpt.huggingface.folder import load_model
from semigpt.models.base import LanguageModel
from semigpt.run_folder import RunFolder
from semigpt.tokenizers import load_tokenizer
from semigpt.tokenizers.base import Tokenizer

__all__ = ["open_run"]


def open_run(path: Path | str) -> tuple[RunFolder | None, LanguageModel, Tokenizer]:
    """The trained model and its tokenizer of a run folder, or of any Hugging Face folder of a shape
    we build.

    Raises CheckpointError for a run that has no model yet, and what `load_model` and
    `load_tokenizer` raise.
    """
    path = Path(path)
    if (path / "config.json").is_file():
        return None, load_model(path), load_tokenizer(path)
    run = RunFolder.open(path)
    if not (run.model_folder / "model.safetensors").is_file():
        raise CheckpointError(
            f"{path} has no model yet; train it first: semigpt train --resume {path}"
        )
    return run, load_model(run.model_folder), load_tokenizer(run.model_folder)
