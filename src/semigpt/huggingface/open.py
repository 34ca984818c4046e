"""A trained model and its tokenizer, wherever they lie: the light door, which brings nothing that
only training needs.
"""

from __future__ import annotations

from pathlib import Path

from semigpt.errors import CheckpointError, SettingsError
from semigpt.huggingface.folder import is_ours, load_model
from semigpt.huggingface.hub import local_folder
from semigpt.language import _
from semigpt.models.base import LanguageModel
from semigpt.run_folder import RunFolder
from semigpt.tokenizers import load_tokenizer
from semigpt.tokenizers.base import TOKENIZER_FILE, Tokenizer

__all__ = ["open_run", "open_tokenizer"]

OLDER_FILES = ("vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")

# Tokens of context of models that others trained, where no other length is asked for. What the
# longest ones take, 40,960 and more, no cache of keys and values on a small machine holds.
CONTEXT = 1024


def open_run(
    path: Path | str, context_length: int | None = None
) -> tuple[RunFolder | None, LanguageModel, Tokenizer]:
    """The trained model and its tokenizer of a run folder, of any Hugging Face folder, or of
    hf:USER/NAME on the Hub.

    context_length: at most so many tokens of context; by default the model's own, of others'
        models 1,024

    A shape that semigpt does not build is loaded by transformers. Raises CheckpointError for a run
    that has no model yet, SettingsError for a context that cannot be cut, and what `load_model` and
    `load_tokenizer` raise.
    """
    path = local_folder(path)
    if (path / "config.json").is_file():
        return None, *_pair(path, context_length)
    run = RunFolder.open(path)
    if not (run.model_folder / "model.safetensors").is_file():
        raise CheckpointError(
            _("{path} has no model yet; train it first: semigpt train --resume {path}").format(
                path=path
            )
        )
    return run, *_pair(run.model_folder, context_length)


def _pair(folder: Path, context_length: int | None) -> tuple[LanguageModel, Tokenizer]:
    """The model and the tokenizer of a folder, which go together."""
    if not is_ours(folder):
        from semigpt.huggingface.outside import load_outside

        model: LanguageModel = load_outside(folder, context_length or CONTEXT)
        tokenizer = open_tokenizer(folder)
    else:
        tokenizer = open_tokenizer(folder)
        if context_length is None and tokenizer.kind == "foreign":
            context_length = CONTEXT
        model = load_model(folder, context_length)
    if context_length is not None and model.settings.context_length > context_length:
        raise SettingsError(
            _(
                "a {kind} model has a context of {context_length} tokens, which "
                "cannot be cut; leave --context out"
            ).format(kind=model.kind, context_length=model.settings.context_length)
        )
    if tokenizer.vocab_size > model.settings.vocab_size:
        raise CheckpointError(
            _(
                "the tokenizer in {folder} has {vocab_size:,} tokens, the model "
                "{model_tokens:,}: put the tokenizer there that it was trained with"
            ).format(
                folder=folder,
                vocab_size=tokenizer.vocab_size,
                model_tokens=model.settings.vocab_size,
            )
        )
    return model, tokenizer


def open_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder; transformers makes it of files older than tokenizer.json.

    Raises TokenizerError as `load_tokenizer` does, SettingsError where transformers is needed and
    not installed.
    """
    older = any((folder / name).is_file() for name in OLDER_FILES)
    if not older or (folder / TOKENIZER_FILE).is_file():
        return load_tokenizer(folder)
    from semigpt.huggingface.outside import converted_tokenizer

    return converted_tokenizer(folder)
