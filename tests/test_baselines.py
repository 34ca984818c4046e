"""The baselines: by hand, against the compressor itself, and kept beside the corpus."""

import json
import lzma
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from semigpt.corpus import Corpus, prepare_corpus
from semigpt.errors import CorpusError
from semigpt.evaluation import baselines
from semigpt.evaluation.baselines import (
    Baselines,
    bigram_bits,
    compute_baselines,
    measure_baselines,
    unigram_bits,
)
from semigpt.evaluation.information import BASELINE_NAMES

TEXT = (
    "나는 오늘 학교에 갔다. 학교에서 나는 친구를 만났다. 친구는 오늘 책을 읽었다. "
    "책은 재미있었다. 나는 내일 학교에 가서 친구와 책을 읽을 것이다. 오늘은 비가 왔다. "
) * 2
UNSEEN = "나는 어제 학교에서 비를 맞았다. 친구와 책을 읽었다."


def encode(text: str, alphabet: str) -> np.ndarray:
    """Ids by place in the alphabet; characters outside it take ids after it, as unseen byte tokens
    do.
    """
    ids = {c: i for i, c in enumerate(sorted(set(alphabet)))}
    for c in text:
        ids.setdefault(c, len(ids))
    return np.array([ids[c] for c in text], np.uint16)


VOCAB_SIZE = len(set(TEXT)) + 20
TRAIN, TEST = encode(TEXT, TEXT), encode(UNSEEN, TEXT)


def test_unigram_and_bigram_are_witten_bell_by_hand() -> None:
    # 0 1 0 1 0 2: N = 6 of T = 3 kinds; after 0 came 1, 1, 2 (two kinds); after 1 came 0, 0; after
    # 2 nothing.
    train = [0, 1, 0, 1, 0, 2]
    p = [(3 + 3 / 4) / 9, (2 + 3 / 4) / 9, (1 + 3 / 4) / 9, (3 / 4) / 9]
    assert sum(p) == pytest.approx(1)
    assert baselines.unigram_bits(train, [0, 1, 2, 3], 4) == pytest.approx(
        -sum(math.log2(x) for x in p)
    )
    after_start, after_0, after_2 = p[0], (2 + 2 * p[1]) / 5, p[0]
    after_1 = (0 + 1 * p[2]) / 3
    expected = -sum(math.log2(x) for x in (after_start, after_0, after_1, after_2))
    assert baselines.bigram_bits(train, [0, 1, 2, 0], 4) == pytest.approx(expected)


def test_a_bigram_row_sums_to_one() -> None:
    for before in (TRAIN[0], VOCAB_SIZE - 1):
        first = baselines.bigram_bits(TRAIN, [before], VOCAB_SIZE)
        costs = [
            baselines.bigram_bits(TRAIN, [before, after], VOCAB_SIZE) - first
            for after in range(VOCAB_SIZE)
        ]
        assert sum(2**-cost for cost in costs) == pytest.approx(1, abs=1e-9)


def test_uniform_is_log2_of_the_vocabulary() -> None:
    assert baselines.uniform_bits(10, 4096) == 120


def test_every_baseline_is_total_bits_over_characters() -> None:
    found = compute_baselines(TRAIN, TEST, VOCAB_SIZE, characters=7)
    assert found.as_dict() == {
        "uniform": pytest.approx(len(TEST) * math.log2(VOCAB_SIZE) / 7),
        "unigram": pytest.approx(baselines.unigram_bits(TRAIN, TEST, VOCAB_SIZE) / 7),
        "bigram": pytest.approx(baselines.bigram_bits(TRAIN, TEST, VOCAB_SIZE) / 7),
        "kneser_ney_5": pytest.approx(12.4533658, rel=1e-5),  # by the textbook's recursion
        "xz": None,
    }
    for train, test, characters in (([], TEST, 7), (TRAIN, [], 7), (TRAIN, TEST, 0)):
        with pytest.raises(CorpusError):
            compute_baselines(train, test, VOCAB_SIZE, characters=characters)
    one = compute_baselines([3], [3, 4], 8, characters=2)  # the smallest text there is
    assert 0 < one.kneser_ney_5 < math.inf
    assert 0 < one.bigram < math.inf


def test_xz_pays_for_what_the_training_text_did_not_hold() -> None:
    def size(data: bytes) -> int:
        return len(lzma.compress(data, check=lzma.CHECK_NONE, preset=9 | lzma.PRESET_EXTREME))

    train, test = TEXT.encode(), UNSEEN.encode()
    expected = 8 * (size(train + test) - size(train))
    blocks = (train[i : i + 5] for i in range(0, len(train), 5))
    assert baselines.xz_bits(blocks, iter([test[:9], test[9:]])) == expected


