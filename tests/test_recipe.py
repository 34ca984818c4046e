"""A whole run, from a text file to a folder that goes on where it was left."""

from __future__ import annotations

import json
import math
import time
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from semigpt import auto
from semigpt.config import Recipe, TokenizerSettings
from semigpt.corpus.staging import prepare_corpus
from semigpt.device import MachineSettings
from semigpt.errors import CheckpointError, CorpusError, SettingsError, TrainingError
from semigpt.evaluation.baselines import measure_baselines
from semigpt.huggingface.folder import save_model
from semigpt.law import Learner
from semigpt.law import Text as LawText
from semigpt.measuring import Text, measure
from semigpt.models import model_class
from semigpt.models.base import LanguageModel
from semigpt.models.gpt import GPT
from semigpt.preparation import prepare_tokenizer
from semigpt.recipe import Event, Forecasted, Prepared, Preparing, Stepped, open_run, train
from semigpt.run_events import BaselinesMeasured, Evaluated, Finished
from semigpt.run_folder import RunFolder
from semigpt.tokenizers import BPETokenizer, train_tokenizer
from semigpt.training.distillation import Teacher
from semigpt.training.forecast import planned
from semigpt.training.output_sample import OutputSampler
from semigpt.training.settings import TrainingSettings
from semigpt.training.step import Step, make_step

QUICK = {
    "gpt": {
        "kind": "gpt",
        "width": 32,
        "num_layers": 2,
        "num_heads": 2,
        "context_length": 16,
        "dropout": 0.1,
    },
    "bigram": {"kind": "bigram", "context_length": 16},
    "blocks": {"kind": "blocks", "context_length": 16, "width": 32, "num_layers": 2},
}


@pytest.fixture
def text_file(tmp_path: Path, korean_text: str) -> Path:
    path = tmp_path / "글.txt"
    path.write_text(
        "\n\n".join(f"{number}번 글. {korean_text}" for number in range(60)), encoding="utf-8"
    )
    return path


def recipe(text_file: Path, rung: str = "gpt", **training: object) -> Recipe:
    return Recipe.from_tables(
        {
            "data": {"spec": str(text_file)},
            "model": QUICK[rung],
            "training": {
                "steps": 30,
                "batch_size": 8,
                "eval_blocks": 8,
                "save_every": 3,
                **training,
            },
            "sample": {"max_new_tokens": 8},
        }
    )


def begin(settings: Recipe, folder: Path, *, resume: bool = False) -> list[Event]:
    """Four steps, the third of which is saved."""
    events: list[Event] = []
    for event in train(settings, folder, resume=resume):
        if not isinstance(event, Preparing):
            events.append(event)
        if sum(isinstance(event, Stepped) for event in events) == 4:
            break
    return events


def prepared_in(events: Iterator[Event]) -> list[Prepared]:
    """Run to the end; what was prepared."""
    return [event for event in events if isinstance(event, Prepared)]


def leave_in_the_middle(settings: Recipe, folder: Path) -> None:
    """A run walked away from at step 17; its last checkpoint is of step 15."""
    for event in train(settings, folder):
        if isinstance(event, Stepped) and event.report.step == 17:
            break


def files_of(run: Path) -> dict[str, bytes]:
    """Every byte that must be the same for the same run: all but what the clock writes."""
    checkpoint = sorted((run / "checkpoints").glob("step-*"))[-1]
    names = [
        "metrics.jsonl",
        "samples.jsonl",
        "model/model.safetensors",
        "model/config.json",
        "model/tokenizer.json",
    ]
    names += [
        str(checkpoint.relative_to(run) / f"{group}.safetensors")
        for group in ("model", "optimizer")
    ]
    return {name: (run / name).read_bytes() for name in names}


