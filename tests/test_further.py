"""A run that is trained further, and a run that begins from a trained model."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from semigpt.cli import main
from semigpt.config import Recipe
from semigpt.errors import CheckpointError, SettingsError
from semigpt.evaluation.baselines import Baselines
from semigpt.evaluation.evaluate import LossEstimate
from semigpt.huggingface.folder import load_model
from semigpt.next_step import what_next
from semigpt.recipe import Continued, Event, Finished, More, Prepared, Stepped, train
from semigpt.restoring import progress_of
from semigpt.run_events import Evaluated
from semigpt.run_folder import RunFolder
from semigpt.start import STARTER_FOLDER, StartSettings
from semigpt.studies.crash_test import compared_files, small_tables
from semigpt.training.optimizer import OptimizerSettings, learning_rate_scale
from semigpt.training.settings import LegSettings


def recipe(rung: str = "gpt", **training: object) -> Recipe:
    tables = small_tables(rung, steps=12, eval_every=4, save_every=5)
    return Recipe.from_tables({**tables, "training": {**tables["training"], **training}})


def of(run: Path, **tables: object) -> Recipe:
    """What `--resume RUN` asks for."""
    return Recipe.from_tables({**RunFolder.open(run).config(), **tables})


def until(run: Path, step: int, more: More | None = None) -> None:
    """Train to a step and die there, as far as the files can tell."""
    for event in train(of(run), run, resume=True, more=more):
        if isinstance(event, Stepped) and event.report.step == step:
            return


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 steps."""
    path = tmp_path_factory.mktemp("runs") / "run"
    list(train(recipe(), path))
    return path


def copy(run: Path, to: Path) -> Path:
    shutil.copytree(run, to)
    return to


def test_a_killed_continuation_ends_in_the_same_bits(finished: Path, tmp_path: Path) -> None:
    """Killed before its first checkpoint, after one, and begun by the same command twice."""
    whole = copy(finished, tmp_path / "whole")
    events = list(train(of(whole), whole, resume=True, more=More(steps=12)))
    assert isinstance(events[-1], Finished)
    assert (events[-1].step, events[-1].complete) == (24, True)
    for name, kills in {"early": [14], "late": [18], "both": [13, 21]}.items():
        run = copy(finished, tmp_path / name)
        until(run, kills[0], More(steps=12))
        for step in kills[1:]:
            until(run, step)
        list(train(of(run), run, resume=True))
        assert compared_files(run) == compared_files(whole), name
    twice = copy(finished, tmp_path / "twice")
    until(twice, 14, More(steps=12))
    list(train(of(twice), twice, resume=True, more=More(steps=12)))
    assert compared_files(twice) == compared_files(whole)


def test_one_history_and_the_settings_of_each_leg(finished: Path, tmp_path: Path) -> None:
    path = copy(finished, tmp_path / "run")
    run = RunFolder.open(path)
    first = run.config()
    asked = of(path, optimizer={**first["optimizer"], "rewarm": 0.25})
    events: list[Event] = list(train(asked, path, resume=True, more=More(steps=8)))
    begun = next(event for event in events if isinstance(event, Continued))
    assert (begun.leg.number, begun.leg.step, begun.top) == (2, 12, 0.25)
    list(train(of(path), path, resume=True, more=More(tokens=4 * 8 * 16)))
    legs = sorted(file.name for file in run.legs_folder.iterdir())
    assert legs == ["1.toml", "2.toml"]
    config = run.config()
    assert config["leg"]["number"] == 3
    assert "steps" not in config["training"]
    assert config["training"]["tokens"] == 24 * 8 * first["model"]["context_length"]
    rows = run.rows("metrics")
    steps = [row["step"] for row in rows]
    assert steps == sorted(steps)
    assert steps[-1] == 24
    rates = {row["step"]: row["learning_rate"] for row in rows if "learning_rate" in row}
    assert 0 < rates[20] < 0.25 * config["optimizer"]["learning_rate"] + 1e-9
    best = min(row["val_loss"] for row in rows if "val_loss" in row)
    newest = run.newest()
    assert newest is not None
    assert newest.metadata["best"] == best, "model/ keeps the lowest loss of all legs"
    assert "3 legs" in run.report_file.read_text("utf-8")
    assert run.metadata()["complete"]


