"""AdamW for one table gives each row what dense AdamW does; counting gives its optimum."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from semigpt.corpus import prepare_corpus
from semigpt.dataset import Dataset, TokenStream
from semigpt.models.bigram import BigramSettings, SemiGPT
from semigpt.training.optimizer import Optimizer, OptimizerSettings
from semigpt.training.table_adamw import TableAdamW

V = 120


def bigram() -> SemiGPT:
    return SemiGPT(BigramSettings(vocab_size=V, context_length=8))


def batches(steps: int) -> list[tuple[Tensor, Tensor]]:
    """Blocks of a text where some rows come in every batch and others once in hundreds."""
    frequencies = 1 / torch.arange(1.0, V + 1) ** 1.5
    draw = torch.Generator().manual_seed(0)
    tokens = torch.multinomial(frequencies, steps * 34, replacement=True, generator=draw).view(
        steps, 2, 17
    )
    return [(block[:, :-1], block[:, 1:]) for block in tokens]


def settings(**changes: object) -> OptimizerSettings:
    values = {
        "optimizer": "adamw",
        "learning_rate": 1e-2,
        "betas": (0.9, 0.999),
        "weight_decay": 0.0,
        "decayed": "all",
    }
    return OptimizerSettings(
        **{**values, "schedule": "constant", "warmup": 0.0, "clip": 0.0, **changes}
    )


def train(model: SemiGPT, optimizer: Optimizer, data: list[tuple[Tensor, Tensor]]) -> list[float]:
    losses = []
    for inputs, targets in data:
        _, loss = model(inputs, targets)
        assert loss is not None
        loss.backward()
        optimizer.clip_gradients()
        optimizer.step(0.5)
        model.embedding_token_table.weight.grad = None
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({}, 1e-5),
        ({"weight_decay": 0.01}, 5e-5),  # dense AdamW rounds each row at each step
        ({"betas": (0.9, 0.95)}, 1e-5),
        # As large as the gradients: what is left of epsilon's drift shows, most where the first
        # steps' corrections were steep. 1e-3 was measured.
        ({"epsilon": 1e-4}, 2e-3),
    ],
)
def test_rows_are_those_of_dense_adamw(changes: dict[str, object], tolerance: float) -> None:
    """After 600 steps at 1e-2, weights of standard deviation 0.5, and every loss on the way."""
    ours, dense = bigram(), bigram()
    chosen = settings(**changes)
    optimizer = Optimizer(ours, chosen)
    reference = torch.optim.AdamW(
        dense.parameters(),
        lr=1e-2,
        betas=chosen.betas,
        eps=chosen.epsilon,
        weight_decay=chosen.weight_decay,
    )
    data = batches(600)
    losses = train(ours, optimizer, data)
    for (inputs, targets), loss in zip(data, losses, strict=True):
        logits, _ = dense(inputs)
        expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        reference.zero_grad()
        expected.backward()
        reference.step()
        assert loss == pytest.approx(expected.item(), abs=tolerance)
    stale = ours.embedding_token_table.weight.detach().clone()
    optimizer.flush()
    weight, expected_weight = (
        ours.embedding_token_table.weight.detach(),
        dense.embedding_token_table.weight.detach(),
    )
    missed = (stale - expected_weight).abs().max()
    assert missed > 3 * (weight - expected_weight).abs().max(), (
        "untouched rows must have had something to catch up with"
    )
    torch.testing.assert_close(weight, expected_weight, atol=tolerance, rtol=0)


def test_the_model_never_reads_a_stale_row() -> None:
    """Losses, logits and generated text, with no flush by whoever reads."""
    model = bigram()
    optimizer = Optimizer(model, settings())
    train(model, optimizer, batches(50))
    model.eval()
    with torch.inference_mode():
        drawn_from = model.next_logits(torch.tensor([[V - 1], [V // 2]]))
    logits, _ = model(torch.arange(V)[None])
    optimizer.flush()
    weight = model.embedding_token_table.weight.detach()
    torch.testing.assert_close(logits[0].detach(), weight)
    torch.testing.assert_close(drawn_from, weight[[V - 1, V // 2]])
    train(model, optimizer, batches(3))  # and training resumes after generation


def test_going_on_is_going_on_to_the_bit() -> None:
    data = batches(60)
    whole = bigram()
    whole_optimizer = Optimizer(whole, settings(weight_decay=0.01))
    train(whole, whole_optimizer, data)
    first, second = bigram(), bigram()
    first_optimizer, second_optimizer = (
        Optimizer(model, settings(weight_decay=0.01)) for model in (first, second)
    )
    train(first, first_optimizer, data[:31])
    second.load_state_dict(first.state_dict())
    second_optimizer.load_state(
        {name: tensor.clone() for name, tensor in first_optimizer.state().items()}
    )
    train(second, second_optimizer, data[31:])
    assert torch.equal(second.embedding_token_table.weight, whole.embedding_token_table.weight)
    for name, tensor in whole_optimizer.state().items():
        assert torch.equal(second_optimizer.state()[name], tensor), name


def test_clipping_is_the_dense_clipping() -> None:
    model, dense = bigram(), bigram()
    optimizer = Optimizer(model, settings(clip=0.01))
    for inputs, targets in batches(3):  # micro-batches that share rows
        model(inputs, targets)[1].backward()
        dense(inputs, targets)[1].backward()
    norm = optimizer.clip_gradients()
    expected = torch.nn.utils.clip_grad_norm_(dense.parameters(), 0.01)
    torch.testing.assert_close(norm, expected)
    gradient = model.embedding_token_table.weight.grad
    assert gradient is not None
    assert gradient.is_sparse
    torch.testing.assert_close(gradient.to_dense(), dense.embedding_token_table.weight.grad)


def test_who_brings_an_optimizer_of_their_own_gets_a_dense_gradient() -> None:
    """The book's loop, `torch.optim.AdamW(model.parameters())`, works on the model as it comes."""
    model = bigram()
    inputs, targets = batches(1)[0]
    model(inputs, targets)[1].backward()
    torch.optim.AdamW(model.parameters()).step()
    assert model.embedding_token_table.weight.any()