def test_a_run_leaves_what_the_design_draws(tmp_path: Path, text_file: Path) -> None:
    every = list(train(recipe(text_file), tmp_path / "run"))
    doing = [event.what for event in every if isinstance(event, Preparing)]
    assert doing[-1] == "counting n-grams, compiling, timing a few steps"
    assert "learning a tokenizer" in doing
    events = [event for event in every if not isinstance(event, Preparing)]
    assert isinstance(events[0], Prepared)
    assert isinstance(events[-1], Finished)
    assert events[-1].complete
    assert sum(isinstance(event, Stepped) for event in events) == 30
    evaluations = [event for event in events if isinstance(event, Evaluated)]
    assert evaluations[0].step == 0
    assert evaluations[0].estimate.loss == pytest.approx(
        math.log(events[0].tokenizer.vocab_size), rel=0.05
    )
    assert evaluations[-1].bits_per_character < evaluations[0].bits_per_character - 1
    run = tmp_path / "run"
    made = {
        str(path.relative_to(run))
        for path in run.rglob("*")
        if path.is_file() and "checkpoints" not in path.parts
    }
    assert made == {
        "config.toml",
        "metrics.jsonl",
        "timings.jsonl",
        "samples.jsonl",
        "metadata.json",
        "report.html",
        "model.html",
        ".lock",
        "model/config.json",
        "model/generation_config.json",
        "model/model.safetensors",
        "model/README.md",
        "model/tokenizer.json",
        "model/tokenizer_config.json",
    }
    assert len(list((run / "checkpoints").iterdir())) == 2, "the two newest stay"
    best = min(event.bits_per_character for event in evaluations)
    shown = f"finished, 30 steps, {best:.3f} bits per character"
    assert shown in repr(RunFolder.open(run))
    assert f"{best:.3f} bits per character" in RunFolder.open(run)._repr_html_()
    rows = RunFolder.open(run).rows("metrics")
    assert [row["step"] for row in rows if "val_loss" in row] == list(range(0, 31, 3))
    assert not any("seconds" in row for row in rows), "metrics hold nothing that the clock decides"


