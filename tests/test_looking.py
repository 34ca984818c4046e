"""What is shown of a model's inside is what it computes with."""

from __future__ import annotations

import sys

import pytest
import torch

from semigpt.errors import SettingsError
from semigpt.evaluation.looking import attention_after, gate_after, lens_after
from semigpt.models import LADDER, build_model, model_class
from semigpt.models.base import LanguageModel
from semigpt.models.memory import MemoryGPT
from semigpt.ngrams.counts import Counts

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
        expected = (weights_HT[None, :, None] @ values.reshape(heads))[0, :, 0]
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
