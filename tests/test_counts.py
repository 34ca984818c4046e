"""Counts beside the textbook's recursion, in C and in PyTorch."""

from __future__ import annotations

import math
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conftest import little_memory
from semigpt.errors import CorpusError, SettingsError
from semigpt.native import gpt_step
from semigpt.native import ngrams as native
from semigpt.ngrams import counts as counts_module
from semigpt.ngrams import kneser_ney
from semigpt.ngrams.counts import Counts
from semigpt.ngrams.packing import count_in_numpy

V, ORDER = 50, 5
RANDOM = np.random.default_rng(1)
TEXT = (RANDOM.zipf(1.4, 600) % V).astype(np.uint16)
TEXT[300:450] = TEXT[:150]  # n-grams of every count
T, START = 40, 110  # a stretch that begins among what comes twice, and leaves it
WINDOWS = torch.from_numpy(TEXT[START : START + 3 * T + 1].astype(np.int64))
INPUTS, TARGETS = WINDOWS[:-1].view(3, T), WINDOWS[1:].view(3, T)
UNSEEN = RANDOM.integers(0, V, 80)  # with contexts never counted


class Textbook:
    """Modified Kneser-Ney as the paper writes it: dictionaries, sums over rows, recursion."""

    def __init__(
        self, ids: Sequence[int], vocab_size: int, order: int, leave_out: int | None = None
    ) -> None:
        ids = [int(i) for i in ids]
        grams = [
            tuple(ids[(i - order + 1 + j) % len(ids)] for j in range(order))
            for i in range(len(ids))
        ]
        self.vocab_size, self.order = vocab_size, order
        self.discounts = [self.estimate(list(c.values())) for c in self.count(grams)]
        if leave_out is not None:
            del grams[leave_out]
        self.counts = self.count(grams)
        # By context: summing over a context's tokens is summing over the whole vocabulary.
        self.rows: list[dict[Any, list[int]]] = [{} for _ in self.counts]
        for counts, rows in zip(self.counts, self.rows, strict=True):
            for gram, c in counts.items():
                rows.setdefault(gram[:-1], []).append(c)

    def count(self, grams: list[Any]) -> list[Counter[Any]]:
        counts = [Counter(grams)]
        for _ in range(self.order - 1):
            counts.insert(0, Counter(gram[1:] for gram in counts[0]))
        return counts

    @staticmethod
    def estimate(counts: list[int]) -> list[float]:
        n = [sum(c == k for c in counts) for k in range(5)]
        y = n[1] / (n[1] + 2 * n[2]) if n[1] else 0.5
        found = [k - (k + 1) * y * n[k + 1] / n[k] if n[k] else y for k in (1, 2, 3)]
        return [d if d > 0 else y for d in found]

    def p(self, context: Sequence[int], token: int, length: int | None = None) -> float:
        """After the last `length` tokens of a context, by default as many as the order allows."""
        length = self.order - 1 if length is None else length
        last = tuple(int(i) for i in context[max(0, len(context) - length) :])
        return self.recurse(last, int(token))

    def recurse(self, context: tuple[int, ...], token: int) -> float:
        lower = self.recurse(context[1:], token) if context else 1 / self.vocab_size
        total, backoff = self.total_and_backoff(context)
        if not total:
            return lower
        c = self.counts[len(context)][(*context, token)]
        own = c - self.discounts[len(context)][min(c, 3) - 1] if c else 0.0
        return own / total + backoff * lower

    def total_and_backoff(self, context: tuple[int, ...]) -> tuple[int, float]:
        """0 and 1 where the context was never counted."""
        row = self.rows[len(context)].get(context, [])
        discounts = self.discounts[len(context)]
        return sum(row), sum(discounts[min(c, 3) - 1] for c in row) / sum(row) if row else 1.0


