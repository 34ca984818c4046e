"""Information in its units, and the baselines."""

import lzma
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from semigpt.errors import CorpusError, SettingsError
from semigpt.evaluation import information
from semigpt.evaluation.information import (
    Baselines,
    Information,
    baselines,
    bigram_bits,
    bits,
    unigram_bits,
)
from semigpt.ngrams.counts import Counts

NSMC = Path(__file__).parents[1] / ".." / "shared" / "data" / "nsmc"
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


# Units


def test_units_of_a_fair_choice_among_eight() -> None:
    told = Information(nats=10 * math.log(8), tokens=10, characters=6, bytes=15)
    assert told.as_dict() == {
        "loss_nats_per_token": pytest.approx(math.log(8)),
        "perplexity": pytest.approx(8),
        "bits_per_character": pytest.approx(5),
        "bits_per_byte": pytest.approx(2),
        "tokens": 10,
        "characters": 6,
        "bytes": 15,
    }
    assert bits(math.log(2)) == 1


def test_a_hopeless_loss_has_infinite_perplexity_and_an_empty_text_no_measure() -> None:
    assert Information(1e6, 1, 1, 1).perplexity == math.inf
    assert Information(math.inf, 1, 1, 1).perplexity == math.inf
    with pytest.raises(CorpusError, match="at least one character"):
        Information(0.0, 0, 0, 0)


# The simple baselines


def test_unigram_and_bigram_are_witten_bell_by_hand() -> None:
    # 0 1 0 1 0 2: N = 6 of T = 3 kinds; after 0 came 1, 1, 2 (two kinds); after 1 came 0, 0; after 2 nothing.
    train = [0, 1, 0, 1, 0, 2]
    p = [(3 + 3 / 4) / 9, (2 + 3 / 4) / 9, (1 + 3 / 4) / 9, (3 / 4) / 9]
    assert sum(p) == pytest.approx(1)
    assert information.unigram_bits(train, [0, 1, 2, 3], 4) == pytest.approx(
        -sum(math.log2(x) for x in p)
    )
    after_start, after_0, after_2 = p[0], (2 + 2 * p[1]) / 5, p[0]
    after_1 = (0 + 1 * p[2]) / 3
    expected = -sum(math.log2(x) for x in (after_start, after_0, after_1, after_2))
    assert information.bigram_bits(train, [0, 1, 2, 0], 4) == pytest.approx(expected)


def test_a_bigram_row_sums_to_one() -> None:
    for before in (TRAIN[0], VOCAB_SIZE - 1):
        first = information.bigram_bits(TRAIN, [before], VOCAB_SIZE)
        costs = [
            information.bigram_bits(TRAIN, [before, after], VOCAB_SIZE) - first
            for after in range(VOCAB_SIZE)
        ]
        assert sum(2**-cost for cost in costs) == pytest.approx(1, abs=1e-9)


def test_uniform_is_log2_of_the_vocabulary() -> None:
    assert information.uniform_bits(10, 4096) == 120


def test_every_baseline_is_total_bits_over_characters() -> None:
    found = baselines(TRAIN, TEST, VOCAB_SIZE, 7, xz=70.0)
    fit = Counts.fit(TRAIN, VOCAB_SIZE, 5)
    assert found.as_dict() == {
        "uniform": pytest.approx(len(TEST) * math.log2(VOCAB_SIZE) / 7),
        "unigram": pytest.approx(information.unigram_bits(TRAIN, TEST, VOCAB_SIZE) / 7),
        "bigram": pytest.approx(information.bigram_bits(TRAIN, TEST, VOCAB_SIZE) / 7),
        "kneser_ney_5": pytest.approx(fit.bits(TEST) / 7),
        "xz": 10.0,
    }
    assert Baselines(5.0, 4.0, 3.0, 2.0).as_dict()["xz"] is None
    for train, test, characters in (([], TEST, 7), (TRAIN, [], 7), (TRAIN, TEST, 0)):
        with pytest.raises(CorpusError):
            baselines(train, test, VOCAB_SIZE, characters)
    one = baselines([3], [3, 4], 8, 2)  # the smallest text there is
    assert 0 < one.kneser_ney_5 < math.inf
    assert 0 < one.bigram < math.inf


def test_xz_pays_for_what_the_training_text_did_not_hold() -> None:
    def size(data: bytes) -> int:
        return len(lzma.compress(data, check=lzma.CHECK_NONE, preset=9 | lzma.PRESET_EXTREME))

    train, test = TEXT.encode(), UNSEEN.encode()
    expected = 8 * (size(train + test) - size(train))
    pieces = (train[i : i + 5] for i in range(0, len(train), 5))
    assert information.xz_bits(pieces, iter([test[:9], test[9:]])) == expected
    last = train[-100:]
    assert information.xz_bits([train], [test], limit=100) == 8 * (size(last + test) - size(last))
    with pytest.raises(SettingsError, match="primed with 0 bytes"):
        information.xz_bits([train], [test], limit=0)


def test_baselines_on_a_million_characters_of_reviews() -> None:
    """Pinned to what was measured: a change here changes the baseline that models are held to."""
    if not NSMC.is_dir():
        pytest.skip("the nsmc corpus is not beside the repository")
    parquet = pytest.importorskip("pyarrow.parquet")

    def points(split: str) -> np.ndarray:
        documents = parquet.read_table(
            NSMC / f"{split}-00000-of-00001.parquet", columns=["document"]
        )
        text = "\0".join(documents["document"].to_pylist())
        return np.frombuffer(text.encode("utf-32-le"), np.uint32)

    train, test = points("validation"), points("test")[:200_000]
    alphabet = np.flatnonzero(np.bincount(train))
    vocab_size = len(alphabet) + 1  # all that training did not see is one token here
    table = np.full(0x110000, len(alphabet), np.uint16)
    table[alphabet] = np.arange(len(alphabet))
    found = baselines(table[train], table[test], vocab_size, len(test))
    assert found.as_dict() == {
        "uniform": pytest.approx(10.962, abs=0.005),
        "unigram": pytest.approx(7.234, abs=0.005),
        "bigram": pytest.approx(5.052, abs=0.005),
        "kneser_ney_5": pytest.approx(4.236, abs=0.005),
        "xz": None,
    }


def test_pricing_a_long_text_holds_no_more_than_a_short_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Piece by piece: the same bits, and memory that does not grow with what is priced."""
    long = np.resize(TEST, 1_000_000)
    whole = [score(TRAIN, long[:9001], VOCAB_SIZE) for score in (unigram_bits, bigram_bits)]
    for size in (1000, 4500, 9000, 9001):
        monkeypatch.setattr(information, "CHUNK", size)
        found = [score(TRAIN, long[:9001], VOCAB_SIZE) for score in (unigram_bits, bigram_bits)]
        assert found == pytest.approx(whole)
    monkeypatch.undo()
    peaks = []
    for tokens in (200_000, 1_000_000):
        tracemalloc.start()
        baselines(TRAIN, long[:tokens], VOCAB_SIZE, tokens)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1_000_000
