"""The Hugging Face folder: what a saved model is from its first save.

`gpt` is a Qwen3 and `blocks` a GPT-2 to `AutoModelForCausalLM`, vLLM and llama.cpp's converter; the other rungs'
folders have the same files and say in `config.json` and in their card that they need semigpt.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semigpt.errors import CheckpointError, SemigptError, SettingsError
from semigpt.huggingface.integrity import check_seal, read_header, seal
from semigpt.models.base import LanguageModel, shapes_differ
from semigpt.storage import read_json, replace_file
from semigpt.tokenizers.base import Tokenizer

__all__ = ["load_model", "model_card", "save_model"]

# What the config.json of a semigpt-* model holds beside the fields of its settings.
NOT_SETTINGS = ("model_type", "architectures", "torch_dtype", "bos_token_id", "eos_token_id")


def save_model(folder: Path, model: LanguageModel, tokenizer: Tokenizer, card: str) -> None:
    """Write the whole folder. Each file is replaced in one move and the weights come last, so that a reader who
    comes meanwhile loads the model before or the model after."""
    from safetensors.torch import save

    if not (folder / "tokenizer.json").exists():
        tokenizer.save(folder, context_length=model.settings.context_length)
    end = (
        {}
        if tokenizer.end_of_text is None
        else {"bos_token_id": tokenizer.end_of_text, "eos_token_id": tokenizer.end_of_text}
    )
    config = {**model.huggingface_config(), **end}
    generation = {**end, "do_sample": True, "max_new_tokens": 200}
    state = {
        name: tensor.float().cpu().contiguous()
        for name, tensor in model.huggingface_state().items()
    }
    replace_file(folder / "config.json", _json(config))
    replace_file(folder / "generation_config.json", _json(generation))
    replace_file(folder / "README.md", card.encode())
    for name, tensors in model.auxiliary_tensors().items():
        if not (folder / name).is_file():  # once: they do not change
            replace_file(folder / name, save(tensors))
    replace_file(folder / "model.safetensors", seal(save(state, metadata={"format": "pt"}), folder))


def _json(table: dict[str, Any]) -> bytes:
    return (json.dumps(table, indent=2, ensure_ascii=False) + "\n").encode()


def model_card(model: LanguageModel, facts: Mapping[str, str]) -> str:
    """The folder's README.md: front matter that the Hub reads, what the model is, and how to load it."""
    loads_elsewhere = not model.huggingface_config()["model_type"].startswith("semigpt")
    lines = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    if loads_elsewhere:
        use = (
            "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'model = AutoModelForCausalLM.from_pretrained("FOLDER")\ntokenizer = AutoTokenizer.from_pretrained("FOLDER")\n```\n\n'
            "A text begins behind the `<|endoftext|>` token: put its id before the prompt's."
        )
    else:
        use = (
            f"The `{model.rung}` rung is semigpt's own shape and **needs semigpt**; transformers cannot build it.\n\n"
            "```python\nfrom semigpt import load_model, load_tokenizer\n\n"
            'model, tokenizer = load_model("FOLDER"), load_tokenizer("FOLDER")\n```'
        )
    library = "transformers" if loads_elsewhere else "semigpt"
    return (
        f"---\nlanguage: ko\nlibrary_name: {library}\npipeline_tag: text-generation\ntags:\n- semigpt\n- korean\n---\n\n"
        f"# A `{model.rung}` model of Korean text\n\nTrained with semigpt from random weights.\n\n| | |\n|---|---|\n{lines}\n\n"
        f"## Use\n\n{use}\n\n## Limits\n\nA small model of one corpus: it writes what its corpus sounds like, knows no "
        "facts, and may repeat passages of the text it learnt from.\n"
    )


