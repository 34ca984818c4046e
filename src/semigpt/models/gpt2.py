"""GPT-2's `config.json` and names as settings and weights of `blocks`, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor

from semigpt.errors import SettingsError
from semigpt.language import _

if TYPE_CHECKING:
    from semigpt.models.attention import BlocksSettings

__all__ = [
    "POSITIONS",
    "Gelu",
    "adapted_names",
    "config_of",
    "own_state",
    "settings_of",
    "state_of",
    "stored_name",
]

Gelu: TypeAlias = Literal["gelu", "gelu_new"]
# `activation_function` -> ours; None is ReLU.
ACTIVATIONS: Mapping[str, Gelu | None] = {
    "relu": None,
    "gelu": "gelu",
    "gelu_new": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
}
PREFIX = "transformer."
POSITIONS = f"{PREFIX}wpe.weight"


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of BlocksSettings for a GPT-2's config.json.

    Raises SettingsError, LookupError or TypeError for a shape that `blocks` has not.
    """
    activation = config.get("activation_function", "gelu_new")
    if (
        activation not in ACTIVATIONS
        or not config.get("scale_attn_weights", True)
        or config.get("scale_attn_by_inverse_layer_idx")
    ):
        raise SettingsError(
            _("of GPT-2's, semigpt builds those with ReLU or GELU and scaled attention")
        )
    return {
        "vocab_size": config["vocab_size"],
        "context_length": config["n_positions"],
        "width": config["n_embd"],
        "num_layers": config["n_layer"],
        "num_heads": config["n_head"],
        "hidden_width": config.get("n_inner"),
        "norm_epsilon": config.get("layer_norm_epsilon", 1e-5),
        "tie_embeddings": config.get("tie_word_embeddings", True),
        "dropout": 0.0,
        "activation": ACTIVATIONS[activation],
    }


def config_of(settings: BlocksSettings) -> dict[str, Any]:
    """The config.json of a `blocks`, which transformers builds."""
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": settings.vocab_size,
        "n_positions": settings.context_length,
        "n_embd": settings.width,
        "n_layer": settings.num_layers,
        "n_head": settings.num_heads,
        "n_inner": settings.feedforward_width,
        "activation_function": settings.activation or "relu",
        "layer_norm_epsilon": settings.norm_epsilon,
        "scale_attn_weights": True,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "tie_word_embeddings": settings.tie_embeddings,
        "use_cache": True,
        "torch_dtype": "float32",
    }


def state_of(own: Mapping[str, Tensor], settings: BlocksSettings) -> dict[str, Tensor]:
    """Weights under GPT-2's names. Its products (`Conv1D`) are [inputs, outputs], ours [outputs,
    inputs].

    GPT-2 has a bias on queries, keys and values; where this shape has none, it is saved as zero.
    """
    state = {}
    for name, theirs, transposed in _names(settings):
        tensor = own[name].detach()
        state[theirs] = tensor.t().contiguous() if transposed else tensor
    if settings.activation is None:
        for layer in range(settings.num_layers):
            state[_bias_name(layer)] = torch.zeros(3 * settings.width)
    return state


def own_state(state: Mapping[str, Tensor], settings: BlocksSettings) -> dict[str, Tensor]:
    """The other way; of positions and tokens, as many as the shape has.

    Raises SettingsError where queries, keys or values have a bias that this shape has not.
    """
    own = {
        name: state[theirs].t() if transposed else state[theirs]
        for name, theirs, transposed in _names(settings)
    }
    own["position_embedding.weight"] = own["position_embedding.weight"][: settings.context_length]
    for name in ("token_embedding.weight", "lm_head.weight"):
        if name in own:
            own[name] = own[name][: settings.vocab_size]
    for layer in range(settings.num_layers):
        if settings.activation is None and state[_bias_name(layer)].any():
            raise SettingsError(
                _(
                    "layer {layer} has a bias on its queries, keys and values, and a `blocks` with "
                    "ReLU has none; load this GPT-2 with transformers"
                ).format(layer=layer)
            )
    if settings.tie_embeddings:
        own["lm_head.weight"] = own["token_embedding.weight"]
    return own


def adapted_names(settings: BlocksSettings) -> dict[str, str]:
    """The products of the blocks: our name and GPT-2's."""
    return {
        name.removesuffix(".weight"): theirs.removesuffix(".weight")
        for name, theirs, transposed in _names(settings)
        if transposed
    }


def stored_name(name: str, settings: BlocksSettings) -> str | None:
    """A name in weights as `state_of` has it; None for what is no weight.

    Old files have no prefix, and hold attention's masks.
    """
    if name.endswith((".attn.bias", ".attn.masked_bias")):
        return None
    if name == "lm_head.weight":
        return None if settings.tie_embeddings else name
    return name if name.startswith(PREFIX) else PREFIX + name


def _bias_name(layer: int) -> str:
    return f"{PREFIX}h.{layer}.attn.c_attn.bias"


def _names(settings: BlocksSettings) -> list[tuple[str, str, bool]]:
    """Each of our tensors, its name in GPT-2, and whether GPT-2 has it transposed."""
    names = [
        ("token_embedding.weight", f"{PREFIX}wte.weight", False),
        ("position_embedding.weight", POSITIONS, False),
        ("final_norm.weight", f"{PREFIX}ln_f.weight", False),
        ("final_norm.bias", f"{PREFIX}ln_f.bias", False),
    ]
    if not settings.tie_embeddings:
        names.append(("lm_head.weight", "lm_head.weight", False))
    for layer in range(settings.num_layers):
        ours, theirs = f"blocks.{layer}.", f"{PREFIX}h.{layer}."
        names.append((f"{ours}heads.query_key_value.weight", f"{theirs}attn.c_attn.weight", True))
        if settings.activation is not None:
            names.append((f"{ours}heads.query_key_value.bias", _bias_name(layer), False))
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
