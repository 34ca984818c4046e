"""The blocks' training step in C beside its oracle, autograd through the same model: loss and every gradient."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import small_model
from semigpt.errors import SettingsError
from semigpt.models.attention import BlocksModel, BlocksSettings
from semigpt.native import blocks_step
from semigpt.native.compiler import NativeUnavailableError
from semigpt.ngrams.counts import Counts

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
    made = BlocksModel(BlocksSettings(**shape))  # type: ignore[arg-type]
    with torch.no_grad():  # norms of one and shifts of nothing would hide mistakes
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


def batch(B: int = 37, T: int = 8, V: int = V) -> tuple[Tensor, Tensor]:
    """Of few enough tokens for many to come twice."""
    inputs, targets = torch.randint(0, V, (2, B, T), generator=torch.Generator().manual_seed(B + T))
    return inputs, targets


def learnt(made: BlocksModel, data: tuple[Tensor, Tensor], weight: float = 0.5) -> Found:
    for parameter in made.parameters():
        parameter.grad = None
    loss = made.learn(*data, weight)
    return loss, {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}


def check_both_ways(made: BlocksModel, data: tuple[Tensor, Tensor], atol: float = 1e-6) -> None:
    """Two orders of the same sums in float32."""
    assert made.native_step() is not None
    ours = learnt(made, data)
    made.native = False
    assert made.native_step() is None
    autograds = learnt(made, data)
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
    ours = learnt(made, batch(B, T))
    torch.manual_seed(5)
    coins = blocks_step.draw_coins(L, B, T, C)
    dropped = blocks_step.dropped_of_256(0.3)
    assert dropped == 77
    # [U, 2 L, T, C, 16] to [2 L, B, T, C]
    masks = (coins >= dropped).float().permute(1, 0, 4, 2, 3).flatten(1, 2)[:, :B] * (
        256 / (256 - dropped)
    )
    for block, (first, second) in zip(made.blocks, masks.unflatten(0, (L, 2)), strict=True):
        assert isinstance(block.feedforward, nn.Module)
        block.dropout, block.feedforward.dropout = Kept(first), Kept(second)
    made.native = False
    torch.testing.assert_close(ours, learnt(made, batch(B, T)), rtol=1e-4, atol=1e-6)


def test_dropout_drops_its_share_and_not_without_training() -> None:
    torch.manual_seed(0)
    coins = blocks_step.draw_coins(4, 32, 8, 32)
    assert coins.shape == (2, 8, 8, 32, 16)
    share = (coins < 26).double().mean()
    assert share.item() == pytest.approx(26 / 256, abs=5 * (0.1 * 0.9 / coins.numel()) ** 0.5)
    assert (coins < 26).double().mean(dim=(0, 2, 3, 4)).std() < 0.01, (
        "every branch has coins of its own"
    )
    made = model(dropout=0.3).eval()
    check_both_ways(made, batch())
    state = torch.get_rng_state()
    made.native = None
    learnt(made, batch())
    assert torch.equal(torch.get_rng_state(), state)


def test_hopeless_and_certain_guesses_cost_what_they_cost() -> None:
    """Logits hundreds apart, in and across the chunks of the output layer: their shares are 0 or 1 to a float."""
    made = model()
    with torch.no_grad():
        made.lm_head.weight.mul_(300)
    check_both_ways(made, batch(), atol=1e-4)
    assert learnt(made, batch())[0] > 50


@pytest.mark.parametrize(
    "name", ["token_embedding.weight", "blocks.0.feedforward.expand.bias", "lm_head.weight"]
)
def test_what_is_not_finite_shows_in_the_loss(name: str) -> None:
    made = model()
    made.get_parameter(name).data.view(-1)[-LAST:] = float("nan")
    assert learnt(made, (torch.full((2, 8), V - 1),) * 2)[0].isnan()


def test_gradients_are_added_to_what_is_there() -> None:
    for tied in (True, False):
        made = model(tie_embeddings=tied)
        inputs, targets = batch(32)
        _, whole = learnt(made, (inputs, targets), 1.0)
        for parameter in made.parameters():
            parameter.grad = None
        for part in (slice(0, 16), slice(16, 32)):
            made.learn(inputs[part], targets[part], 0.5)
        torch.testing.assert_close(
            {n: p.grad for n, p in made.named_parameters()}, whole, rtol=1e-4, atol=1e-6
        )
        # To somebody else's as well.
        for parameter in made.parameters():
            parameter.grad = torch.ones_like(parameter)
        made.learn(inputs, targets)
        found = {name: p.grad - 1 for name, p in made.named_parameters() if p.grad is not None}
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
def test_the_same_bits_twice_and_after_another_shape(threads: None) -> None:
    made = model(dropout=0.1)
    found = []
    for B, T in ((37, 8), (16, 3), (37, 8)):
        torch.manual_seed(3)
        found.append(learnt(made, batch(B, T)))
    assert torch.equal(found[0][0], found[2][0])
    assert all(torch.equal(found[0][1][name], found[2][1][name]) for name in found[0][1])


def test_a_copy_learns_on_its_own() -> None:
    made = model()
    loss, _ = learnt(made, batch())
    copied = copy.deepcopy(made)
    with torch.no_grad():
        copied.lm_head.weight.zero_()
    assert learnt(copied, batch())[0].item() == pytest.approx(np.log(V))
    assert learnt(made, batch())[0] == loss


# Where it is not taken


@pytest.mark.parametrize(
    "changes",
    [{"width": 40}, {"hidden_width": 24}, {"width": 16, "num_heads": 8}, {"context_length": 257}],
)
def test_shapes_it_does_not_know_go_the_plain_way(changes: dict[str, object]) -> None:
    made = model(**changes)
    assert made.native_step() is None
    assert len(learnt(made, batch())[1]) == len(list(made.parameters()))
    made.native = True
    with pytest.raises(SettingsError, match=r"sixteens.*leave machine\.step out") as error:
        made.learn(*batch())
    assert "\n" not in str(error.value)


def test_weights_of_other_numbers_or_that_do_not_learn_go_the_plain_way() -> None:
    assert model().double().native_step() is None
    frozen = model()
    frozen.token_embedding.weight.requires_grad_(False)
    assert frozen.native_step() is None


@pytest.mark.filterwarnings("ignore")  # torch 2.13's own, while it traces a torch.autograd.Function
def test_a_teacher_or_a_compiled_step_goes_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model()
    untaught = learnt(made, batch())
    monkeypatch.setattr(blocks_step.BlocksStep, "__call__", lambda *_: pytest.fail("the step in C"))
    text = (np.random.default_rng(0).zipf(1.3, 4000) % V).astype(np.uint16)
    counts = Counts.fit(text, V, order=3)
    loss = made.learn(*batch(), 0.5, teacher=counts, taught=0.9)
    torch.testing.assert_close(loss, untaught[0])
    assert made.lm_head.weight.grad is not None
    assert not torch.allclose(made.lm_head.weight.grad, untaught[1]["lm_head.weight"], rtol=0.01)
    made.compile_steps("aot_eager")
    torch.testing.assert_close(made.learn(*batch(), 0.5), untaught[0])


def test_few_long_texts_go_the_plain_way_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made, taken = model(context_length=20), []
    monkeypatch.setattr(blocks_step.BlocksStep, "__call__", lambda *_: taken.append(1))
    for native, B, T in ((None, 15, 17), (None, 16, 17), (None, 15, 16), (True, 15, 17)):
        made.native = native
        made.learn(*batch(B, T))
    assert len(taken) == 3


def test_a_block_too_long_is_refused() -> None:
    with pytest.raises(SettingsError, match="context_length"):
        model().learn(*batch(2, 9))


def test_without_a_compiler_it_goes_the_plain_way_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none() -> None:
        raise NativeUnavailableError("no C compiler (cc) on this machine")

    expected = model().learn(*batch())
    monkeypatch.setattr(blocks_step, "library", none)
    blocks_step.library_or_none.cache_clear()
    try:
        without = model()
        for _ in range(3):
            torch.testing.assert_close(without.learn(*batch()), expected)
        assert [record.message for record in caplog.records] == [
            "training with PyTorch alone, several times slower: no C compiler (cc) on this machine"
        ]
        without.native = True
        with pytest.raises(SettingsError, match=r"no C compiler .* leave machine\.step out"):
            without.native_step()
    finally:
        blocks_step.library_or_none.cache_clear()


def test_the_contract_tests_run_over_it() -> None:
    made = small_model("blocks")
    assert isinstance(made, BlocksModel)
    assert made.native_step() is not None
