"""The starter as a candidate of the automatic choice: where it is taken, and where it is not."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark_scripts import load
from semigpt import auto, starter
from semigpt.config import Recipe
from semigpt.corpus.corpus import Corpus
from semigpt.corpus.staging import prepare_corpus
from semigpt.errors import SettingsError
from semigpt.law import Text
from semigpt.preparation import ways_to_train
from semigpt.recipe import Forecasted, train
from semigpt.run_folder import RunFolder
from semigpt.started_law import Known, coefficients, counted_worth, expected_bits
from semigpt.starter import is_korean, known_of
from semigpt.training.speed import Speed

SENTENCES = Known(5.19, 0.68, 8000)  # news sentences
MINUTE = {"training": {"minutes": 1.0}}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semigpt.preparation.measured_speed", lambda machine: Speed(0.0, 1 / 130))


def written(folder: Path, sentences: int, words: list[str]) -> Corpus:
    """A text of sentences drawn at random."""
    draw = random.Random(3)
    folder.mkdir()
    lines = (" ".join(draw.choices(words, k=9)) + "." for _ in range(sentences))
    (folder / "글.txt").write_text("\n".join(lines), "utf-8")
    return prepare_corpus(str(folder / "글.txt"))


@pytest.fixture
def korean(tmp_path: Path) -> Corpus:
    """Twenty thousand characters of many words."""
    endings = ["은", "이", "을", "에서", "으로", "까지", "처럼"]
    stems = "사람 하늘 바다 나라 마음 시간 세상 영화 음악 이야기 노래 나무 아침 저녁 겨울"
    words = [stem + end for stem in stems.split() for end in endings]
    return written(tmp_path / "ko", 550, words)


def chosen(corpus: Corpus, **tables: Any) -> auto.Candidate:
    return ways_to_train(Recipe.from_tables({**MINUTE, **tables}), corpus)[0]


def fit() -> Any:
    return load("started_fit")


def sentences() -> Text:
    found: Text = fit().texts()["sentences-0"][0]
    return found


def test_the_law_of_started_runs_says_what_they_gave() -> None:
    off = fit().errors(fit().load(), coefficients())
    assert len(off) == 22
    assert np.sqrt(np.mean(off**2)) == pytest.approx(coefficients()["error"], abs=5e-4)
    assert abs(off).max() < 0.3


def test_more_tokens_and_more_known_are_expected_to_end_lower() -> None:
    text = sentences()
    for has_counts in (False, True):
        ends = [
            expected_bits(text, SENTENCES, tokens, has_counts=has_counts)
            for tokens in (1, 10**4, 10**5, 10**6, 10**7)
        ]
        assert sorted(ends, reverse=True) == ends
    knows = [replace(SENTENCES, bits=bits) for bits in (12.0, 6.0, 5.0, 4.0, 3.0)]
    ends = [expected_bits(text, known, 10**5, has_counts=False) for known in knows]
    assert sorted(ends, reverse=True) == ends
    with_counts = expected_bits(text, SENTENCES, 10**5, has_counts=True)
    assert with_counts < expected_bits(text, SENTENCES, 10**5, has_counts=False)
    assert expected_bits(text, SENTENCES, 1, has_counts=False) == pytest.approx(5.19, abs=0.05)
    assert counted_worth(text, text.curve[-1][1]) == pytest.approx(np.log2(text.characters))
    assert counted_worth(text, 0.0) == pytest.approx(30), "counting never gets there"


@pytest.fixture
def news(korean: Corpus, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """What was measured of 0.18 million characters of news sentences stands for a shorter text."""
    monkeypatch.setattr("semigpt.preparation.describe", lambda corpus: sentences())
    monkeypatch.setattr(starter, "measured", lambda corpus: SENTENCES)
    return korean


def test_short_korean_text_begins_from_the_starter(news: Corpus) -> None:
    best, *others = ways_to_train(Recipe.from_tables(MINUTE), news)
    assert best.start == "starter"
    assert best.expected < min(way.expected for way in others) - auto.STARTED_GAIN[0]
    assert best.early
    readings = best.tokens / SENTENCES.per_character / sentences().characters
    assert readings == pytest.approx(auto.STARTED_READINGS[0], rel=1e-3)
    run = Recipe.from_tables(MINUTE).with_choice(best)
    forced = Recipe.from_tables({**MINUTE, "start": {"folder": "starter"}})
    assert run == forced.with_choice(ways_to_train(forced, news)[0])
    assert run.optimizer.learning_rate == auto.started_rate(
        Recipe.from_tables(MINUTE).optimizer.learning_rate
    )
    assert chosen(news, model={"kind": "memory"}).start == "starter"


@pytest.mark.parametrize(
    "tables",
    [
        {"start": {"folder": "none"}},
        {"tokenizer": {"kind": "unigram"}},
        {"tokenizer": {"vocab_size": 2000}},
        {"model": {"size": "tiny"}},
        {"model": {"dropout": 0.1}},
        {"model": {"kind": "blocks"}},
    ],
    ids=str,
)
def test_what_is_asked_for_leaves_the_starter_out(tables: dict[str, Any], news: Corpus) -> None:
    asked = Recipe.from_tables({**MINUTE, **tables})
    assert asked.start.folder is None
    assert not asked.may_begin_from_starter
    if asked.kind == "gpt":
        assert chosen(news, **tables).start is None


def test_english_never_begins_from_it(
    tmp_path: Path, korean: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "the king speaks of noble war and love to every lord at night by sea"
    english = written(tmp_path / "en", 400, words.split())
    monkeypatch.setattr(starter, "measured", lambda corpus: pytest.fail("measured"))
    assert is_korean(korean)
    assert not is_korean(english)
    assert all(way.start is None for way in ways_to_train(Recipe.from_tables(MINUTE), english))
    forced = chosen(english, start={"folder": "starter"})
    assert forced.start is None, "it is trained so; the law says nothing of it"


def test_the_bundled_news_never_begin_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter, "measured", lambda corpus: pytest.fail("measured"))
    text = load("law_fit").load_texts()["news-0"]
    monkeypatch.setattr("semigpt.preparation.describe", lambda corpus: text)
    news = prepare_corpus("news#articles=60,seed=2")
    for minutes in (1.0, 2.0, 5.0, 60.0):
        assert chosen(news, training={"minutes": minutes}).start is None


def test_it_is_not_taken_for_a_gain_within_the_error() -> None:
    nothing = auto.Candidate("tiny", "char", None, 12, 0.2, 0.0, True, 10**6, False, 4.0)
    for gain, taken in ((0.5, True), (auto.STARTED_GAIN[0] - 0.01, False), (-0.5, False)):
        begun = replace(nothing, expected=4.0 - gain, start="starter")
        ways = auto.with_started([nothing, replace(nothing, expected=4.2)], begun, has_counts=False)
        assert (ways[0].start == "starter") is taken
        assert [way.expected for way in ways[1:]] == sorted(way.expected for way in ways[1:])
    begun = replace(nothing, expected=4.0 - auto.STARTED_GAIN[1] - 0.01, start="starter")
    assert auto.with_started([nothing], begun, has_counts=True)[0] is begun


def test_what_it_knows_is_measured_once(korean: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    known = known_of(korean)
    assert known is not None
    assert 3 < known.bits < 12
    assert 0.3 < known.per_character < 1
    monkeypatch.setattr(starter, "measured", lambda corpus: pytest.fail("measured again"))
    assert known_of(korean) == known


def test_a_run_says_why_and_keeps_it(news: Corpus, tmp_path: Path) -> None:
    run = tmp_path / "run"
    tables: dict[str, dict[str, Any]] = {
        "data": {"spec": news.spec},
        "training": {"steps": 2, "batch_size": 1, "eval_blocks": 4},
        "machine": {"backend": "plain"},
        "sample": {"max_new_tokens": 0},
    }
    asked = Recipe.from_tables(tables)
    events = train(asked, run)
    forecast = next(event for event in events if isinstance(event, Forecasted)).forecast
    del events  # nothing is trained
    assert forecast.expected is not None
    assert forecast.from_nothing is not None
    assert forecast.from_nothing > forecast.expected + auto.STARTED_GAIN[0]
    kept = RunFolder.open(run).config()
    assert kept["start"]["folder"] == "starter"
    saved = Recipe.from_tables(kept)
    assert asked.resumed_from(saved, run) == saved
    nothing = Recipe.from_tables({**tables, "start": {"folder": "none"}})
    with pytest.raises(SettingsError, match=r"start\.folder was starter, is None"):
        nothing.resumed_from(saved, run)
