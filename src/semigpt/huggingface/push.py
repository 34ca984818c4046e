"""A model folder on the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from semigpt.errors import SettingsError
from semigpt.huggingface.hub import hub_errors
from semigpt.language import _

__all__ = ["push"]

# What a model folder may hold for others; whatever else lies there stays.
FILES = (
    "README.md",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "counts.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "Modelfile",
)


def push(folder: Path, where: str, exported: Iterable[str]) -> str:
    """Upload a model folder, its card and its `exported` files to `hf:USER/NAME`; the address of
    the commit.

    A repository that is not there yet is made, private, since a small model may repeat its text.
    Who one is `huggingface_hub` knows (`hf auth login`, HF_TOKEN). Raises SettingsError for another
    spelling, CheckpointError where the Hub refuses or does not answer.
    """
    name = re.fullmatch(r"hf:([\w.-]+/[\w.-]+)", where)
    if name is None:
        raise SettingsError(_("--push takes hf:USER/NAME, not {where!r}").format(where=where))
    from huggingface_hub import HfApi

    api = HfApi()
    with hub_errors(where):
        api.create_repo(name[1], private=True, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name[1],
            folder_path=folder,
            allow_patterns=[*FILES, *exported],
            commit_message="Upload a model trained with semigpt",
        )
    return str(commit.commit_url)