def load_model(folder: Path | str) -> LanguageModel:
    """The model of a folder that `save_model` wrote, or of any Qwen3 folder of a shape we build.

    Raises CheckpointError, naming the file, for one that was changed or cut off since it was saved and, for weights
    that do not fit, naming every leaf with the shape expected and the shape found. The shapes that config.json asks
    for are compared with those in the file before memory is taken for them.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    config_file, weights_file = folder / "config.json", folder / "model.safetensors"
    for path in (config_file, weights_file):
        if not path.is_file():
            raise CheckpointError(
                f"no {path.name} in {folder}: no model has been saved there yet; train one, or name another folder"
            )
    header = read_header(weights_file)
    metadata = header.pop("__metadata__", {})
    try:
        found = {name: torch.empty(entry["shape"], device="meta") for name, entry in header.items()}
        config = read_json(config_file)
        _check_bounds(config, tensors=len(found))
        small = _largest_build(config) <= SMALL_BUILD
        with contextlib.nullcontext() if small else torch.device("meta"):
            shape = _build(config)
        if sum(b.numel() * b.element_size() for b in shape.buffers()) > LARGEST_TABLES:
            raise ValueError("its context is too long")
        expected = shape.huggingface_state()
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        SemigptError,
    ) as error:
        reason = " ".join((str(error).splitlines() or [type(error).__name__])[0].split())
        raise CheckpointError(
            f"{config_file} does not describe a model of semigpt's: {reason}"
        ) from None
    if differences := shapes_differ(expected, found):
        raise CheckpointError(
            f"{weights_file} does not fit {config_file}: {'; '.join(differences[:3])}"
        )
    if other := {str(entry["dtype"]) for entry in header.values()} - {"F64", "F32", "F16", "BF16"}:
        raise CheckpointError(
            f"{weights_file} holds numbers of type {', '.join(sorted(other))}; semigpt reads floating ones"
        )
    check_seal(folder, metadata)
    try:
        state = load_file(weights_file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{weights_file} cannot be read ({error}); it is cut off or changed: save the model again"
        ) from None
    model = shape if small else _build(config)
    model.load_huggingface_state(state)
    for path in (folder / name for name in model.auxiliary_files if (folder / name).is_file()):
        try:
            model.load_auxiliary_tensors({path.name: load_file(path)})
        except (OSError, SafetensorError, ValueError, LookupError, SettingsError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"{path} does not hold what the model needs ({reason}); save the model again"
            ) from None
    return model.eval()


LARGEST_TABLES = (
    1 << 30
)  # bytes of tables that a context_length alone decides, such as rotations and masks
# Bytes below which a config is built outright. Above, only its shape is, on the meta device, whose operations bring in
# all of torch._dynamo: 0.9 s, most of the way from the command to the first character.
SMALL_BUILD = 1 << 30


def _largest_build(config: dict[str, Any]) -> int:
    """Bytes that no model of this config exceeds: a dozen matrices a layer, each the two largest sizes there are."""
    sizes = {key: value for key, value in config.items() if type(value) is int and value > 0}
    heads = sizes.get("num_attention_heads", 1) * sizes.get("head_dim", 1)
    layers = max((value for key, value in sizes.items() if "layer" in key), default=1)
    first, second = sorted(
        (*sizes.values(), heads, 4 * sizes.get("n_embd", 1), 1, 1), reverse=True
    )[:2]
    return 4 * first * second * (12 * layers + 4)


def _check_bounds(config: dict[str, Any], *, tensors: int) -> None:
    """Raise ValueError for a config that would build more layers than the weights have tensors, or heads past sense."""
    for key, value in config.items():
        if isinstance(value, int) and "layer" in key and value > tensors:
            raise ValueError(f"{key} of {value}, but only {tensors} tensors in the weights")
        if isinstance(value, int) and "heads" in key and value > 4096:
            raise ValueError(f"{key} of {value}")


def _build(config: dict[str, Any]) -> LanguageModel:
    match config["model_type"]:
        case "semigpt-bigram":
            from semigpt.models.base import ModelSettings
            from semigpt.models.bigram import SemiGPT

            return SemiGPT(
                ModelSettings(
                    vocab_size=config["vocab_size"], context_length=config["context_length"]
                )
            )
        case (
            "semigpt-attention"
            | "semigpt-multihead"
            | "semigpt-feedforward"
            | "semigpt-memory" as model_type
        ):
            from semigpt.models import build_model

            rung = model_type.removeprefix("semigpt-")
            table = {key: value for key, value in config.items() if key not in NOT_SETTINGS}
            return build_model(rung, config["vocab_size"], table)
        case "gpt2":
            from semigpt.models.attention import BlocksModel, BlocksSettings

            if config["activation_function"] != "relu" or not config.get(
                "scale_attn_weights", True
            ):
                raise CheckpointError(
                    "of GPT-2's, semigpt builds those with ReLU and scaled attention; load it with transformers"
                )
            return BlocksModel(
                BlocksSettings(
                    vocab_size=config["vocab_size"],
                    context_length=config["n_positions"],
                    width=config["n_embd"],
                    num_layers=config["n_layer"],
                    num_heads=config["n_head"],
                    hidden_width=config.get("n_inner"),
                    norm_epsilon=config["layer_norm_epsilon"],
                    tie_embeddings=config.get("tie_word_embeddings", True),
                    dropout=0.0,
                )
            )
        case "qwen3":
            from semigpt.models.gpt import GPT, GPTSettings

            if (
                config.get("attention_bias")
                or config.get("rope_scaling")
                or config.get("use_sliding_window")
            ):
                raise CheckpointError(
                    "attention_bias, rope_scaling and use_sliding_window are not of the shape semigpt builds"
                )
            return GPT(
                GPTSettings(
                    vocab_size=config["vocab_size"],
                    context_length=config["max_position_embeddings"],
                    width=config["hidden_size"],
                    num_layers=config["num_hidden_layers"],
                    num_heads=config["num_attention_heads"],
                    num_kv_heads=config["num_key_value_heads"],
                    head_dim=config["head_dim"],
                    hidden_width=config["intermediate_size"],
                    rope_theta=config.get("rope_theta") or config["rope_parameters"]["rope_theta"],
                    norm_epsilon=config["rms_norm_eps"],
                    tie_embeddings=config["tie_word_embeddings"],
                )
            )
        case other:
            raise CheckpointError(f"model_type {other!r}; known are semigpt's own, gpt2 and qwen3")
