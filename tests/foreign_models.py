"""Small model folders as other programs write them: tokenizers of the library's, shards, no
digests.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from semigpt.models import build_model
from semigpt.tokenizers import Tokenizer, load_tokenizer

__all__ = ["SHAPES", "TEXTS", "V", "like_llama", "like_qwen", "put", "write_folder"]

V = 330
TEXTS = [
    "기상청은 24일 전국이 대체로 맑겠다고 밝혔다. 낮 최고 기온은 12도로 예보됐다.",
    "의사협회는 이날 서울에서 기자회견을 열었다. Hello, world!  두 칸. 뷁 😀",
] * 12
Made = tuple[Library, dict[str, str]]


def like_qwen() -> Made:
    """A BPE over GPT-2's letters, which puts nothing before a text."""
    made = Library(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=V - 20,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_end|>"],
        show_progress=False,
    )
    made.train_from_iterator(TEXTS, trainer)
    return made, {"eos_token": "<|im_end|>"}


def like_llama(*, bytes_too: bool = True) -> Made:
    """A BPE of SentencePiece's: a space before the text, `<s>` before that, bytes for the rest."""
    named = {f"<0x{byte:02X}>": 3 + byte for byte in range(256)} if bytes_too else {}
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, **named}
    for token in ["▁", "기", "상", "▁기", "다", ".", "뷁", "뷁뷁"]:
        vocab[token] = len(vocab)
    made = Library(
        models.BPE(vocab, [("▁", "기")], unk_token="<unk>", byte_fallback=bytes_too, fuse_unk=True)
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return made, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def put(made: Made, folder: Path) -> Tokenizer:
    """Write a tokenizer as transformers does."""
    folder.mkdir(exist_ok=True)
    made[0].save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **made[1]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return load_tokenizer(folder)


GPT = {"context_length": 32, "width": 16, "num_layers": 1, "num_heads": 2}
ROPE = [4.0, 1.0, 4.0, 16.0]
# Of each folder: rung, settings, what its config.json says besides, and the tokenizer.
SHAPES: dict[str, tuple[str, dict[str, Any], dict[str, Any], Any]] = {
    "llama": ("gpt", {**GPT, "family": "llama", "rope_scaling": ROPE}, {}, like_llama),
    "gpt2": ("blocks", {**GPT, "activation": "gelu_new"}, {}, like_qwen),
    "through_transformers": (
        "gpt",
        {**GPT, "family": "llama"},
        {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
        like_llama,
    ),
}


def write_folder(name: str, folder: Path) -> None:
    """A folder of SHAPES, its weights in two shards."""
    rung, settings, says, tokenizer = SHAPES[name]
    model = build_model(rung, V, settings)
    put(tokenizer(), folder)
    state = {name: tensor.clone() for name, tensor in model.huggingface_state().items()}
    names = sorted(state)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: state[name] for name in part}, folder / file, {"format": "pt"})
    places = {name: file for file, part in shards.items() for name in part}
    index = json.dumps({"metadata": {"total_size": 1}, "weight_map": places})
    (folder / "model.safetensors.index.json").write_text(index)
    (folder / "config.json").write_text(json.dumps({**model.huggingface_config(), **says}))
