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
        return None, *_pair(path)
    run = RunFolder.open(path)
    if not (run.model_folder / "model.safetensors").is_file():
        raise CheckpointError(
            f"{path} has no model yet; train it first: semigpt train --resume {path}"
        )
    return run, *_pair(run.model_folder)


def _pair(folder: Path) -> tuple[LanguageModel, Tokenizer]:
    """The model and the tokenizer of a folder, which go together."""
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    if tokenizer.vocab_size > model.settings.vocab_size:
        raise CheckpointError(
            f"the tokenizer in {folder} has {tokenizer.vocab_size:,} tokens, the model "
            f"{model.settings.vocab_size:,}: put the tokenizer there that it was trained with"
        )
    return model, tokenizer
