"""Counts beside `KneserNey`, whose counts they are; the C beside PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from semigpt.errors import SettingsError
from semigpt.ngrams import counts as counts_module
from semigpt.ngrams.counts import Counts
from semigpt.ngrams.kneser_ney import KneserNey

V, ORDER = 50, 5
RANDOM = np.random.default_rng(1)
TEXT = (RANDOM.zipf(1.4, 6000) % V).astype(np.uint16)
TEXT[3000:4500] = TEXT[:1500]  # n-grams of every count
T, START = 40, 1450  # a stretch that begins among what comes twice, and leaves it
WINDOWS = torch.from_numpy(TEXT[START : START + 3 * T + 1].astype(np.int64))
INPUTS, TARGETS = WINDOWS[:-1].view(3, T), WINDOWS[1:].view(3, T)


@pytest.fixture(scope="module")
def model() -> KneserNey:
    return KneserNey.fit(TEXT, V, ORDER)


@pytest.fixture(scope="module")
def counts() -> Counts:
    return Counts.fit(TEXT, V, ORDER)


@pytest.fixture(params=["C", "PyTorch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "PyTorch":
        monkeypatch.setattr(counts_module, "library_or_none", lambda dtype: None)
    elif counts_module.library_or_none(torch.float32) is None:
        pytest.skip("no C compiler")
    return str(request.param)


@pytest.mark.parametrize(
    ("vocab_size", "order"), [(7000, 5), (8000, 5), (8000, 6), (60_000, 4), (60_000, 8)]
)
def test_n_grams_of_any_size_are_kneser_neys(vocab_size: int, order: int) -> None:
    """A number of 64 bits holds them as they are, as ranks of pairs, or as ranks of what they are without the token."""
    ids = np.random.default_rng(2).zipf(1.3, 5000) % vocab_size
    ids[2000:3000] = ids[:1000]
    p, _ = Counts.fit(ids, vocab_size, order).recall(
        torch.from_numpy(ids[None, :-1]), torch.from_numpy(ids[None, 1:])
    )
    expected = 2 ** KneserNey.fit(ids, vocab_size, order).log2_probabilities(ids)[1:]
    np.testing.assert_allclose(p.numpy()[0, order - 1 :, -1], expected[order - 1 :], rtol=1e-4)


def test_distributions_are_kneser_neys(way: str, model: KneserNey, counts: Counts) -> None:
    strange = INPUTS.clone()
    strange[2, 5:9] = torch.tensor([V - 1, V - 2, V - 1, V - 3])  # contexts never counted
    q = counts.distribution(strange)
    assert q.shape == (3, T, V)
    torch.testing.assert_close(q.sum(-1), torch.ones(3, T))
    for b, t in ((0, 0), (0, 1), (1, 3), (2, 6), (2, 8), (2, 9), (1, T - 1)):
        expected = model.distribution(strange[b, : t + 1].numpy())
        np.testing.assert_allclose(q[b, t].numpy(), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_recall_is_kneser_neys(
    way: str, leave_one_out: bool, model: KneserNey, counts: Counts
) -> None:
    p, features = counts.recall(INPUTS, TARGETS, leave_one_out=leave_one_out)
    score = model.leave_one_out_log2_probabilities if leave_one_out else model.log2_probabilities
    expected = 2 ** score(TEXT)[START + 1 : START + 1 + 3 * T].reshape(3, T)
    # Where a block begins, the counts see less before it than the whole text shows.
    assert p.shape == (3, T, ORDER)
    np.testing.assert_allclose(p.numpy()[:, ORDER - 1 :, -1], expected[:, ORDER - 1 :], rtol=1e-4)
    assert features.shape == (3, T, 2 * (ORDER - 1))


def test_distributions_without_a_targets_own_occurrence(way: str, counts: Counts) -> None:
    """Whole distributions; at the target they say what `recall` does."""
    q = counts.distribution(INPUTS, TARGETS)
    torch.testing.assert_close(q.sum(-1), torch.ones(3, T))
    p, _ = counts.recall(INPUTS, TARGETS, leave_one_out=True)
    torch.testing.assert_close(
        q.gather(2, TARGETS[..., None])[..., 0], p[..., -1], rtol=1e-4, atol=1e-7
    )
    assert not torch.allclose(q, counts.distribution(INPUTS), atol=1e-3)


@pytest.mark.parametrize("left_out", [None, TARGETS], ids=["whole", "left out"])
def test_contexts_of_each_length_are_weighed(
    way: str, left_out: torch.Tensor | None, counts: Counts
) -> None:
    """A weighted sum of what 0, 1 … tokens say: at the targets that of `recall`'s; and a whole distribution."""
    weights = torch.rand(3, T, ORDER, generator=torch.Generator().manual_seed(0))
    q = counts.distribution(INPUTS, left_out, weights)
    torch.testing.assert_close(q.sum(-1), weights.sum(-1))
    p, _ = counts.recall(INPUTS, TARGETS, leave_one_out=left_out is not None)
    expected = (weights * p).sum(-1)
    torch.testing.assert_close(
        q.gather(2, TARGETS[..., None])[..., 0], expected, rtol=1e-4, atol=1e-6
    )


