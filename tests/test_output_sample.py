"""A step with a sampled output layer: right in expectation, the same in C and in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import machine, small_model
from semigpt.errors import SettingsError
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.native.compiler import NativeUnavailableError
from semigpt.native.gpt_step import library
from semigpt.ngrams.counts import Counts
from semigpt.training.distillation import Teacher
from semigpt.training.output_sample import OutputSampler
from semigpt.training.step import make_step

V, ROWS = 500, 128
TEXT = (np.random.default_rng(0).zipf(1.2, 20_000) % V).astype(np.uint16)
FREQUENCY_V = torch.bincount(torch.from_numpy(TEXT.astype(np.int64)), minlength=V)


@pytest.fixture(scope="module")
def counts() -> Counts:
    return Counts.fit(TEXT, V, order=4)


def model() -> GPT:
    torch.manual_seed(0)
    made = GPT(GPTSettings(vocab_size=V, context_length=16, width=64, num_layers=1, num_heads=2))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def batch() -> tuple[Tensor, Tensor]:
    windows = torch.from_numpy(TEXT[:68].astype(np.int64)).view(4, 17)
    return windows[:, :-1], windows[:, 1:]


def learn(
    made: GPT, backend: str, seed: int, rows: int = ROWS, counts: Counts | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and the gradients of one step, half of the targets the teacher's."""
    teacher = None if counts is None else Teacher(counts, loss=0.0)
    step = make_step(made, machine(backend), teacher, sampler=OutputSampler(rows, FREQUENCY_V))
    torch.manual_seed(seed)
    made.zero_grad()
    loss = step(*batch(), 1.0, 0.0 if counts is None else 0.5)
    return loss, {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}


def test_every_token_is_drawn_as_often_as_its_weight_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sampler, (_, targets_BT) = OutputSampler(ROWS, FREQUENCY_V), batch()
    stands_for_V, draws = torch.zeros(V, dtype=torch.float64), 2000
    for draw in range(draws):
        start = torch.tensor((draw + 0.5) / draws, dtype=torch.float64)
        monkeypatch.setattr(torch, "rand", lambda *_, start=start, **__: start)
        rows = sampler.draw(targets_BT)
        assert rows is not None
        assert len(rows.ids_S) == len(rows.ids_S.unique()) == ROWS
        assert torch.equal(rows.ids_S[rows.places(targets_BT)], targets_BT)
        assert (rows.weight_S[rows.places(targets_BT)] == 1).all()
        stands_for_V[rows.ids_S] += rows.weight_S / draws
    torch.testing.assert_close(stands_for_V, torch.ones_like(stands_for_V), rtol=0, atol=0.03)


@pytest.mark.parametrize("taught", [False, True])
def test_the_mean_gradient_is_near_that_of_the_whole_layer(taught: bool, counts: Counts) -> None:
    made, teacher = model(), counts if taught else None
    loss, whole = learn(made, "auto", 0, V, teacher)
    found = [learn(made, "auto", seed, ROWS, teacher) for seed in range(300)]
    assert abs(torch.stack([sampled for sampled, _ in found]).mean() - loss) < 0.02
    for name, gradient in whole.items():
        mean = torch.stack([gradients[name] for _, gradients in found]).mean(dim=0)
        assert (mean - gradient).norm() < 0.1 * gradient.norm(), name


@pytest.mark.parametrize("taught", [False, True])
def test_c_and_autograd_agree(taught: bool, counts: Counts) -> None:
    try:
        library(torch.float32)
    except NativeUnavailableError as error:
        pytest.skip(str(error))
    made, teacher = model(), counts if taught else None
    ours, autograds = (learn(made, backend, 5, ROWS, teacher) for backend in ("native", "plain"))
    torch.testing.assert_close(ours, autograds, rtol=1e-4, atol=1e-6)
    again, other = (learn(made, "native", seed, ROWS, teacher) for seed in (5, 6))
    assert torch.equal(ours[0], again[0])
    assert all(torch.equal(ours[1][name], again[1][name]) for name in ours[1])
    assert ours[0] != other[0]


def test_outside_training_the_whole_layer_is_computed() -> None:
    made = model().eval()
    plain = make_step(made, machine())(*batch())
    assert learn(made, "auto", 0)[0] == plain


@pytest.mark.parametrize("rung", ["bigram", "memory"])
def test_other_rungs_are_refused(rung: str) -> None:
    with pytest.raises(SettingsError, match=r"output_sample is of a gpt on a CPU"):
        make_step(small_model(rung), machine(), sampler=OutputSampler(64, FREQUENCY_V))
