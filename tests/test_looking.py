"""What is shown of a model's inside is what it computes with."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from semigpt.errors import SettingsError
from semigpt.evaluation.looking import attention_after, gate_after, lens_after
from semigpt.evaluation.portrait import PARTS, attention_map, embedding_map, likeliest_tokens
from semigpt.models import LADDER, build_model, model_class
from semigpt.models.base import LanguageModel
from semigpt.models.memory import MemoryGPT
from semigpt.ngrams.counts import Counts
from semigpt.tokenizers import ByteTokenizer, CharTokenizer

V = 40
IDS = [3, 1, 4, 1, 5, 9, 2, 6, 3, 1, 4]
LAYERED = [kind for kind in LADDER if kind != "bigram"]


def untrained(kind: str) -> LanguageModel:
    torch.manual_seed(0)
    model = build_model(kind, V, dict(model_class(kind).small))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 5)
    if isinstance(model, MemoryGPT):
        model.set_counts(Counts.fit(IDS * 20, V, model.settings.memory_order))
    return model.eval()


def net_logits(model: LanguageModel) -> torch.Tensor:
    """Those of the last position; of a memory its net's."""
    inputs_BT = torch.tensor([IDS])
    if not isinstance(model, MemoryGPT):
        return model(inputs_BT)[0][0, -1]
    lookup = model.lookup(inputs_BT, inputs_BT, leave_one_out=False)
    return model.mixture_losses(inputs_BT, inputs_BT, lookup)[1][0, -1]


@pytest.mark.parametrize("kind", LAYERED)
def test_the_last_layer_read_out_is_what_the_model_says(kind: str) -> None:
    model = untrained(kind)
    found = lens_after(model, IDS, following=7, alternatives=V)
    assert len(found) == 1 + getattr(model.settings, "num_layers", 1)
    with torch.inference_mode():
        p_V = net_logits(model).softmax(dim=-1)
    said = dict(found[-1].likeliest)
    assert [said[token] for token in range(V)] == pytest.approx(p_V.tolist(), abs=1e-5)
    assert found[-1].p == pytest.approx(float(p_V[7]), abs=1e-5)
    assert all(sum(p for _, p in one.likeliest) == pytest.approx(1, abs=1e-4) for one in found)
    assert found[0].likeliest != found[-1].likeliest


