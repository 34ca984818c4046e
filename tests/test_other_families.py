"""Models that others trained: measured, continued in text, and trained further.

Each is a small random net that transformers itself wrote.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from semigpt.huggingface.folder import load_model

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}
GPT2 = {"vocab_size": 300, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen3": ("Qwen3", {**SHAPE, "head_dim": 16, "max_window_layers": 28}),
    "Qwen3, tied, biases": (
        "Qwen3",
        {**SHAPE, "head_dim": 8, "tie_word_embeddings": True, "attention_bias": True},
    ),
    "Qwen2": ("Qwen2", {**SHAPE, "tie_word_embeddings": True}),
    "Llama": ("Llama", SHAPE),
    "Llama 3": ("Llama", {**SHAPE, "rope_parameters": LLAMA_3, "tie_word_embeddings": True}),
    "Llama, biases": ("Llama", {**SHAPE, "attention_bias": True, "rope_parameters": LINEAR}),
    "Mistral": ("Mistral", {**SHAPE, "sliding_window": 64}),
    "GPT-2": ("GPT2", GPT2),
    "GPT-2, exact GELU": ("GPT2", {**GPT2, "activation_function": "gelu", "n_inner": 80}),
}


def write(name: str, folder: Path, **saving: Any) -> Any:
    """A random net of NETS, saved by transformers."""
    import transformers

    family, shape = NETS[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**shape)
    kind = "LMHeadModel" if family == "GPT2" else "ForCausalLM"
    net = getattr(transformers, f"{family}{kind}")(config).eval()
    with torch.no_grad():
        for parameter in net.parameters():  # biases of zero and norms of one would hide mistakes
            parameter += 0.1 * torch.randn_like(parameter)
    net.save_pretrained(folder, **saving)
    return net


IDS = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NETS)
def test_logits_are_transformers_and_after_saving_still(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from semigpt.huggingface.folder import save_model
    from semigpt.tokenizers import ByteTokenizer

    theirs = write(name, tmp_path / "theirs", max_shard_size="30KB")
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 1
    ours = load_model(tmp_path / "theirs")
    with torch.no_grad():
        expected = theirs(IDS).logits
        torch.testing.assert_close(ours(IDS)[0], expected, atol=1e-5, rtol=1e-4)
        save_model(tmp_path / "ours", ours, ByteTokenizer(), "")
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
        assert type(again) is type(theirs)
        torch.testing.assert_close(again(IDS).logits, expected, atol=1e-5, rtol=1e-4)
    assert ours.parameter_count() - ours.settings.parameter_count == 0
    short = load_model(tmp_path / "theirs", context_length=40)
    assert short.settings.context_length == 40
    assert torch.equal(short(IDS)[0], ours(IDS)[0])
