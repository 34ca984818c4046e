"""Evaluation: every token once, with half a context behind it, in units that do not depend on the tokenizer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from conftest import VOCABULARY, small_model
from semigpt.dataset import Dataset, TokenStream
from semigpt.evaluation.evaluate import estimate_loss, scored_windows, surprise, total_information
from semigpt.models.base import LanguageModel
from semigpt.tokenizers import CharTokenizer


@pytest.mark.parametrize("tokens", [16, 17, 31, 32, 33, 100, 1000])
@pytest.mark.parametrize("stride", [1, 3, 8, 16])
def test_windows_score_each_place_once_with_enough_before_it(tokens: int, stride: int) -> None:
    context, seen = 16, []
    for start, first in scored_windows(tokens, context, stride):
        assert 0 <= start <= tokens - context
        seen += range(start + first, start + context)
        assert start == 0 or first >= context - stride
    assert seen == list(range(tokens))


def test_total_is_the_sum_over_every_token(model: LanguageModel) -> None:
    """Against one prediction at a time, each from its own window."""
    ids = np.random.default_rng(0).integers(0, VOCABULARY, 50).astype(np.uint16)
    nats, tokens = total_information(
        model, TokenStream([ids], 1), begins_with_end_of_text=True, stride=1, rows=7
    )
    ring = torch.tensor(np.concatenate((ids[-1:], ids)).astype(np.int64))
    expected = 0.0
    for place in range(1, 51):
        window = ring[max(0, place - 16) : place]
        logits, _ = model.eval()(window[None])
        expected += F.cross_entropy(logits[0, -1:], ring[place : place + 1]).item()
    assert tokens == 50
    assert nats == pytest.approx(expected, rel=1e-5)


def test_without_end_marks_the_first_token_is_left_out(model: LanguageModel) -> None:
    ids = TokenStream([np.arange(40, dtype=np.uint16)], 1)
    assert total_information(model, ids, begins_with_end_of_text=False)[1] == 39


def test_a_uniform_model_costs_log_v_however_it_is_cut(dataset: Dataset) -> None:
    model = small_model("bigram")
    with torch.no_grad():
        next(model.parameters()).zero_()
    stream = dataset.stream("validation")
    for stride in (1, 5, 16):
        nats, tokens = total_information(model, stream, begins_with_end_of_text=True, stride=stride)
        assert nats / tokens == pytest.approx(math.log(VOCABULARY), rel=1e-6)


def test_the_estimate_is_of_fixed_blocks_with_its_standard_error(dataset: Dataset) -> None:
    model, stream = small_model("gpt"), dataset.stream("validation")
    one = estimate_loss(model, stream, context_length=16, blocks=40, rows=7)
    two = estimate_loss(model, stream, context_length=16, blocks=40, rows=64)
    assert one.loss == pytest.approx(two.loss, rel=1e-6)
    assert 0 < one.standard_error < 0.1
    assert model.training, "left as it was found"
    losses = []
    for block in range(40):
        start = block * 62 // 40 * 16
        window = torch.from_numpy(stream.read(start, start + 17).astype(np.int64))[None]
        losses.append(model.eval()(window[:, :-1], window[:, 1:])[1].item())
    assert one.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert one.standard_error == pytest.approx(np.std(losses, ddof=1) / math.sqrt(40), rel=1e-4)


def test_surprise_tells_a_text_apart_piece_by_piece(korean_text: str) -> None:
    tokenizer = CharTokenizer(korean_text)
    torch.manual_seed(0)
    model = small_model("bigram").__class__(
        small_model("bigram").settings.__class__(vocab_size=tokenizer.vocab_size, context_length=64)
    )
    found = surprise(model, tokenizer, "맑겠다 뷁 🐟")
    assert "".join(piece for piece, _ in found) == "맑겠다 뷁 🐟"
    one = math.log2(tokenizer.vocab_size)
    by_piece = dict(found)
    assert by_piece["맑"] == pytest.approx(one, rel=1e-5)
    assert by_piece["뷁"] == pytest.approx(3 * one, rel=1e-5), (
        "an unseen syllable costs its three bytes"
    )
    assert by_piece["🐟"] == pytest.approx(4 * one, rel=1e-5)