@pytest.mark.parametrize("kind", LAYERED)
def test_attention_is_what_the_values_are_mixed_by(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = untrained(kind)
    module = sys.modules[f"semigpt.models.{'gpt' if hasattr(model, 'cos_TD') else 'attention'}"]
    mixed: list[tuple[torch.Tensor, torch.Tensor]] = []
    attend = module.attend

    def noted(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *dropout: float) -> torch.Tensor:
        result: torch.Tensor = attend(q, k, v, *dropout)
        mixed.append((v, result))
        return result

    monkeypatch.setattr(module, "attend", noted)
    found = attention_after(model, IDS)
    assert len(found) == len(mixed) == getattr(model.settings, "num_layers", 1)
    for layer, (values, result) in zip(found, mixed, strict=True):
        weights_HT = torch.tensor(layer)
        assert weights_HT.shape == (getattr(model.settings, "num_heads", 1), len(IDS))
        assert weights_HT.sum(dim=1).tolist() == pytest.approx([1.0] * len(layer), abs=1e-5)
        heads = (1, len(layer), len(IDS), -1)
        shared = values.reshape(1, -1, *values.shape[-2:])
        shared = shared.repeat_interleave(len(layer) // shared.shape[1], dim=1)
        expected = (weights_HT[None, :, None] @ shared.reshape(heads))[0, :, 0]
        assert torch.allclose(expected, result.reshape(heads)[0, :, -1], atol=1e-5)


@pytest.mark.parametrize("ids", [IDS, [3, 1], [7, 8, 9]])
def test_what_the_experts_say_weighed_is_what_a_memory_says(ids: list[int]) -> None:
    model = untrained("memory")
    experts = gate_after(model, ids, following=4, alternatives=V)
    assert [expert.name for expert in experts] == ["net", *["counts"] * 3, "match"]
    assert [expert.tokens for expert in experts][:-1] == [None, 0, 1, 2]
    assert (experts[-1].opinion is None) == (experts[-1].tokens == 0) == (ids != IDS)
    assert sum(expert.weight for expert in experts) == pytest.approx(1, abs=1e-5)
    said = [0.0] * V
    for expert in experts:
        for token, p in [] if expert.opinion is None else expert.opinion.likeliest:
            said[token] += expert.weight * p
    with torch.inference_mode():
        p_V = model(torch.tensor([ids]))[0][0, -1].softmax(dim=-1)
    assert said == pytest.approx(p_V.tolist(), abs=1e-5)


def test_what_cannot_be_shown_is_said() -> None:
    bigram, gpt = untrained("bigram"), untrained("gpt")
    for look in (attention_after, lens_after):
        with pytest.raises(SettingsError, match="the bigram rung has no layers"):
            look(bigram, IDS)
        with pytest.raises(SettingsError, match="nothing before this place"):
            look(gpt, [])
        with pytest.raises(SettingsError, match="outside the vocabulary"):
            look(gpt, [V])
        with pytest.raises(SettingsError, match="context_length"):
            look(gpt, [1] * 17)
    with pytest.raises(SettingsError, match="the gpt rung has no gate"):
        gate_after(gpt, IDS)
    with pytest.raises(SettingsError, match="no counts"):
        gate_after(build_model("memory", V, dict(model_class("memory").small)), IDS)


# What a report draws


class Table:
    """A dataset of one stream, as far as `likeliest_tokens` reads it."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = np.array(ids)

    def stream(self, split: str) -> Table:
        return self

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.ids[start:stop]


@pytest.mark.parametrize("kind", LAYERED)
def test_a_map_of_attention_has_the_percents_of_each_prefix(kind: str, korean_text: str) -> None:
    tokenizer = CharTokenizer.plain(korean_text)
    model = build_model(kind, len(tokenizer), dict(model_class(kind).small))
    if isinstance(model, MemoryGPT):
        counts = Counts.fit(tokenizer.encode(korean_text).tolist(), len(tokenizer), 3)
        model.set_counts(counts)
    found = attention_map(model, tokenizer, korean_text)
    assert "".join(found["parts"]) == korean_text[: len(found["parts"])]
    assert len(found["parts"]) == min(PARTS, model.settings.context_length)
    ids = tokenizer.encode(korean_text).tolist()
    for part in range(len(found["parts"])):
        for layer, heads in enumerate(attention_after(model, ids[: part + 1])):
            for head, weights in enumerate(heads):
                assert found["heads"][layer][head][part] == [round(100 * w) for w in weights]


def test_bytes_are_joined_to_the_characters_that_they_spell() -> None:
    tokenizer = ByteTokenizer()
    torch.manual_seed(0)
    model = build_model("gpt", len(tokenizer), dict(model_class("gpt").small))
    found = attention_map(model, tokenizer, "한국은행 총재")
    assert found["parts"] == list("한국은행 총"), "16 bytes are its context"
    assert [len(row) for row in found["heads"][0][0]] == [1, 2, 3, 4, 5, 6]
    assert all(abs(sum(row) - 100) <= len(row) for heads in found["heads"][0] for row in heads)
    assert attention_map(untrained("bigram"), tokenizer, "한국") is None
    assert attention_map(model, tokenizer, "") is None


@pytest.mark.parametrize("kind", LADDER)
def test_a_map_of_embeddings_is_the_plane_of_most_variance(kind: str, korean_text: str) -> None:
    tokenizer = CharTokenizer.plain(korean_text)
    torch.manual_seed(0)
    model = build_model(kind, len(tokenizer), dict(model_class(kind).small))
    rows = next(p for name, p in model.named_parameters() if "token" in name).detach()
    with torch.no_grad():
        rows.add_(torch.randn_like(rows))
    tokens = list(range(2, 30))
    found = embedding_map(model, tokenizer, tokens)
    assert found["tokens"] == [tokenizer.decode([token]) for token in tokens]
    assert found["width"] == rows.shape[1]
    vectors = rows[tokens].double().numpy()
    values = np.linalg.eigvalsh(np.cov(vectors.T))[::-1]
    assert found["variance"] == pytest.approx((values[:2] / values.sum()).tolist(), abs=1e-4)
    # Distances on the plane are, up to its scale, those along the two directions.
    _, _, axes = np.linalg.svd(vectors - vectors.mean(axis=0))
    plane = (vectors - vectors.mean(axis=0)) @ axes[:2].T
    drawn = np.array([found["x"], found["y"]]).T
    assert np.abs(drawn).max() <= 1
    scale = np.linalg.norm(plane, axis=1).max()
    assert np.linalg.norm(drawn, axis=1) == pytest.approx(
        np.linalg.norm(plane, axis=1) / scale, abs=2e-3
    )
    assert embedding_map(model, tokenizer, [1, 2]) is None
    assert embedding_map(model, tokenizer, [3, 3, 3]) is None, "no two differ"


def test_the_likeliest_tokens_are_whole_characters() -> None:
    tokenizer = ByteTokenizer()
    ids = [*b"aab", *"한한한한".encode(), *b"bbb", tokenizer.end_of_text]
    assert likeliest_tokens(Table(ids), tokenizer, 9) == [*b"ba"]
    assert likeliest_tokens(Table(ids), tokenizer, 1) == [*b"b"]
