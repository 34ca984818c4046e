"""A model and its tokenizer as `model.html` holds them: a description in JSON, and one blob.

The description says which parts the forward pass has, so that one pass in JavaScript runs every
rung: what a rung lacks is null. Matrices are in the blocks of `quantize`'s int8, vectors in
float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from semigpt.errors import SettingsError
from semigpt.generation.quantize import quantize
from semigpt.language import _
from semigpt.models.attention import (
    AttentionModel,
    BlocksModel,
    BlocksSettings,
    FeedForwardModel,
    MultiHeadModel,
)
from semigpt.models.base import LanguageModel
from semigpt.models.bigram import SemiGPT
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.models.memory import MemoryGPT
from semigpt.tokenizers.base import Tokenizer
from semigpt.tokenizers.byte_level import BPETokenizer, UnigramTokenizer
from semigpt.tokenizers.char import CharTokenizer
from semigpt.tokenizers.char_bpe import CharBPETokenizer

__all__ = ["describe", "described_tokenizer", "packed"]

Part = dict[str, Any]


def describe(model: LanguageModel) -> Part:
    """The parts of a model's forward pass; each matrix or vector by its name in `state_dict`.

    Raises SettingsError for a rung or shape whose forward pass the page has not got, such as one
    that was made from another.
    """
    parts, settings = PARTS.get(type(model)), model.settings
    if isinstance(settings, GPTSettings) and not (settings.in_c and settings.rope_scaling is None):
        parts = None
    if isinstance(settings, BlocksSettings) and settings.activation is not None:
        parts = None
    if parts is None:
        raise SettingsError(
            _("model.html has no forward pass for this {kind}").format(kind=model.kind)
        )
    return parts(model)


def _bigram(model: SemiGPT) -> Part:
    return {
        "embedding": "embedding_token_table.weight",
        "positions": None,
        "layers": [],
        "final_norm": None,
        "output": None,
    }


def _attention(model: AttentionModel) -> Part:
    heads = {"separate": ["head.query.weight", "head.key.weight", "head.value.weight"]}
    return _embedded([_layer(heads, 1, model.settings.width)])


def _multihead(model: MultiHeadModel) -> Part:
    return _embedded([_layer({"joined": "heads.query_key_value.weight"}, *_heads(model))])


def _feedforward(model: FeedForwardModel) -> Part:
    layer = _layer({"joined": "heads.query_key_value.weight"}, *_heads(model))
    return _embedded([layer | {"feedforward": _relu("feedforward.")}])


def _blocks(model: BlocksModel) -> Part:
    epsilon = model.settings.norm_epsilon

    def norm(name: str) -> Part:
        return _weight_and_bias(name) | {"epsilon": epsilon}

    layers = []
    for number in range(model.settings.num_layers):
        block = f"blocks.{number}."
        layers.append(
            _layer({"joined": f"{block}heads.query_key_value.weight"}, *_heads(model))
            | {
                "residual": True,
                "attention_norm": norm(f"{block}attention_norm"),
                "projection": _weight_and_bias(f"{block}projection"),
                "feedforward_norm": norm(f"{block}feedforward_norm"),
                "feedforward": _relu(f"{block}feedforward."),
            }
        )
    shape = _embedded(layers) | {"final_norm": norm("final_norm")}
    return shape | {"output": {"weight": "lm_head.weight", "bias": None}}


def _gpt(model: GPT) -> Part:
    settings = model.settings

    def norm(name: str) -> Part:
        return {"weight": f"{name}.weight", "bias": None, "epsilon": settings.norm_epsilon}

    layers = []
    for number in range(settings.num_layers):
        block = f"model.layers.{number}."
        attention, mlp = f"{block}self_attn.", f"{block}mlp."
        heads = {"separate": [f"{attention}{name}_proj.weight" for name in "qkv"]}
        layers.append(
            _layer(heads, settings.num_heads, settings.head_width, settings.kv_heads)
            | {
                "residual": True,
                "attention_norm": norm(f"{block}input_layernorm"),
                "query_norm": norm(f"{attention}q_norm"),
                "key_norm": norm(f"{attention}k_norm"),
                "rope_theta": settings.rope_theta,
                "projection": {"weight": f"{attention}o_proj.weight", "bias": None},
                "feedforward_norm": norm(f"{block}post_attention_layernorm"),
                "feedforward": {
                    "gate": f"{mlp}gate_proj.weight",
                    "expand": {"weight": f"{mlp}up_proj.weight", "bias": None},
                    "contract": {"weight": f"{mlp}down_proj.weight", "bias": None},
                },
            }
        )
    return {
        "embedding": "model.embed_tokens.weight",
        "positions": None,
        "layers": layers,
        "final_norm": norm("model.norm"),
        "output": {
            "weight": "model.embed_tokens.weight" if settings.tie_embeddings else "lm_head.weight",
            "bias": None,
        },
    }


def _memory(model: MemoryGPT) -> Part:
    if model.counts is not None:
        entries = sum(len(table) for table in model.counts.count)
        raise SettingsError(
            _(
                "model.html holds no memory model: beside the net it needs the {entries:,} n-grams "
                "that were counted"
            ).format(entries=entries)
        )
    return _gpt(model)


PARTS: dict[type[LanguageModel], Callable[[Any], Part]] = {
    SemiGPT: _bigram,
    AttentionModel: _attention,
    MultiHeadModel: _multihead,
    FeedForwardModel: _feedforward,
    BlocksModel: _blocks,
    GPT: _gpt,
    MemoryGPT: _memory,
}


def _heads(model: LanguageModel) -> tuple[int, int]:
    """The number of heads, and the width of one."""
    settings: Any = model.settings
    return settings.num_heads, settings.width // settings.num_heads


def _layer(products: Part, heads: int, head_width: int, kv_heads: int | None = None) -> Part:
    """Attention alone; queries, keys and values by three products or by one."""
    return {
        "query_key_value": {"separate": None, "joined": None} | products,
        "heads": heads,
        "kv_heads": kv_heads or heads,
        "head_width": head_width,
        "residual": False,
        "attention_norm": None,
        "query_norm": None,
        "key_norm": None,
        "rope_theta": None,
        "projection": None,
        "feedforward_norm": None,
        "feedforward": None,
    }


def _embedded(layers: list[Part]) -> Part:
    return {
        "embedding": "token_embedding.weight",
        "positions": "position_embedding.weight",
        "layers": layers,
        "final_norm": None,
        "output": _weight_and_bias("lm_head"),
    }


def _relu(prefix: str) -> Part:
    return {
        "gate": None,
        "expand": _weight_and_bias(f"{prefix}expand"),
        "contract": _weight_and_bias(f"{prefix}contract"),
    }


def _weight_and_bias(name: str) -> Part:
    return {"weight": f"{name}.weight", "bias": f"{name}.bias"}


def packed(model: LanguageModel, shape: Part) -> tuple[dict[str, Part], bytes]:
    """The tensors that `shape` names: where each lies in the blob, and the blob.

    A matrix is its int8 rows, padded to whole blocks, and then its float32 scales; each part
    begins at a multiple of four bytes. A row of the vocabulary's padding is left out.
    """
    state, places, parts, size = model.state_dict(), {}, [], 0
    vocabulary = (shape["embedding"], (shape["output"] or {}).get("weight"))
    for name in sorted(set(_names(shape))):
        array = _array(state[name])
        if name in vocabulary:
            array = array[: model.settings.vocab_size]
        stored = quantize(array, "int8") if array.ndim == 2 else (array, None)
        place: Part = {"shape": list(array.shape), "at": size}
        for number, part in enumerate(part for part in stored if part is not None):
            data = part.astype(part.dtype.newbyteorder("<")).tobytes()
            if number:
                place["scales"] = size
            parts.append(data + bytes(-len(data) % 4))
            size += len(parts[-1])
        places[name] = place
    return places, b"".join(parts)


def _names(part: Any) -> list[str]:
    """Every tensor that a description names."""
    if isinstance(part, dict):
        return [name for value in part.values() for name in _names(value)]
    if isinstance(part, list):
        return [name for value in part for name in _names(value)]
    return [part] if isinstance(part, str) else []


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return array


def described_tokenizer(tokenizer: Tokenizer) -> Part:
    """What encodes and decodes: the tokens by id, and what their kind needs besides.

    A token is its text, its bytes where they are no whole characters, or null for a special one.
    """
    tokens: list[Any] = []
    for token in range(tokenizer.vocab_size):
        data = tokenizer.token_bytes(token)
        try:
            tokens.append(data.decode() if data else None)
        except UnicodeDecodeError:
            tokens.append(list(data))
    found: Part = {
        "kind": tokenizer.kind,
        "normalization": tokenizer.normalization,
        "end_of_text": tokenizer.end_of_text,
        # Of byte 0; the others follow. A plain character tokenizer has none.
        "first_byte": 0,
        "tokens": tokens,
    }
    match tokenizer:
        case CharTokenizer():
            end = tokenizer.end_of_text
            return found | {"first_byte": None if end is None else end + 1}
        case BPETokenizer():
            return found | {"merges": [number for pair in tokenizer.merges for number in pair]}
        case CharBPETokenizer():
            ids = {token: i for i, token in enumerate(tokens) if i > 255 and token}
            merges = ((ids[left], ids[right]) for left, right in tokenizer.merges)
            return found | {"merges": [number for pair in merges for number in pair]}
        case UnigramTokenizer():
            return found | {"scores": list(tokenizer.scores.values())}
    return found
