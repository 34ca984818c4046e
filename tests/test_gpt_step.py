"""The GPT's step in C equals its oracle, autograd through the same model, in every gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import machine
from semigpt.errors import SettingsError
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.models.memory import MemoryGPT, MemorySettings
from semigpt.native import gpt_step as step_module
from semigpt.native.compiler import NativeUnavailableError
from semigpt.ngrams.counts import Counts
from semigpt.training.distillation import Teacher
from semigpt.training.native_step import NativeGPTStep
from semigpt.training.step import backend_of, make_step

V = 61
TEXT = (np.random.default_rng(0).zipf(1.3, 4000) % V).astype(np.uint16)


@pytest.fixture(scope="module", autouse=True)
def compiler() -> None:
    try:
        step_module.library(torch.float32)
    except NativeUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def counts() -> Counts:
    return Counts.fit(TEXT, V, order=4)


def model(kind: type[GPT] = GPT, dtype: torch.dtype = torch.float32, **changes: object) -> GPT:
    torch.manual_seed(0)
    shape = {
        "vocab_size": V,
        "context_length": 40,
        "width": 64,
        "num_layers": 2,
        "num_heads": 2,
        **changes,
    }
    made = kind((MemorySettings if kind is MemoryGPT else GPTSettings)(**shape))
    with torch.no_grad():
        for (
            parameter
        ) in made.parameters():  # norms of one and branches near nothing would hide mistakes
            parameter.add_(torch.randn_like(parameter) * 0.05)
    made.compute_dtype = dtype
    return made


def batch(B: int = 3, T: int = 37) -> tuple[Tensor, Tensor]:
    windows = torch.from_numpy(TEXT[: B * (T + 1)].astype(np.int64)).view(B, T + 1)
    return windows[:, :-1], windows[:, 1:]


Found = tuple[Tensor, dict[str, Tensor]]


def learn(
    made: GPT, backend: str, counts: Counts | None = None, distillation_weight: float = 0.0
) -> Found:
    """The loss and the gradients of one step."""
    teacher = None if counts is None else Teacher(counts, loss=0.0)
    step = make_step(made, machine(backend), teacher)
    made.zero_grad()
    loss = step(*batch(), 0.5, distillation_weight)
    return loss, {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}


def both_ways(
    made: GPT, counts: Counts | None = None, distillation_weight: float = 0.0
) -> tuple[Found, Found]:
    assert backend_of(made, machine()) == "native"
    ours, autograds = (
        learn(made, backend, counts, distillation_weight) for backend in ("native", "plain")
    )
    assert ours[1].keys() == autograds[1].keys() == dict(made.named_parameters()).keys()
    return ours, autograds


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_embeddings": True},
        {"num_layers": 1, "num_heads": 1, "hidden_width": 16},
        {"head_dim": 64},
        {"num_heads": 4, "num_kv_heads": 2, "head_dim": 32},
    ],
)
def test_float32_loss_and_every_gradient_are_autograds(
    changes: dict[str, object],
) -> None:
    ours, autograds = both_ways(model(**changes))
    torch.testing.assert_close(ours, autograds, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("T", [1, 2, 16, 33, 48])
def test_any_number_of_positions(T: int) -> None:
    made = model(context_length=48, num_heads=3, head_dim=32)
    found = []
    for backend in ("native", "plain"):
        made.zero_grad()
        loss = make_step(made, machine(backend))(*batch(3, T))
        found.append((loss, {name: p.grad for name, p in made.named_parameters()}))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


def test_bfloat16_is_as_near_to_float32_as_autograd_is() -> None:
    made = model(dtype=torch.bfloat16)
    ours, autograds = both_ways(made)
    made.compute_dtype = torch.float32
    loss, _ = learn(made, "native")
    assert abs(ours[0] - loss) < 0.01
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None
        size = parameter.grad.norm()
        assert (ours[1][name] - parameter.grad).norm() < max(
            0.05 * size, 1.5 * (autograds[1][name] - parameter.grad).norm()
        ), name


@pytest.mark.parametrize("distillation_weight", [0.3, 1.0])
def test_a_teacher_softens_the_targets(distillation_weight: float, counts: Counts) -> None:
    alone, _ = both_ways(model())
    ours, autograds = both_ways(model(), counts, distillation_weight)
    torch.testing.assert_close(ours, autograds, rtol=1e-4, atol=1e-6)
    assert ours[0] == alone[0], "the loss returned is the text's"
    assert not torch.allclose(ours[1]["lm_head.weight"], alone[1]["lm_head.weight"], rtol=0.01)


@pytest.mark.parametrize("distillation_weight", [0.0, 0.4])
@pytest.mark.parametrize("own_loss", [0.0, 0.3])
def test_memory(distillation_weight: float, own_loss: float, counts: Counts) -> None:
    made = model(MemoryGPT, memory_order=4, own_loss=own_loss)
    assert isinstance(made, MemoryGPT)
    made.set_counts(counts)
    ours, autograds = both_ways(made, counts, distillation_weight)
    torch.testing.assert_close(ours, autograds, rtol=1e-4, atol=1e-6)
    for name in ("gate", "token_features.weight", "feature_weights"):
        assert ours[1][name].abs().max() > 1e-4, name


def dropout_mask(shape: tuple[int, ...], seed: int, site: int, rate: float) -> Tensor:
    ones = torch.ones(shape)
    dropped = torch.empty(shape)
    step_module.library(torch.float32).semigpt_dropout(
        *(
            ones.numel(),
            step_module.site_seed(seed, site),
            rate,
            ones.data_ptr(),
            dropped.data_ptr(),
        )
    )
    return dropped


@pytest.mark.parametrize("kind", [GPT, MemoryGPT])
def test_dropout_is_autograds_with_the_same_masks(
    kind: type[GPT], counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"memory_order": 4} if kind is MemoryGPT else {}
    made, rate = model(kind, dropout=0.3, **changes), 0.3
    if isinstance(made, MemoryGPT):
        made.set_counts(counts)
    torch.manual_seed(5)
    seed = step_module.draw_seed()
    drawn: list[int] = []

    def drop(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        """In the order of the net: attention weights, branch, branch, attention weights …"""
        assert (p, training) == (rate, True)
        drawn.append(len(drawn))
        return x * dropout_mask(tuple(x.shape), seed, drawn[-1], rate)

    torch.manual_seed(5)
    monkeypatch.setattr(torch.nn.functional, "dropout", drop)
    ours, autograds = both_ways(made)
    torch.testing.assert_close(ours, autograds, rtol=1e-4, atol=1e-6)
    assert drawn == list(range(3 * made.settings.num_layers))


def test_dropout_masks_have_their_rate_and_are_independent() -> None:
    first = dropout_mask((1000, 1003), 7, 0, 0.25)
    assert set(first.unique().tolist()) == {0.0, float(torch.tensor(1 / 0.75))}
    assert abs((first == 0).float().mean() - 0.25) < 0.002
    for seed, site in ((8, 0), (7, 1)):
        other = dropout_mask((1000, 1003), seed, site, 0.25)
        # Independent: both drop an element as often as chance has it, here, one further, a row
        # further.
        for shift in (0, 1, 1003):
            both = ((first.flatten() == 0) & (other.flatten().roll(shift) == 0)).float().mean()
            assert abs(both - 0.0625) < 0.002
    within = ((first[1:] == 0) & (first[:-1] == 0)).float().mean()
    assert abs(within - 0.0625) < 0.002


def test_dropout_is_new_in_every_step_and_off_outside_training() -> None:
    made = model(dropout=0.3)
    step = make_step(made, machine("native"))
    torch.manual_seed(1)
    losses = [float(step(*batch())) for _ in range(2)]
    assert losses[0] != losses[1]
    torch.manual_seed(1)
    assert float(step(*batch())) == losses[0]
    made.eval()
    still = [float(step(*batch())) for _ in range(2)]
    assert still[0] == still[1]


def test_micro_batches_add_up_to_the_batch() -> None:
    made = model()
    step = make_step(made, machine("native"))
    inputs, targets = batch(4)
    step(inputs, targets)
    whole = {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}
    for parameter in made.parameters():
        parameter.grad = None
    for part in (slice(0, 2), slice(2, 4)):
        step(inputs[part], targets[part], 0.5)
    found = {name: p.grad for name, p in made.named_parameters()}
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_bits_twice_and_after_another_shape(dtype: torch.dtype) -> None:
    made = model(dtype=dtype)
    step = make_step(made, machine("native"))
    found = []
    for T in (37, 11, 37):
        made.zero_grad(set_to_none=True)
        loss = step(*batch(3, T))
        found.append((loss, [p.grad.clone() for p in made.parameters() if p.grad is not None]))
    assert torch.equal(found[0][0], found[2][0])
    assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[2][1], strict=True))


@pytest.mark.parametrize(
    "changes",
    [
        {"family": "llama"},
        {"attention_bias": True},
        {"width": 40},
        {"num_heads": 4},
        {"hidden_width": 24},
        {"context_length": step_module.LONGEST + 1},
    ],
)
def test_shapes_it_does_not_know_go_the_plain_way(changes: dict[str, object]) -> None:
    made = model(**changes)
    assert backend_of(made, machine()) == "autograd"
    make_step(made, machine())(*batch())
    assert all(p.grad is not None for p in made.parameters())
    with pytest.raises(SettingsError, match=r"the step in C takes a CPU, .*leave machine\."):
        make_step(made, machine("native"))


def test_without_a_compiler_it_goes_the_plain_way_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_: object) -> None:
        raise NativeUnavailableError("no C compiler (cc) on this machine")

    expected = make_step(model(), machine())(*batch())
    monkeypatch.setattr(step_module, "library", none)
    step_module.library_or_none.cache_clear()
    try:
        without = model()
        for _ in range(3):
            torch.testing.assert_close(make_step(without, machine())(*batch()), expected)
        assert [record.message for record in caplog.records] == [
            "training with PyTorch alone, two to three times slower: "
            "no C compiler (cc) on this machine"
        ]
        with pytest.raises(SettingsError, match=r"no C compiler .* leave machine\."):
            make_step(without, machine("native"))
    finally:
        step_module.library_or_none.cache_clear()


def test_weights_of_other_dtypes_or_that_are_frozen_go_the_plain_way() -> None:
    assert backend_of(model().double(), machine()) == "autograd"
    frozen = model()
    frozen.model.embed_tokens.weight.requires_grad_(False)
    assert backend_of(frozen, machine()) == "autograd"


def test_the_number_of_threads_may_change_from_step_to_step() -> None:
    made, before = model(), torch.get_num_threads()
    run = NativeGPTStep(made, None)._run
    loss = run(*batch())
    try:
        torch.set_num_threads(before + 3)
        torch.testing.assert_close(run(*batch()), loss)
        assert len(run._work.partial_sums) >= (before + 3) * made.settings.width
    finally:
        torch.set_num_threads(before)
