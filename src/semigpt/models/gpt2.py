"""The weights of the `blocks` rung under GPT-2's names and shapes, and back.

GPT-2's products (`Conv1D`) are [inputs, outputs], those of `blocks` [outputs, inputs].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from semigpt.errors import SettingsError

if TYPE_CHECKING:
    from semigpt.models.attention import BlocksSettings

__all__ = ["from_gpt2", "to_gpt2"]


def to_gpt2(own: Mapping[str, Tensor], settings: BlocksSettings) -> dict[str, Tensor]:
    """The weights of `blocks` as a GPT-2's.

    GPT-2 has a bias on queries, keys and values where `blocks` has none; it is zero.
    """
    state = {}
    for name, theirs, transposed in _names(settings):
        tensor = own[name].detach()
        state[theirs] = tensor.t().contiguous() if transposed else tensor
    for layer in range(settings.num_layers):
        state[f"transformer.h.{layer}.attn.c_attn.bias"] = torch.zeros(3 * settings.width)
    return state


def from_gpt2(state: Mapping[str, Tensor], settings: BlocksSettings) -> dict[str, Tensor]:
    """The weights of a GPT-2 as those of `blocks`.

    Raises SettingsError where queries, keys or values have a bias that is not zero.
    """
    own = {}
    for name, theirs, transposed in _names(settings):
        own[name] = state[theirs].t() if transposed else state[theirs]
    for layer in range(settings.num_layers):
        if state[f"transformer.h.{layer}.attn.c_attn.bias"].any():
            raise SettingsError(
                f"layer {layer} has a bias on its queries, keys and values, and `blocks` has "
                "none; load this GPT-2 with transformers"
            )
    if settings.tie_embeddings:
        own["lm_head.weight"] = own["token_embedding.weight"]
    return own


def _names(settings: BlocksSettings) -> list[tuple[str, str, bool]]:
    """Each tensor of `blocks`, its name in GPT-2, and whether GPT-2 has it transposed."""
    names = [
        ("token_embedding.weight", "transformer.wte.weight", False),
        ("position_embedding.weight", "transformer.wpe.weight", False),
        ("final_norm.weight", "transformer.ln_f.weight", False),
        ("final_norm.bias", "transformer.ln_f.bias", False),
    ]
    if not settings.tie_embeddings:
        names.append(("lm_head.weight", "lm_head.weight", False))
    for layer in range(settings.num_layers):
        ours, theirs = f"blocks.{layer}.", f"transformer.h.{layer}."
        names.append((f"{ours}heads.query_key_value.weight", f"{theirs}attn.c_attn.weight", True))
        for part, their_part, transposed in (
            ("attention_norm", "ln_1", False),
            ("projection", "attn.c_proj", True),
            ("feedforward_norm", "ln_2", False),
            ("feedforward.expand", "mlp.c_fc", True),
            ("feedforward.contract", "mlp.c_proj", True),
        ):
            names.append((f"{ours}{part}.weight", f"{theirs}{their_part}.weight", transposed))
            names.append((f"{ours}{part}.bias", f"{theirs}{their_part}.bias", False))
    return names