def batch(ids: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """One sequence of inputs and the targets after it."""
    row = torch.tensor([int(i) for i in ids])[None]
    return row[:, :-1], row[:, 1:]


@pytest.fixture(scope="module")
def counts() -> Counts:
    return Counts.fit(TEXT, V, ORDER)


@pytest.fixture(scope="module")
def book() -> Textbook:
    return Textbook(TEXT, V, ORDER)


@pytest.fixture(params=["C", "PyTorch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "PyTorch":
        monkeypatch.setattr(native, "available", lambda: False)
    elif not native.available():
        pytest.skip("no C compiler")
    return str(request.param)


# Beside the textbook


@pytest.mark.parametrize("order", [2, 3, 5, 7, 8])
def test_each_order_is_the_textbooks_at_every_position(way: str, order: int) -> None:
    counts, book = Counts.fit(TEXT, V, order), Textbook(TEXT, V, order)
    np.testing.assert_allclose(counts.discounts[1:, 1:], book.discounts, rtol=1e-6)
    for ids in (TEXT[:200], UNSEEN):
        p, features = counts.lookup(*batch(ids))
        for t in range(len(ids) - 1):
            seen, token = ids[: t + 1], ids[t + 1]
            expected = [book.p(seen, token, length) for length in range(order)]
            np.testing.assert_allclose(p[0, t], expected, rtol=1e-4)
            told = [
                book.total_and_backoff(tuple(int(i) for i in seen[-length:]))
                for length in range(1, order)
                if length <= len(seen)
            ]
            told += [(0, 1.0)] * (order - 1 - len(told))
            flat = [number for total, g in told for number in (math.log1p(total), g)]
            np.testing.assert_allclose(features[0, t], flat, rtol=1e-4, atol=1e-6)
        expected_bits = -sum(math.log2(book.p(ids[:i], ids[i])) for i in range(len(ids)))
        assert counts.bits(ids) == pytest.approx(expected_bits, rel=1e-6)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60),
    st.lists(st.integers(0, 6), min_size=1, max_size=12),
    st.integers(2, 6),
)
@example([0, 1, 0], [1, 0, 1], 6)  # shorter than the order
@example([0] * 9, [1, 0], 2)
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_small_text_is_the_textbooks(
    way: str, train: list[int], test: list[int], order: int
) -> None:
    counts, book = Counts.fit(train, 7, order), Textbook(train, 7, order)
    expected = -sum(math.log2(book.p(test[:i], test[i])) for i in range(len(test)))
    assert counts.bits(test) == pytest.approx(expected, rel=1e-5)
    q = counts.distribution(torch.tensor([test]))[0, -1]
    np.testing.assert_allclose(q, [book.p(test, token) for token in range(7)], rtol=1e-4)


@pytest.mark.parametrize(
    ("vocab_size", "order"),
    [(7000, 5), (8000, 5), (8000, 6), (60_000, 4), (60_000, 8), (5000, 7), (1600, 6)],
)
def test_n_grams_of_any_size_are_counted_alike(vocab_size: int, order: int) -> None:
    """Packed in 64 bits as they are, as ranks of pairs, or as ranks of what they are so far."""
    spread = (TEXT.astype(np.int64) * 1009) % vocab_size
    asked = (UNSEEN.astype(np.int64) * 1009) % vocab_size
    counts, book = Counts.fit(spread, vocab_size, order), Textbook(spread, vocab_size, order)
    for ids in (spread[:90], asked):
        expected = -sum(math.log2(book.p(ids[:i], ids[i])) for i in range(len(ids)))
        assert counts.bits(ids) == pytest.approx(expected, rel=1e-5)


def test_distributions_are_the_textbooks(way: str, counts: Counts, book: Textbook) -> None:
    strange = INPUTS.clone()
    strange[2, 5:9] = torch.tensor([V - 1, V - 2, V - 1, V - 3])  # contexts never counted
    q = counts.distribution(strange)
    assert q.shape == (3, T, V)
    torch.testing.assert_close(q.sum(-1), torch.ones(3, T))
    for b, t in ((0, 0), (0, 1), (1, 3), (2, 6), (2, 8), (2, 9), (1, T - 1)):
        expected = [book.p(strange[b, : t + 1].tolist(), token) for token in range(V)]
        np.testing.assert_allclose(q[b, t].numpy(), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("order", [2, 5])
def test_leave_one_out_is_counting_without_that_token(way: str, order: int) -> None:
    train = TEXT[:150]
    counts = Counts.fit(train, V, order)
    circle = [int(i) for i in (*train, *train)]
    inputs, targets = batch(circle)
    p, _ = counts.lookup(inputs, targets, leave_one_out=True)
    q = counts.distribution(inputs, targets)
    seen, _ = counts.lookup(inputs, targets)
    for i in range(len(train)):
        at = len(train) + i - 1  # a whole turn: every context is full
        book = Textbook(train, V, order, leave_out=i)
        context = circle[: at + 1][-order:]
        assert p[0, at, -1].item() == pytest.approx(book.p(context, train[i]), rel=1e-4)
        if i % 10 == 0:
            expected = [book.p(context, token) for token in range(V)]
            np.testing.assert_allclose(q[0, at], expected, rtol=1e-4, atol=1e-7)
    # A text is news to what did not count it.
    assert p[..., -1].log().sum() < seen[..., -1].log().sum()


def test_without_the_only_token_all_are_alike(way: str) -> None:
    for text in ([3], [3, 3], [3, 4]):
        single = Counts.fit(text, V, 2)
        inputs, targets = torch.tensor([text[:1]]), torch.tensor([text[-1:]])
        q = single.distribution(inputs, targets)[0, 0]
        torch.testing.assert_close(q.sum(), torch.tensor(1.0))
        p, _ = single.lookup(inputs, targets, leave_one_out=True)
        torch.testing.assert_close(q[text[-1]], p[0, 0, -1])
        if len(text) == 1:
            torch.testing.assert_close(q, torch.full((V,), 1 / V))


# Weights, the likeliest, features


@pytest.mark.parametrize("left_out", [None, TARGETS], ids=["whole", "left out"])
def test_contexts_of_each_length_are_weighted(
    way: str, left_out: torch.Tensor | None, counts: Counts
) -> None:
    weights = torch.rand(3, T, ORDER, generator=torch.Generator().manual_seed(0))
    q = counts.distribution(INPUTS, left_out, weights)
    torch.testing.assert_close(q.sum(-1), weights.sum(-1))
    p, _ = counts.lookup(INPUTS, TARGETS, leave_one_out=left_out is not None)
    at_targets = q.gather(2, TARGETS[..., None])[..., 0]
    torch.testing.assert_close(at_targets, (weights * p).sum(-1), rtol=1e-4, atol=1e-6)


def test_gradients_reach_the_weights(counts: Counts) -> None:
    weights = torch.full((3, T, ORDER), 0.2, requires_grad=True)
    at_targets = counts.distribution(INPUTS, None, weights).gather(2, TARGETS[..., None])
    at_targets.sum().backward()
    p, _ = counts.lookup(INPUTS, TARGETS)
    torch.testing.assert_close(weights.grad, p, rtol=1e-4, atol=1e-6)


def test_top_k_are_the_likeliest(way: str, counts: Counts) -> None:
    for left_out in (None, TARGETS):
        q = counts.distribution(INPUTS, left_out)
        tokens, p = counts.top_k(INPUTS, 3, left_out)
        torch.testing.assert_close(p, q.topk(3, dim=-1)[0])
        torch.testing.assert_close(q.gather(2, tokens), p)
        assert all(len(set(row)) == 3 for row in tokens.flatten(0, 1).tolist())
    everything, _ = counts.top_k(INPUTS[:1, :1], V)
    assert sorted(everything.flatten().tolist()) == list(range(V))
    for k in (0, V + 1):
        with pytest.raises(SettingsError, match=f"the {k} likeliest of {V} tokens"):
            counts.top_k(INPUTS, k)


def test_both_ways_give_the_same(counts: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    def everything() -> list[torch.Tensor]:
        found = [counts.distribution(INPUTS, TARGETS), counts.top_k(INPUTS, 3, TARGETS)[1]]
        for leave_one_out in (False, True):
            found += counts.lookup(INPUTS, TARGETS, leave_one_out=leave_one_out)
        return found

    first = everything()
    monkeypatch.setattr(native, "available", lambda: False)
    for ours, theirs in zip(first, everything(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_a_context_seen_once_is_unknown_to_itself(way: str, counts: Counts) -> None:
    """Leave-one-out takes the only occurrence away: then the longest context was never seen."""
    _, seen = counts.lookup(INPUTS, TARGETS)
    _, left = counts.lookup(INPUTS, TARGETS, leave_one_out=True)
    once = seen[..., -2] == np.float32(np.log(2.0))
    assert once.any()
    assert (left[..., -2][once] == 0).all()
    assert (left[..., -1][once] == 1).all()


# The information of a text


def test_chunks_leave_no_seam(counts: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = counts.bits(TEXT)
    for chunk in (1, 3, 7, len(TEXT) - 1):
        monkeypatch.setattr(counts_module, "CHUNK", chunk)
        assert counts.bits(TEXT) == pytest.approx(whole, rel=1e-12)
    assert counts.bits([]) == 0
    assert counts.bits([3]) == pytest.approx(-math.log2(counts.unigram[3]))


def test_pricing_a_long_text_holds_no_more_than_a_short_one(counts: Counts) -> None:
    peaks = []
    for tokens in (200_000, 1_000_000):
        ids = np.resize(TEXT, tokens)
        tracemalloc.start()
        counts.bits(ids)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1_000_000


# Saving


def test_saved_and_loaded(counts: Counts) -> None:
    again = Counts.from_tensors(counts.tensors(), V)
    assert torch.equal(again.distribution(INPUTS), counts.distribution(INPUTS))


def test_what_is_saved_is_as_small_as_its_largest_number() -> None:
    """Beside 2^8 and 2^15, where one integer type gives way to the next."""
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


def test_totals_of_long_contexts_are_summed_on_demand(counts: Counts, book: Textbook) -> None:
    assert len(counts.totals) == counts_module.SUMMED < ORDER
    for level in range(ORDER):
        nodes = torch.arange(len(counts.first_follower[level]) - 1)
        found = kneser_ney.summed_totals(counts, level, nodes).tolist()
        rows = book.rows[level].values()
        expected = [
            [sum(row), *(sum(min(c, 3) == n for c in row) for n in (1, 2, 3))] for row in rows
        ]
        assert sorted(found) == sorted(expected)
        if level < counts_module.SUMMED:
            assert counts.totals[level].tolist() == found


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
        ("discounts", 7, math.nan),
        ("discounts", 7, 3.5),
        ("discounts", 5, -0.5),
    ],
)
def test_tables_that_lead_outside_are_refused(
    name: str, place: int, value: float, counts: Counts
) -> None:
    tensors = {
        key: tensor.clone() if tensor.is_floating_point() else tensor.int()
        for key, tensor in counts.tensors().items()
    }
    tensors[name].view(-1)[place] = value
    with pytest.raises(ValueError, match="level|add up|discounts"):
        Counts.from_tensors(tensors, V)
    tensors[name] = tensors[name][:, None] if tensors[name].dim() == 1 else tensors[name].flatten()
    with pytest.raises(ValueError, match="another shape|no order"):
        Counts.from_tensors(tensors, V)
    del tensors[name]
    with pytest.raises(LookupError):
        Counts.from_tensors(tensors, V)


def test_what_cannot_be_counted_is_said_in_one_line(counts: Counts) -> None:
    for order in (1, 9):
        with pytest.raises(SettingsError, match=f"order {order} cannot be"):
            Counts.fit(TEXT, V, order)
    with pytest.raises(CorpusError, match="at least one token"):
        Counts.fit([], 10)
    with pytest.raises(SettingsError, match="vocabulary of 10"):
        Counts.fit([1, 10], 10)
    with pytest.raises(SettingsError, match="do not fit"):
        counts.bits([-1])
    with pytest.raises(SettingsError, match="whole numbers"):
        counts.bits([0.5])


# Faults of the C


def test_c_without_memory_raises_memory_error() -> None:
    if not native.available():
        pytest.skip("no C compiler")
    huge = native.Tables(np.zeros((3, 4), np.float32), np.zeros(1, np.float32), {})
    huge.vocab = 2**30
    step = gpt_step.library(torch.float32)
    with little_memory(64):
        with pytest.raises(MemoryError, match="semigpt_top_k"):
            native.top_k(huge, np.zeros((0, 4), np.int64), 3)
        with pytest.raises(MemoryError, match="semigpt_longest_match"):
            native.library().semigpt_longest_match(0, 2**30, None, 8, None, None)
        with pytest.raises(MemoryError, match="semigpt_cross_entropy"):
            step.semigpt_cross_entropy(
                *(0, 8, 2**30, None, None, 1.0, None, huge.pointer),
                *(0.5, 4, None, None, None, 0.0, None, None),
            )


@pytest.mark.parametrize("vocab_size", [5, 16, 40])
def test_a_search_for_the_largest_ends_where_all_is_nan(vocab_size: int) -> None:
    if not native.available():
        pytest.skip("no C compiler")
    counts = Counts.fit(np.arange(vocab_size), vocab_size, 2)
    levels = {
        name: [table.numpy() for table in getattr(counts, name)]
        for name in (*counts_module.TABLES, "totals")
    }
    nothing = np.full(vocab_size, np.nan, np.float32)
    tables = native.Tables(np.full((3, 4), np.nan, np.float32), nothing, levels)
    tokens, _ = native.top_k(tables, np.zeros((1, 1), np.int64), 2)
    assert tokens.min() >= 0
    assert tokens.max() < vocab_size


def test_without_a_compiler_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, counts: Counts
) -> None:
    native.library.cache_clear()
    native.available.cache_clear()
    monkeypatch.setenv("CC", "no-such-compiler")
    try:
        for _ in range(2):
            counts.top_k(INPUTS, 2)
        (record,) = caplog.records
        assert "no-such-compiler" in record.getMessage()
        assert "\n" not in record.getMessage()
    finally:
        native.library.cache_clear()
        native.available.cache_clear()


@pytest.mark.parametrize("order", [2, 3, 5, 6, 8])
@pytest.mark.parametrize("vocab_size", [1, 2, 40, 300, 60_000])
@pytest.mark.parametrize("length", [1, 3, 50, 3000])
def test_c_counts_as_numpy_does(length: int, vocab_size: int, order: int) -> None:
    """In one word or two, in one part of the top digit or many, and past what C packs."""
    if not native.available():
        pytest.skip("no compiler")
    ids = (np.random.default_rng(length).zipf(1.3, length) % vocab_size).astype(np.uint16)
    expected = count_in_numpy(ids, vocab_size, order)
    for level, tables in enumerate(zip(*expected, strict=False)):
        for name, table in zip(expected._fields, tables, strict=True):
            found = getattr(native.count(ids, vocab_size, order), name)[level]
            assert found.dtype == table.dtype == np.int32
            assert np.array_equal(found, table), (name, level)
    assert len(native.count(ids, vocab_size, order).counts) == order


def test_what_c_cannot_pack_is_counted_by_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.counts_fit(65_536, 8)
    assert not native.counts_fit(65_537, 8)
    monkeypatch.setattr(native, "counts_fit", lambda vocab_size, order: False)
    monkeypatch.setattr(native, "count", None)
    assert Counts.fit(TEXT, V, ORDER).bits(TEXT) > 0
