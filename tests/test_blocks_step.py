"""The blocks' step in C equals its oracle, autograd through the same model, in every gradient."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import machine, small_model
from semigpt.errors import SettingsError
from semigpt.models.attention import BlocksModel, BlocksSettings
from semigpt.native import blocks_step
from semigpt.native.compiler import NativeUnavailableError
from semigpt.ngrams.counts import Counts
from semigpt.training.distillation import Teacher
from semigpt.training.step import backend_of, make_step

V = 61  # 48 and 13: a chunk of the output layer and the part of one, no multiple of four
LAST = 16
BOOK = {"width": 32, "num_heads": 4, "context_length": 8}
Found = tuple[Tensor, dict[str, Tensor]]


@pytest.fixture(scope="module", autouse=True)
def compiler() -> None:
    try:
        blocks_step.library()
    except NativeUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def model(**changes: object) -> BlocksModel:
    torch.manual_seed(0)
    shape = {"vocab_size": V, "num_layers": 2, "dropout": 0.0, **BOOK, **changes}
    made = BlocksModel(BlocksSettings(**shape))
    with torch.no_grad():  # norms of one and shifts of nothing would hide mistakes
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


def batch(B: int = 37, T: int = 8, V: int = V) -> tuple[Tensor, Tensor]:
    """Of few enough tokens for many to come twice."""
    inputs, targets = torch.randint(0, V, (2, B, T), generator=torch.Generator().manual_seed(B + T))
    return inputs, targets


def learn(
    made: BlocksModel,
    data: tuple[Tensor, Tensor],
    weight: float = 0.5,
    backend: str = "native",
) -> Found:
    """The loss and the gradients of one step."""
    for parameter in made.parameters():
        parameter.grad = None
    loss = make_step(made, machine(backend))(*data, weight)
    return loss, {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}


def check_both_ways(made: BlocksModel, data: tuple[Tensor, Tensor], atol: float = 1e-6) -> None:
    """Two orders of the same sums in float32."""
    ours, autograds = learn(made, data), learn(made, data, backend="plain")
    assert ours[1].keys() == dict(made.named_parameters()).keys()
    torch.testing.assert_close(ours, autograds, rtol=1e-4, atol=atol)


@pytest.mark.parametrize("threads", [1, 2, 3], indirect=True)
@pytest.mark.parametrize(
    ("changes", "B", "T"),
    [
        ({}, 32, 8),
        ({}, 37, 8),
        ({"tie_embeddings": True}, 5, 8),
        ({"num_layers": 1, "num_heads": 1, "hidden_width": 16}, 16, 8),
        ({"width": 48, "num_heads": 3, "vocab_size": 7}, 3, 1),
        ({"vocab_size": 96}, 17, 5),
        ({"context_length": 30, "width": 16}, 18, 23),
    ],
)
def test_loss_and_every_gradient_are_autograds(
    threads: None, changes: dict[str, object], B: int, T: int
) -> None:
    made = model(**changes)
    check_both_ways(made, batch(B, T, made.settings.vocab_size))


class Kept(nn.Module):
    """Dropout by given masks."""

    def __init__(self, mask_BTC: Tensor) -> None:
        super().__init__()
        self.mask_BTC = mask_BTC

    def forward(self, x_BTC: Tensor) -> Tensor:
        return x_BTC * self.mask_BTC


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
def test_with_dropout_they_are_autograds_under_the_same_masks(threads: None) -> None:
    made = model(dropout=0.3)
    B, T, C, L = 37, 7, made.settings.width, made.settings.num_layers
    torch.manual_seed(5)
    ours = learn(made, batch(B, T))
    torch.manual_seed(5)
    drawn = blocks_step.random_bytes(L, B, T, C)
    dropped = blocks_step.dropped_of_256(0.3)
    assert dropped == 77
    # [U, 2 L, T, C, lanes] to [2 L, B, T, C]
    masks = (drawn >= dropped).float().permute(1, 0, 4, 2, 3).flatten(1, 2)[:, :B] * (
        256 / (256 - dropped)
    )
    for block, (first, second) in zip(made.blocks, masks.unflatten(0, (L, 2)), strict=True):
        assert isinstance(block.feedforward, nn.Module)
        block.dropout, block.feedforward.dropout = Kept(first), Kept(second)
    plain = learn(made, batch(B, T), backend="plain")
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-6)


def test_dropout_has_its_rate_and_is_off_without_training() -> None:
    torch.manual_seed(0)
    drawn = blocks_step.random_bytes(4, 32, 8, 32)
    lanes = blocks_step.unit_sequences()
    assert drawn.shape == (32 // lanes, 8, 8, 32, lanes)
    rate = (drawn < 26).double().mean()
    assert rate.item() == pytest.approx(26 / 256, abs=5 * (0.1 * 0.9 / drawn.numel()) ** 0.5)
    assert (drawn < 26).double().mean(dim=(0, 2, 3, 4)).std() < 0.01, (
        "every branch has a mask of its own"
    )
    made = model(dropout=0.3).eval()
    check_both_ways(made, batch())
    state = torch.get_rng_state()
    learn(made, batch())
    assert torch.equal(torch.get_rng_state(), state)


def test_hopeless_and_certain_predictions_cost_what_they_cost() -> None:
    """Logits hundreds apart, in and across chunks of the output layer: p is 0 or 1 to a float."""
    made = model()
    with torch.no_grad():
        made.lm_head.weight.mul_(300)
    check_both_ways(made, batch(), atol=1e-4)
    assert learn(made, batch())[0] > 50


@pytest.mark.parametrize(
    "name", ["token_embedding.weight", "blocks.0.feedforward.expand.bias", "lm_head.weight"]
)
def test_what_is_not_finite_shows_in_the_loss(name: str) -> None:
    made = model()
    made.get_parameter(name).data.view(-1)[-LAST:] = float("nan")
    assert learn(made, (torch.full((2, 8), V - 1),) * 2)[0].isnan()


def test_gradients_are_added_to_what_is_there() -> None:
    for tied in (True, False):
        made = model(tie_embeddings=tied)
        inputs, targets = batch(32)
        _, whole = learn(made, (inputs, targets), 1.0)
        for parameter in made.parameters():
            parameter.grad = None
        for part in (slice(0, 16), slice(16, 32)):
            make_step(made, machine("native"))(inputs[part], targets[part], 0.5)
        torch.testing.assert_close(
            {n: p.grad for n, p in made.named_parameters()}, whole, rtol=1e-4, atol=1e-6
        )
        # To somebody else's as well.
        for parameter in made.parameters():
            parameter.grad = torch.ones_like(parameter)
        make_step(made, machine("native"))(inputs, targets)
        found = {name: p.grad - 1 for name, p in made.named_parameters() if p.grad is not None}
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
def test_the_same_bits_twice_and_after_another_shape(threads: None) -> None:
    made = model(dropout=0.1)
    found = []
    for B, T in ((37, 8), (16, 3), (37, 8)):
        torch.manual_seed(3)
        found.append(learn(made, batch(B, T)))
    assert torch.equal(found[0][0], found[2][0])
    assert all(torch.equal(found[0][1][name], found[2][1][name]) for name in found[0][1])


# Where it is not taken


@pytest.mark.parametrize(
    "changes",
    [{"width": 40}, {"hidden_width": 24}, {"width": 16, "num_heads": 8}, {"context_length": 257}],
)
def test_shapes_it_does_not_know_go_the_plain_way(changes: dict[str, object]) -> None:
    made = model(**changes)
    assert backend_of(made, machine()) == "autograd"
    assert len(learn(made, batch(), backend="auto")[1]) == len(list(made.parameters()))
    with pytest.raises(SettingsError, match=r"multiples of 16.*leave machine\.") as error:
        make_step(made, machine("native"))
    assert "\n" not in str(error.value)


def test_weights_of_other_dtypes_or_that_are_frozen_go_the_plain_way() -> None:
    assert backend_of(model().double(), machine()) == "autograd"
    frozen = model()
    frozen.token_embedding.weight.requires_grad_(False)
    assert backend_of(frozen, machine()) == "autograd"


def test_a_teacher_goes_the_plain_way_while_it_has_weight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = model()
    alone = learn(made, batch())
    text = (np.random.default_rng(0).zipf(1.3, 4000) % V).astype(np.uint16)
    teacher = Teacher(Counts.fit(text, V, order=3), loss=0.0)
    step = make_step(made, machine(), teacher)
    made.zero_grad()
    with monkeypatch.context() as patch:
        patch.setattr(blocks_step.BlocksStep, "__call__", lambda *_: pytest.fail("the step in C"))
        loss = step(*batch(), 0.5, 0.9)
    torch.testing.assert_close(loss, alone[0])
    assert made.lm_head.weight.grad is not None
    assert not torch.allclose(made.lm_head.weight.grad, alone[1]["lm_head.weight"], rtol=0.01)
    made.zero_grad()
    assert step(*batch(), 0.5, 0.0) == alone[0], "the step in C again"
    assert torch.equal(made.lm_head.weight.grad, alone[1]["lm_head.weight"])


def test_few_long_sequences_go_the_plain_way_unless_forced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, taken = model(context_length=20), []

    def native(*_: object, **__: object) -> Tensor:
        taken.append(1)
        return torch.zeros(())

    monkeypatch.setattr(blocks_step.BlocksStep, "__call__", native)
    unit = blocks_step.unit_sequences()
    for backend, B, T in (
        *(("auto", unit - 1, 17), ("auto", unit, 17)),
        *(("auto", unit - 1, 16), ("native", unit - 1, 17)),
    ):
        make_step(made, machine(backend))(*batch(B, T))
    assert len(taken) == 3


def test_a_block_too_long_is_refused() -> None:
    with pytest.raises(SettingsError, match="context_length"):
        learn(model(), batch(2, 9))


def test_without_a_compiler_it_goes_the_plain_way_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none() -> None:
        raise NativeUnavailableError("no C compiler (cc) on this machine")

    expected, _ = learn(model(), batch())
    monkeypatch.setattr(blocks_step, "library", none)
    blocks_step.library_or_none.cache_clear()
    try:
        without = model()
        for _ in range(3):
            torch.testing.assert_close(learn(without, batch(), backend="auto")[0], expected)
        assert [record.message for record in caplog.records] == [
            "training with PyTorch alone, several times slower: no C compiler (cc) on this machine"
        ]
        with pytest.raises(SettingsError, match=r"no C compiler .* leave machine\."):
            make_step(without, machine("native"))
    finally:
        blocks_step.library_or_none.cache_clear()


def test_the_contract_tests_run_over_it() -> None:
    assert backend_of(small_model("blocks"), machine()) == "native"
