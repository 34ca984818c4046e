"""A checkpoint of a run: what it holds, and whether it is what was saved."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semigpt.errors import CheckpointError
from semigpt.language import _
from semigpt.run_logs import unread
from semigpt.storage import read_json, sha256_file
from semigpt.system import is_hollow

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TENSOR_FILES", "Checkpoint", "verified"]

TENSOR_FILES = ("model", "optimizer")


@dataclass(frozen=True)
class Checkpoint:
    """What one checkpoint holds: tensors by group and name, and the plain values beside them."""

    folder: Path
    tensors: dict[str, dict[str, Tensor]]
    metadata: dict[str, Any]


def verified(folder: Path, logs: Collection[str]) -> dict[str, Any]:
    """The metadata of a checkpoint, each file of which is as its manifest says.

    Raises CheckpointError, naming the first that is not.
    """
    names = {*(f"{group}.safetensors" for group in TENSOR_FILES), "progress.json"}
    try:
        manifest = read_json(folder / "manifest.json")
    except (OSError, ValueError) as error:
        raise unread(folder / "manifest.json", error) from None
    if not names <= set(manifest):  # an earlier version's names one more
        raise CheckpointError(
            _("{folder} does not name the checkpoint's files").format(
                folder=folder / "manifest.json"
            )
        )
    for name in sorted(names):
        try:
            if is_hollow(folder / name):
                raise CheckpointError(
                    _("{folder} is a file of holes, and holds nothing").format(folder=folder / name)
                )
            whole = sha256_file(folder / name) == manifest[name]
        except OSError as error:
            raise unread(folder / name, error) from None
        if not whole:
            raise CheckpointError(
                _(
                    "{folder} is not what was saved (its SHA-256 differs from the manifest's)"
                ).format(folder=folder / name)
            )
    try:
        metadata = read_json(folder / "progress.json")
    except (OSError, ValueError) as error:
        raise unread(folder / "progress.json", error) from None
    lengths = metadata.get("logs")
    if not (
        isinstance(lengths, dict)
        and lengths.keys() <= set(logs)
        and all(type(n) is int and n >= 0 for n in lengths.values())
        and isinstance(metadata.get("log_sha256", {}), dict)
    ):
        raise CheckpointError(
            _("{folder} does not say how long the logs were").format(
                folder=folder / "progress.json"
            )
        )
    return metadata
