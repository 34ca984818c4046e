"""Evaluation: every token once, with half a context behind it, in units that do not depend on the
tokenizer.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from conftest import VOCABULARY, small_model, small_stream
from semigpt.corpus import prepare_corpus
from semigpt.dataset import Dataset, TokenStream, prepare_dataset
from semigpt.errors import CorpusError, SettingsError
from semigpt.evaluation.baselines import Baselines
from semigpt.evaluation.evaluate import (
    Evaluation,
    LossEstimate,
    estimate_loss,
    evaluate,
    rows_at_once,
    scored_windows,
    total_information,
)
from semigpt.evaluation.information import Information
from semigpt.evaluation.surprisal import surprisal
from semigpt.models import build_model
from semigpt.models.base import LanguageModel
from semigpt.models.gpt import GPT
from semigpt.models.gpt_native import native_forward
from semigpt.models.memory import MemoryGPT
from semigpt.ngrams.counts import Counts
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


def test_windows_of_a_stretch_are_scored_as_each_by_itself(model: LanguageModel) -> None:
    """What overlapping windows share is looked up once, and each ends at its own edge."""
    model.eval()
    ids = torch.from_numpy(small_stream()[:60].astype(np.int64))
    starts, scored = torch.tensor([0, 8, 13, 40]), torch.rand(4, 16) < 0.8
    windows = torch.stack([ids[start : start + 17] for start in starts])
    with torch.no_grad():
        found = model.window_losses(ids, starts, scored)
        expected = model.token_losses(windows[:, :-1], windows[:, 1:])[scored]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["gpt", "memory"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("first", [0, 5, 30])
def test_c_scores_windows_as_pytorch_does(kind: str, dtype: torch.dtype, first: int) -> None:
    """Of an odd length, from the first place that is scored on, over more logits than are priced
    at once, and each window as by itself.
    """
    V, T = 300, 31
    shape = {"context_length": 40, "width": 64, "num_layers": 2, "num_heads": 2}
    model = build_model(kind, V, {**shape, **({} if kind == "memory" else {"num_kv_heads": 1})})
    assert isinstance(model, GPT)
    model.compute_dtype = dtype
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, V, (120,), generator=generator)
    with torch.no_grad():
        for parameter in model.parameters():  # norms of one and small logits would hide mistakes
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    if isinstance(model, MemoryGPT):
        model.set_counts(Counts.fit(ids.numpy(), V, order=model.settings.memory_order))
    forward = native_forward(model)
    if forward is None:
        pytest.skip("no compiler")
    starts = torch.tensor([0, 8, 13, 88])
    scored = torch.rand(4, T, generator=generator) < 0.8
    scored[:, :first], scored[1, first], scored[2, : T - 1] = False, True, False
    with torch.no_grad():
        found = model.window_losses(ids, starts, scored, forward)
        expected = model.window_losses(ids, starts, scored)
        alone = model.window_losses(ids, starts[1:2], scored[1:2], forward)
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    if dtype == torch.float32:
        second = int(scored[0].sum())
        assert torch.equal(alone, found[second : second + len(alone)])


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


def test_a_long_stream_is_told_as_it_is_scored() -> None:
    stream, seen = TokenStream([np.arange(100, dtype=np.uint16) % VOCABULARY], 1), []
    total_information(
        small_model("bigram"),
        stream,
        begins_with_end_of_text=False,
        rows=2,
        progress=lambda *so_far: seen.append(so_far),
    )
    # The first window scores 16, each of the others 8 more.
    assert [scored for scored, _ in seen] == [24, 40, 56, 72, 88, 99]
    assert {total for _, total in seen} == {99}


def test_what_cannot_be_scored_is_said_in_one_line() -> None:
    model = small_model("bigram")
    empty, short = TokenStream([np.zeros(0, np.uint16)], 1), TokenStream([np.arange(16)], 1)
    with pytest.raises(CorpusError, match=r"the split is empty; name another with --split"):
        total_information(model, empty, begins_with_end_of_text=True)
    for stride in (0, 17):
        with pytest.raises(
            SettingsError, match=f"between 1 and the context_length 16, not {stride}"
        ):
            total_information(model, short, begins_with_end_of_text=True, stride=stride)
    with pytest.raises(CorpusError, match=r"16 tokens, fewer than one block of context_length 16"):
        estimate_loss(model, short, context_length=16, blocks=1)


def test_one_block_has_no_standard_error_to_tell(dataset: Dataset) -> None:
    found = estimate_loss(
        small_model("bigram"), dataset.stream("validation"), context_length=16, blocks=1
    )
    assert found.standard_error == math.inf
    assert found.tokens == 16


def test_a_model_is_left_in_the_mode_it_was_in_though_scoring_fails(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, stream = small_model("blocks", dropout=0.5), dataset.stream("validation")
    once = total_information(model, stream, begins_with_end_of_text=True)
    assert once == total_information(model, stream, begins_with_end_of_text=True), "no dropout"
    assert model.training
    total_information(model.eval(), stream, begins_with_end_of_text=True)
    assert not model.training
    model.train()
    monkeypatch.setattr(
        type(model), "token_losses", lambda *_: (_ for _ in ()).throw(MemoryError("no room"))
    )
    with pytest.raises(MemoryError):
        total_information(model, stream, begins_with_end_of_text=True)
    assert model.training


def test_rows_scored_together_hold_logits_of_16_mb() -> None:
    model = build_model("bigram", 2000, {"context_length": 64})
    assert rows_at_once(model) == 31
    assert rows_at_once(build_model("bigram", 2000, {"context_length": 4096})) == 1


def test_a_split_is_evaluated_beside_baselines_of_the_text_it_was_trained_on() -> None:
    corpus = prepare_corpus("news#articles=300")
    tokenizer = CharTokenizer.from_counts(corpus.character_counts, normalization="NFC")
    model = uniform_model(tokenizer.vocab_size)
    found = evaluate(model, tokenizer, corpus, "test", counted_on=corpus, xz=False)
    information = found.information
    assert information.characters == corpus.characters("test")
    assert information.bytes == corpus.bytes_of("test")
    assert information.tokens == len(prepare_dataset(corpus, tokenizer).stream("test"))
    # A uniform model needs what the uniform baseline does.
    assert information.bits_per_character == pytest.approx(found.baselines.uniform, rel=1e-5)
    assert found.baselines.xz is None
    assert found.source_entropy is not None
    with pytest.raises(CorpusError, match=r"no split 'exam' in news#articles=300; it has train"):
        evaluate(model, tokenizer, corpus, "exam", counted_on=corpus)


def test_an_evaluation_shows_bits_per_character_first() -> None:
    information = Information(nats=10 * math.log(8), tokens=10, characters=6, bytes=15)
    baselines = Baselines(uniform=10.5, unigram=7.0, bigram=4.5, kneser_ney_5=2.5)
    found = Evaluation(information, baselines, 0.5)
    assert repr(found).startswith("<Evaluation: 5.0000 bits per character; uniform 10.500, unigram")
    assert [name for name, _ in found.bits_per_character()][2:4] == [
        "this model",
        "bigram (character pairs)",
    ]
    assert found._repr_html_().count("<tr>") == 6
    assert len(Evaluation(information, baselines, None).bits_per_character()) == 5
    estimate = LossEstimate(3.25, 0.0125, 12_800)
    assert repr(estimate) == ("<LossEstimate: 3.2500 ± 0.0125 nats per token on 12,800 tokens>")
    assert "12,800" in estimate._repr_html_()


def uniform_model(vocab_size: int) -> LanguageModel:
    model = build_model("bigram", vocab_size, {"context_length": 64})
    with torch.no_grad():
        next(model.parameters()).zero_()
    return model


def test_surprisal_is_of_whole_characters(korean_text: str) -> None:
    tokenizer = CharTokenizer(korean_text)
    found = surprisal(uniform_model(tokenizer.vocab_size), tokenizer, "맑겠다 뷁 🐟")
    assert "".join(characters for characters, _ in found) == "맑겠다 뷁 🐟"
    bits_of, one = dict(found), math.log2(tokenizer.vocab_size)
    assert bits_of["맑"] == pytest.approx(one, rel=1e-5)
    assert bits_of["뷁"] == pytest.approx(3 * one, rel=1e-5), "three bytes: it was never seen"
    assert bits_of["🐟"] == pytest.approx(4 * one, rel=1e-5)


def test_surprisal_is_minus_log2_of_each_probability(korean_text: str) -> None:
    tokenizer = CharTokenizer(korean_text)
    model = uniform_model(tokenizer.vocab_size)
    with torch.no_grad():
        next(model.parameters()).normal_()
    text = korean_text[:20]
    ids = [tokenizer.end_of_text, *tokenizer.encode(text).tolist()]
    logits, _ = model(torch.tensor(ids)[None])
    p = logits[0].softmax(-1)
    expected = [-math.log2(p[place, ids[place + 1]].item()) for place in range(20)]
    assert [bits for _, bits in surprisal(model, tokenizer, text)] == pytest.approx(
        expected, rel=1e-4
    )


def test_surprisal_of_a_long_text_is_that_of_its_first_context(korean_text: str) -> None:
    tokenizer = CharTokenizer(korean_text)
    found = surprisal(uniform_model(tokenizer.vocab_size), tokenizer, korean_text)
    assert "".join(characters for characters, _ in found) == korean_text[:63]


@pytest.mark.parametrize("text", ["", "맑", "맑다"])
def test_surprisal_without_an_end_mark_leaves_the_first_token_out(
    korean_text: str, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    tokenizer = CharTokenizer(korean_text)
    monkeypatch.setattr(type(tokenizer), "end_of_text", None)
    found = surprisal(uniform_model(tokenizer.vocab_size), tokenizer, text)
    assert "".join(characters for characters, _ in found) == text[1:]