def test_a_leg_that_was_killed_as_it_began_is_no_finished_run(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its config is the old one or the new one; the next command begins the leg again."""
    path = copy(finished, tmp_path / "run")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunFolder, "write_config", interrupted)
        list(train(of(path), path, resume=True, more=More(steps=2)))
    assert RunFolder.open(path).metadata()["complete"] is False
    list(train(of(path), path, resume=True, more=More(steps=2)))
    assert RunFolder.open(path).config()["leg"]["number"] == 2


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_rates_climb_again_and_fall(finished: Path) -> None:
    settings = OptimizerSettings(warmup=0.1, decay=0.5, rewarm=0.4)
    ended, running = LegSettings(number=2, rate=0.0), LegSettings(number=2, rate=1.0)

    def scale(fraction: float, leg: LegSettings) -> float:
        return learning_rate_scale(fraction, settings, leg)

    assert scale(0.0, ended) == pytest.approx(0.004), "the very first step trains too"
    assert [scale(f, ended) for f in (0.05, 0.1, 0.5, 0.75, 1.0)] == pytest.approx(
        [0.2, 0.4, 0.4, 0.2, 0.0]
    )
    assert [scale(f, running) for f in (0.0, 0.05, 0.5)] == [1.0, 1.0, 1.0], "no rate falls first"
    plain = [learning_rate_scale(f, settings) for f in (0.05, 0.1, 0.75)]
    assert plain == pytest.approx([0.5, 1.0, 0.5])


def test_a_run_without_checkpoints_is_not_trained_further(finished: Path, tmp_path: Path) -> None:
    path = copy(finished, tmp_path / "run")
    shutil.rmtree(path / "checkpoints")
    logs = (path / "metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match="no checkpoint left .* --from"):
        list(train(of(path), path, resume=True, more=More(steps=4)))
    assert (path / "metrics.jsonl").read_bytes() == logs
    with pytest.raises(SettingsError, match=r"begun with other settings: model\.num_layers"):
        changed = of(path, model={**RunFolder.open(path).config()["model"], "num_layers": 3})
        changed.further(of(path), path, *further_arguments(finished))


def further_arguments(run: Path) -> tuple[object, More]:
    newest = RunFolder.open(run).newest()
    assert newest is not None
    return progress_of(newest), More(steps=1)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--resume RUN --minutes +0", r"minutes \+0 is no training further"),
        ("--resume RUN --minutes +inf", r"minutes \+inf is no training further"),
        ("--minutes +10", r"say which: semigpt train --resume RUN --minutes \+10"),
        ("--resume RUN --steps +1 --tokens 5", "give one of --steps, --tokens"),
        ("--resume RUN --minutes 10", r"to train it further: .* --minutes \+10"),
        ("--resume RUN", r"finished; .* train it further: .* --minutes \+10"),
        ("--from RUN --size tiny", "--size does not go with --from"),
        ("--from RUN --tokenizer char", "--tokenizer does not go with --from"),
        ("--from RUN --model bigram", "--model bigram does not go with --from .* is a gpt"),
        ("--from RUN --set model.width=64", r"--set model\.width does not go with --from"),
        ("--from nowhere", "no run folder at nowhere"),
        ("--resume RUN --from RUN", "--from does not go with --resume"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    finished: Path, capsys: pytest.CaptureFixture[str], flags: str, says: str
) -> None:
    assert main(["train", *(str(finished) if f == "RUN" else f for f in flags.split())]) == 2
    told = capsys.readouterr().err.strip()
    assert "\n" not in told
    assert re.search(says, told), told


def begun_from(start: Path, text: Path, rung: str | None = None, **training: object) -> Recipe:
    tables = small_tables("gpt", steps=12, eval_every=4, save_every=5, **training)
    del tables["tokenizer"]
    tables["data"] = {"spec": str(text)}
    tables["model"] = {"dropout": 0.1} | ({} if rung is None else {"kind": rung})
    tables["model"] |= {"memory_order": 3} if rung == "memory" else {}
    return Recipe.from_tables({**tables, "start": {"folder": str(start)}})


@pytest.fixture
def text(tmp_path: Path, korean_text: str) -> Path:
    path = tmp_path / "글.txt"
    path.write_text("\n\n".join(f"{n}번 篆 글. {korean_text}" for n in range(60)), "utf-8")
    return path


def test_a_run_begins_with_the_weights_of_another(
    finished: Path, tmp_path: Path, text: Path
) -> None:
    asked = begun_from(finished, text)
    usual = recipe().optimizer
    assert asked.optimizer.learning_rate == pytest.approx(0.3 * usual.learning_rate)
    given = replace(asked, optimizer=replace(asked.optimizer, learning_rate=1e-3))
    assert begun_from(finished / "model", text).start.sha256 == asked.start.sha256
    events = list(train(given, tmp_path / "run"))
    prepared = next(event for event in events if isinstance(event, Prepared))
    old = RunFolder.open(finished)
    newest = old.newest()
    assert newest is not None
    assert prepared.tokenizer.fingerprint == newest.metadata["tokenizer"]
    run = RunFolder.open(tmp_path / "run")
    config = run.config()
    assert config["start"] == {"folder": str(finished), "sha256": asked.start.sha256}
    assert config["optimizer"]["learning_rate"] == 1e-3
    card = (run.model_folder / "README.md").read_text("utf-8")
    assert f"from the weights of `{finished}`" in card
    assert str(asked.start.sha256) in card
    fresh = list(train(recipe(steps=1, embeddings="random"), tmp_path / "fresh"))
    first, scratch = (
        next(row for row in RunFolder.open(path).rows("metrics") if "val_loss" in row)
        for path in (tmp_path / "run", tmp_path / "fresh")
    )
    assert first["val_loss"] < scratch["val_loss"] - 0.3, "it has learnt something already"
    assert isinstance(fresh[-1], Finished)


@pytest.mark.parametrize("rung", [None, "memory"])
def test_it_resumes_to_the_same_bits_without_that_folder(
    finished: Path, tmp_path: Path, text: Path, rung: str | None
) -> None:
    start = copy(finished, tmp_path / "start")
    list(train(begun_from(start, text, rung), tmp_path / "whole"))
    for event in train(begun_from(start, text, rung), tmp_path / "killed"):
        if isinstance(event, Stepped):
            break
    assert [p.name for p in (tmp_path / "killed" / "checkpoints").iterdir()] == ["step-00000000"]
    shutil.rmtree(start)
    list(train(of(tmp_path / "killed"), tmp_path / "killed", resume=True))
    assert compared_files(tmp_path / "killed") == compared_files(tmp_path / "whole")


def test_other_weights_than_it_began_from_are_refused(
    finished: Path, tmp_path: Path, text: Path
) -> None:
    """As long as it has no checkpoint of its own."""
    asked = begun_from(finished, text)
    changed = replace(asked, start=replace(asked.start, sha256="0" * 64))
    with pytest.raises(CheckpointError, match="has changed since the run began from it"):
        list(train(changed, tmp_path / "run"))


@pytest.mark.parametrize("rung", ["bigram", "blocks", "memory"])
def test_every_rung_may_be_begun_from(tmp_path: Path, text: Path, rung: str) -> None:
    list(train(recipe(rung, steps=2, teacher_order=3), tmp_path / "old"))
    events = list(train(begun_from_any(tmp_path / "old", text), tmp_path / "new"))
    assert isinstance(events[-1], Finished)


def begun_from_any(start: Path, text: Path) -> Recipe:
    tables = small_tables("gpt", steps=2, eval_every=2)
    del tables["tokenizer"], tables["model"]
    return Recipe.from_tables(
        {**tables, "data": {"spec": str(text)}, "start": {"folder": str(start)}}
    )


def test_a_poor_result_says_what_to_do_next(finished: Path) -> None:
    def told(
        rung: str,
        bits: float,
        best_step: int = 12,
        *,
        complete: bool = True,
        start: str = "",
    ) -> str:
        asked = recipe(rung)
        if start:
            asked = replace(asked, start=StartSettings(folder=start))
        best = Evaluated(best_step, LossEstimate(1.0, 0.1, 100), bits, "", True)
        end = Finished(
            run=RunFolder(finished),
            step=12,
            tokens_seen=1,
            seconds=180.0,
            best=best,
            baselines=Baselines(10.0, 7.0, 5.0, 4.0),
            complete=complete,
            skipped=0,
            saving_fraction=0.0,
            last_save_seconds=0.0,
            forecast=None,
            memory=1,
            disk=1,
        )
        return what_next(asked, end)

    assert told("gpt", 3.9) == told("gpt", 4.5, complete=False) == ""
    assert "0.50 bits above a 5-gram: --memory" in told("gpt", 4.5)
    assert f"--resume {finished} --minutes +3" in told("gpt", 4.5)
    assert "--memory" not in told("memory", 4.5)
    assert "--minutes +3" in told("memory", 4.5)
    assert "memorised the text since: more text helps" in told("memory", 4.5, 4)
    assert "--minutes +3" in told("memory", 4.5, 4, start="starter")
    assert "--model gpt" in told("bigram", 4.5)


def test_the_starter_is_small_and_says_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = list(STARTER_FOLDER.iterdir())
    assert sum(file.stat().st_size for file in files) <= 8_000_000
    card = (STARTER_FOLDER / "README.md").read_text("utf-8")
    assert all(word in card for word in ("CC0", "e9t/nsmc", "swear", "benchmarks/starter.py"))
    (tmp_path / "starter").mkdir()
    monkeypatch.chdir(tmp_path)
    tables = {"start": {"folder": "starter"}, "training": {"steps": 1}}
    asked = Recipe.from_tables(tables)
    assert (asked.kind, asked.size, asked.tokenizer.kind) == ("gpt", "tiny", "char_bpe")
    model = load_model(STARTER_FOLDER)
    assert model.settings.parameter_count == replace(asked.model, vocab_size=8000).parameter_count
    # The law was fitted to runs from random weights, and has nothing to choose here.
    left = asked.open_choices(10_000_000)
    assert (left.dropouts, left.weight_decays, left.teachers) == ((0.0,), (0.1,), (False,))
    minutes = Recipe.from_tables({**tables, "training": {"minutes": 5}})
    assert minutes.open_choices(10_000_000).batches == (12,)
    memory = Recipe.from_tables({**tables, "model": {"kind": "memory"}})
    assert memory.model.ngram_order == 6
    with pytest.raises(CheckpointError, match="no run folder"):
        Recipe.from_tables({**tables, "start": {"folder": "./starter/none"}})
