"""`LanguageModel.generate`, the book's loop, is the oracle of the engine; and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import VOCABULARY, small_model
from semigpt.errors import SettingsError
from semigpt.generation.decoder import Sequences, make_decoder
from semigpt.generation.sampling import SamplingSettings, probabilities
from semigpt.models.base import LanguageModel

PROMPT = torch.tensor([[7, 14, 21, 7], [3, 3, 41, 0]])
# Past the context only rungs without a cache read what the loop reads: a cache keeps what slid out.
SLIDES = ("bigram", "attention", "multihead", "feedforward", "blocks")


def test_greedy_text_is_the_engines(model: LanguageModel, rung: str) -> None:
    length = 30 if rung in SLIDES else model.settings.context_length - PROMPT.shape[1]
    found = model.generate(PROMPT, length, temperature=0.0)
    assert found.shape == (2, PROMPT.shape[1] + length)
    assert torch.equal(found[:, : PROMPT.shape[1]], PROMPT)
    sequences = Sequences.open(make_decoder(model), len(PROMPT))
    logits = sequences.feed(PROMPT.tolist())
    for new_B in found[:, PROMPT.shape[1] :].T.numpy():
        assert new_B.tolist() == logits.argmax(axis=1).tolist()
        logits = sequences.step(new_B)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_engine_draws_from_the_loops_probabilities(
    model: LanguageModel, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn_from = []
    multinomial = torch.multinomial

    def spy(p_BV: torch.Tensor, **how: object) -> torch.Tensor:
        drawn_from.append(p_BV.numpy())
        return multinomial(p_BV, **how)

    monkeypatch.setattr(torch, "multinomial", spy)
    text = model.generate(PROMPT, 8, seed=1, temperature=temperature).tolist()
    texts = Sequences.open(make_decoder(model), len(PROMPT))
    logits = texts.feed(PROMPT.tolist())
    settings = SamplingSettings(temperature=temperature)
    for place, p_BV in enumerate(drawn_from, start=PROMPT.shape[1]):
        for row in range(len(PROMPT)):
            np.testing.assert_allclose(probabilities(logits[row], settings), p_BV[row], atol=1e-5)
        logits = texts.step(np.array([row[place] for row in text]))


def test_a_seed_is_a_text(model: LanguageModel) -> None:
    model.train()
    first = model.generate(PROMPT, 12, seed=5)
    assert torch.equal(model.generate(PROMPT, 12, seed=5), first)
    assert not torch.equal(model.generate(PROMPT, 12, seed=6), first)
    assert model.training, "the mode is as it was"
    assert first.min() >= 0
    assert first.max() < VOCABULARY


def test_dropout_is_off() -> None:
    model = small_model("gpt", dropout=0.5).train()
    greedy = [model.generate(PROMPT, 8, temperature=t) for t in (0.0, 0.0, 1e-40)]
    assert torch.equal(greedy[0], greedy[1])
    assert torch.equal(greedy[0], greedy[2])


@pytest.mark.parametrize("wrong", [1000, VOCABULARY, 10**8, -1])
def test_ids_outside_the_vocabulary_are_refused(model: LanguageModel, wrong: int) -> None:
    with pytest.raises(SettingsError, match=rf"token id {wrong} is outside the vocabulary of 50"):
        model.generate(torch.tensor([[1, wrong]]), 3)


@pytest.mark.parametrize(
    ("inputs", "settings", "message"),
    [
        (torch.zeros(1, 0, dtype=torch.int64), {}, r"shape \[batch, at least 1\], not \[1, 0\]"),
        (torch.zeros(3, dtype=torch.int64), {}, "shape"),
        (PROMPT, {"max_new_tokens": -1}, "max_new_tokens must be 0 or more"),
        (PROMPT, {"temperature": -1.0}, "temperature must be 0 or more"),
        (PROMPT, {"temperature": float("nan")}, "temperature must be 0 or more"),
        (PROMPT, {"temperature": float("inf")}, "temperature must be 0 or more"),
    ],
)
def test_impossible_requests_are_refused(
    inputs: torch.Tensor, settings: dict[str, float], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        small_model("bigram").generate(inputs, **{"max_new_tokens": 3, **settings})
