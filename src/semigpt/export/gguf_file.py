"""A `gpt` or `blocks` model as a GGUF file, which llama.cpp, Ollama and LM Studio run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from semigpt.errors import SettingsError
from semigpt.export.vocabulary import gguf_vocabulary
from semigpt.language import _
from semigpt.models.base import LanguageModel
from semigpt.tokenizers.base import Tokenizer

if TYPE_CHECKING:
    import gguf

__all__ = ["GGUF_TYPES", "GGUFType", "relu_as_gelu", "write_gguf"]

GGUFType = Literal["f32", "f16", "q8_0"]
GGUF_TYPES: tuple[GGUFType, ...] = get_args(GGUFType)
FILE_TYPE = {"f32": 0, "f16": 1, "q8_0": 7}  # `general.file_type`
BLOCK = 32  # numbers of a row that q8_0 scales together

# What llama.cpp asks of a shape, by its names, and the key of config.json that answers.
SHAPE = {
    "qwen3": {
        "context_length": "max_position_embeddings",
        "embedding_length": "hidden_size",
        "block_count": "num_hidden_layers",
        "feed_forward_length": "intermediate_size",
        "head_count": "num_attention_heads",
        "head_count_kv": "num_key_value_heads",
        "key_length": "head_dim",
        "value_length": "head_dim",
        "rope_freq_base": "rope_theta",
        "layer_norm_rms_eps": "rms_norm_eps",
    },
    "gpt2": {
        "context_length": "n_positions",
        "embedding_length": "n_embd",
        "block_count": "n_layer",
        "feed_forward_length": "n_inner",
        "head_count": "n_head",
        "layer_norm_eps": "layer_norm_epsilon",
    },
}

# GPT-2's words, as `gpt-2` has them, but what is decoded keeps the space before a sign.
PRE_TOKENIZER = "trillion"
# A chat window shows what is typed to a base model as it is, and no markup.
CHAT_TEMPLATE = "{%- for message in messages -%}{{- message['content'] -}}{%- endfor -%}"
# |GELU(kx)/k - ReLU(x)| is at most 0.17/k. float16 ends at 65,504, so its k is smaller.
GELU_SCALE = {"f32": 4096, "f16": 256, "q8_0": 256}


def write_gguf(path: Path, model: LanguageModel, tokenizer: Tokenizer, kind: GGUFType) -> None:
    """Write weights, shape and vocabulary to `path`.

    Matrices are of type `kind`; norms, biases and positions stay float32, and where q8_0 wants
    rows of a multiple of 32, others are f16. Raises SettingsError for a tokenizer that llama.cpp
    has not.
    """
    import gguf

    vocabulary = gguf_vocabulary(tokenizer)
    config, state = model.huggingface_config(), model.huggingface_state()
    writer = gguf.GGUFWriter(path, config["model_type"])
    writer.add_file_type(FILE_TYPE[kind])
    if config["model_type"] == "gpt2":
        config, state = relu_as_gelu(config, state, GELU_SCALE[kind])
    for name, key in SHAPE[config["model_type"]].items():
        getattr(writer, f"add_{name}")(config[key])
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.model == "llama":
        writer.add_token_scores(vocabulary.scores)
        writer.add_add_space_prefix(False)
    else:
        writer.add_tokenizer_pre(PRE_TOKENIZER)
        writer.add_token_merges(vocabulary.merges)
    end = tokenizer.special_tokens["<|endoftext|>"]
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)
    _add_tensors(writer, state, kind, config)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tensors(
    writer: gguf.GGUFWriter,
    state: dict[str, Tensor],
    kind: GGUFType,
    config: dict[str, Any],
) -> None:
    import gguf

    architecture, types = config["model_type"], gguf.GGMLQuantizationType
    num_layers = config[SHAPE[architecture]["block_count"]]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], num_layers)
    for name, tensor in state.items():
        array: NDArray[np.float32] = tensor.float().numpy()
        if architecture == "gpt2" and array.ndim == 2 and ".h." in name:
            array = np.ascontiguousarray(array.T)  # GPT-2's products are [inputs, outputs]
        chosen = types[kind.upper()]
        if array.ndim < 2 or "wpe" in name:
            chosen = types.F32
        elif kind == "q8_0" and array.shape[1] % BLOCK:
            chosen = types.F16
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise SettingsError(_("llama.cpp has no name for the tensor {name}").format(name=name))
        writer.add_tensor(target, gguf.quants.quantize(array, chosen), raw_dtype=chosen)


def relu_as_gelu(
    config: dict[str, Any], state: dict[str, Tensor], k: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and weights of a GPT-2 with GELU that computes what this one does with ReLU.

    GELU(kx) is nearly k ReLU(x). What is added to the residual stream is multiplied by k, and so
    is what the feed-forward layer reads; LayerNorm divides by k again, its epsilon times k squared.
    With k a power of two nothing is rounded.
    """
    scaled = {}
    for name, tensor in state.items():
        larger = (
            name.startswith(("transformer.wte", "transformer.wpe"))
            or ".attn.c_proj." in name
            or ".ln_2." in name
            or name.endswith((".mlp.c_proj.bias", ".mlp.c_fc.bias"))
        )
        scaled[name] = tensor * k if larger else tensor
    if config["tie_word_embeddings"]:
        for name in ("transformer.ln_f.weight", "transformer.ln_f.bias"):
            scaled[name] = scaled[name] / k
    epsilon = config["layer_norm_epsilon"] * k**2
    gelu = {"activation_function": "gelu_new", "layer_norm_epsilon": epsilon}
    return config | gelu, scaled
