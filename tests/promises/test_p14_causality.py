"""P14: position t never depends on what comes after t, by gradient, every rung."""

import torch

from conftest import VOCABULARY
from semigpt.models.base import LanguageModel


def test_no_gradient_flows_back_from_the_future(model: LanguageModel) -> None:
    """The gradient of the logits at t with respect to embeddings past t is zero."""
    model.eval()
    length, t = 12, 5
    inputs = torch.randperm(VOCABULARY)[:length][
        None
    ]  # distinct, so that a row of the table is a position
    table = next(module for module in model.modules() if isinstance(module, torch.nn.Embedding))
    logits, _ = model(inputs)
    logits[0, t].square().sum().backward()
    touched = table.weight.grad[inputs[0]].abs().sum(dim=1) > 0
    assert touched[t], "the token at t itself must count"
    assert not touched[t + 1 :].any(), f"positions after {t} reach back: {touched.tolist()}"


def test_a_changed_future_changes_nothing_before_it(model: LanguageModel) -> None:
    model.eval()
    inputs = torch.randint(0, VOCABULARY, (2, 12))
    changed = inputs.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % VOCABULARY
    torch.testing.assert_close(model(changed)[0][:, :6], model(inputs)[0][:, :6])