def test_a_text_that_is_read_many_times_is_read_with_dropout(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chosen when the run begins, kept in its config, and no obstacle to resuming with the same
    command.
    """
    monkeypatch.setattr(auto, "expected_bits", lambda text, way, tokens: 4 - way.dropout)

    def asked(**changes: object) -> Recipe:
        tables = recipe(text_file, steps=4000).tables()
        tables["model"] = {
            key: value for key, value in QUICK["gpt"].items() if key != "dropout"
        } | changes
        return Recipe.from_tables(tables)

    told = {}
    for name, settings in {
        "many": asked(),
        "none": asked(dropout=0.0),
        "given": asked(dropout=0.05),
    }.items():
        forecast = next(e for e in begin(settings, tmp_path / name) if isinstance(e, Forecasted))
        assert forecast.forecast.epochs > 30
        kept = RunFolder.open(tmp_path / name).config()["model"].get("dropout", 0.0)
        assert kept == forecast.dropout
        told[name] = kept
    assert told == {"many": 0.2, "none": 0.0, "given": 0.05}
    for resume in (False, True):
        events = begin(asked(), tmp_path / "many", resume=resume)
        assert isinstance(events[0], Prepared)
        assert events[0].resumed_at
        assert events[0].model.settings.dropout == told["many"]
    with pytest.raises(SettingsError, match=r"model\.dropout was 0\.2, is 0\.0"):
        begin(asked(dropout=0.0), tmp_path / "many")


def test_a_short_run_is_looked_at_less_often(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where looking would take its time; how often is kept for going on."""
    minute = TrainingSettings(minutes=1.0)
    assert [auto.evaluations(1.0, seconds) for seconds in (0.0, 0.3, 0.65, 1.0, 40.0)] == [
        10,
        10,
        4,
        3,
        2,
    ]
    assert auto.evaluations(None, 40.0) == 10, "the clock has no say in a run of so many steps"
    assert [planned(minute, 16, 0.01, seconds)[0] for seconds in (0.3, 1.0)] == [5700, 5700]
    corpus = prepare_corpus(str(text_file))
    measure_baselines(corpus, "validation", counted_on=corpus, xz=False)  # or the clock pays for it
    # Half of it is longer than a busy machine keeps a process waiting.
    asked = recipe(text_file, steps=None, minutes=0.08, save_every=20)
    monkeypatch.setattr(auto, "EVALUATION_FRACTION", 1e-9)
    leave_in_the_middle(asked, tmp_path / "run")
    monkeypatch.undo()
    list(train(asked, tmp_path / "run"))
    run = RunFolder.open(tmp_path / "run")
    rows = [row["step"] for row in run.rows("metrics") if "val_loss" in row]
    assert len(rows) == 3
    assert rows[0] == 0
    assert run.metadata()["forecast"]["evaluations"] == 2


def test_a_clock_that_ends_between_two_steps_ends_in_an_evaluation_and_a_checkpoint(
    tmp_path: Path, text_file: Path
) -> None:
    asked = recipe(text_file, steps=None, minutes=0.02)
    for event in train(asked, tmp_path / "run"):
        if isinstance(event, Stepped) and event.report.fraction < 1:
            time.sleep(1.3)  # as an evaluation does on a busy machine
    assert isinstance(event, Finished)
    run = RunFolder.open(tmp_path / "run")
    newest, rows = run.newest(), [row for row in run.rows("metrics") if "val_loss" in row]
    assert newest is not None
    assert newest.metadata["progress"]["step"] == rows[-1]["step"] == event.step == 1
    assert newest.metadata["complete"]


def test_baselines_of_a_new_text_are_measured_beside_the_training(
    tmp_path: Path, text_file: Path
) -> None:
    """Before the first evaluation that they are compared with; a second run begins with them."""
    events = list(train(recipe(text_file), tmp_path / "first"))
    kinds = [type(e) for e in events if isinstance(e, Evaluated | BaselinesMeasured)]
    assert kinds[:3] == [Evaluated, BaselinesMeasured, Evaluated]
    assert kinds.count(BaselinesMeasured) == 1
    assert next(e for e in events if isinstance(e, Prepared)).baselines is None
    again = list(train(recipe(text_file), tmp_path / "second"))
    assert not any(isinstance(event, BaselinesMeasured) for event in again)
    measured = next(e for e in again if isinstance(e, Prepared)).baselines
    assert measured is not None
    for name, run in (("first", events), ("second", again)):
        assert isinstance(run[-1], Finished)
        assert run[-1].baselines == measured
        folder = RunFolder.open(tmp_path / name)
        assert folder.metadata()["baselines"] == measured.as_dict()
        card = (folder.model_folder / "README.md").read_text("utf-8")
        assert f"{measured.kneser_ney_5:.3f} by a 5-gram" in card


def test_weights_decay_where_a_text_is_read_again(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chosen when the run begins, kept in its config, and no obstacle to resuming with the same
    command.
    """

    def expected(text: LawText, way: Learner, tokens: float) -> float:
        return 4 - way.weight_decay * (1 if tokens > text.characters else -1)

    monkeypatch.setattr(auto, "expected_bits", expected)

    def begun(
        folder: str, steps: int, *, resume: bool = False, **optimizer: object
    ) -> tuple[float, Prepared]:
        tables = recipe(text_file, steps=steps).tables() | {"optimizer": optimizer}
        prepared = begin(Recipe.from_tables(tables), tmp_path / folder, resume=resume)[0]
        assert isinstance(prepared, Prepared)
        return RunFolder.open(tmp_path / folder).config()["optimizer"]["weight_decay"], prepared

    again, often = begun("often", 4000)
    given, _ = begun("given", 4000, weight_decay=0.3)
    assert (again, given) == (0.1, 0.3)
    as_given = begun("the same given", 4000, weight_decay=again)[1].model.state_dict()
    without = begun("without", 4000, weight_decay=0.0)[1].model.state_dict()
    weights = often.model.state_dict()
    assert all(torch.equal(weights[name], as_given[name]) for name in weights), (
        "what stands there is what is done"
    )
    assert not all(torch.equal(weights[name], without[name]) for name in weights)
    for resume in (False, True):
        kept, prepared = begun("often", 4000, resume=resume)
        assert kept == again
        assert prepared.resumed_at
    with pytest.raises(SettingsError, match=r"optimizer\.weight_decay was 0\.1, is 0\.0"):
        begun("often", 4000, weight_decay=0.0)
    assert begun("once", 4)[0] == 0.0
    assert not recipe(text_file, "blocks").left_open, "not measured for the book's rungs"


def test_a_long_text_is_cut_into_longer_tokens(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chosen when the run begins, kept in its config, and no obstacle to resuming with the same
    command.
    """

    def begun(
        folder: str, *, rung: str = "gpt", resume: bool = False, **tokenizer: object
    ) -> Prepared:
        tables = recipe(text_file, rung).tables() | {"tokenizer": tokenizer}
        prepared = begin(Recipe.from_tables(tables), tmp_path / folder, resume=resume)[0]
        assert isinstance(prepared, Prepared)
        assert (
            RunFolder.open(tmp_path / folder).config()["tokenizer"]["kind"]
            == prepared.tokenizer.kind
        )
        return prepared

    assert begun("short").tokenizer.kind == "char"
    monkeypatch.setattr(auto, "VOCABULARIES", (400,))
    monkeypatch.setattr(auto, "VOCABULARY_CHARACTERS", 1)
    # Long tokens are expected to learn most.
    monkeypatch.setattr(auto, "expected_bits", lambda text, way, tokens: 5.0 - (way.kind != "char"))
    assert begun("short").tokenizer.kind == "char", "the run goes on as it began"
    assert begun("long").tokenizer.kind == "char_bpe"
    assert RunFolder.open(tmp_path / "long").config()["tokenizer"]["vocab_size"] == 400
    assert begun("rare", min_count=2).tokenizer.kind == "char_bpe"
    assert begun("given", kind="char").tokenizer.kind == "char"
    assert begun("table", rung="bigram").tokenizer.kind == "char", (
        "the book's rungs read characters"
    )
    monkeypatch.setattr(auto, "VOCABULARIES", ())
    for resume in (False, True):
        prepared = begun("long", resume=resume)
        assert prepared.resumed_at
        assert prepared.tokenizer.kind == "char_bpe"
    with pytest.raises(SettingsError, match=r"tokenizer\.kind was char_bpe, is char"):
        begun("long", kind="char")


def test_tokens_are_learnt_from_a_part_of_a_long_text(
    text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = prepare_corpus(str(text_file))
    documents = list(corpus.documents("train"))
    monkeypatch.setattr(auto, "TOKENIZER_CHARACTERS", -(-corpus.characters("train") // 3))
    part = prepare_tokenizer(TokenizerSettings(kind="bpe", vocab_size=400), corpus)
    learnt = BPETokenizer.train(documents[::3], vocab_size=400, normalization="NFC")
    assert part.fingerprint == learnt.fingerprint
    pieces = prepare_tokenizer(TokenizerSettings(kind="unigram", vocab_size=400), corpus)
    assert (
        pieces.fingerprint
        == train_tokenizer(
            "unigram", documents[::3], vocab_size=400, normalization="NFC"
        ).fingerprint
    )
    frequent = prepare_tokenizer(TokenizerSettings(kind="bpe", vocab_size=400, min_count=2), corpus)
    learnt = BPETokenizer.train(documents, vocab_size=400, min_count=2, normalization="NFC")
    assert frequent.fingerprint == learnt.fingerprint != part.fingerprint


@pytest.mark.parametrize("works", [True, False])
def test_a_run_by_the_clock_is_compiled_where_that_pays(
    works: bool,
    tmp_path: Path,
    text_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is kept, and without the compilers that it takes a run goes on after one line."""
    compiled = []

    def make(
        model: LanguageModel,
        machine: MachineSettings,
        teacher: Teacher | None,
        *,
        sampler: OutputSampler | None,
    ) -> Step:
        assert sampler is None
        if machine.compile:
            if not works:
                raise RuntimeError("no Triton\nlook here:\n…")
            compiled.append(model)
        return make_step(model, replace(machine, compile=False), teacher)

    monkeypatch.setattr("semigpt.recipe.make_step", make)
    monkeypatch.setattr("semigpt.preparation.make_step", make)
    assert auto.compiles("cuda", 60)
    assert not auto.compiles("cuda", 59)
    assert not auto.compiles("cpu", 60)
    assert "compile" not in model_class("memory").auto
    monkeypatch.setattr(auto, "compiles", lambda device, seconds: True)
    timed, by_steps = recipe(text_file, steps=None, minutes=1), recipe(text_file)
    for settings, name in ((timed, "clock"), (by_steps, "steps")):
        begin(settings, tmp_path / name)
        chosen = works and name == "clock"
        assert RunFolder.open(tmp_path / name).config()["machine"]["compile"] is chosen
    assert len(compiled) == 2 * works, "the rehearsal and the run"
    assert [record.getMessage() for record in caplog.records] == (
        [] if works else ["training without torch.compile: no Triton"]
    )
    begin(timed, tmp_path / "clock", resume=True)
    assert len(compiled) == 3 * works


def test_the_size_is_the_machines_and_a_run_keeps_its_own(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second measurement, or a newer dial, is no obstacle to resuming with the same command."""

    def asked(**model: object) -> Recipe:
        tables = recipe(text_file, steps=None, minutes=5).tables()
        tables["optimizer"] = {}
        return Recipe.from_tables(tables | {"model": model})

    shapes = {
        size: GPT.defaults(size)["model"] | {"width": 32, "num_layers": 1, "num_heads": 2}
        for size in auto.SIZES
    }
    shapes["small"] |= {"width": 64}
    rates = {"learning_rate": 6e-3}

    def defaults(cls: type[GPT], size: auto.Size) -> dict[str, dict[str, object]]:
        return {"model": shapes[size], "optimizer": dict(rates)}

    monkeypatch.setattr(GPT, "defaults", classmethod(defaults))
    monkeypatch.setattr(auto, "SMALLEST_TEXT", {"tiny": 0, "small": 0})
    # The law prefers one size, and then another.
    for name, preferred in (("run", "tiny"), ("other", "small")):
        parameters = {size: 32 if size == preferred else 64 for size in auto.SIZES}
        counted = {
            Recipe.from_tables({"model": {"size": size}}).model.parameter_count: bits
            for size, bits in parameters.items()
        }
        monkeypatch.setattr(
            auto, "expected_bits", lambda text, way, tokens, c=counted: c[way.block_parameters]
        )
        begin(asked(), tmp_path / name)
        kept = RunFolder.open(tmp_path / name).config()["model"]
        assert kept["size"] == preferred
        assert kept["width"] == shapes[preferred]["width"]
    rates["learning_rate"] = 1e-2
    fast = asked()
    for resume in (False, True):
        first = begin(fast, tmp_path / "run", resume=resume)[0]
        assert isinstance(first, Prepared)
        assert first.resumed_at
        kept = RunFolder.open(tmp_path / "run").config()
        assert (kept["model"]["size"], kept["model"]["width"]) == ("tiny", 32)
        assert kept["optimizer"]["learning_rate"] == 6e-3
    for other, says in (
        ({"size": "small"}, "size was tiny, is small"),
        ({"width": 64}, "width was 32, is 64"),
    ):
        with pytest.raises(SettingsError, match=f"other settings: model.{says};"):
            begin(asked(**other), tmp_path / "run")


def test_its_config_reproduces_a_run(tmp_path: Path, text_file: Path) -> None:
    """P17: the same command and seed give the same weights and the same text, twice."""
    list(train(recipe(text_file), tmp_path / "one"))
    tables = tomllib.loads((tmp_path / "one" / "config.toml").read_text(encoding="utf-8"))
    list(train(Recipe.from_tables(tables), tmp_path / "two"))
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


@pytest.mark.parametrize("rung", ["gpt", "bigram"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_run_left_in_the_middle_goes_on_to_the_same_bits(
    tmp_path: Path, text_file: Path, rung: str, accumulation: int
) -> None:
    """P1, by walking away between two steps: whatever was written after the last checkpoint is done
    again.
    """
    settings = recipe(text_file, rung, gradient_accumulation=accumulation)
    list(train(settings, tmp_path / "whole"))
    leave_in_the_middle(settings, tmp_path / "left")
    (prepared,) = prepared_in(train(settings, tmp_path / "left", resume=True))
    assert prepared.resumed_at == 15, "the last checkpoint before step 17"
    assert files_of(tmp_path / "left") == files_of(tmp_path / "whole")


def test_stopping_saves_at_once_and_goes_on_to_the_same_bits(
    tmp_path: Path, text_file: Path
) -> None:
    settings = recipe(text_file)
    list(train(settings, tmp_path / "whole"))
    seen: list[Event] = []

    def stop() -> bool:
        return isinstance(seen[-1], Stepped) and seen[-1].report.step == 11 if seen else False

    for event in train(settings, tmp_path / "stopped", stop=stop):
        seen.append(event)
    last = seen[-1]
    assert isinstance(last, Finished)
    assert (last.complete, last.step) == (False, 11)
    list(train(settings, tmp_path / "stopped", resume=True))
    assert files_of(tmp_path / "stopped") == files_of(tmp_path / "whole")


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path: Path, text_file: Path) -> None:
    list(train(recipe(text_file), tmp_path / "whole"))
    leave_in_the_middle(recipe(text_file), tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / "step-00000015" / "optimizer.safetensors"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert "optimizer.safetensors is not what was saved" in next(
        RunFolder.open(tmp_path / "run").damaged()
    )
    (prepared,) = prepared_in(train(recipe(text_file), tmp_path / "run", resume=True))
    assert prepared.resumed_at == 12
    assert files_of(tmp_path / "run") == files_of(tmp_path / "whole")


def test_with_no_whole_checkpoint_left_nothing_is_guessed(tmp_path: Path, text_file: Path) -> None:
    leave_in_the_middle(recipe(text_file), tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").glob("*/model.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        CheckpointError,
        match=r"model\.safetensors is not what was saved.*no whole checkpoint is left",
    ):
        list(train(recipe(text_file), tmp_path / "run", resume=True))


def test_going_on_with_another_text_is_refused(tmp_path: Path, text_file: Path) -> None:
    """P7: the spec is the same but the file has changed."""
    leave_in_the_middle(recipe(text_file), tmp_path / "run")
    text_file.write_text(
        text_file.read_text(encoding="utf-8") + "\n\n새로운 글이 하나 더.", encoding="utf-8"
    )
    with pytest.raises(CheckpointError, match="another corpus: its fingerprint was .*, is "):
        list(train(recipe(text_file), tmp_path / "run", resume=True))


def test_going_on_with_another_shape_is_refused(tmp_path: Path, text_file: Path) -> None:
    leave_in_the_middle(recipe(text_file), tmp_path / "run")
    other = Recipe.from_tables(
        {**recipe(text_file).tables(), "model": {**QUICK["gpt"], "num_layers": 3}}
    )
    with pytest.raises(SettingsError, match=r"model\.num_layers was 2, is 3"):
        list(train(other, tmp_path / "run", resume=True))


def test_a_folder_that_exists_is_not_written_to(tmp_path: Path, text_file: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("x")
    with pytest.raises(CheckpointError, match="taken exists already"):
        list(train(recipe(text_file), tmp_path / "taken"))
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["mine.txt"]


def test_a_text_shorter_than_a_block_leaves_nothing_behind(tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("가나다라마바사아자차카타파하", encoding="utf-8")
    with pytest.raises(CorpusError, match="too short|empty|shorter"):
        list(train(recipe(short), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_best_weights_are_the_ones_in_the_model_folder(tmp_path: Path, text_file: Path) -> None:
    events = list(train(recipe(text_file), tmp_path / "run"))
    best = min((e for e in events if isinstance(e, Evaluated)), key=lambda e: e.estimate.loss)
    assert isinstance(events[-1], Finished)
    assert events[-1].best.step == best.step
    _, model, tokenizer = open_run(tmp_path / "run")
    assert model.settings.vocab_size == tokenizer.vocab_size
    assert f"{best.bits_per_character:.3f}" in (tmp_path / "run" / "model" / "README.md").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"modle": {}}, r"unknown table \[modle\].*did you mean 'model'"),
        ({"training": {"stepz": 3}}, r"unknown key 'stepz' in \[training\].*did you mean 'steps'"),
        ({"model": {"kind": "gtp"}}, "model must be one of"),
        ({"model": {"rung": "gpt"}}, r"\[model\] rung in the settings is called kind now"),
        ({"machine": {"step": "plain"}}, r"\[machine\] step in the settings is called backend now"),
        ({"model": {"vocab_size": 9}}, r"vocab_size in the settings is the tokenizer's"),
        ({"model": {"width": 10}}, "width 10 cannot be shared by 4 heads"),
        ({"training": {"steps": "many"}}, "steps in .* must be a whole number, not 'many'"),
        ({"sample": {"temperature": -1.0}}, "temperature must be 0 or more"),
        (
            {"tokenizer": {"kind": "unigram", "min_count": 2}},
            r"tokenizer\.min_count means nothing to unigram",
        ),
        ({"machine": {"device": "tpu"}}, "must be one of auto, cpu, cuda, mps"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    tables: dict[str, dict[str, object]], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        Recipe.from_tables(tables)


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(
    tmp_path: Path, text_file: Path
) -> None:
    """P8, with weights poisoned in the middle of a run."""
    import torch

    events = train(recipe(text_file), tmp_path / "run")
    prepared = next(event for event in events if isinstance(event, Prepared))
    with pytest.raises(TrainingError, match="at step 18"):
        for event in events:
            if isinstance(event, Stepped) and event.report.step == 17:
                with torch.no_grad():
                    next(prepared.model.parameters()).fill_(math.nan)
    run = RunFolder.open(tmp_path / "run")
    newest = run.newest()
    assert newest is not None
    assert newest.metadata["step"] == 15
    assert all(math.isfinite(row.get("loss", 0.0)) for row in run.rows("metrics"))
    assert json.dumps(run.rows("metrics"), allow_nan=False)


def test_saving_takes_its_fraction_of_the_time_and_a_last_save(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow the disk and however often the model improves; the best weights are not lost."""
    monkeypatch.setattr(
        "semigpt.huggingface.snapshot.save_model",
        lambda *given, **how: (time.sleep(0.1), save_model(*given, **how)),
    )
    asked = recipe(text_file, steps=60, eval_every=2, save_every=None)
    events = list(train(asked, tmp_path / "run"))
    last = events[-1]
    assert isinstance(last, Finished)
    evaluations = [event for event in events if isinstance(event, Evaluated)]
    assert sum(event.best for event in evaluations) > 10, "or there is nothing to save"
    assert last.saving_fraction <= auto.SAVING_FRACTION + 0.1 / last.seconds
    assert last.last_save_seconds > 0.1
    _, model, _ = open_run(tmp_path / "run")
    prepared = next(event for event in events if isinstance(event, Prepared))
    measured = measure(
        model,
        Text(prepared.corpus, prepared.tokenizer, prepared.dataset),
        asked.training,
        asked.sample,
    )
    assert measured.estimate.loss == min(event.estimate.loss for event in evaluations)


def test_a_run_killed_before_model_has_its_best_weights_resumes_with_them(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint never goes without the best weights so far."""
    monkeypatch.setattr(auto, "SAVING_FRACTION", 0.0)
    settings = recipe(text_file, eval_every=3)
    list(train(settings, tmp_path / "whole"))
    leave_in_the_middle(settings, tmp_path / "left")
    list(train(settings, tmp_path / "left"))
    assert files_of(tmp_path / "left") == files_of(tmp_path / "whole")
