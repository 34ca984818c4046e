"""Captured steps without a GPU: the stand-in for a CUDA graph runs its step again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from semigpt.training.cuda_graph import CapturedSteps


class Stream:
    def __init__(self, *_: object) -> None: ...

    def wait_stream(self, other: Stream) -> None: ...


class Graph:
    """Replaying writes into the tensors of the capture, as a CUDA graph does."""

    capturing: Graph | None = None

    def replay(self) -> None:
        for parameter in self.model.parameters():
            parameter.grad = None
        loss = self.step(*self.arguments)
        self.loss.copy_(loss.detach())
        for kept, parameter in zip(self.gradients, self.model.parameters(), strict=True):
            kept.copy_(parameter.grad)

    def keep(self, model: Noisy, arguments: tuple[Any, ...], loss: Tensor) -> None:
        self.model, self.step, self.arguments, self.loss = model, model.learn, arguments, loss
        self.gradients = [parameter.grad for parameter in model.parameters()]


@contextlib.contextmanager
def capture(graph: Graph, pool: object) -> Iterator[None]:
    assert pool == "the pool"
    Graph.capturing = graph
    yield
    Graph.capturing = None


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    fork_rng = torch.random.fork_rng
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: fork_rng([]))
    for name, value in {
        "Stream": Stream,
        "current_stream": Stream,
        "stream": contextlib.nullcontext,
        "CUDAGraph": Graph,
        "graph": capture,
        "graph_pool_handle": lambda: "the pool",
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)


class Noisy(nn.Module):
    """A step that depends on scalars, tensors, random numbers and the module's mode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 2)
        self.runs = 0

    def learn(self, weight: float | Tensor, shift: float | Tensor, x: Tensor) -> Tensor:
        for parameter in self.parameters():
            if Graph.capturing is not None:
                assert parameter.grad is None
        loss = (self.linear(x) + shift).square().mean() * (1 + torch.rand(()))
        if self.training:
            loss = loss * 2
        (loss * weight).backward()
        return loss.detach()

    def step(self, *arguments: Any) -> Tensor:
        """`learn`, as the stand-in captures it."""
        self.runs += 1
        loss = self.learn(*arguments)
        if Graph.capturing is not None:
            Graph.capturing.keep(self, arguments, loss)
        return loss


def batches() -> list[tuple[tuple[float, float], Tensor]]:
    draw = torch.Generator().manual_seed(1)
    rows = (4, 4, 2, 4, 2)
    return [((0.5 + i, float(i)), torch.randn(n, 3, generator=draw)) for i, n in enumerate(rows)]


def test_captured_steps_are_the_plain_ones() -> None:
    """Losses, and gradients added up over micro-batches of two shapes, random numbers included."""
    plain, captured = Noisy(), Noisy()
    steps = CapturedSteps(captured)
    torch.manual_seed(7)
    expected = [plain.learn(*scalars, x) for scalars, x in batches()]
    torch.manual_seed(7)
    found = [steps("train", captured.step, scalars, [x]) for scalars, x in batches()]
    torch.testing.assert_close(found, expected)
    for ours, autograds in zip(captured.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, autograds.grad)
    assert captured.runs == 2 * 4, "each shape was warmed up and captured once"


def test_a_loss_is_not_overwritten_by_the_next_replay() -> None:
    model = Noisy()
    steps = CapturedSteps(model)
    (scalars, x), *_ = batches()
    first = steps("train", model.step, scalars, [x])
    value = first.item()
    steps("train", model.step, scalars, [2 * x])
    assert first.item() == value


def test_each_kind_has_its_own_capture() -> None:
    model, plain = Noisy(), Noisy().eval()
    steps = CapturedSteps(model)
    (scalars, x), *_ = batches()
    steps("train", model.step, scalars, [x])
    model.eval()
    torch.manual_seed(3)
    found = steps("eval", model.step, scalars, [x])
    torch.manual_seed(3)
    torch.testing.assert_close(found, plain.learn(*scalars, x))


def test_parameters_that_a_step_does_not_reach_keep_their_gradient() -> None:
    model = Noisy()
    model.other = nn.Parameter(torch.ones(2))
    model.other.grad = torch.full((2,), 5.0)
    steps = CapturedSteps(model)

    def keep_reached(graph: Graph, made: Noisy, arguments: tuple[Any, ...], loss: Tensor) -> None:
        graph.model, graph.step = made.linear, made.learn
        graph.arguments, graph.loss = arguments, loss
        graph.gradients = [parameter.grad for parameter in made.linear.parameters()]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Graph, "keep", keep_reached)
        (scalars, x), *_ = batches()
        steps("train", model.step, scalars, [x])
    assert model.other.grad.tolist() == [5.0, 5.0]
    assert model.linear.weight.grad is not None
