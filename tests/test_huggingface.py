"""What is saved is what the ecosystem loads: no code of ours on the other side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from conftest import small_model
from semigpt.errors import CheckpointError
from semigpt.huggingface.folder import load_model, model_card, save_model
from semigpt.huggingface.integrity import serialized, with_digests
from semigpt.models import build_model
from semigpt.models.base import LanguageModel
from semigpt.tokenizers import CharTokenizer, load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(korean_text: str) -> CharTokenizer:
    return CharTokenizer(korean_text, normalization="NFC")


def saved(folder: Path, rung: str, tokenizer: CharTokenizer, **settings: object) -> LanguageModel:
    torch.manual_seed(1)
    table = (
        {"width": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2} if rung == "gpt" else {}
    )
    model = build_model(
        rung, tokenizer.vocab_size, {"context_length": 32, **table, **settings}
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    save_model(folder, model, tokenizer, model_card(model, {}))
    return model


def test_what_is_written_without_copies_is_what_the_library_writes(tmp_path: Path) -> None:
    weights = {"b": torch.randn(3, 4), "a": torch.randn(5), "c": torch.randn(4, 6).t()}
    whole = {name: tensor.contiguous() for name, tensor in weights.items()}
    theirs = with_digests(save(whole, metadata={"format": "pt"}), tmp_path, {})
    assert b"".join(serialized(weights, tmp_path, {})) == theirs


@pytest.mark.parametrize(
    "settings", [{}, {"tie_embeddings": True}, {"head_dim": 16, "num_kv_heads": None}]
)
def test_transformers_gives_the_same_logits_and_the_same_text(
    tmp_path: Path, tokenizer: CharTokenizer, korean_text: str, settings: dict[str, object]
) -> None:
    """P12 for `gpt`: logits within 1e-5, greedy text equal, ids equal."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ours = saved(tmp_path, "gpt", tokenizer, **settings)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    their_tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    text = korean_text[:30]
    ids = torch.tensor([[tokenizer.end_of_text, *tokenizer.encode(text).tolist()]])
    batch = their_tokenizer([text, text[:8]], return_tensors="pt", padding=True)
    assert batch["input_ids"][0].tolist() == ids[0].tolist()
    with torch.no_grad():
        logits = theirs(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        continued = theirs.generate(ids[:, :8], max_new_tokens=20, do_sample=False)
    torch.testing.assert_close(logits[:1], ours(ids)[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits[1, -9:], ours(ids[:, :9])[0][0], atol=1e-5, rtol=1e-5)
    assert continued.tolist() == ours.generate(ids[:, :8], 20, temperature=0).tolist()


@pytest.mark.parametrize("rung", ["gpt", "blocks"])
def test_a_pipeline_continues_a_prompt_as_semigpt_does(
    tmp_path: Path, tokenizer: CharTokenizer, korean_text: str, rung: str
) -> None:
    """One prompt alone, and two of other lengths in a batch: nobody has to add a token."""
    from transformers import pipeline

    ours = saved(tmp_path, rung, tokenizer)
    prompts = [korean_text[:7], korean_text[20:23]]
    expected, end = [], tokenizer.end_of_text
    for prompt in prompts:
        ids = torch.tensor([[end, *tokenizer.encode(prompt).tolist()]])
        expected.append(ours.generate(ids, 12, temperature=0)[0, -12:].tolist())
    writer = pipeline("text-generation", str(tmp_path), device="cpu")
    settings = {"max_new_tokens": 12, "do_sample": False, "return_tensors": True}
    found = [writer(prompts[0], **settings), *writer(prompts, batch_size=2, **settings)]
    for row, ids in zip(found, [expected[0], *expected], strict=True):
        length = ids.index(end) if end in ids else 12  # theirs stops there, and pads
        assert row[0]["generated_token_ids"][-12:][:length] == ids[:length]


def test_every_rung_comes_back_from_its_folder(
    tmp_path: Path, rung: str, tokenizer: CharTokenizer
) -> None:
    ours = saved(tmp_path, rung, tokenizer)
    again = load_model(tmp_path)
    assert again.huggingface_config() == ours.huggingface_config()
    inputs = torch.randint(0, tokenizer.vocab_size, (2, 16))
    assert torch.equal(again(inputs)[0], ours(inputs)[0])
    assert load_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint


def test_a_card_says_what_loads_the_model() -> None:
    assert "AutoModelForCausalLM" in model_card(small_model("gpt"), {"parameters": "1"})
    assert "needs semigpt" in model_card(small_model("bigram"), {})


def test_a_damaged_or_foreign_folder_is_refused_by_name(
    tmp_path: Path, tokenizer: CharTokenizer
) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json in"):
        load_model(tmp_path)
    saved(tmp_path, "gpt", tokenizer)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    whole, described = weights.read_bytes(), json.loads(config.read_text())
    for content in (whole[: len(whole) // 2], whole[:3], b""):
        weights.write_bytes(content)
        with pytest.raises(
            CheckpointError, match=r"model\.safetensors is not a whole safetensors file"
        ):
            load_model(tmp_path)
    weights.write_bytes(whole)
    config.write_text(json.dumps({**described, "hidden_size": 64, "head_dim": 16}))
    with pytest.raises(
        CheckpointError,
        match=r"does not fit .*lm_head.weight: expected \(\d+, 64\), found \(\d+, 32\)",
    ):
        load_model(tmp_path)
    for change in ({"model_type": "gemma"}, {"hidden_size": "wide"}, {"num_hidden_layers": 0}):
        config.write_text(json.dumps({**described, **change}))
        with pytest.raises(CheckpointError, match="does not describe a model"):
            load_model(tmp_path)
    config.write_text("{")
    with pytest.raises(CheckpointError, match="does not describe a model"):
        load_model(tmp_path)