# Beside a corpus


@pytest.fixture(scope="module")
def news() -> Corpus:
    return prepare_corpus("news#articles=300")


@pytest.fixture
def other(tmp_path: Path) -> Corpus:
    """A corpus of a few sentences, staged where only this test looks."""
    text = tmp_path / "a.txt"
    text.write_text("\n".join(f"{i}번째 날, 비가 왔다." for i in range(200)), encoding="utf-8")
    return prepare_corpus(str(text), cache=tmp_path / "cache")


def test_baselines_of_the_bundled_corpus_are_what_they_were(news: Corpus) -> None:
    """Pinned: a change here changes what models are held to."""
    assert measure_baselines(news, "test", counted_on=news).as_dict() == {
        "uniform": pytest.approx(10.5036, abs=0.0005),
        "unigram": pytest.approx(7.0923, abs=0.0005),
        "bigram": pytest.approx(4.6495, abs=0.0005),
        "kneser_ney_5": pytest.approx(2.5543, abs=0.0005),
        "xz": pytest.approx(3.034, abs=0.01),
    }


def test_baselines_are_measured_once_and_xz_only_when_asked_for(
    other: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = measure_baselines(other, "test", counted_on=other, xz=False)
    assert without.xz is None
    monkeypatch.setattr(baselines, "compute_baselines", lambda *_, **__: pytest.fail("twice"))
    whole = measure_baselines(other, "test", counted_on=other)
    assert whole.xz is not None
    assert whole.bigram == without.bigram
    monkeypatch.setattr(baselines, "xz_bits", lambda *_: pytest.fail("twice"))
    assert measure_baselines(other, "test", counted_on=other) == whole
    assert measure_baselines(other, "test", counted_on=other, xz=False) == without


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"uniform": 1}', '{"letters": 1}'])
def test_a_damaged_file_of_baselines_is_measured_again(other: Corpus, damage: str) -> None:
    whole = measure_baselines(other, "test", counted_on=other, xz=False)
    (file,) = other.folder.glob("baselines-test-*.json")
    file.write_text(damage, encoding="utf-8")
    assert measure_baselines(other, "test", counted_on=other, xz=False) == whole
    assert json.loads(file.read_text(encoding="utf-8")) == whole.as_dict()


def test_baselines_are_counted_on_the_training_text_they_are_told(
    news: Corpus, other: Corpus
) -> None:
    """The news never saw these sentences, so its counts need more bits for them than their own."""
    own = measure_baselines(other, "test", counted_on=other, xz=False)
    news_counts = measure_baselines(other, "test", counted_on=news, xz=False)
    assert news_counts.kneser_ney_5 > own.kneser_ney_5 + 1
    assert news_counts.uniform > own.uniform, "the larger alphabet is the news's"
    assert len(list(other.folder.glob("baselines-test-*.json"))) == 2, "each is kept by itself"


def test_no_more_than_so_many_tokens_are_counted(
    other: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure_baselines(other, "test", counted_on=other, xz=False)
    (file,) = other.folder.glob("baselines-test-*.json")
    file.unlink()
    monkeypatch.setattr(baselines, "COUNTED_TOKENS", 100)
    part = measure_baselines(other, "test", counted_on=other, xz=False)
    assert part.kneser_ney_5 > whole.kneser_ney_5


def test_baselines_show_their_names_the_largest_first() -> None:
    found = Baselines(uniform=10.5, unigram=7.0, bigram=4.5, kneser_ney_5=2.5)
    assert [name for name, _ in found.named()] == [
        "uniform",
        "unigram (character frequencies)",
        "bigram (character pairs)",
        "5-gram (Kneser-Ney)",
    ]
    assert set(BASELINE_NAMES) == set(found.as_dict())
    assert repr(found).startswith("<Baselines in bits per character: uniform 10.500, unigram")
    assert found._repr_html_().count("<tr>") == 4


def test_scoring_a_long_text_holds_no_more_than_a_short_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In chunks: the same bits, and memory that does not grow with the text."""
    long = np.resize(TEST, 1_000_000)
    whole = [score(TRAIN, long[:9001], VOCAB_SIZE) for score in (unigram_bits, bigram_bits)]
    for size in (1000, 4500, 9000, 9001):
        monkeypatch.setattr(baselines, "CHUNK", size)
        found = [score(TRAIN, long[:9001], VOCAB_SIZE) for score in (unigram_bits, bigram_bits)]
        assert found == pytest.approx(whole)
    monkeypatch.undo()
    peaks = []
    for tokens in (200_000, 1_000_000):
        tracemalloc.start()
        compute_baselines(TRAIN, long[:tokens], VOCAB_SIZE, characters=tokens)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1_000_000
