"""AdamW beside torch.optim's."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from semigpt.training.adamw import SLOTS, AdamW, Group


def parameters() -> list[nn.Parameter]:
    random = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(*shape, generator=random)) for shape in ((5, 3), (7,), (2, 2))]


def give_gradients(of: list[nn.Parameter], step: int) -> None:
    random = torch.Generator().manual_seed(step)
    for number, parameter in enumerate(of):
        # One of them has a gradient at every other step alone.
        if number != 1 or step % 2:
            parameter.grad = torch.randn(parameter.shape, generator=random)
        else:
            parameter.grad = None


def test_every_bit_is_that_of_torch_and_survives_a_checkpoint() -> None:
    ours, theirs = parameters(), parameters()
    rates = {0: 1.0, 1: 4.0}

    def made() -> AdamW:
        groups = [Group(ours[:2], 0.1), Group([], 0.3), Group(ours[2:], 0.0, 4.0)]
        return AdamW(groups, betas=(0.9, 0.95), epsilon=1e-8)

    optimizer = made()
    reference = torch.optim.AdamW(
        [{"params": theirs[:2], "weight_decay": 0.1}, {"params": theirs[2:], "weight_decay": 0.0}],
        betas=(0.9, 0.95),
        eps=1e-8,
        fused=True,
    )
    for step in range(8):
        if step == 5:
            saved = {name: tensor.clone() for name, tensor in optimizer.state().items()}
            optimizer = made()
            optimizer.load_state(saved)
        give_gradients(ours, step)
        give_gradients(theirs, step)
        for number, group in enumerate(reference.param_groups):
            group["lr"] = 0.01 / (step + 1) * rates[number]
        reference.step()
        optimizer.step(0.01 / (step + 1))
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    state = reference.state_dict()["state"]
    expected = {f"{i}.{name}": state[i][name] for i in range(3) for name in SLOTS}
    found = optimizer.state()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("change", ["shape", "missing", "another"])
def test_another_state_is_refused(change: str) -> None:
    own = parameters()
    optimizer = AdamW([Group(own, 0.0)], betas=(0.9, 0.95), epsilon=1e-8)
    give_gradients(own, 1)
    optimizer.step(0.1)
    state = dict(optimizer.state())
    if change == "shape":
        state["0.exp_avg"] = torch.zeros(5, 4)
    elif change == "missing":
        del state["0.exp_avg"]
    else:
        state["9.exp_avg"] = torch.zeros(5, 3)
    with pytest.raises((ValueError, LookupError)):
        optimizer.load_state(state)


def test_a_step_does_without_the_compiler_of_pytorch() -> None:
    """Its import takes 1.6 s."""
    program = (
        "import sys, torch; from semigpt.models import build_model;"
        "from semigpt.training.optimizer import Optimizer, OptimizerSettings;"
        "model = build_model('gpt', 50, {'context_length': 8, 'width': 32, 'num_layers': 1,"
        "'num_heads': 1}); optimizer = Optimizer(model, OptimizerSettings());"
        "ids = torch.zeros(1, 8, dtype=torch.int64); model(ids, ids)[1].backward();"
        "optimizer.step(0.5); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