def test_two_rates_of_forgetting_that_do_not_converge_are_done_densely() -> None:
    optimizer = Optimizer(bigram(), settings(betas=(0.99, 0.9)))
    assert not isinstance(optimizer._table, TableAdamW)


# Counting


def counted(ids: list[int], vocab_size: int, prior: float) -> Tensor:
    dataset = Dataset(
        {"train": TokenStream([np.array(ids, dtype=np.uint8)], 1)}, vocab_size, "", ""
    )
    return SemiGPT.from_counts(dataset, prior=prior).embedding_token_table.weight.detach().exp()


def test_counts_by_hand() -> None:
    # Pairs 0→1 twice, 1→0 once, 1→2 once; followers: 0 once, 1 twice, 2 once.
    table = counted([0, 1, 0, 1, 2], 4, prior=2.0)
    letters = torch.tensor([1 + 1, 2 + 1, 1 + 1, 1]) / (4 + 4)
    torch.testing.assert_close(table[0], (torch.tensor([0.0, 2, 0, 0]) + 2 * letters) / 4)
    torch.testing.assert_close(table[1], (torch.tensor([1.0, 0, 1, 0]) + 2 * letters) / 4)
    torch.testing.assert_close(table[3], letters)  # never seen before anything
    torch.testing.assert_close(table.sum(dim=1), torch.ones(4))


def test_pieces_of_the_stream_count_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.random.default_rng(0).integers(0, 9, 1000).tolist()
    whole = counted(ids, 9, 1.0)
    monkeypatch.setattr("semigpt.models.bigram.PAIRS_AT_ONCE", 7)
    assert torch.equal(counted(ids, 9, 1.0), whole)


def test_training_walks_toward_the_counts() -> None:
    ids = np.random.default_rng(0).integers(0, 12, 3000) // 2 * 2 + np.arange(3000) % 2
    dataset = Dataset({"train": TokenStream([ids.astype(np.uint8)], 1)}, 12, "", "")
    best = SemiGPT.from_counts(dataset, prior=1e-3)
    inputs, targets = torch.from_numpy(ids[:-1])[None], torch.from_numpy(ids[1:])[None]
    optimum = best(inputs, targets)[1].item()
    model = SemiGPT(BigramSettings(vocab_size=12, context_length=1))
    losses = train(model, Optimizer(model, settings(learning_rate=0.1)), [(inputs, targets)] * 500)
    assert losses[0] == pytest.approx(math.log(12))
    assert optimum <= losses[-1] < optimum + 1e-3


def test_news_is_counted_better_than_by_adding_one() -> None:
    documents = islice(prepare_corpus("news#articles=300").documents("train"), 20)
    ids = np.unique(list("\n".join(documents)), return_inverse=True)[1]
    cut = len(ids) * 9 // 10
    size = int(ids.max()) + 1
    dataset = Dataset({"train": TokenStream([ids[:cut].astype(np.uint16)], 1)}, size, "", "")
    before, after = torch.from_numpy(ids[cut:-1]), torch.from_numpy(ids[cut + 1 :])
    ours = -SemiGPT.from_counts(dataset).embedding_token_table.weight[before, after].mean().item()
    counts = (
        np.bincount(ids[: cut - 1] * size + ids[1:cut], minlength=size * size).reshape(size, size)
        + 1.0
    )
    add_one = -np.log(counts / counts.sum(axis=1, keepdims=True))[before, after].mean()
    assert ours < add_one - 0.1
