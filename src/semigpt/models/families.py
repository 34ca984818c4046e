"""The GPTs of today that are one shape: a `config.json` of theirs as settings of `gpt`, and back.

qwen3      RMSNorm on each head's queries and keys
llama      none; also SmolLM2, Kanana and HyperCLOVA X SEED
mistral    as llama
qwen2      as llama, with biases on queries, keys and values
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from semigpt.errors import SettingsError
from semigpt.language import _
from semigpt.models.layers import RopeScaling

if TYPE_CHECKING:
    from semigpt.models.gpt import GPTSettings

__all__ = ["FAMILIES", "Family", "config_of", "settings_of"]

Family: TypeAlias = Literal["qwen3", "qwen2", "llama", "mistral"]
# `model_type` -> the name of transformers' class.
FAMILIES: Mapping[str, str] = {
    "qwen3": "Qwen3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
}
HAVE_BIAS_SETTING = ("qwen3", "llama")
HAVE_WINDOW_SETTING = ("qwen3", "qwen2")


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of GPTSettings for a config.json of one of FAMILIES.

    A sliding window as long as the context is none, so it is the context's limit. Raises
    SettingsError, LookupError, TypeError or ValueError for a shape that `gpt` has not.
    """
    family: str = config["model_type"]
    for key, plain in (("hidden_act", "silu"), ("mlp_bias", False), ("partial_rotary_factor", 1)):
        if config.get(key, plain) not in (plain, None):
            raise SettingsError(
                _("{key} of {config!r} is not of the shape semigpt builds").format(
                    key=key, config=config[key]
                )
            )
    theta, scaling = _rope(config)
    context = config["max_position_embeddings"]
    window = config.get("sliding_window")
    if window and (family == "mistral" or config.get("use_sliding_window")):
        context = min(context, window)
    biased = family in HAVE_BIAS_SETTING and config.get("attention_bias")
    heads = config["num_attention_heads"]
    return {
        "vocab_size": config["vocab_size"],
        "context_length": context,
        "width": config["hidden_size"],
        "num_layers": config["num_hidden_layers"],
        "num_heads": heads,
        "num_kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or config["hidden_size"] // heads,
        "hidden_width": config["intermediate_size"],
        "rope_theta": theta,
        "rope_scaling": scaling,
        "norm_epsilon": config.get("rms_norm_eps", 1e-6),
        "tie_embeddings": config.get("tie_word_embeddings", False),
        "family": None if family == "qwen3" else family,
        "attention_bias": True if biased else None,
    }


def _rope(config: Mapping[str, Any]) -> tuple[float, RopeScaling | None]:
    """RoPE's theta and scaling; transformers 5 writes both into `rope_parameters`."""
    table: Mapping[str, Any] = {
        **(config.get("rope_parameters") or {}),
        **(config.get("rope_scaling") or {}),
    }
    theta = table.get("rope_theta") or config.get("rope_theta") or 10_000.0
    match table.get("rope_type", table.get("type", "default")):
        case "default":
            return theta, None
        case "linear":
            return theta, (float(table["factor"]), 1.0, 4.0, 0.0)
        case "llama3":
            keys = ("factor", "low_freq_factor", "high_freq_factor")
            factor, low, high = (float(table[key]) for key in keys)
            return theta, (factor, low, high, float(table["original_max_position_embeddings"]))
        case other:
            raise SettingsError(
                _(
                    "positions are scaled by {other!r}; semigpt builds default, linear and llama3"
                ).format(other=other)
            )


def config_of(settings: GPTSettings) -> dict[str, Any]:
    """The config.json of a `gpt`, which transformers builds."""
    family = settings.family or "qwen3"
    config: dict[str, Any] = {
        "model_type": family,
        "architectures": [FAMILIES[family]],
        "vocab_size": settings.vocab_size,
        "max_position_embeddings": settings.context_length,
        "hidden_size": settings.width,
        "num_hidden_layers": settings.num_layers,
        "num_attention_heads": settings.num_heads,
        "num_key_value_heads": settings.kv_heads,
        "head_dim": settings.head_width,
        "intermediate_size": settings.feedforward_width,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "rms_norm_eps": settings.norm_epsilon,
        "rope_theta": settings.rope_theta,
        "tie_word_embeddings": settings.tie_embeddings,
        "use_cache": True,
        "torch_dtype": "float32",
    }
    if family in HAVE_BIAS_SETTING:
        config["attention_bias"] = bool(settings.attention_bias)
    if family in HAVE_WINDOW_SETTING:
        config["use_sliding_window"] = False
    if family == "mistral":
        config["sliding_window"] = None
    if settings.rope_scaling is not None:
        factor, low, high, context = settings.rope_scaling
        config["rope_scaling"] = {"rope_type": "linear", "factor": factor}
        if context:
            config["rope_scaling"] = {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low,
                "high_freq_factor": high,
                "original_max_position_embeddings": int(context),
            }
    return config
