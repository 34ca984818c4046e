"""Embeddings that begin as the text's bigrams: exact where the width reaches, the same anywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from semigpt.counting import begin_with, first_embeddings
from semigpt.errors import SettingsError
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.ngrams.counts import Counts
from semigpt.ngrams.embeddings import BigramEmbeddings
from semigpt.recipe import Evaluated, Finished, Recipe, Stepped, train
from semigpt.studies.crash_test import small_tables

V = 24
TEXT = np.where(
    np.random.default_rng(0).random(4000) < 0.5,
    np.arange(4000) * 7 % (V - 1),
    np.random.default_rng(1).zipf(1.3, 4000) % (V - 1),
).astype(np.uint16)  # the last token does not occur


def begun(width: int, text: np.ndarray = TEXT, vocab_size: int = V) -> GPT:
    """A GPT whose blocks add nothing yet."""
    torch.manual_seed(0)
    settings = GPTSettings(
        vocab_size=vocab_size, context_length=8, width=width, num_layers=1, num_heads=2
    )
    model = GPT(settings)
    for block in model.model.layers:
        torch.nn.init.zeros_(block.self_attn.o_proj.weight)
        torch.nn.init.zeros_(block.mlp.down_proj.weight)
    begin_with(model, BigramEmbeddings.of(text, vocab_size, width))
    return model


def distribution(model: GPT) -> Tensor:
    """After each token, [V, V]."""
    V = model.settings.vocab_size
    with torch.no_grad():
        return model(torch.arange(V)[:, None])[0][:, 0].softmax(dim=-1)


def information(p_VV: Tensor) -> float:
    """Nats per token of the text."""
    ids = torch.from_numpy(TEXT.astype(np.int64))
    return -p_VV[ids[:-1], ids[1:]].log().mean().item()


def test_a_wide_model_begins_as_kneser_and_neys_bigram() -> None:
    counts = Counts.fit(TEXT, V, 2)
    wanted = counts.distribution(torch.arange(V)[:, None])[:, 0]
    found = distribution(begun(32))
    seen = torch.from_numpy(np.unique(TEXT).astype(np.int64))
    norm_V = (found.log() - wanted.log()).abs().amax(dim=1)[seen]
    # Three rows of a hundred are longer than the common norm leaves room for.
    assert norm_V.sort().values[:-2].max() < 1e-3


def test_a_narrow_model_begins_between_bigrams_and_frequencies() -> None:
    counts = Counts.fit(TEXT, V, 2)
    frequencies = information(counts.unigram.expand(V, V))
    losses = [information(distribution(begun(width))) for width in (8, 12, 20)]
    exact = information(counts.distribution(torch.arange(V)[:, None])[:, 0])
    assert exact < losses[2] < losses[1] < losses[0] < frequencies


def test_inputs_have_one_norm() -> None:
    inputs = BigramEmbeddings.of(TEXT, V, 16).inputs
    torch.testing.assert_close(inputs.square().mean(dim=1).sqrt(), torch.full((V,), 0.35))


def test_threads_change_no_bit() -> None:
    before, found = torch.get_num_threads(), []
    text = np.random.default_rng(0).zipf(1.2, 60_000) % 1500
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(BigramEmbeddings.of(text, 1500, 64))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0].inputs, found[1].inputs)
    assert torch.equal(found[0].outputs, found[1].outputs)


@pytest.mark.parametrize("text", [[0], [1, 1, 1, 1], [0, 1, 2, 3]])
def test_the_shortest_texts_give_numbers(text: list[int]) -> None:
    p_VV = distribution(begun(16, np.array(text, np.uint16), 5))
    assert p_VV.isfinite().all()


@pytest.mark.parametrize(
    ("tables", "tokens", "wanted"),
    [
        ({}, 40_000, "bigrams"),
        ({}, 39_999, "random"),
        ({"training": {"embeddings": "random"}}, 10**7, "random"),
        ({"training": {"embeddings": "bigrams"}}, 10, "bigrams"),
        ({"model": {"kind": "memory"}}, 10**7, "bigrams"),
        ({"model": {"kind": "blocks"}}, 10**7, "random"),
        ({"model": {"tie_embeddings": True}}, 10**7, "random"),
        ({"model": {"size": "0.3b"}}, 10**7, "random"),
        ({"start": {"folder": "starter"}}, 10**7, "random"),
    ],
)
def test_what_a_fresh_model_begins_with(
    tables: dict[str, dict[str, object]], tokens: int, wanted: str
) -> None:
    recipe = Recipe.from_tables(tables)
    recipe = replace(recipe, model=replace(recipe.model, vocab_size=1000))
    assert first_embeddings(recipe, tokens) == wanted


@pytest.mark.parametrize(
    "tables",
    [
        {"model": {"kind": "blocks"}},
        {"model": {"tie_embeddings": True}},
        {"start": {"folder": "starter"}},
    ],
)
def test_what_cannot_begin_so_is_refused(tables: dict[str, dict[str, object]]) -> None:
    with pytest.raises(SettingsError, match=r"embeddings=bigrams is of a fresh gpt or memory"):
        Recipe.from_tables({**tables, "training": {"embeddings": "bigrams"}})


@pytest.mark.parametrize("kind", ["gpt", "memory"])
def test_a_run_begins_so_and_is_resumed(kind: str, tmp_path: Path) -> None:
    recipe = Recipe.from_tables(small_tables(kind, steps=3, save_every=1, embeddings="bigrams"))
    plain = replace(recipe, training=replace(recipe.training, embeddings="random"))
    first = {}
    for name, tried in (("bigrams", recipe), ("random", plain)):
        steps: list[Stepped] = []
        for event in train(tried, tmp_path / name, stop=lambda steps=steps: bool(steps)):
            if isinstance(event, Stepped):
                steps.append(event)
            elif isinstance(event, Evaluated):
                first.setdefault(name, event.bits_per_character)
    assert first["bigrams"] < first["random"] - 0.1
    events = list(train(recipe, tmp_path / "bigrams", resume=True))
    assert isinstance(events[-1], Finished)
