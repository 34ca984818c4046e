"""Kneser–Ney against the textbook's recursion."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from semigpt.errors import CorpusError, SettingsError
from semigpt.ngrams.kneser_ney import KneserNey

TEXT = (
    "나는 오늘 학교에 갔다. 학교에서 나는 친구를 만났다. 친구는 오늘 책을 읽었다. "
    "책은 재미있었다. 나는 내일 학교에 가서 친구와 책을 읽을 것이다. 오늘은 비가 왔다. "
) * 2
UNSEEN = "나는 어제 학교에서 비를 맞았다. 친구와 책을 읽었다."


def encode(text: str, alphabet: str) -> np.ndarray:
    """Ids by place in the alphabet; characters outside it take ids after it, as unseen byte tokens do."""
    ids = {c: i for i, c in enumerate(sorted(set(alphabet)))}
    for c in text:
        ids.setdefault(c, len(ids))
    return np.array([ids[c] for c in text], np.uint16)


VOCAB_SIZE = len(set(TEXT)) + 20
TRAIN, TEST = encode(TEXT, TEXT), encode(UNSEEN, TEXT)


class Textbook:
    """Modified Kneser–Ney as the paper writes it: dictionaries, sums over the vocabulary, recursion."""

    def __init__(self, ids, vocab_size, order, *, leave_out=None):
        ids = [int(i) for i in ids]
        grams = [
            tuple(ids[(i - order + 1 + j) % len(ids)] for j in range(order))
            for i in range(len(ids))
        ]
        self.vocab_size, self.order = vocab_size, order
        self.discounts = [self.estimate(c.values()) for c in self.count(grams)]
        if leave_out is not None:
            del grams[leave_out]
        self.counts = self.count(grams)
        # By context: summing over a context's tokens is summing over the whole vocabulary.
        self.rows = [{} for _ in self.counts]
        for counts, rows in zip(self.counts, self.rows, strict=True):
            for gram, c in counts.items():
                rows.setdefault(gram[:-1], []).append(c)

    def count(self, grams):
        counts = [Counter(grams)]
        for _ in range(self.order - 1):
            counts.insert(0, Counter(gram[1:] for gram in counts[0]))
        return counts

    @staticmethod
    def estimate(counts):
        n = [sum(c == k for c in counts) for k in range(5)]
        y = n[1] / (n[1] + 2 * n[2]) if n[1] else 0.5
        found = [k - (k + 1) * y * n[k + 1] / n[k] if n[k] else y for k in (1, 2, 3)]
        return [d if d > 0 else y for d in found]

    def p(self, context, token):
        context = tuple(int(i) for i in context)
        return self.recurse(context[max(0, len(context) - self.order + 1) :], int(token))

    def recurse(self, context, token):
        lower = self.recurse(context[1:], token) if context else 1 / self.vocab_size
        row = self.rows[len(context)].get(context, [])
        if not row:
            return lower
        d = self.discounts[len(context)]
        c = self.counts[len(context)][(*context, token)]
        own = c - d[min(c, 3) - 1] if c else 0.0
        given_down = sum(d[min(c, 3) - 1] for c in row)
        return own / sum(row) + given_down / sum(row) * lower


@pytest.mark.parametrize("order", [1, 2, 3, 5, 7])
def test_kneser_ney_is_the_textbook_recursion_at_every_position(order: int) -> None:
    model, book = KneserNey.fit(TRAIN, VOCAB_SIZE, order), Textbook(TRAIN, VOCAB_SIZE, order)
    np.testing.assert_allclose(model.discounts[1:, 1:], book.discounts, rtol=1e-12)
    for ids in (TEST, TRAIN):
        expected = [math.log2(book.p(ids[:i], ids[i])) for i in range(len(ids))]
        np.testing.assert_allclose(model.log2_probabilities(ids), expected, rtol=0, atol=1e-9)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60),
    st.lists(st.integers(0, 6), max_size=12),
    st.integers(1, 6),
)
@example([0, 1, 0], [1, 0, 1], 6)  # shorter than the order
@settings(max_examples=150, deadline=None)
def test_kneser_ney_is_the_textbook_on_any_small_text(
    train: list[int], test: list[int], order: int
) -> None:
    model, book = KneserNey.fit(train, 7, order), Textbook(train, 7, order)
    expected = [math.log2(book.p(test[:i], test[i])) for i in range(len(test))]
    np.testing.assert_allclose(model.log2_probabilities(test), expected, rtol=0, atol=1e-9)
    assert model.distribution(test).sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    "context", ["", "학", "오늘 학교에", "밖에서 학교에", "가나다 오늘", "맞어", "나는 오늘 학교"]
)
def test_distributions_sum_to_one_and_agree_with_scoring(context: str) -> None:
    model = KneserNey.fit(TRAIN, VOCAB_SIZE)
    ids = encode(context, TEXT)
    p = model.distribution(ids)
    assert p.shape == (VOCAB_SIZE,)
    assert p.min() > 0
    assert p.sum() == pytest.approx(1, abs=1e-9)
    scored = [model.log2_probabilities([*ids, token])[-1] for token in range(VOCAB_SIZE)]
    np.testing.assert_allclose(np.log2(p), scored, rtol=0, atol=1e-9)


@pytest.mark.parametrize("order", [1, 3, 5])
def test_leave_one_out_is_counting_without_that_token(order: int) -> None:
    train = TRAIN[:150]
    model = KneserNey.fit(train, VOCAB_SIZE, order)
    circle = [*train, *train]
    expected = [
        math.log2(
            Textbook(train, VOCAB_SIZE, order, leave_out=i).p(
                circle[: len(train) + i][-order:], train[i]
            )
        )
        for i in range(len(train))
    ]
    found = model.leave_one_out_log2_probabilities(train)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    assert (
        found.sum() < model.log2_probabilities(train).sum()
    )  # a text is news to what did not count it


@pytest.mark.parametrize(
    ("vocab_size", "order"), [(60_000, 5), (60_000, 10), (5000, 6), (5000, 7), (5000, 12)]
)
def test_a_vocabulary_too_large_for_packed_keys_counts_the_same(
    vocab_size: int, order: int
) -> None:
    # 60,000^5 does not fit 64 bits: n-grams are ranked on the way. 60,000^10 ranks them several times. 5,000^6 goes by
    # ranks of pairs, 5,000^7 with a token left over, and six pairs do not fit either.
    spread = (TRAIN.astype(np.uint32) * 1009) % vocab_size
    asked = (TEST.astype(np.uint32) * 1009) % vocab_size
    book = Textbook(spread, vocab_size, order)
    expected = [math.log2(book.p(asked[:i], asked[i])) for i in range(len(asked))]
    found = KneserNey.fit(spread, vocab_size, order).log2_probabilities(asked)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_chunks_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = KneserNey.fit(TRAIN, VOCAB_SIZE)
    scores = whole.log2_probabilities(TEST), whole.leave_one_out_log2_probabilities(TRAIN)
    for chunk in (1, 3, 7):
        monkeypatch.setattr("semigpt.ngrams.kneser_ney.CHUNK", chunk)
        model = KneserNey.fit(TRAIN, VOCAB_SIZE)
        np.testing.assert_array_equal(model.log2_probabilities(TEST), scores[0])
        np.testing.assert_array_equal(model.leave_one_out_log2_probabilities(TRAIN), scores[1])


def test_what_cannot_be_counted_is_said_in_one_line() -> None:
    with pytest.raises(CorpusError, match="at least one token"):
        KneserNey.fit([], 10)
    with pytest.raises(SettingsError, match="order 0"):
        KneserNey.fit([1], 10, 0)
    with pytest.raises(SettingsError, match="vocabulary of 10"):
        KneserNey.fit([1, 10], 10)
    model = KneserNey.fit(TRAIN, VOCAB_SIZE)
    with pytest.raises(SettingsError, match="do not fit"):
        model.log2_probabilities([-1])
    with pytest.raises(SettingsError, match="whole numbers"):
        model.distribution([0.5])
    with pytest.raises(SettingsError, match="training text itself"):
        model.leave_one_out_log2_probabilities(TEST)
