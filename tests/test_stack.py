"""The blocks' gradient written out equals autograd's through the plain blocks."""

from __future__ import annotations

import pytest
import torch

from conftest import VOCABULARY, small_model
from semigpt.models import stack
from semigpt.models.attention import BlocksModel


def blocks(**changes: object) -> BlocksModel:
    model = small_model("blocks", num_layers=3, width=24, num_heads=3, **changes)
    assert isinstance(model, BlocksModel)
    return model.double()


@pytest.mark.parametrize("tied", [True, False])
def test_loss_and_every_gradient_equal_the_plain_blocks(tied: bool) -> None:
    model = blocks(tie_embeddings=tied)
    inputs, targets = torch.randint(0, VOCABULARY, (2, 4, 11))
    found = {}
    for training in (True, False):  # the plain way is the one that is not training
        model.train(training)
        _, loss = model(inputs, targets)
        assert loss is not None
        model.zero_grad()
        loss.backward()
        found[training] = (
            loss,
            {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None},
        )
    torch.testing.assert_close(found[True], found[False], atol=1e-12, rtol=1e-9)
    assert len(found[True][1]) == len(list(model.parameters()))


def test_gradient_by_the_input_and_under_dropout_is_the_derivative() -> None:
    """Against finite differences, the same coins tossed each time."""
    model = blocks(dropout=0.3)
    x = torch.randn(1, 3, 24, dtype=torch.float64, requires_grad=True)

    def run(x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(5)
        return stack.run_blocks(model.blocks, x, num_heads=3, epsilon=1e-5, dropout=0.3)

    assert torch.autograd.gradcheck(run, (x,))


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    assert stack.dropout_masks(4, torch.zeros(2, 8, 32), 0.0) is None
    masks = stack.dropout_masks(8, torch.zeros(32, 8, 33), 0.1)  # not a multiple of eight
    assert masks is not None
    assert masks.shape == (8, 256, 33)
    share = (masks == 0).double().mean().item()
    assert share == pytest.approx(26 / 256, abs=5 * (0.1 * 0.9 / masks.numel()) ** 0.5)
    assert masks.mean().item() == pytest.approx(1, abs=0.01)
    by_mask = (masks == 0).double().mean(dim=(1, 2))
    assert by_mask.std() < 0.01, "every branch has coins of its own"
    assert not torch.equal(masks[0], masks[1])
