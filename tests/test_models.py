"""Every rung: the book's interface, shapes, and what each way of computing must agree on."""

from __future__ import annotations

import math

import pytest
import torch

from conftest import SMALL, VOCABULARY, small_model
from semigpt.errors import SettingsError
from semigpt.models import build_model
from semigpt.models.base import LanguageModel
from semigpt.models.bigram import BigramSettings, SemiGPT
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.models.layers import attend


def test_a_model_without_a_vocabulary_is_refused(rung: str) -> None:
    with pytest.raises(SettingsError, match="vocab_size of at least 1"):
        build_model(rung, 0, SMALL[rung])


def test_the_books_interface(model: LanguageModel) -> None:
    inputs, targets = torch.randint(0, VOCABULARY, (4, 8)), torch.randint(0, VOCABULARY, (4, 8))
    logits, loss = model(inputs, targets)
    assert logits.shape == (4, 8, VOCABULARY)
    assert loss.shape == ()
    logits_alone, nothing = model(inputs)
    assert nothing is None
    torch.testing.assert_close(logits_alone, logits)
    by_hand = torch.nn.functional.cross_entropy(
        logits.reshape(4 * 8, VOCABULARY), targets.reshape(4 * 8)
    )
    torch.testing.assert_close(loss, by_hand)
    longer = model.generate(inputs, 5, seed=1)
    assert longer.shape == (4, 13)
    assert (longer[:, :8] == inputs).all()


def test_bigram_logits_are_rows_of_the_table() -> None:
    model = small_model("bigram")
    logits, _ = model(torch.tensor([[3, 1]]))
    assert torch.equal(logits[0], model.embedding_token_table.weight[[3, 1]])


def test_attention_written_out_equals_the_fused_kernel() -> None:
    torch.manual_seed(0)
    for queries, keys in ((12, 12), (1, 12), (5, 12)):
        q, k, v = (
            torch.randn(2, 3, queries, 8),
            torch.randn(2, 3, keys, 8),
            torch.randn(2, 3, keys, 8),
        )
        mask = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
        fused = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        torch.testing.assert_close(attend(q, k, v, 0.0), fused)


def test_long_context_takes_the_fused_kernel_and_agrees() -> None:
    model = small_model("gpt", context_length=300)
    inputs = torch.randint(0, VOCABULARY, (1, 300))
    logits, _ = model(inputs)
    short, _ = model(inputs[:, :200])
    torch.testing.assert_close(logits[:, :200], short, atol=1e-5, rtol=1e-4)


def test_the_rounded_up_vocabulary_never_shows() -> None:
    model = small_model("gpt")
    assert isinstance(model, GPT)
    assert model.lm_head.weight.shape[0] == 64
    logits, loss = model(torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 4, dtype=torch.long))
    assert logits.shape[-1] == VOCABULARY
    loss.backward()
    assert (model.lm_head.weight.grad[VOCABULARY:] == 0).all()
    assert all(
        tensor.shape[0] != 64 or "mlp" in name
        for name, tensor in model.huggingface_state().items()
        if "embed" in name or "head" in name
    )


def test_tied_embeddings_are_one_matrix() -> None:
    tied, untied = small_model("gpt", tie_embeddings=True), small_model("gpt")
    assert untied.parameter_count() - tied.parameter_count() == 64 * 32
    assert "lm_head.weight" not in tied.huggingface_state()


def test_a_block_longer_than_the_context_is_refused() -> None:
    with pytest.raises(
        SettingsError, match="17 tokens is longer than the model's context_length of 16"
    ):
        small_model("gpt")(torch.zeros(1, 17, dtype=torch.long))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 30}, "width 30 cannot be shared by 4 heads"),
        ({"num_layers": 0}, "num_layers must be more than 0"),
        ({"num_kv_heads": 3}, "num_heads 4 is not a multiple of num_kv_heads 3"),
        ({"width": 12}, "cannot be rotated in pairs"),
        ({"dropout": 1.0}, "dropout must be at least 0 and less than 1"),
        ({"wdith": 32}, "unknown key 'wdith' in .*did you mean 'width'"),
        ({"width": 3.5}, "width in .* must be a whole number, not 3.5"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build_model("gpt", VOCABULARY, {**SMALL["gpt"], **changes})


def test_unknown_rung_is_refused() -> None:
    with pytest.raises(SettingsError, match="model must be one of bigram, attention, .*, gpt"):
        build_model("transformer", VOCABULARY, {})


def test_fresh_bigram_costs_exactly_ln_v() -> None:
    model = SemiGPT(BigramSettings(vocab_size=2701, context_length=8))
    _, loss = model(torch.randint(0, 2701, (4, 8)), torch.randint(0, 2701, (4, 8)))
    assert loss.item() == pytest.approx(math.log(2701), abs=1e-5)
    assert f"{loss.item():.2f}" == "7.90", "the book's number"


def test_default_widths_follow_from_the_rest() -> None:
    settings = GPTSettings(vocab_size=10, context_length=8, width=256, num_heads=4)
    assert (settings.kv_heads, settings.head_width, settings.feedforward_width) == (4, 64, 704)
