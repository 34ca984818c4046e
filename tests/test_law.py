"""The law of learning: what it says of its own runs, and what is chosen by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from benchmark_scripts import load
from semigpt import auto
from semigpt.config import Recipe
from semigpt.corpus.staging import prepare_corpus
from semigpt.device import MachineSettings
from semigpt.evaluation import counting
from semigpt.evaluation.counting import code_points, describe, learning_curve
from semigpt.law import (
    Learner,
    Text,
    coefficients,
    expected_bits,
    law_error,
    tokens_per_character,
    with_memory,
)
from semigpt.recipe import Finished, Forecasted, train
from semigpt.run_folder import RunFolder
from semigpt.training import speed
from semigpt.training.progress import Progress
from semigpt.training.settings import TrainingSettings
from semigpt.training.speed import Speed, speed_of, step_work

TINY = 852_000  # parameters of its blocks
# Seconds for 10^9 operations: a slow laptop, two AVX2 cores, and two, five and ten times as fast.
MACHINES = (1 / 40, 1 / 130, 1 / 260, 1 / 650, 1 / 1300)
MINUTES = (1.0, 2.0, 5.0, 20.0, 60.0)


@cache
def law_fit() -> ModuleType:
    return load("law_fit")


def texts() -> dict[str, Text]:
    found: dict[str, Text] = law_fit().load_texts()
    return found


def ways(text: Text, minutes: float, per_work: float, **tables: Any) -> list[auto.Candidate]:
    """Every candidate of a run by the clock on a machine of this speed."""
    recipe = Recipe.from_tables({"training": {"minutes": minutes}, **tables})
    left = recipe.open_choices(text.characters)
    return auto.candidates(text, left, reads(recipe, left, minutes, per_work), may_end_early=True)


@pytest.mark.parametrize(("gain", "dropout"), [(0.003, 0.0), (0.1, 0.2)])
def test_of_ways_alike_the_one_with_the_least_dropout_is_taken(
    gain: float, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def expected(text: Text, learner: Learner, tokens: float) -> float:
        return 1.0 - gain * (learner.dropout == 0.2)

    monkeypatch.setattr(auto, "expected_bits", expected)
    assert ways(texts()["news-0"], 2.0, MACHINES[1])[0].dropout == dropout


def reads(
    recipe: Recipe, left: auto.Open, minutes: float, per_work: float
) -> Callable[[auto.Size, int, int], float]:
    machine, models = Speed(0.0, per_work), {s: recipe.of_size(s).model for s in left.shapes}

    def fitting(size: auto.Size, vocab_size: int, batch_size: int) -> float:
        model: Any = replace(models[size], vocab_size=vocab_size)
        steps = 60 * minutes / machine.seconds(model, batch_size)
        return max(steps, 1.0) * batch_size * left.shapes[size].context_length

    return fitting


def learner(**changes: Any) -> Learner:
    plain = Learner(TINY, "char", None, 1.0, 1536, 0.0, 0.0, False)
    return replace(plain, **changes)


def test_the_law_says_what_its_runs_gave() -> None:
    off = law_fit().errors(law_fit().load(), coefficients())
    assert len(off) == 223
    assert np.median(abs(off)) < 0.03
    fitted = law_error(texts()["news-0"])
    assert np.sqrt(np.mean(off**2)) == pytest.approx(fitted, abs=1e-3)


def test_a_text_unlike_any_that_was_fitted_has_a_larger_error() -> None:
    news = texts()["news-0"]
    errors = [law_error(replace(news, entropy=news.entropy + more)) for more in (0.0, 0.1, 2.0)]
    assert errors == sorted(errors)
    assert errors[2] > 1.7 * errors[0]
    deep = replace(news, short_bits=4 * news.short_bits)
    assert law_error(deep) == errors[2]
    for text in texts().values():
        assert law_error(text) < 1.3 * errors[0]


def test_a_larger_model_must_gain_more_on_a_text_that_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def expected(text: Text, way: Learner, tokens: float) -> float:
        return 4.0 - 0.015 * (way.block_parameters > TINY * 2)

    monkeypatch.setattr(auto, "expected_bits", expected)
    known = texts()["reviews-1"]
    unknown = replace(known, entropy=known.entropy + 2)
    assert ways(known, 5.0, MACHINES[2])[0].size == "small"
    assert ways(unknown, 5.0, MACHINES[2])[0].size == "tiny"


def test_tokens_per_character_are_about_what_tokenizers_give() -> None:
    runs = [run for run in law_fit().load() if run.group == "steps"]
    for run in runs:
        way = run.learner
        estimate = tokens_per_character(way.kind, way.vocab_size, run.described)
        assert estimate == pytest.approx(way.per_character, rel=0.25), run.name


def test_what_is_learnt_of_characters_does_not_depend_on_how_many_there_are() -> None:
    text = texts()["reviews-0.3"]
    often = 10 * text.characters
    counted = expected_bits(text, learner(vocab_size=1500), often)
    assert counted == expected_bits(text, learner(), often)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "gpt") for name in ("news-0", "pydoc-0", "sentences-0", "reviews-1")),
        *((name, "memory") for name in ("news-0", "pydoc-0")),
        *(("reviews-22", kind) for kind in ("gpt", "memory")),
    ],
)
def test_more_minutes_and_a_faster_machine_are_never_expected_to_end_worse(
    name: str, kind: str
) -> None:
    text, asked = texts()[name], {"model": {"kind": kind}}
    expected = np.array(
        [
            [ways(text, minutes, per_work, **asked)[0].expected for minutes in MINUTES]
            for per_work in MACHINES
        ]
    )
    assert np.diff(expected, axis=0).max() < 0.02
    assert np.diff(expected, axis=1).max() < 0.02
    assert expected[0, 0] > expected[-1, -1] + 0.05


def test_fresh_text_is_worth_more_than_the_same_text_again() -> None:
    short, long = (replace(texts()["reviews-22"], characters=n) for n in (300_000, 22_000_000))
    for tokens in (1_000_000, 3_000_000):
        assert expected_bits(short, learner(), tokens) > expected_bits(long, learner(), tokens)
    often = 20 * short.characters
    assert expected_bits(short, learner(), often) > expected_bits(short, learner(), often / 4)
    dropped = expected_bits(short, learner(dropout=0.2), often)
    assert dropped < expected_bits(short, learner(), often) - 0.1


@pytest.mark.parametrize(
    "curve", [((500, 5.0),), ((500, 5.0), (1000, 5.1)), ((1000, 4.0), (2000, 3.0), (4000, 1.9))]
)
def test_a_text_that_nobody_fitted_has_an_expectation(
    curve: tuple[tuple[int, float], ...],
) -> None:
    """Too short to be measured, harder the more of it is counted, or hardly random at all."""
    text = Text(curve[-1][0], curve, short_bits=curve[-1][1] + 0.1, entropy=5.0, distinct=60)
    for tokens in (1, 1000, 10**6, 10**9):
        for way in (learner(), learner(taught=True), learner(kind="unigram", vocab_size=2000)):
            assert 0 < expected_bits(text, way, tokens) < 200
    assert 0 < tokens_per_character("unigram", 8000, text) < 0.5


def test_what_is_asked_for_is_not_chosen() -> None:
    text = texts()["reviews-1"]
    asked = {
        "model": {"size": "small", "dropout": 0.05},
        "tokenizer": {"kind": "char"},
        "optimizer": {"weight_decay": 0.3},
    }
    for way in ways(text, 5.0, MACHINES[1], **asked):
        assert (way.size, way.tokenizer, way.dropout, way.weight_decay) == (
            "small",
            "char",
            0.05,
            0.3,
        )
    given = ways(text, 5.0, MACHINES[1], tokenizer={"vocab_size": 3000})
    assert {(way.tokenizer, way.vocab_size) for way in given} == {
        ("char", 3000),
        ("char_bpe", 3000),
    }
    unigram = ways(text, 5.0, MACHINES[1], tokenizer={"kind": "unigram"})
    assert {way.vocab_size for way in unigram} == set(auto.VOCABULARIES)
    merged = ways(text, 5.0, MACHINES[1], tokenizer={"kind": "char_bpe"})
    assert {way.tokenizer for way in merged} == {"char_bpe"}
    assert [(way.vocab_size, way.expected) for way in merged] == [
        (way.vocab_size, way.expected) for way in unigram
    ]
    rare = ways(text, 5.0, MACHINES[1], tokenizer={"min_count": 2})
    assert {way.tokenizer for way in rare} == {"char", "char_bpe"}
    shaped = ways(text, 20.0, MACHINES[4], model={"width": 64})
    assert {way.size for way in shaped} == {"tiny"}
    memory = ways(text, 5.0, MACHINES[1], model={"kind": "memory"})
    assert {(way.tokenizer, way.taught) for way in memory} == {("char", False), ("char_bpe", False)}
    assert not Recipe.from_tables({"model": {"kind": "bigram"}}).left_open


def test_a_memory_gains_most_where_its_net_and_its_counts_are_as_good() -> None:
    by, reviews = coefficients(), texts()["reviews-22"]
    (size, counts), *_ = reviews.curve
    both = [
        with_memory(counts + more - by["memory_net"], reviews, np.log2(size), by)
        for more in (-9.0, -0.5, 0.0, 0.5, 9.0)
    ]
    assert both == sorted(both)
    assert both[2] == pytest.approx(counts - by["memory_gain"])
    assert (both[0], both[4]) == pytest.approx((counts - 9.0, counts), abs=1e-3)
    with_counts, without = (
        [expected_bits(reviews, learner(memory=memory), tokens) for tokens in (1e5, 4e6, 5e7)]
        for memory in (True, False)
    )
    assert with_counts == sorted(with_counts, reverse=True)
    gains = [alone - bits for alone, bits in zip(without, with_counts, strict=True)]
    assert gains == sorted(gains, reverse=True), "less the better the net is"
    assert gains[-1] > 0


def test_a_memory_reads_tokens_where_they_were_better() -> None:
    """As a short text of sentences is, and a long or deep one is not."""
    memory = {"model": {"kind": "memory"}}
    for name, minutes, kind in (
        ("sentences-0", 1.0, "char"),
        ("news-0", 2.0, "char_bpe"),
        ("handbook-0", 2.0, "char_bpe"),
        ("stdlib-1", 2.0, "char_bpe"),
        ("reviews-22", 5.0, "char_bpe"),
    ):
        assert ways(texts()[name], minutes, MACHINES[1], **memory)[0].tokenizer == kind, name


def test_a_size_is_no_candidate_for_fewer_tokens_than_it_was_measured_with() -> None:
    long = texts()["reviews-22"]
    slow, fast = ways(long, 1.0, MACHINES[0]), ways(long, 60.0, MACHINES[4])
    assert {way.size for way in slow} == {"tiny"}
    assert {way.size for way in fast} == {"tiny", "small", "base"}
    asked = ways(long, 1.0, MACHINES[0], model={"size": "base"})
    assert {way.size for way in asked} == {"base"}


def test_a_short_text_has_no_large_vocabulary() -> None:
    assert auto.vocabularies(99_999) == ()
    assert auto.vocabularies(200_000) == (2000, 4000)


def test_the_smallest_of_what_is_expected_to_end_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    def expected(text: Text, way: Learner, tokens: float) -> float:
        return 4.0 - 0.008 * (way.block_parameters > TINY * 2) - 0.004 * way.taught

    monkeypatch.setattr(auto, "expected_bits", expected)
    best, second, *_ = ways(texts()["reviews-1"], 5.0, MACHINES[2])
    assert (best.size, best.taught) == ("tiny", True)
    assert second.size == "small"


def test_a_run_ends_where_more_readings_only_hurt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "DROPOUTS", (0.0,))
    best = ways(replace(texts()["reviews-1"], characters=100_000), 60.0, MACHINES[4])[0]
    assert best.early
    assert best.tokens < 3_000_000
    capped = TrainingSettings(minutes=1.0, most_tokens=1000)
    assert Progress(tokens_seen=250, seconds=6.0).fraction(capped) == 0.25
    assert Progress(tokens_seen=250, seconds=30.0).fraction(capped) == 0.5
    chosen = Recipe.from_tables({"training": {"minutes": 60.0}}).with_choice(best)
    assert chosen.training.most_tokens == best.tokens
    asked = Recipe.from_tables({"training": {"minutes": 60.0}})
    assert asked.resumed_from(chosen, tmp_path).training == chosen.training


# What is measured of a text


def test_counting_more_of_a_text_knows_it_better(korean_text: str) -> None:
    draw = np.random.default_rng(0)
    words = ["가나다 ", "라마바사 ", "아자차카타 ", "파하 "]
    text = "".join(words[i] for i in draw.integers(0, 4, 6000))
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    curve, short = learning_curve(points[:-4000], points[-4000:])
    sizes, bits = zip(*curve, strict=True)
    assert sizes == tuple(sorted(sizes))
    assert sizes[-1] == len(points) - 4000
    assert bits[0] > bits[-1]
    assert short > bits[-1] - 0.01
    half = learning_curve(points[:-4000], np.concatenate([points[-4000:]] * 40))[0]
    assert [part for part, _ in half] == list(sizes), "a long held-out text is scored in part"
    assert np.allclose([bits for _, bits in half], bits, rtol=0.05)
    unseen = np.frombuffer("ABC".encode("utf-32-le"), np.uint32)
    (_, alone), *_ = learning_curve(points[:500], unseen)[0]
    assert alone > 3, "characters that were never seen cost bits"


def test_a_text_is_described_once(
    tmp_path: Path, korean_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "글.txt"
    documents = (f"{number}번 글. {korean_text}" for number in range(80))
    file.write_text("\n\n".join(documents), encoding="utf-8")
    corpus = prepare_corpus(str(file))
    text = describe(corpus)
    assert text.characters == corpus.characters("train")
    assert text.distinct == len(corpus.character_counts)
    assert 0 < text.curve[-1][1] < text.entropy
    monkeypatch.setattr(counting, "learning_curve", lambda *parts: pytest.fail("measured again"))
    assert describe(corpus) == text
    whole = corpus.text("train")
    some = code_points(corpus, "train", len(whole) // 3).tobytes().decode("utf-32-le")
    assert 0.8 * len(whole) / 3 < len(some) < 1.2 * len(whole) / 3
    assert set(some) <= set(whole)
    assert code_points(corpus, "train", 10**9).tobytes().decode("utf-32-le") == whole


# The speed of a machine


def test_a_step_takes_what_two_measured_steps_say() -> None:
    line = speed_of([(10.0, 0.3), (30.0, 0.7)])
    assert (line.per_step, line.per_work) == pytest.approx((0.1, 0.02))
    assert speed_of([(10.0, 0.1), (30.0, 0.9)]) == Speed(0.0, 0.9 / 30), "none below zero"
    flat = speed_of([(10.0, 0.4), (30.0, 0.3)])
    assert (flat.per_step, flat.per_work) == pytest.approx((0.2, 0.1 / 30)), "a disturbed one"
    model: Any = replace(Recipe.from_tables({}).model, vocab_size=4000)
    once, twice = step_work(model, 12), step_work(model, 24)
    assert once < twice < 2 * once, "Muon costs as much whatever a step reads"


def test_a_machine_is_measured_once_and_corrected_where_it_was_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEMIGPT_CACHE", str(tmp_path))
    probes = iter([0.2, 0.5])
    monkeypatch.setattr(speed, "probe_seconds", lambda *arguments: next(probes))
    machine = MachineSettings(device="cpu")
    first = speed.measured_speed(machine)
    assert first.per_work > 0
    assert speed.measured_speed(machine) == first
    for measured, kept in ((0.8, 1.0), (2.0, 1.0), (0.4, 0.4)):
        speed.corrected(machine, 1.0, measured)
        assert speed.measured_speed(machine).per_work == pytest.approx(kept * first.per_work)


def test_a_probe_ends_after_some_steps_or_some_time() -> None:
    assert not speed.probed([], 0.0)
    assert not speed.probed([0.1, 0.1], 1.0)
    assert speed.probed([0.1, 0.1, 0.2], 0.4)
    assert not speed.probed([0.1, 0.1, 0.1], 0.3)
    assert speed.probed([2.0], 2.0)


def test_a_probe_takes_real_steps() -> None:
    settings: Any = replace(
        Recipe.from_tables({"model": {"width": 32, "num_layers": 1, "context_length": 16}}).model,
        vocab_size=64,
    )
    device = speed.pick_device("cpu")
    assert 0 < speed.probe_seconds(settings, 2, MachineSettings(), device) < 60


# A run


def test_a_run_says_what_it_expects_and_how_far_off_it_was(
    tmp_path: Path, korean_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clock(machine: MachineSettings) -> Speed:
        raise AssertionError("a run by steps asks no clock")

    monkeypatch.setattr("semigpt.preparation.measured_speed", clock)
    file = tmp_path / "글.txt"
    file.write_text("\n\n".join(f"{n}. {korean_text}" for n in range(60)), encoding="utf-8")
    shape = {"width": 32, "num_layers": 1, "num_heads": 2, "context_length": 16}
    asked = Recipe.from_tables(
        {
            "data": {"spec": str(file)},
            "model": shape,
            "training": {"steps": 4, "batch_size": 4, "eval_blocks": 4},
            "sample": {"max_new_tokens": 4},
        }
    )
    events = list(train(asked, tmp_path / "run"))
    forecast = next(event for event in events if isinstance(event, Forecasted)).forecast
    assert forecast.expected is not None
    assert forecast.expected_error is not None
    assert forecast.later == ()
    kept = RunFolder.open(tmp_path / "run").metadata()
    assert kept["forecast"]["expected"] == forecast.expected
    assert isinstance(events[-1], Finished)
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert f"expected to need {forecast.expected:.2f}" in page
