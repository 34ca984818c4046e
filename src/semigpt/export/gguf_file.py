"""A `gpt` or `blocks` model as a GGUF file, which llama.cpp, Ollama and LM Studio run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from semigpt.errors import SettingsError
from semigpt.export.vocabulary import gguf_vocabulary
from semigpt.models.base import LanguageModel
from semigpt.tokenizers.base import Tokenizer

if TYPE_CHECKING:
    import gguf

__all__ = ["GGUF_TYPES", "GGUFType", "relu_as_gelu", "write_gguf"]

GGUFType = Literal["f32", "f16", "q8_0"]
GGUF_TYPES: tuple[GGUFType, ...] = ("f32", "f16", "q8_0")
FILE_TYPE = {"f32": 0, "f16": 1, "q8_0": 7}  # `general.file_type`
BLOCK = 32  # numbers of a row that q8_0 scales together

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
        _add_gpt2_shape(writer, config)
    else:
        _add_qwen3_shape(writer, config)
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


def _add_qwen3_shape(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def _add_gpt2_shape(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_feed_forward_length(config["n_inner"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])


def _add_tensors(
    writer: gguf.GGUFWriter,
    state: dict[str, Tensor],
    kind: GGUFType,
    config: dict[str, Any],
) -> None:
    import gguf

    is_gpt2 = config["model_type"] == "gpt2"
    architecture = gguf.MODEL_ARCH.GPT2 if is_gpt2 else gguf.MODEL_ARCH.QWEN3
    num_layers = config["n_layer" if is_gpt2 else "num_hidden_layers"]
    names = gguf.get_tensor_name_map(architecture, num_layers)
    types = {
        "f32": gguf.GGMLQuantizationType.F32,
        "f16": gguf.GGMLQuantizationType.F16,
        "q8_0": gguf.GGMLQuantizationType.Q8_0,
    }
    for name, tensor in state.items():
        array: NDArray[np.float32] = tensor.float().numpy()
        if is_gpt2 and array.ndim == 2 and ".h." in name:
            array = np.ascontiguousarray(array.T)  # GPT-2's products are [inputs, outputs]
        chosen = types[kind]
        if array.ndim < 2 or "wpe" in name:
            chosen = types["f32"]
        elif kind == "q8_0" and array.shape[1] % BLOCK:
            chosen = types["f16"]
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise SettingsError(f"llama.cpp has no name for the tensor {name}")
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