def test_both_ways_leave_out_the_same(counts: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    first = counts.distribution(INPUTS, TARGETS), counts.guesses(INPUTS, 3, TARGETS)[1]
    monkeypatch.setattr(counts_module, "library_or_none", lambda dtype: None)
    second = counts.distribution(INPUTS, TARGETS), counts.guesses(INPUTS, 3, TARGETS)[1]
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-7)


def test_a_text_of_one_token_left_out_says_nothing(way: str) -> None:
    single = Counts.fit(np.array([3, 4], np.uint16), V, 2)
    only = torch.tensor([[3]]), torch.tensor([[4]])
    torch.testing.assert_close(single.distribution(*only).sum(), torch.tensor(1.0))


def test_guesses_are_the_likeliest(way: str, counts: Counts) -> None:
    for left_out in (None, TARGETS):
        expected, _ = counts.distribution(INPUTS, left_out).topk(3, dim=-1)
        tokens, p = counts.guesses(INPUTS, 3, left_out)
        torch.testing.assert_close(p, expected)
        q = counts.distribution(INPUTS, left_out).gather(2, tokens)
        torch.testing.assert_close(q, p)
        assert all(len(set(row)) == 3 for row in tokens.flatten(0, 1).tolist())


def test_both_ways_tell_the_same_features(counts: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    for leave_one_out in (False, True):
        monkeypatch.undo()
        first = counts.recall(INPUTS, TARGETS, leave_one_out=leave_one_out)
        monkeypatch.setattr(counts_module, "library_or_none", lambda dtype: None)
        second = counts.recall(INPUTS, TARGETS, leave_one_out=leave_one_out)
        torch.testing.assert_close(first, second)


def test_a_context_seen_once_is_a_stranger_to_itself(counts: Counts) -> None:
    """Leave-one-out takes the only occurrence away: then the longest context was never seen."""
    _, seen = counts.recall(INPUTS, TARGETS)
    _, left = counts.recall(INPUTS, TARGETS, leave_one_out=True)
    once = seen[..., -2] == np.float32(np.log(2.0))
    assert once.any()
    assert (left[..., -2][once] == 0).all()
    assert (left[..., -1][once] == 1).all()


def test_saved_and_taken_back(counts: Counts) -> None:
    again = Counts.from_tensors(counts.tensors(), V)
    assert torch.equal(again.distribution(INPUTS), counts.distribution(INPUTS))


def test_what_is_saved_is_as_small_as_its_largest_number() -> None:
    """And comes back: numbers beside 2^8 and 2^15, where one kind of whole number gives way to the next."""
    for times, kind in (
        (255, torch.uint8),
        (256, torch.int16),
        (2**15 - 1, torch.int16),
        (2**15, torch.int32),
    ):
        often = Counts.fit(np.zeros(times, np.uint16), 1, 2)
        saved = often.tensors()
        assert (saved["count.1"].dtype, saved["follower.1"].dtype) == (kind, torch.uint8)
        assert Counts.from_tensors(saved, 1).count[1].tolist() == [times]


def test_sums_of_long_contexts_are_not_kept(model: KneserNey, counts: Counts) -> None:
    """Added up when asked they are `KneserNey`'s."""
    assert len(counts.totals) == counts_module.SUMMED < ORDER
    for level in range(ORDER):
        nodes = torch.arange(len(model.followers[level]))
        assert counts._totals(level, nodes).tolist() == model.followers[level].tolist()


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("follower.2", 3, V),
        ("follower.2", 3, -1),
        ("oldest.1", 0, 10**6),
        ("first_follower.1", 2, 10**6),
        ("first_child.0", 1, 10**6),
        ("first_child.1", 3, -5),
        ("count.3", 0, 0),
        ("first_follower.1", 1, 0),  # nothing followed the first context
    ],
)
def test_tables_that_lead_outside_are_refused(
    name: str, place: int, value: int, counts: Counts
) -> None:
    tensors = {
        key: tensor.clone() if tensor.is_floating_point() else tensor.int()
        for key, tensor in counts.tensors().items()
    }
    tensors[name].view(-1)[place] = value
    with pytest.raises(ValueError, match="level|add up"):
        Counts.from_tensors(tensors, V)
    tensors[name] = tensors[name][:, None] if tensors[name].dim() == 1 else tensors[name].flatten()
    with pytest.raises(ValueError, match="another shape"):
        Counts.from_tensors(tensors, V)
    del tensors[name]
    with pytest.raises(LookupError):
        Counts.from_tensors(tensors, V)


def test_an_order_that_cannot_be_is_refused() -> None:
    for order in (1, 9):
        with pytest.raises(SettingsError, match="order"):
            Counts.fit(TEXT, V, order)
