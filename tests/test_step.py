"""The training step at its door: what is refused, and which backend runs it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from conftest import VOCABULARY, machine, small_model
from semigpt.errors import SettingsError
from semigpt.models.base import check_ids
from semigpt.training.step import backend_of, make_step


@pytest.mark.parametrize("backend", ["auto", "plain"])
@pytest.mark.parametrize("wrong", [VOCABULARY, 10**8, -1])
@pytest.mark.parametrize("part", ["inputs", "targets"])
def test_ids_outside_the_vocabulary_never_reach_the_tables(
    rung: str, backend: str, wrong: int, part: str
) -> None:
    model = small_model(rung)
    step = make_step(model, machine(backend))
    batch = {name: torch.ones(2, 8, dtype=torch.int64) for name in ("inputs", "targets")}
    batch[part][1, 3] = wrong
    with pytest.raises(SettingsError, match=rf"token id {wrong} is outside the vocabulary of 50"):
        step(batch["inputs"], batch["targets"])
    assert all(parameter.grad is None for parameter in model.parameters())


def test_every_id_of_the_vocabulary_is_taken(rung: str) -> None:
    model = small_model(rung)
    edges = torch.tensor([[0, VOCABULARY - 1]])
    assert make_step(model, machine())(edges, edges).isfinite()
    check_ids(torch.empty(0, dtype=torch.int64), 1)


def test_a_block_longer_than_the_context_is_refused(rung: str) -> None:
    model = small_model(rung)
    with pytest.raises(SettingsError, match="17 tokens is longer"):
        make_step(model, machine())(*torch.zeros(2, 1, 17, dtype=torch.int64))


def test_backends() -> None:
    assert backend_of(small_model("memory"), machine()) == "native"
    assert backend_of(small_model("memory"), machine("plain")) == "autograd"
    for changes in ({"compile": True}, {"checkpoint_activations": True}):
        settings = replace(machine(), **changes)
        assert backend_of(small_model("memory"), settings) == "autograd"
    assert backend_of(small_model("attention"), machine("native")) == "autograd"


@pytest.mark.parametrize("backend", ["auto", "plain"])
def test_gradients_are_accumulated_with_their_weight(rung: str, backend: str) -> None:
    model = small_model(rung)
    step = make_step(model, machine(backend))
    inputs, targets = torch.randint(0, VOCABULARY, (2, 3, 16))
    step(inputs, targets)
    once = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    step(inputs, targets, 0.5)
    for parameter, gradient in zip(model.parameters(), once, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(
            parameter.grad.to_dense(), 1.5 * gradient.to_dense(), rtol=1e-4, atol=1e-6
        )
