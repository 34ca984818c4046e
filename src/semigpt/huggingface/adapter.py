"""An adapter as a folder of peft's: `adapter_config.json` and `adapter_model.safetensors`.

`peft.PeftModel.from_pretrained` puts it on the model that the run began from, which lies in `base/`
of the run folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semigpt.errors import CheckpointError
from semigpt.language import _
from semigpt.models.base import LanguageModel
from semigpt.models.lora import ALPHA, adapters
from semigpt.storage import write_files

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["adapter_state", "save_adapter"]

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
CONV1D = "gpt2"  # whose products are [inputs, outputs]


def adapter_state(model: LanguageModel) -> dict[str, Tensor]:
    """A copy of a model's adapters under peft's names; empty for a model without."""
    names = model.adapted_names()
    return {
        f"{PREFIX}{names[name]}.{part}.weight": getattr(layer, part).detach().clone()
        for name, layer in adapters(model)
        for part in ("lora_A", "lora_B")
    }


def save_adapter(
    folder: Path, model: LanguageModel, state: Mapping[str, Tensor], base: str | None
) -> None:
    """Write an adapter that `adapter_state` gave.

    base: the name of the model that the run began from

    Raises CheckpointError where a file cannot be written.
    """
    from safetensors.torch import save

    content = {name: tensor.float().cpu().contiguous() for name, tensor in state.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = {
            CONFIG: (json.dumps(_config(model, base), indent=2) + "\n").encode(),
            WEIGHTS: save(content, metadata={"format": "pt"}),
        }
        write_files(folder, files)
    except OSError as error:
        raise CheckpointError(
            _(
                "cannot save the adapter in {folder}: {reason}; free some disk or choose another "
                "--out"
            ).format(folder=folder, reason=error.strerror)
        ) from None


def _config(model: LanguageModel, base: str | None) -> dict[str, Any]:
    """What peft reads of a LoRA; the rest is as it has it by default."""
    layer = next(layer for _name, layer in adapters(model))
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": (base or "").removeprefix("hf:"),
        "inference_mode": True,
        "r": len(layer.lora_A),
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": model.huggingface_config()["model_type"] == CONV1D,
        "target_modules": sorted({name.split(".")[-1] for name in model.adapted_names().values()}),
    }
